//! What is wrong with the options of `serve`, and what they would do.
//!
//! Called at a start, by `testconfig`, and when the configuration is read again. Must never start
//! or change anything.

use std::net::SocketAddr;

use hotcell_sandbox::wire::NotInForce;

use super::{
    super::{Network, Stop, local, signer::check_name},
    Serve,
};
use crate::{
    proxy::Sources, serve::Told, sumdb::Database, tlog::witness::WITNESSES_MAX, witness::Witness,
};

impl Serve {
    /// What is wrong with the options, each with the keys it is about; looks at nothing but them.
    pub(in crate::cli) fn wrong(&self, network: &Network) -> Vec<(&'static [&'static str], Stop)> {
        let usage = |error: &dyn std::error::Error| Stop::chain(Stop::USAGE, error);
        let proxies = network.configuration.as_deref().map(Sources::parse);
        let proxies = proxies.transpose().map_err(|error| usage(&error));
        let sumdb = Database::parse(network.sumdb.as_deref()).map_err(|error| usage(&error));
        let checks: [(&'static [&'static str], _); 8] = [
            (&["name"], check_name(&self.name)),
            (&["witness"], check_witnesses(&self.witness)),
            (&["verifiers-quorum", "verifier"], self.verification.check()),
            (&["notes"], self.words.check()),
            (&["admin", "listen", "redirect"], self.check_addresses()),
            (&["acme", "name"], self.tls.check_name(&self.name)),
            (&["goproxy"], proxies.map(drop)),
            (&["sumdb"], sumdb.map(drop)),
        ];
        let wrong = checks
            .into_iter()
            .chain(self.tls.checks())
            .chain(self.rules.checks())
            .filter_map(|(keys, check)| Some((keys, check.err()?)));
        wrong.collect()
    }

    /// What else is wrong on this machine, as far as it can be told before a start.
    pub(in crate::cli) fn wrong_here(&self) -> Vec<(&'static str, Stop)> {
        let policies = self.policies.as_deref().map(local::choose_folder);
        let keys = (self.roles.is_none()).then(|| self.keys.outside(&self.data));
        let checks = [
            ("policies", policies.transpose().map(drop)),
            ("sign-dir", keys.transpose().map(drop)),
            ("tls-cert", self.tls.check_files(&self.name)),
        ];
        let wrong = checks
            .into_iter()
            .filter_map(|(key, check)| Some((key, check.err()?)));
        wrong.collect()
    }

    /// What it would do, in a line.
    pub(in crate::cli) fn summary(&self) -> String {
        let (listen, admin, name) = (self.listen, self.admin, &self.name);
        let tls = self.tls.summary();
        let mut text = format!(
            "serves as {name} on {listen}{tls}, for the operator on {admin}, data in `{}`",
            self.data.display()
        );
        if let Some(redirect) = self.tls.redirect() {
            text += &format!(", sends visitors of {redirect} there");
        }
        for (count, one, more) in [
            (self.witness.len(), "witness", "witnesses"),
            (self.verification.urls().len(), "verifier", "verifiers"),
            (self.words.told().notes.len(), "note", "notes"),
            (self.rules.count(), "rule", "rules"),
        ] {
            match count {
                0 => {}
                1 => text += &format!(", 1 {one}"),
                _ => text += &format!(", {count} {more}"),
            }
        }
        if let Some(address) = self.for_others() {
            text += &format!(
                "; others reach {address}: it starts only when every defence is in force or named \
                 by accept-weaker"
            );
        }
        text
    }

    /// What the operator says to visitors, and lets them do.
    pub(in crate::cli) fn told(&self) -> Told {
        Told {
            rules: self.rules.rules(),
            ..self.words.told()
        }
    }

    /// An address that others than this machine reach.
    fn for_others(&self) -> Option<SocketAddr> {
        let addresses = [self.listen, self.admin].into_iter();
        addresses
            .chain(self.tls.redirect())
            .find(|address| !address.ip().is_loopback())
    }

    /// Visitors and the operator never share a socket.
    fn check_addresses(&self) -> Result<(), Stop> {
        let is_same = |one: SocketAddr, other| one == other && one.port() != 0;
        if is_same(self.listen, self.admin) {
            let text = format!(
                "{} is the address of visitors and of the operator",
                self.admin
            );
            return Err(Stop::new(Stop::USAGE, text).hint("choose two with --listen and --admin"));
        }
        let redirect = self.tls.redirect();
        let twice = redirect.filter(|one| is_same(*one, self.listen) || is_same(*one, self.admin));
        let Some(twice) = twice else { return Ok(()) };
        let text = format!("--redirect {twice} is an address of the service itself");
        Err(Stop::new(Stop::USAGE, text).hint("choose another one, such as port 80"))
    }

    /// A weaker cell is served to others only when somebody has accepted each weakness by name.
    pub(super) fn check_weaknesses(&self, missing: &[NotInForce]) -> Result<(), Stop> {
        if self.require_limits
            && let Some(limit) = missing.iter().find(|m| m.is_limit())
        {
            let text = format!("{} is not in force: {}", limit.what, limit.why);
            return Err(Stop::new(Stop::FAILED, text)
                .hint("use a host with cgroup v2 controllers, or drop --require-limits"));
        }
        let others = self.for_others();
        let refused: Vec<&NotInForce> = missing
            .iter()
            .filter(|m| !self.accept_weaker.contains(&m.what))
            .collect();
        let (Some(address), Some(weak)) = (others, refused.first()) else {
            return Ok(());
        };
        let text = format!(
            "refusing to listen on {address}: `{}` is not in force: {}",
            weak.what, weak.why
        );
        let accepted: Vec<String> = refused
            .iter()
            .map(|m| format!("--accept-weaker '{}'", m.what))
            .collect();
        let hint = format!("listen on 127.0.0.1, or {}", accepted.join(" "));
        Err(Stop::new(Stop::FAILED, text).hint(hint))
    }
}

