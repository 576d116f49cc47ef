//! See `hotcell::fuzzing::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::wire(data));
