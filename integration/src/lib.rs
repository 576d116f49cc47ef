//! Harness of the integration tests: the real program, a module proxy and checksum database of our
//! own, hostile programs, a browser.
//!
//! Called by `integration/tests/` and by `integration/bench` only. It never reaches for the network
//! itself: real modules come through the Go command and the configured module proxy. Every process
//! that it starts is ended by its id, every folder it makes is its own.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness starts programs, and its files need not survive a crash"
)]

pub mod authority;
pub mod browser;
pub mod command;
pub mod fake;
pub mod grown;
pub mod host;
pub mod hostile;
pub mod http;
pub mod kept;
pub mod known;
pub mod paths;
pub mod pebble;
pub mod progress;
pub mod promised;
mod ready;
pub mod rewound;
pub mod sdk;
pub mod service;
pub mod stock;
pub mod tools;
pub mod traced;
pub mod verifying;
