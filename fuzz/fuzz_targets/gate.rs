//! See `hotcell::fuzzing::gate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell::fuzzing::gate(data));