/// Few, and none twice: two lines of one key say no more than one.
fn check_witnesses(witnesses: &[Witness]) -> Result<(), Stop> {
    let mut keys: Vec<String> = witnesses.iter().map(|one| one.key.to_string()).collect();
    keys.sort();
    keys.dedup();
    if keys.len() == witnesses.len() && keys.len() <= WITNESSES_MAX {
        return Ok(());
    }
    let text = format!("--witness takes {WITNESSES_MAX} witnesses at most, each of them once");
    Err(Stop::new(Stop::USAGE, text))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn missing(names: &[&str]) -> Vec<NotInForce> {
        let one = |name: &&str| NotInForce {
            what: (*name).to_owned(),
            why: "of this host".to_owned(),
        };
        names.iter().map(one).collect()
    }

    fn check(arguments: &[&str], names: &[&str]) -> Result<(), Stop> {
        let line = Line::parse_from([&["serve"], arguments].concat());
        line.serve.check_weaknesses(&missing(names))
    }

    #[test]
    fn one_of_a_kind_is_said_as_one() {
        let line = [
            "serve",
            "--deny-module",
            "a.example",
            "--notes",
            "x",
            "--notes",
            "y",
        ];
        let summary = Line::parse_from(line).serve.summary();
        assert!(summary.contains(", 2 notes, 1 rule"), "{summary}");
        assert!(!summary.contains("1 rules"), "{summary}");
    }

    #[test]
    fn others_are_served_only_when_each_weakness_is_accepted_by_its_name() {
        let weak = ["separate user", "memory limit"];
        let others = ["--listen", "192.0.2.1:80"];
        check(&[], &weak).unwrap();
        check(&others, &[]).unwrap();
        for accepted in [
            &[][..],
            &["--accept-weaker", "memory limit"],
            &["--accept-weaker", "separate user"],
            &["--accept-weaker", "memory"],
            &["--accept-weaker", "separate user,memory limit"],
        ] {
            let refused = check(&[&others, accepted].concat(), &weak).unwrap_err();
            assert_eq!(refused.code, Stop::FAILED, "{accepted:?}");
        }
        let both = ["--accept-weaker", weak[0], "--accept-weaker", weak[1]];
        check(&[&others[..], &both].concat(), &weak).unwrap();
        check(
            &[&others[..], &both].concat(),
            &["separate user", "new defence"],
        )
        .unwrap_err();
        let refused = check(&others, &weak).unwrap_err();
        let hint = refused.hint.unwrap();
        for name in weak {
            assert!(
                hint.contains(&format!("--accept-weaker '{name}'")),
                "{hint}"
            );
        }
    }

    #[test]
    fn all_addresses_count_and_the_operators_too() {
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            for option in ["--listen", "--admin"] {
                check(&[option, address], &["memory limit"]).unwrap_err();
            }
        }
        check(
            &["--listen", "[::1]:1", "--admin", "127.9.9.9:1"],
            &["memory limit"],
        )
        .unwrap();
    }

    #[test]
    fn a_witness_is_named_once_and_there_are_few() {
        let witness = |seed| {
            let signer = crate::tlog::WitnessSigner::from_seed("w.example/1", &[seed; 32]).unwrap();
            let text = format!("{} https://w.example/", signer.public());
            Line::parse_from(["serve", "--witness", &text])
                .serve
                .witness
        };
        let many = |count| (0..count).flat_map(witness).collect::<Vec<_>>();
        let most = u8::try_from(WITNESSES_MAX).unwrap();
        check_witnesses(&[]).unwrap();
        check_witnesses(&many(most)).unwrap();
        assert_eq!(
            check_witnesses(&many(most + 1)).unwrap_err().code,
            Stop::USAGE
        );
        let twice = [witness(1), witness(1)].concat();
        assert_eq!(check_witnesses(&twice).unwrap_err().code, Stop::USAGE);
        let line = ["serve", "--witness", "nobody"];
        assert!(Line::try_parse_from(line).is_err());
    }

    #[test]
    fn required_limits_are_required_on_loopback_too() {
        check(&["--require-limits"], &["separate user"]).unwrap();
        let accepted = ["--require-limits", "--accept-weaker", "memory limit"];
        check(&accepted, &["memory limit"]).unwrap_err();
    }
}
