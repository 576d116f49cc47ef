//! What one client may cost us: who counts as one client, and how much that one may ask for.
//!
//! [`blocks`] says who a visitor is; called by the door for every request. [`Rates`] says how much
//! a visitor may ask for, by class; called where something new begins, so what exists already (a
//! record, a result, a remembered failure, a job that is underway) costs nothing. The operator, on
//! this machine and through no proxy, has no limits.
//!
//! [`rules`] says what the operator lets happen at all, and may give other rates. [`names`] asks
//! the module proxy once for all who want to know the same. [`budget`] says how much
//! the log may grow, whoever asks.
//!
//! Each class counts twice: for the client, and for the wider block around it, which may do
//! [`WIDE`] times as much. Memory is bounded by [`TRACKED_MAX`]; what a client has used up is never
//! forgotten early. To use up the room for others somebody needs hundreds of wide blocks, for
//! the wide ones are counted as well; newcomers then share [`SHARED`] times the limit of one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use self::{
    blocks::{Client, Visitor},
    buckets::{Buckets, Rate},
    refused::Refused,
    rules::Barred,
};
use crate::{
    serve::{Told, clock::Clock, metrics::Metrics},
    spec::{GoVersion, Target},
    toolchain::pins,
};

mod answers;
pub mod blocks;
pub(super) mod buckets;
pub mod budget;
pub(super) mod names;
pub mod patterns;
mod refused;
pub(super) mod reverse;
pub mod rules;
pub mod withdrawn;

/// Most buckets that are kept, of some 50 bytes each.
const TRACKED_MAX: usize = 65_536;
/// How many clients' worth a wider block may ask for: an office or a mobile provider shares a few
/// addresses, and one customer with a /24 or a /48 is not 256 or 65,536 visitors.
const WIDE: u64 = 8;
/// How many clients' worth all those share for whom there is no room.
const SHARED: u64 = 64;
/// Lines of Go that count as current; the Go project supports as many.
const CURRENT_LINES: u16 = 2;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A build that a person asks for.
    Build,
    /// A build that a program asks for by a lookup or a download that is not there yet.
    Lookup,
    /// A record more in the log, on top of either: what one client may add in a day.
    Day,
    /// A build with an older Go, on top: its standard library is mostly compiled anew.
    OldGo,
    /// What a moving name means; a request to the module proxy.
    Name,
    /// A failure that is to be forgotten.
    Retry,
    /// A build for another instance, which asks for each of its own.
    Observation,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Build,
        Self::Lookup,
        Self::Day,
        Self::OldGo,
        Self::Name,
        Self::Retry,
        Self::Observation,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lookup => "lookup",
            Self::Day => "day",
            Self::OldGo => "old_go",
            Self::Name => "name",
            Self::Retry => "retry",
            Self::Observation => "observation",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Build => "new builds",
            Self::Lookup => "lookups of what is not built yet",
            Self::Day => "new builds in a day",
            Self::OldGo => "new builds with old Go releases",
            Self::Name => "names that are looked up at the module proxy",
            Self::Retry => "builds that are tried again",
            Self::Observation => "observations that are not built yet",
        }
    }

    /// What one client may ask for. One build at a time takes 4 to 30 s, so that the rates let
    /// one client fill about half of a small instance, and a burst is a project with its tools. The
    /// operator's rules may say otherwise.
    fn rate(self) -> Rate {
        let (burst, period_s) = match self {
            Self::Build | Self::Lookup => (30, 10),
            // At most 1,000 in any 24 hours: what has saved up, and what comes.
            Self::Day => (500, 173),
            Self::OldGo => (10, 60),
            Self::Name => (120, 1),
            Self::Retry => (10, 60),
            Self::Observation => (120, 3),
        };
        let period_ms = period_s * 1_000;
        Rate { burst, period_ms }
    }
}

/// Who asks for a build, and in which way.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Who.
    pub visitor: Visitor,
    /// What it counts as.
    pub class: Class,
}

impl Asker {
    /// A person, on a page of ours.
    pub(super) fn person(visitor: Visitor) -> Self {
        let class = Class::Build;
        Self { visitor, class }
    }

