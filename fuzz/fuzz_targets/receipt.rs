//! See `hotcell::fuzzing::receipt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::receipt(data));
