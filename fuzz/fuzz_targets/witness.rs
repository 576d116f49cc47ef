//! See `hotcell::fuzzing::witness`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::witness(data));
