//! Reads bodies with every spec. Run with `cargo fuzz run read` in `keyspec/`.

#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
