//! What the operator lets happen here: which modules, which Go releases, which clients.
//!
//! Read where something new begins, and by the door, which knows who asks. Nothing here but
//! [`super::withdrawn`] stops anybody from reading what exists. The rules may change while the
//! service runs; what waits or runs and is against them is dropped by the queue's next sweep.

use std::{fmt, net::IpAddr, str::FromStr};

use super::{
    Class, Rates,
    blocks::{Cidr, Visitor},
    buckets::Rate,
    patterns::Pattern,
    withdrawn::Withdrawn,
};
use crate::spec::{BuildKey, GoVersion, PackageQuery};

/// Longest part of a User-Agent in a rule, in bytes.
const AGENT_LEN_MAX: usize = 200;
/// Longest name of a host in a rule, in bytes (RFC 1035, 2.3.4).
const HOST_LEN_MAX: usize = 253;
/// Most at once, and longest pause between two, in a rate.
const BURST_MAX: u64 = 1_000_000;
const PERIOD_S_MAX: u64 = 86_400;

/// The operator's rules; by default everything is let happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Modules that are built, when there are any; no others are.
    pub allow: Vec<Pattern>,
    /// Modules that are not built, whatever is allowed.
    pub deny: Vec<Pattern>,
    /// Oldest Go release.
    pub go_min: Option<GoVersion>,
    /// Newest Go release.
    pub go_max: Option<GoVersion>,
    /// Who may begin nothing.
    pub bad_clients: Vec<BadClient>,
    /// How much one client may ask for, where it is not the default.
    pub rates: Vec<ClassRate>,
    /// What is not handed out any more.
    pub withdrawn: Vec<Withdrawn>,
}

impl Rules {
    /// How much one client may ask for of a class.
    pub(super) fn rate(&self, class: Class) -> Rate {
        let own = self.rates.iter().find(|one| one.class == class);
        own.map_or(class.rate(), |one| one.rate)
    }

    /// The rules that are in force, one in a line, for the operator.
    pub(in crate::serve) fn told(&self) -> Vec<String> {
        let go = [(self.go_min, "oldest"), (self.go_max, "newest")].into_iter();
        let go = go.filter_map(|(go, what)| Some(format!("{what} Go release: {}", go?)));
        let allow = self
            .allow
            .iter()
            .map(|one| format!("module allowed: {one}"));
        let deny = self.deny.iter().map(|one| format!("module denied: {one}"));
        let bad = self.bad_clients.iter();
        let bad = bad.map(|one| format!("client that may only read: {one}"));
        let rates = Class::ALL.iter().map(|class| {
            let (Rate { burst, period_ms }, name) = (self.rate(*class), class.name());
            format!(
                "rate of {name}: {burst} at once, then one in {} s",
                period_ms / 1_000
            )
        });
        go.chain(allow)
            .chain(deny)
            .chain(bad)
            .chain(rates)
            .collect()
    }

    /// How a build was withdrawn, if it was.
    pub(in crate::serve) fn withdrawn(&self, key: &BuildKey) -> Option<&Withdrawn> {
        let key = key.to_string();
        self.withdrawn.iter().find(|one| one.covers(&key))
    }

    fn is_open_to(&self, module: &str) -> bool {
        let is_in = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(module));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }

    /// Whether a client with this address and `User-Agent` may begin nothing.
    pub(in crate::serve) fn bars(&self, address: IpAddr, agent: &str) -> bool {
        if self.bad_clients.is_empty() {
            return false;
        }
        let agent = agent.to_ascii_lowercase();
        self.bad_clients.iter().any(|rule| match rule {
            BadClient::Network(network) => network.contains(address),
            BadClient::Agent(part) => agent.contains(part),
            BadClient::Host(_) => false, // see `bars_name`
        })
    }

    /// Whether it matters what addresses are called.
    pub(in crate::serve) fn has_hosts(&self) -> bool {
        self.bad_clients
            .iter()
            .any(|rule| matches!(rule, BadClient::Host(_)))
    }

    /// Whether a client whose address is called so may begin nothing. Names are in lower case.
    pub(in crate::serve) fn bars_name(&self, name: &str) -> bool {
        self.bad_clients.iter().any(|rule| match rule {
            BadClient::Host(domain) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            BadClient::Network(_) | BadClient::Agent(_) => false,
        })
    }
}