    /// A program that wants a record or a binary.
    pub(super) fn lookup(visitor: Visitor) -> Self {
        let class = Class::Lookup;
        Self { visitor, class }
    }

    /// Another instance.
    pub(super) fn observer(visitor: Visitor) -> Self {
        let class = Class::Observation;
        Self { visitor, class }
    }

    /// Whose turn in the line its jobs take. Other instances are one client together.
    pub(super) fn turn(self) -> String {
        match self.class {
            Class::Observation => "observations".to_owned(),
            _ => self.visitor.client.to_string(),
        }
    }

    /// What a build with this Go release counts as.
    pub(super) fn classes(self, go: GoVersion) -> Vec<Class> {
        let day = (self.class != Class::Observation).then_some(Class::Day);
        let old = is_old(go).then_some(Class::OldGo);
        [self.class].into_iter().chain(day).chain(old).collect()
    }
}

/// Whether a release is older than the newest lines whose SDKs are pinned in `toolchains/`: no
/// network is asked, and a line that is newer than this program counts as current.
fn is_old(go: GoVersion) -> bool {
    let newest = pins::all(Target::HOST).next();
    newest.is_some_and(|(newest, _)| go.minor() + CURRENT_LINES <= newest.minor())
}

/// A limit is reached; nothing was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit for {} from {} is reached", class.what(), match is_wide {
    true => "your part of the network",
    false => "your address",
})]
pub struct Limited {
    /// Of what.
    pub class: Class,
    /// Whether that of the wider block, not of the client alone.
    pub is_wide: bool,
    /// When to come back.
    pub after_s: u32,
}

/// Nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not so much, or not now.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// Not for this client.
    #[error(transparent)]
    Barred(#[from] Barred),
}

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    One(Client),
    Wide(Client),
    Newcomers,
}

type Key = (Whose, Class);

/// Counts what visitors ask for, and knows the operator's rules.
pub struct Rates {
    told: watch::Receiver<Told>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    buckets: Mutex<Buckets<Key>>,
    refused: Mutex<Refused>,
}

