//! See `hotcell::fuzzing::unpacking`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::unpacking(data));
