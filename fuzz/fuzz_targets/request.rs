//! See `hotcell::fuzzing::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::request(data));