impl Rates {
    /// Nobody has asked for anything yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, told: watch::Receiver<Told>) -> Self {
        Self {
            told,
            clock,
            metrics,
            buckets: Mutex::new(Buckets::new(TRACKED_MAX)),
            refused: Mutex::default(),
        }
    }

    /// Counts one of each class, or none when a limit is reached.
    ///
    /// # Errors
    /// With the limit, or when this client may begin nothing.
    pub fn take(&self, visitor: Visitor, classes: &[Class]) -> Result<(), Denied> {
        let taken = self.try_take(visitor, classes);
        if taken.is_err() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.add(visitor.client);
        }
        taken
    }

    /// The clients that were refused most, and about how often.
    pub(super) fn refused_most(&self) -> Vec<(Client, u64)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.most()
    }

    fn try_take(&self, visitor: Visitor, classes: &[Class]) -> Result<(), Denied> {
        if visitor.is_operator {
            return Ok(());
        }
        self.check_visitor(visitor)?;
        let rates = self.rates();
        let rate = |class: Class| rates[class as usize];
        let client = visitor.client;
        let of = |class: &Class| {
            let (class, rate) = (*class, rate(*class));
            let one = ((Whose::One(client), class), rate, (class, false));
            let wide = (Whose::Wide(client.wide()), class);
            [one, (wide, rate.times(WIDE), (class, true))]
        };
        let from: Vec<_> = classes.iter().flat_map(of).collect();
        let shared =
            |(class, _): (Class, bool)| ((Whose::Newcomers, class), rate(class).times(SHARED));
        let now_ms = self.clock.now_ms();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = buckets.take(&from, shared, now_ms);
        drop(buckets);
        taken.map_err(|((class, is_wide), wait_ms)| {
            self.metrics.limited(class);
            let after_s = u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
            let limited = Limited {
                class,
                is_wide,
                after_s,
            };
            Denied::Limited(limited)
        })
    }

    /// How much one client may ask for, by class.
    fn rates(&self) -> [Rate; Class::ALL.len()] {
        let told = self.told.borrow();
        Class::ALL.map(|class| told.rules.rate(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::testing::ManualClock;

    fn visitor(address: &str) -> Visitor {
        Visitor {
            client: Client::of(address.parse().unwrap()),
            is_operator: false,
            is_barred: false,
        }
    }

    fn limited(taken: Result<(), Denied>) -> Limited {
        match taken {
            Err(Denied::Limited(limited)) => limited,
            other => panic!("{other:?}"),
        }
    }

    fn rates() -> (Arc<ManualClock>, Rates) {
        let clock = Arc::<ManualClock>::default();
        let told = watch::Sender::<Told>::default().subscribe();
        let rates = Rates::new(Arc::clone(&clock) as _, Arc::default(), told);
        (clock, rates)
    }

    #[test]
    fn a_client_may_ask_for_a_burst_and_then_for_one_at_a_time() {
        let (clock, rates) = rates();
        let ask = || rates.take(visitor("192.0.2.1"), &[Class::Build]);
        for _ in 0..30 {
            ask().unwrap();
        }
        let limited = limited(ask());
        assert_eq!((limited.after_s, limited.is_wide), (10, false));
        let sentence = "the limit for new builds from your address is reached";
        assert_eq!(limited.to_string(), sentence);
        clock.advance(9);
        assert_eq!(self::limited(ask()).after_s, 1);
        clock.advance(1);
        ask().unwrap();
        ask().unwrap_err();
        rates.take(visitor("192.0.2.2"), &[Class::Build]).unwrap();
        rates.take(visitor("192.0.2.1"), &[Class::Name]).unwrap();
    }

    #[test]
    fn many_addresses_of_one_network_have_a_limit_together() {
        for block in ["198.51.100.", "2001:db8:1:"] {
            let (_, rates) = rates();
            let mut granted = 0;
            let refused = (0..256)
                .find_map(|n| {
                    let address = match block.contains(':') {
                        true => format!("{block}{n:x}::1"),
                        false => format!("{block}{n}"),
                    };
                    rates
                        .take(visitor(&address), &[Class::Build])
                        .inspect(|()| granted += 1)
                        .err()
                })
                .unwrap();
            assert_eq!(
                (granted, limited(Err(refused)).is_wide),
                (240, true),
                "{block}"
            );
        }
    }

    #[test]
    fn an_old_go_release_counts_as_both_and_a_refused_one_as_neither() {
        let (_, rates) = rates();
        let asker = Asker::person(visitor("192.0.2.1"));
        let classes = |go: &str| asker.classes(GoVersion::parse(go).unwrap());
        assert_eq!(
            classes("go1.13.15"),
            [Class::Build, Class::Day, Class::OldGo]
        );
        let (newest, _) = pins::all(Target::HOST).next().unwrap();
        for minor in [newest.minor() - 1, newest.minor(), newest.minor() + 1] {
            assert_eq!(
                classes(&format!("go1.{minor}.0")),
                [Class::Build, Class::Day]
            );
        }
        for _ in 0..10 {
            rates.take(asker.visitor, &classes("go1.21.0")).unwrap();
        }
        for _ in 0..100 {
            let refused = limited(rates.take(asker.visitor, &classes("go1.21.0")));
            assert_eq!(refused.class, Class::OldGo);
        }
        for _ in 0..20 {
            rates.take(asker.visitor, &[Class::Build]).unwrap();
        }
        rates.take(asker.visitor, &[Class::Build]).unwrap_err();
    }

    #[test]
    fn the_operator_has_no_limits_and_each_refusal_is_counted() {
        let (_, rates) = rates();
        let operator = Visitor {
            is_operator: true,
            ..visitor("127.0.0.1")
        };
        for _ in 0..1_000 {
            rates.take(operator, &Class::ALL).unwrap();
        }
        let others = (0..35).filter(|_| rates.take(visitor("::1"), &[Class::Lookup]).is_err());
        assert_eq!(others.count(), 5);
        assert_eq!(rates.metrics.limited_of(Class::Lookup), 5);
        assert_eq!(rates.metrics.limited_of(Class::Build), 0);
    }
}
