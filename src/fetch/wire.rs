//! Messages of `fetch`: with the asker (`serve`, `hotcell build`) and with each `relay`.
//!
//! Both sockets are `SOCK_SEQPACKET`; a message and its descriptors arrive together.
//! A relay's socket is a *session*: it belongs to one plan, and `fetch` itself keeps the closure of
//! that plan, so that a relay under an attacker's control reaches nothing outside it either.

use std::net::IpAddr;

use hotcell_sandbox::wire::Check;
use serde::{Deserialize, Serialize};

use crate::spec::LicenceId;

mod relay;

pub use relay::{Give, Given, Want, Wanted};

/// From the asker to `fetch`; every request has an `id` that its answers carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the asker.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What the asker wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Open a session for a relay. Descriptor: `fetch`'s end of the relay's socket.
    /// Answered by [`Answer::Opened`] at once and by [`Answer::Closed`] when the socket closes.
    Open {
        /// The main module, or nothing for a cell that needs no module.
        root: Option<Member>,
        /// When given, serve these and nothing else (`build --locked`). Those of earlier
        /// [`Ask::Lock`] requests with the same id are added.
        locked: Option<Vec<ModuleHash>>,
    },
    /// A part of a lock file that is too long for one message; sent before [`Ask::Open`] with the
    /// same id, at most 100 modules at a time. Not answered.
    Lock {
        /// Some of its modules.
        modules: Vec<ModuleHash>,
    },
    /// Resolve a package path and a query (`latest`, a version, a branch, a commit) to a module
    /// and a concrete version: longest prefix first, as Go does.
    Resolve {
        /// Module path, when it is known; else found from `package`.
        module: Option<String>,
        /// Import path of the package.
        package: String,
        /// `latest`, `v1.2.1`, `v1`, `master`, …
        query: String,
    },
    /// All known versions of a module, with warnings of its newest go.mod.
    Versions {
        /// Module path.
        module: String,
    },
    /// The newest Go release, or the newest of one line.
    LatestGo {
        /// `latest` or `go1.26.latest`.
        query: String,
    },
    /// All Go releases that can be had.
    GoVersions,
    /// Download, verify and unpack an SDK. Progress, then [`Answer::Sdk`] with the folder.
    Sdk {
        /// `go1.26.8`
        go: String,
    },
    /// The SDK has been adopted; the unpacked copy can go.
    SdkAdopted {
        /// `go1.26.8`
        go: String,
    },
    /// Ask a witness of the log. Answered by [`Answer::Witness`].
    Witness {
        /// Its number in the list of the start.
        witness: usize,
        /// What.
        question: WitnessAsk,
    },
    /// Ask a verifier for its observation of a build. Answered by [`Answer::Verifier`].
    Verifier {
        /// Its number in the list of the start.
        verifier: usize,
        /// The build key.
        key: String,
    },
    /// Read from the log of a verifier that is no instance of ours. Answered by
    /// [`Answer::VerifierLog`]; a lookup may take as long as a build.
    VerifierLog {
        /// Its number in the list of the start.
        verifier: usize,
        /// `lookup/` and a build key, or the path of a tile.
        path: String,
    },
    /// What an address is called. Answered by [`Answer::HostName`].
    HostName {
        /// Of a visitor.
        address: IpAddr,
    },
    /// Look for the licences of modules whose zips are in the cache: at most
    /// [`LICENCES_MAX`] of them at a time. Nobody outside is asked. Answered by
    /// [`Answer::Licences`].
    Licences {
        /// As they were served; those without the hash of a zip are left out.
        modules: Vec<ModuleHash>,
    },
    /// Ask the authority that gives the service its certificate. Answered by
    /// [`Answer::Authority`].
    Authority {
        /// What.
        question: AuthorityAsk,
    },
    /// Read every file of the module cache, through the page cache and past it.
    Verify,
    /// Try the module proxy and the checksum database.
    Probe,
    /// Files of the module cache for the disk budget.
    Usage,
    /// Delete least recently used files of the module cache until it holds at most so much.
    Shrink {
        /// Bytes to keep.
        bytes_max: u64,
    },
}

/// A question to a witness (C2SP `tlog-witness.md`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum WitnessAsk {
    /// To cosign a checkpoint.
    Add {
        /// The body, at most [`crate::tlog::witness::REQUEST_BYTES_MAX`] bytes.
        body: String,
    },
    /// Which checkpoint of a log it cosigned last.
    Seen {
        /// [`crate::tlog::witness::log_id`] of the log.
        log: String,
    },
}

/// A question to an ACME server (RFC 8555), at the origin of the directory that the start named.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum AuthorityAsk {
    /// A resource that anybody may read.
    Get {
        /// Its address.
        url: String,
    },
    /// The head of one.
    Head {
        /// Its address.
        url: String,
    },
    /// To do something.
    Post {
        /// The address of what does it.
        url: String,
        /// A signed message in JSON, at most [`crate::fetch::authority::REQUEST_BYTES_MAX`] bytes.
        body: String,
    },
}

/// A module at a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Module path, unescaped.
    pub path: String,
    /// Canonical version.
    pub version: String,
}