/// A rule about clients that may read and begin nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadClient {
    /// Those whose `User-Agent` contains the text, in lower case, whatever theirs.
    Agent(String),
    /// Those of a network.
    Network(Cidr),
    /// Those whose address is called so, or is called something below that; in lower case.
    Host(String),
}

impl fmt::Display for BadClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(part) => write!(f, "agent:{part}"),
            Self::Network(network) => write!(f, "network:{network}"),
            Self::Host(domain) => write!(f, "host:{domain}"),
        }
    }
}

/// The text is no rule about clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBadClient {
    /// None of these, or an empty or unprintable text.
    #[error("write agent:PART-OF-USER-AGENT, network:ADDRESS/BITS or host:DOMAIN")]
    Form,
}

impl FromStr for BadClient {
    type Err = NotBadClient;

    fn from_str(text: &str) -> Result<Self, NotBadClient> {
        match text.split_once(':').ok_or(NotBadClient::Form)? {
            ("network", network) => {
                let network = network.parse().map_err(|_| NotBadClient::Form)?;
                Ok(Self::Network(network))
            }
            ("agent", part) => {
                let is_plain = part.chars().all(|c| c.is_ascii_graphic() || c == ' ');
                let is_some = !part.trim().is_empty() && part.len() <= AGENT_LEN_MAX;
                let part = part.to_ascii_lowercase();
                (is_plain && is_some)
                    .then_some(Self::Agent(part))
                    .ok_or(NotBadClient::Form)
            }
            ("host", domain) => {
                let domain = domain.to_ascii_lowercase();
                let is_label = |label: &str| {
                    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                    (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
                };
                let is_domain = domain.len() <= HOST_LEN_MAX && domain.split('.').all(is_label);
                is_domain
                    .then_some(Self::Host(domain))
                    .ok_or(NotBadClient::Form)
            }
            _ => Err(NotBadClient::Form),
        }
    }
}

/// How much one client may ask for of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassRate {
    /// Of what.
    pub class: Class,
    rate: Rate,
}

/// The text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write CLASS=BURST/SECONDS, such as build=30/10 for 30 at once and then one in 10 s; the \
     classes are {}",
    Class::ALL.map(Class::name).join(", ")
)]
pub struct NotRate;

impl FromStr for ClassRate {
    type Err = NotRate;

    fn from_str(text: &str) -> Result<Self, NotRate> {
        let (name, rate) = text.split_once('=').ok_or(NotRate)?;
        let (burst, period_s) = rate.split_once('/').ok_or(NotRate)?;
        let class = Class::ALL.into_iter().find(|class| class.name() == name);
        let number = |text: &str, max| {
            let is_number = text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
            let number = is_number.then(|| text.parse::<u64>().ok())?;
            number.filter(|number| (1..=max).contains(number))
        };
        let burst = number(burst, BURST_MAX).ok_or(NotRate)?;
        let period_ms = number(period_s, PERIOD_S_MAX).ok_or(NotRate)? * 1_000;
        let (class, rate) = (class.ok_or(NotRate)?, Rate { burst, period_ms });
        Ok(Self { class, rate })
    }
}

/// The operator does not want this here; nothing was begun and nobody was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Barred {
    /// Which rule.
    pub why: Bar,
    /// How the operator is reached.
    pub contact: Option<String>,
}

