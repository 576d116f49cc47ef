//! Options of `hotcell serve` about what may begin here; all of them may change while it runs.

use clap::Args;

use super::Stop;
use crate::{
    serve::limits::{
        patterns::Pattern,
        rules::{BadClient, ClassRate, Rules},
        withdrawn::{NotWithdrawn, Withdrawn},
    },
    spec::GoVersion,
};

/// Most rules of a kind; each is looked at for every new build.
const RULES_MAX: usize = 500;

#[derive(Debug, Default, Args)]
pub(super) struct RuleArgs {
    /// Modules that are built here; all others are refused before anybody is asked about them. A
    /// pattern as in GOPRIVATE: `*.corp.example`, `example.com/team/*`. A package whose module is
    /// not named is judged by its own path; may be given again
    #[arg(long, value_name = "PATTERN")]
    allow_module: Vec<Pattern>,
    /// Modules that are not built here, whatever is allowed. What is built stays readable; may be
    /// given again
    #[arg(long, value_name = "PATTERN")]
    deny_module: Vec<Pattern>,
    /// Oldest Go release that new builds may have, such as go1.21.0
    #[arg(long, value_name = "VERSION", value_parser = release)]
    go_min: Option<GoVersion>,
    /// Newest Go release that new builds may have
    #[arg(long, value_name = "VERSION", value_parser = release)]
    go_max: Option<GoVersion>,
    /// A client that may read what exists and begin nothing: `agent:PART` of its User-Agent, in any
    /// case, `network:CIDR`, or `host:DOMAIN`, below which the name of its address is (asked of
    /// this machine's resolver). The operator on this machine is none; may be given again
    #[arg(long, value_name = "RULE")]
    bad_client: Vec<BadClient>,
    /// What one client may ask for, as CLASS=BURST/SECONDS: so many at once, then one each so many
    /// seconds; `build=30/10` is the default of that class. The others are lookup, day, old_go,
    /// name, retry and observation; may be given again
    #[arg(long, value_name = "RATE")]
    rate: Vec<ClassRate>,
    /// A build whose binary is not handed out any more and that is not built again, as
    /// `KEY REASON`: downloads answer 451 (RFC 7725) with the reason, or 410 when the reason has
    /// `410` in front. KEY is one of the log, or what all builds of a version or package begin
    /// with, such as `example.com/m@v1.2.3/`. The record stays; so does every copy that somebody
    /// has. May be given again
    #[arg(long, value_name = "KEY REASON", value_parser = withdrawn)]
    withdrawn: Vec<Withdrawn>,
}

impl RuleArgs {
    pub(super) fn rules(&self) -> Rules {
        Rules {
            allow: self.allow_module.clone(),
            deny: self.deny_module.clone(),
            go_min: self.go_min,
            go_max: self.go_max,
            bad_clients: self.bad_client.clone(),
            rates: self.rate.clone(),
            withdrawn: self.withdrawn.clone(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let lists = self.allow_module.len() + self.deny_module.len() + self.bad_client.len();
        let go = [self.go_min, self.go_max].into_iter().flatten().count();
        lists + go + self.rate.len() + self.withdrawn.len()
    }

    /// What is wrong with them, each with the keys that it is about.
    pub(super) fn checks(&self) -> [(&'static [&'static str], Result<(), Stop>); 6] {
        [
            (&["allow-module"], check_count(self.allow_module.len())),
            (&["deny-module"], check_count(self.deny_module.len())),
            (&["withdrawn"], check_count(self.withdrawn.len())),
            (&["bad-client"], check_count(self.bad_client.len())),
            (&["go-min", "go-max"], self.check_go()),
            (&["rate"], self.check_rates()),
        ]
    }

    fn check_go(&self) -> Result<(), Stop> {
        match (self.go_min, self.go_max) {
            (Some(min), Some(max)) if min > max => {
                let text = format!("no release is between {min} and {max}");
                Err(Stop::new(Stop::USAGE, text).hint("take --go-min below --go-max"))
            }
            _ => Ok(()),
        }
    }

    fn check_rates(&self) -> Result<(), Stop> {
        let mut seen = Vec::new();
        for one in &self.rate {
            if seen.contains(&one.class) {
                let text = format!("there are two rates of `{}`", one.class.name());
                return Err(Stop::new(Stop::USAGE, text).hint("keep one of them"));
            }
            seen.push(one.class);
        }
        Ok(())
    }
}

fn check_count(count: usize) -> Result<(), Stop> {
    if count <= RULES_MAX {
        return Ok(());
    }
    let text = format!("there are {count} of them, and {RULES_MAX} at most");
    Err(Stop::new(Stop::USAGE, text).hint("a pattern or a network can stand for many"))
}

fn release(text: &str) -> Result<GoVersion, String> {
    GoVersion::parse(text).map_err(|error| error.to_string())
}

/// A number where the status may stand was meant as one.
fn withdrawn(text: &str) -> Result<Withdrawn, String> {
    let meant = text.split_whitespace().nth(1).unwrap_or_default();
    let is_status = meant.len() == 3 && meant.parse().is_ok_and(|n| (100..600).contains(&n));
    if is_status && !["410", "451"].contains(&meant) {
        return Err(format!(
            "`{meant}` is no status of a download that was withdrawn: write 410, 451 or none"
        ));
    }
    text.parse()
        .map_err(|error: NotWithdrawn| error.to_string())
}