/// What was verified of a module: the hash of its zip, of its go.mod, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModuleHash {
    /// Module path.
    pub path: String,
    /// Version.
    pub version: String,
    /// `h1:` of the zip; absent when only its go.mod was needed.
    pub h1: Option<String>,
    /// `h1:` of the go.mod.
    pub go_mod_h1: Option<String>,
}

/// Modules in one question for licences: 50 with eight licences each have 40 KB.
pub const LICENCES_MAX: usize = 50;

/// Licences of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLicences {
    /// Module path.
    pub path: String,
    /// Version.
    pub version: String,
    /// What was found.
    pub licences: Licences,
}

/// What the root of a module has of licences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licences {
    /// Those that were recognised, sorted.
    pub ids: Vec<LicenceId>,
    /// Whether there is a text that was not recognised.
    pub others: bool,
}

/// From `fetch` to the asker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// Of the request.
    pub id: u64,
    /// What is said.
    pub answer: Answer,
}

/// What `fetch` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The session is open.
    Opened,
    /// A member of the closure was verified and handed to the relay; for live progress.
    Served {
        /// What.
        module: ModuleHash,
    },
    /// The session is over. `served` comes in parts of at most 100 modules.
    Closed {
        /// All that the relay was given, sorted; a part of it when `more`.
        served: Vec<ModuleHash>,
        /// Whether another part follows.
        more: bool,
        /// Modules whose version list was asked for although they are not the main module:
        /// a go.mod that is incomplete.
        missing: Vec<String>,
        /// First trouble with the proxy or the checksum database, if any.
        trouble: Option<Trouble>,
    },
    /// What a moving name means today.
    Resolved {
        /// Module and concrete version.
        member: Member,
        /// Warnings: retracted, deprecated.
        warnings: Vec<String>,
    },
    /// Versions of a module, newest first, at most 1,000.
    Versions {
        /// Concrete versions.
        versions: Vec<String>,
        /// Warnings: deprecated.
        warnings: Vec<String>,
    },
    /// A Go release.
    Go {
        /// `go1.26.8`
        go: String,
    },
    /// Go releases, newest first.
    GoVersions {
        /// `go1.26.8`, …
        versions: Vec<String>,
    },
    /// Bytes so far.
    Progress {
        /// Received, or unpacked.
        bytes: u64,
        /// Expected, when known.
        bytes_total: Option<u64>,
        /// `download` or `unpack`.
        phase: String,
    },
    /// The unpacked SDK. Descriptor: its folder.
    Sdk {
        /// Verified directory hash of the zip.
        h1: String,
    },
    /// Done.
    Done,
    /// What a witness answered, with any status.
    Witness {
        /// Of HTTP.
        status: u16,
        /// Media type; empty when it said none.
        kind: String,
        /// At most [`crate::tlog::witness::ANSWER_BYTES_MAX`] bytes.
        body: String,
    },
    /// What a verifier answered, with any status.
    Verifier {
        /// Of HTTP.
        status: u16,
        /// At most [`crate::fetch::verifier::ANSWER_BYTES_MAX`] bytes.
        body: String,
    },
    /// What a verifier's log answered, with any status.
    VerifierLog {
        /// Of HTTP.
        status: u16,
        /// At most [`crate::fetch::verifier::LOG_BYTES_MAX`] bytes before base64.
        base64: String,
    },
    /// What an address is called.
    HostName {
        /// In lower case; letters, digits, `-`, `_` and `.` only.
        name: Option<String>,
    },
    /// Licences of the modules that were found.
    Licences {
        /// In the order of the question.
        modules: Vec<ModuleLicences>,
    },
    /// What the authority answered, with any status.
    Authority {
        /// Of HTTP.
        status: u16,
        /// `Replay-Nonce`.
        nonce: Option<String>,
        /// `Location`.
        location: Option<String>,
        /// `Retry-After`: in how many seconds it wants to be asked again.
        retry_after_s: Option<u64>,
        /// At most [`crate::fetch::authority::ANSWER_BYTES_MAX`] bytes before base64.
        base64: String,
    },
    /// Size of the module cache in bytes.
    Usage {
        /// Bytes.
        bytes: u64,
    },
    /// What came of trying.
    Probed {
        /// The newest Go release for this machine, `go1.26.8`.
        newest: Option<String>,
        /// Seconds since 1970, as the proxy's clock says.
        date_s: Option<u64>,
        /// Records below the head that was verified, or why it was not.
        database: Result<u64, String>,
    },
    /// All files were read.
    Verified {
        /// Those that are what they were.
        check: Check,
        /// A sentence for each of the others, at most 100.
        put_away: Vec<String>,
    },
    /// Unasked, with the number 0: a file was not what it was and will not be used again.
    PutAway {
        /// For a person.
        sentence: String,
    },
    /// It did not work.
    Trouble(Trouble),
}

/// A failure, sorted by what the asker does about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What to do.
    pub kind: TroubleKind,
    /// One sentence without a full stop; names the object.
    pub text: String,
}

/// Sorts failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// There is no such module, version or release: HTTP 404, exit 1.
    NotFound,
    /// The proxy or the checksum database does not answer, or answers garbage: 502, exit 4.
    Proxy,
    /// A hash, proof or signature is wrong: 502 and an alarm, exit 3.
    Verify,
    /// The module itself breaks a rule (zip limits, go.mod that does not parse): 404, exit 1.
    Module,
    /// Ours: 500, exit 1.
    Internal,
}
