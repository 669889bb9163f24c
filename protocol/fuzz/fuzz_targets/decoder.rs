//! Feeds the decoder whatever the fuzzer thinks of.
#![no_main]

#[path = "../property.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::decoder(bytes));