/// A rule that bars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bar {
    /// Denied, or not among those that are allowed.
    #[error("this instance does not build `{0}`")]
    Module(String),
    /// Outside of the bounds.
    #[error("this instance builds with Go {}, not with {go}", bounds(*min, *max))]
    Go {
        /// The one that was asked for.
        go: GoVersion,
        /// The oldest.
        min: Option<GoVersion>,
        /// The newest.
        max: Option<GoVersion>,
    },
    /// One of the bad clients.
    #[error("this instance begins nothing new for you")]
    Client,
    /// It was built, perhaps, and is not handed out any more.
    #[error("this build was withdrawn: {}", .0.reason)]
    Withdrawn(Withdrawn),
}

impl Bar {
    /// Its name in metrics.
    pub const NAMES: [&str; 4] = ["module", "go", "client", "withdrawn"];

    /// Its place among the names.
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::Module(_) => 0,
            Self::Go { .. } => 1,
            Self::Client => 2,
            Self::Withdrawn(_) => 3,
        }
    }
}

fn bounds(min: Option<GoVersion>, max: Option<GoVersion>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("releases from {min} to {max}"),
        (Some(min), None) => format!("releases from {min} on"),
        (None, Some(max)) => format!("releases up to {max}"),
        (None, None) => "releases of any age".to_owned(),
    }
}

/// What is new, and may begin or not.
impl Rates {
    /// Whether anybody outside may be asked about a module.
    ///
    /// # Errors
    /// With the rule.
    pub fn check_module(&self, module: &str) -> Result<(), Barred> {
        match self.rules(|rules| rules.is_open_to(module)) {
            true => Ok(()),
            false => Err(self.bar(Bar::Module(module.to_owned()))),
        }
    }

    /// The same for a package whose module may not be known yet: it is judged by its own path,
    /// because each beginning of that is a module that somebody would be asked about.
    ///
    /// # Errors
    /// With the rule.
    pub fn check_package(&self, query: &PackageQuery) -> Result<(), Barred> {
        match &query.module {
            Some(module) => self.check_module(module.as_str()),
            None => self.check_module(&query.package),
        }
    }

    /// Whether a new build of this may begin, whoever asks.
    ///
    /// # Errors
    /// With the rule.
    pub fn check_new(&self, key: &BuildKey) -> Result<(), Barred> {
        self.check_quietly(key).map_err(|why| self.bar(why))
    }

    /// The same for what was begun before the rules were as they are; nobody is refused.
    pub(in crate::serve) fn check_quietly(&self, key: &BuildKey) -> Result<(), Bar> {
        let module = key.module.path.as_str();
        self.rules(|rules| {
            if let Some(one) = rules.withdrawn(key) {
                return Err(Bar::Withdrawn(one.clone()));
            }
            let (go, min, max) = (key.go, rules.go_min, rules.go_max);
            if !rules.is_open_to(module) {
                return Err(Bar::Module(module.to_owned()));
            }
            if min.is_some_and(|min| go < min) || max.is_some_and(|max| go > max) {
                return Err(Bar::Go { go, min, max });
            }
            Ok(())
        })
    }

    /// Whether a binary may be handed out.
    ///
    /// # Errors
    /// With the reason for which it was withdrawn.
    pub fn check_withdrawn(&self, key: &BuildKey) -> Result<(), Barred> {
        match self.withdrawn(key) {
            None => Ok(()),
            Some(one) => Err(self.bar(Bar::Withdrawn(one))),
        }
    }

    /// How a build was withdrawn, if it was.
    pub(in crate::serve) fn withdrawn(&self, key: &BuildKey) -> Option<Withdrawn> {
        self.rules(|rules| rules.withdrawn(key).cloned())
    }

    /// Whether this client may begin anything.
    pub(super) fn check_visitor(&self, visitor: Visitor) -> Result<(), Barred> {
        match visitor.is_barred {
            true => Err(self.bar(Bar::Client)),
            false => Ok(()),
        }
    }

    fn rules<T>(&self, ask: impl FnOnce(&Rules) -> T) -> T {
        ask(&self.told.borrow().rules)
    }

    fn bar(&self, why: Bar) -> Barred {
        self.metrics.barred(&why);
        let contact = self.told.borrow().contact.clone();
        Barred { why, contact }
    }
}
