//! One theme per module; the name of a test is the sentence that is true.
#![expect(
    clippy::disallowed_methods,
    reason = "files of tests need not survive a crash"
)]

mod access;
mod access_log;
mod acme;
mod auditors;
mod bad_input;
mod browser;
mod code;
mod commands;
mod config;
mod container;
mod contract;
mod crowd;
mod doctor;
mod execute;
mod fakes;
mod flood;
mod frozen;
mod get;
mod gobuild;
mod gomod;
mod hostile_modules;
mod hostile_output;
mod inside;
mod kill;
mod kill_anywhere;
mod kill_mixed;
mod known_sums;
mod limits;
mod limits_http;
mod log_calls;
mod log_clock;
mod log_faults;
mod log_readers;
mod old_go;
mod openapi;
mod packages;
mod page_cache;
mod pgo;
mod plan;
mod power;
mod roles;
mod rollback;
mod rootless;
mod selftest;
mod sentences;
mod stores;
mod stress;
mod successor;
mod support;
mod tls;
mod twofa;
mod verifiers;
mod withdrawn;
mod witness;
mod xmod;
mod zips;
