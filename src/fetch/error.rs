//! What can go wrong in `fetch`, and how the asker is told.

use std::{error::Error, io};

use super::{
    closure::Exceeded,
    gomod::TooMuch,
    wire::{Trouble, TroubleKind},
};
use crate::{
    modzip::{H1, ZipError},
    proxy::{GetError, ProxyError},
    spec::SpecError,
    sumdb::SumdbError,
    toolchain::UnpackError,
};

/// Longest text of a trouble, in characters; a message holds 64 KiB.
const TEXT_CHARS_MAX: usize = 2_000;

/// Why `fetch` cannot give what was asked for. Nothing unverified was kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The question itself is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The module proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The checksum database.
    #[error(transparent)]
    Sumdb(Box<SumdbError>),
    /// The module's zip.
    #[error("the zip of `{module}` is refused")]
    Zip {
        /// Module and version.
        module: String,
        /// Why.
        source: ZipError,
    },
    /// The SDK's zip is a module zip, and not an SDK.
    #[error("`{module}` is refused")]
    Sdk {
        /// Module and version.
        module: String,
        /// Why.
        source: UnpackError,
    },
    /// Other bytes than everybody else gets.
    #[error(
        "security alarm: {what} from the module proxy has hash {found}, {judge} says {expected}"
    )]
    Mismatch {
        /// Which file.
        what: String,
        /// Who says what it must be.
        judge: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: H1,
    },
    /// The lock file does not fit.
    #[error("the lock file has no hash of {0}, which the build needs")]
    NotLocked(String),
    /// The lock file has another hash.
    #[error("{what} has hash {found}, the lock file says {expected}")]
    LockDiffers {
        /// Which file.
        what: String,
        /// In the lock file.
        expected: String,
        /// Verified by the checksum database.
        found: H1,
    },
    /// Too large a build.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// Too large a go.mod.
    #[error(transparent)]
    GoMod(#[from] TooMuch),
    /// The resolver of this host.
    #[error("the resolver of this host does not answer")]
    Resolver(#[source] io::Error),
    /// A witness of the log, a verifier, or the authority of the certificate.
    #[error(transparent)]
    Witness(#[from] super::peers::PeerError),
    /// Our disk.
    #[error("cannot use the module cache")]
    Disk(#[from] io::Error),
    /// A task of ours has panicked.
    #[error("the fetcher has failed at this request")]
    Task(#[from] tokio::task::JoinError),
}

impl From<SumdbError> for FetchError {
    fn from(error: SumdbError) -> Self {
        Self::Sumdb(Box::new(error))
    }
}

impl FetchError {
    /// Sorts and words it for the asker: one sentence, with what to do about it.
    pub(super) fn trouble(&self) -> Trouble {
        let kind = self.kind();
        let advice = match kind {
            TroubleKind::Proxy => "; try again later, or give another proxy with --goproxy",
            TroubleKind::Verify => {
                "; nothing of it was used: ask another proxy, and tell its operator"
            }
            TroubleKind::Internal => "; see the trace of the service",
            TroubleKind::NotFound | TroubleKind::Module => "",
        };
        let text: String = sentence(self).chars().take(TEXT_CHARS_MAX).collect();
        Trouble {
            kind,
            text: text + advice,
        }
    }

    fn kind(&self) -> TroubleKind {
        match self {
            // A witness has no other in its place: no advice about proxies. Nor has the resolver.
            Self::NotFound(_) | Self::Spec(_) | Self::Witness(_) | Self::Resolver(_) => {
                TroubleKind::NotFound
            }
            Self::Proxy(error) => kind_of_proxy(error),
            Self::Sumdb(error) => match &**error {
                SumdbError::Missing { .. } => TroubleKind::NotFound,
                SumdbError::Unreachable(error) => match kind_of_proxy(error) {
                    TroubleKind::NotFound => TroubleKind::Proxy,
                    kind => kind,
                },
                SumdbError::Garbage { .. } | SumdbError::Unproven { .. } => TroubleKind::Proxy,
                SumdbError::Signature { .. }
                | SumdbError::Contradiction { .. }
                | SumdbError::OtherRecord { .. } => TroubleKind::Verify,
                SumdbError::State(_) => TroubleKind::Internal,
            },
            Self::Zip { source, .. } => kind_of_zip(source),
            Self::Mismatch { .. } | Self::NotLocked(_) | Self::LockDiffers { .. } => {
                TroubleKind::Verify
            }
            Self::Sdk { .. } | Self::Exceeded(_) | Self::GoMod(_) => TroubleKind::Module,
            Self::Disk(_) | Self::Task(_) => TroubleKind::Internal,
        }
    }
}

fn kind_of_proxy(error: &ProxyError) -> TroubleKind {
    match error {
        ProxyError::Missing { .. } => TroubleKind::NotFound,
        ProxyError::Failed {
            source: GetError::Sink(_),
            ..
        } => TroubleKind::Internal,
        ProxyError::Failed { .. } | ProxyError::Garbage { .. } => TroubleKind::Proxy,
    }
}

/// A zip with two readings is an attack; one that is cut off or garbled is a bad proxy; one whose
/// names or sizes break the rules is a bad module.
fn kind_of_zip(error: &ZipError) -> TroubleKind {
    match error {
        ZipError::Read(_) | ZipError::Write(_) => TroubleKind::Internal,
        ZipError::Count { .. } | ZipError::Gap { .. } | ZipError::Headers { .. } => {
            TroubleKind::Verify
        }
        ZipError::End(_) | ZipError::Directory(_) | ZipError::Content { .. } => TroubleKind::Proxy,
        ZipError::TooLarge
        | ZipError::TooManyEntries
        | ZipError::Feature { .. }
        | ZipError::Name { .. }
        | ZipError::Twice { .. }
        | ZipError::FileTooLarge { .. } => TroubleKind::Module,
    }
}

/// An error with all its causes in one line.
pub(super) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent wrapper repeats its cause.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Said;

    #[test]
    fn a_trouble_is_one_sentence_with_causes_and_advice() {
        let source = GetError::Status {
            code: 502,
            said: Said::first_line(b"bad\x1b gateway\nx"),
        };
        let error = FetchError::from(ProxyError::Failed {
            what: "zip of `a.b/c@v1.0.0`".into(),
            proxy: "https://p.example".into(),
            source,
        });
        assert_eq!(
            error.trouble(),
            Trouble {
                kind: TroubleKind::Proxy,
                text:
                    "cannot get zip of `a.b/c@v1.0.0` from the module proxy at https://p.example: \
                    it answered 502: bad? gateway; \
                    try again later, or give another proxy with --goproxy"
                        .into(),
            }
        );
    }

    #[test]
    fn crafted_zips_are_alarms_and_cut_ones_are_bad_proxies() {
        let kind = |source| {
            FetchError::Zip {
                module: "m".into(),
                source,
            }
            .kind()
        };
        assert_eq!(
            kind(ZipError::Count {
                said: 2,
                found: 65_538
            }),
            TroubleKind::Verify
        );
        assert_eq!(kind(ZipError::End("x")), TroubleKind::Proxy);
        assert_eq!(kind(ZipError::TooLarge), TroubleKind::Module);
    }
}
