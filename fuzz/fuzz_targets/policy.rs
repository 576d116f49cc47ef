//! See `hotcell::fuzzing::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::policy(data));
