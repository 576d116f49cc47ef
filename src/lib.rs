//! Hotcell builds Go modules that nobody trusts, in a cell that gives them nothing, and proves what
//! it did. This page is the architecture: what runs, who may do what, what always holds.
//!
//! # The way of a build
//!
//! ```text
//! spec → plan → queue → build → gate → store → others → log → answer
//! ```
//!
//! | stage | module | what happens |
//! |---|---|---|
//! | spec | [`spec`] | one injective parser for what people type, URLs and log keys |
//! | plan | [`fetch`] | the closure: the module itself, then what each verified go.mod requires |
//! | verify | [`proxy`], [`sumdb`], [`tlog`], [`modzip`], [`toolchain`] | hashes against the checksum database; zips written anew from what was hashed |
//! | queue | [`serve`] | identical jobs are one job |
//! | build | [`build`], [`hotcell_sandbox`] | a cell; the go command in it; the relay as its only peer |
//! | gate | [`relay`] | one regular file comes out, hashed while copied, its modules compared; what code it has is told and decides nothing |
//! | store | [`store`] | durable before anything is promised |
//! | others | [`verifiers`] | a build is published when enough other instances got the same bits |
//! | log | [`log`], [`provenance`] | record and companion in one transaction; then sign, publish |
//! | witness | [`witness`], [`serve::cosign`] | others remember each head: an older copy or a fork of this log is fenced; this instance does the same for other logs |
//! | answer | [`serve`], [`get`], [`receipt`] | pages, downloads; licences of the modules, recognised by [`fetch`] afterwards; the client verifies all of it again, and keeps what proves it offline |
//! | audit | [`audit`] | everything that a log says, computed again from its leaves; builds made again |
//!
//! Each stage hands the next one a type that cannot be wrong: [`spec::BuildKey`],
//! [`fetch::wire::ModuleHash`], [`build::Built`], [`spec::Record`]. What a cell printed is
//! [`output::Output`], which can only be shown escaped.
//!
//! # Processes
//!
//! One program; each role is a re-execution of it ([`roles`]), never a fork of a threaded process.
//!
//! | role | lives | holds | reads bytes from |
//! |---|---|---|---|
//! | `serve` (or `hotcell build`) | always | database, artifacts, listening sockets, the key of its certificate, with `--acme` its account at the authority ([`acme`]); own user | the public, TLS and HTTP only; with `--acme` the authority, carried by `fetch` |
//! | `fetch` | always | the way out; only writer of the module cache; own user | module proxy, checksum database, witnesses, verifiers, authority |
//! | `relay` | one per cell | descriptors: the cell's listener, a session with `fetch`, the output folder; own user | one cell |
//! | `supervise` | always | root (rootless: the person), one thread, no network; only writer of SDKs and frozen caches | `serve`, bounded messages |
//! | `sign` | always, for `serve` | the keys of log and witness, its own last head, the heads of others that it cosigned; own user | `serve`: size, root and a consistency proof; signed heads of other logs |
//! | `config` | with `serve --config` | the folder of the configuration file, to read; the person who started it | `serve`: a byte that asks |
//! | `certificate` | with `serve --tls-cert` | the folders of certificate and key, to read; the person who started it | `serve`: a byte that asks |
//! | the cell's init | one per cell | nothing after exec | nobody |
//!
//! What each of them may do beyond that is data, with a reason for each rule: `policies/build.toml`
//! for cells, `policies/roles.toml` for `serve`, `fetch`, `sign`, `relay` (and `config` and
//! `certificate`) ([`hotcell_sandbox::privilege::confine`]: Landlock, a list of system calls, no
//! capability; read back from the kernel). `hotcell build` itself is a person's program and keeps a
//! person's power. Either `serve` starts the roles, or a service manager does, one unit each
//! ([`roles::connect`], `packaging/systemd`). The messages between them, with version and maxima:
//! [`roles`].
//!
//! ```text
//!    sign ◀─ (size, root) ─┐
//!  public ── HTTP ──▶ serve ──▶ supervise ──▶ cell (go, compile, asm, link)
//!                       │           └──────▶ relay ◀── HTTP ──┘  │ one file
//!                       └─▶ fetch ◀──────────── session ─┘ ◀─────┘
//!                             └── HTTPS ──▶ module proxy, checksum database,
//!                                           witnesses, verifiers, authority
//! ```
//!
//! # Threat model
//!
//! | adversary | what holds | what does not |
//! |---|---|---|
//! | author of a module | only a compiler reads the code, in a cell; output is escaped everywhere | a binary does what its author wrote |
//! | module proxy, or whoever is before it | hashes come from the checksum database; the bytes hashed are the bytes used | it can refuse, and it sees what is asked |
//! | visitor, web page in a visitor's browser | parsing once, limits for each connection and client, the operator's rules, same-origin POST, `Host` check | a visitor can use the machine's time, within limits |
//! | cell whose compiler was exploited | namespaces, Landlock, seccomp, no capability; closure kept by `fetch`; nothing shared is writable | it chooses the bytes of its own artifact |
//! | compromised `relay` | an empty network namespace, no file but the cell's output, no call but those of its list; `fetch` keeps the closure | it chooses the artifact of its own build |
//! | compromised `fetch` | it cannot reach database, log or keys, nor start a program; it reads its cache and the resolver's files only; SDKs are hashed again by the supervisor | it can lie about modules, and in the name of the authority, and connect to whatever the host reaches over TCP and UDP |
//! | compromised `serve` | it cannot change an SDK, a frozen cache, a policy or what `sign` signed before, nor end a log, nor have a fork of another log cosigned; it cannot read a key of log or witness, start a program, or call anybody | it has the key of its certificate, and can ask the authority for more; it can lie in its own log and stop service; `sign` signs what follows from the last head, true or not |
//! | compromised `sign` | it has no network and no file but its own; it sees sizes, roots and statements only | it has the keys: it can sign a fork, which clients that keep heads notice |
//! | witness, or whoever answers for it | its lines are verified; it never holds an entry back | it can refuse, and it can fence the log until it is taken from `--witness` |
//! | another log that is cosigned here | its heads are verified, few, and remembered in `sign`; a fork is refused and told | it can have 20 true heads cosigned in a second |
//! | verifier, or whoever answers for it | what it says is signed and is of its key and this build; it alone never has anything published | it can refuse and it can lie: below the quorum a build is held back and a person is told |
//! | authority of the certificate, or whoever answers for it | it is asked on one host only; what it gives is checked as a file is; it sees its challenge while it looks for one name, and nobody else does | it can refuse, and it can give others a certificate for our name |
//! | operator | clients keep the heads they saw; a fork is evidence | the operator can stop the service |
//! | a bug of the kernel | several independent layers must all fail | without a virtual machine, a full compromise of the kernel wins |
//!
//! # Invariants
//!
//! - Nothing unverified is visible under its final name; a crash leaves temporary names, which the
//!   next start sweeps ([`fetch`], [`store::durable`]).
//! - A build's inputs depend on its key alone: the closure grows by verified requirements only, and
//!   what is outside of it is never asked for upstream ([`fetch`]).
//! - No build writes what another one reads: SDK and frozen standard library are read-only lower
//!   layers, everything else lives in the cell's own tmpfs ([`hotcell_sandbox`]).
//! - What builds share stays what it was: SDKs, frozen caches and module files are read again, past
//!   the page cache too, each day and after an attack; what differs is never used again
//!   (`integration/tests/all/stores.rs`).
//! - A cell that lacks a mandatory defence does not run; what is only wanted and missing stands in
//!   the result ([`hotcell_sandbox::wire::Report`]).
//! - Nothing is answered before it is durable; the log signs after the commit, never before
//!   ([`log`]).
//! - Two roots for one size are never signed: `sign` builds every text itself, remembers before it
//!   signs ([`log::sign`]).
//! - A log that has ended never signs again, and at most one follows it: the end and the key that
//!   follows are one sector of what `sign` remembers (`integration/tests/all/successor.rs`).
//! - A log whose newer heads a witness has cosigned takes no entries ([`witness`]).
//! - Of two heads of another log that are cosigned here one contains the other, also after a crash
//!   and whatever `serve` asks for: `sign` verifies, remembers, then cosigns ([`log::sign`]).
//! - No process of the service but the supervisor starts a program, enters a namespace or reads
//!   another's memory; those calls end it ([`hotcell_sandbox::privilege`]).
//! - No instance asks others on behalf of an instance that asks it, and a build that waits for
//!   others holds no place among the builds: instances that verify each other never wait for each
//!   other ([`verifiers`]).
//! - An authority looks for us in vain at most four times an hour, however often the service is
//!   started ([`acme`]).
//! - One key, one record, for ever; other bytes for the same key are never logged ([`log`]).
//! - Everything that the log serves follows from its leaves and the signed head: our auditor and
//!   three readers that others have written compute it again ([`audit`],
//!   `integration/tests/all/auditors.rs`).
//! - Every queue, text, file and wait has a maximum.

pub mod acme;
pub mod audit;
pub mod build;
pub mod channel;
pub mod cli;
pub mod doctor;
pub mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod get;
pub mod log;
pub mod modzip;
pub mod output;
pub mod provenance;
pub mod proxy;
pub mod receipt;
pub mod relay;
pub mod roles;
pub mod selftest;
pub mod serve;
pub mod spec;
pub mod store;
pub mod sumdb;
pub mod tlog;
pub mod toolchain;
pub mod verifiers;
pub mod witness;
