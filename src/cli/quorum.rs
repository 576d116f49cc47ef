//! Options of `hotcell serve` about those who verify its builds.

use std::{path::Path, sync::Arc};

use clap::Args;

use super::Stop;
use crate::{
    build::Engine,
    provenance::observation::key_text,
    verifiers::{ByFetch, Quorum, Signer, VERIFIERS_MAX, Verifier},
};

/// Folder of the heads of verifiers' logs, in that of the role `serve`.
const HEADS: &str = "verifiers";

#[derive(Debug, Default, Args)]
pub(super) struct Verification {
    /// An instance that must get the same bits before a build is published: a name for it, the
    /// `dsse` key of leaf 0 of its log, its address, as `NAME ed25519:KEY https://…`; of gobuild,
    /// the key and address of its log: `NAME name+hash+key https://…/tlog`. May be given again
    #[arg(long, value_name = "VERIFIER", value_parser = parse)]
    verifier: Vec<Verifier>,
    /// How many of the verifiers must agree [default: all]
    #[arg(long, value_name = "K")]
    verifiers_quorum: Option<usize>,
}

impl Verification {
    /// Few, none twice, and a number that can be reached.
    pub(super) fn check(&self) -> Result<(), Stop> {
        let usage = |text: String| Err(Stop::new(Stop::USAGE, text));
        let count = self.verifier.len();
        let mut names: Vec<&str> = self.verifier.iter().map(|one| one.name.as_str()).collect();
        let key = |one: &Verifier| match &one.signer {
            Signer::Instance(key) => key_text(key),
            Signer::Gobuild(key) => key.to_string(),
        };
        let mut keys: Vec<String> = self.verifier.iter().map(key).collect();
        names.sort_unstable();
        names.dedup();
        keys.sort_unstable();
        keys.dedup();
        if names.len() < count || keys.len() < count || count > VERIFIERS_MAX {
            return usage(format!(
                "--verifier takes {VERIFIERS_MAX} verifiers at most, each name and key once"
            ));
        }
        match self.verifiers_quorum {
            Some(needed) if needed == 0 || needed > count => usage(format!(
                "--verifiers-quorum {needed} of {count} verifiers makes no sense: it is between 1 \
                 and their number"
            )),
            _ => Ok(()),
        }
    }

    /// Their addresses, which is all that `fetch` has to know.
    pub(super) fn urls(&self) -> Vec<String> {
        self.verifier
            .iter()
            .map(|one| one.url.to_string())
            .collect()
    }

    /// Asks through the fetcher of the engine, keeps heads of logs in `data`. `own` is the key of
    /// our own statements: nobody is their own verifier.
    pub(super) fn quorum(
        &self,
        engine: &Engine,
        own: Option<[u8; 32]>,
        data: &Path,
    ) -> Result<Quorum, Stop> {
        let is_own = |one: &Verifier| own.is_some_and(|key| one.signer == Signer::Instance(key));
        if let Some(one) = self.verifier.iter().find(|one| is_own(one)) {
            let text = format!("verifier {} is this instance itself", one.name);
            return Err(Stop::new(Stop::USAGE, text).hint("take it from --verifier"));
        }
        let needed = self.verifiers_quorum.unwrap_or(self.verifier.len());
        let carrier = Arc::new(ByFetch::new(
            Arc::clone(engine.fetch()),
            self.verifier.len(),
        ));
        let quorum = Quorum::new(self.verifier.clone(), needed, carrier);
        Ok(quorum.with_state(data.join(HEADS)))
    }
}

/// What others give to `--verifier` to have us as a verifier.
pub(super) fn offer(name: &str, key: &[u8; 32], address: &str) -> String {
    format!(
        "others verify with: --verifier '{name} {} {address}'",
        key_text(key)
    )
}

fn parse(text: &str) -> Result<Verifier, String> {
    Verifier::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        verification: Verification,
    }

    fn one(n: usize) -> String {
        let key = key_text(&[u8::try_from(n).unwrap(); 32]);
        format!("--verifier=peer{n} {key} https://peer{n}.example/")
    }

    fn check(arguments: &[String]) -> Result<(), Stop> {
        let line = [&["serve".to_owned()], arguments].concat();
        Line::parse_from(line).verification.check()
    }

    #[test]
    fn verifiers_are_named_once_and_the_quorum_can_be_reached() {
        let quorum = |k: usize| format!("--verifiers-quorum={k}");
        check(&[]).unwrap();
        check(&(0..VERIFIERS_MAX).map(one).collect::<Vec<_>>()).unwrap();
        check(&[one(1), one(2), quorum(1)]).unwrap();
        check(&[one(1), one(2), quorum(2)]).unwrap();
        let same_name = one(1).replace("0101", "0202");
        let same_key = one(1).replace("=peer1", "=peer2");
        for bad in [
            (0..=VERIFIERS_MAX).map(one).collect(),
            vec![one(1), one(1)],
            vec![one(1), same_name],
            vec![one(1), same_key],
            vec![one(1), quorum(0)],
            vec![one(1), quorum(2)],
            vec![quorum(1)],
        ] {
            assert_eq!(check(&bad).unwrap_err().code, Stop::USAGE, "{bad:?}");
        }
        for bad in ["", "peer", "peer key https://peer.example/"] {
            let line = ["serve".to_owned(), format!("--verifier={bad}")];
            assert!(Line::try_parse_from(line).is_err(), "{bad}");
        }
    }
}
