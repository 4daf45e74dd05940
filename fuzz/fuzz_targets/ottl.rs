//! See `profpipe_fuzz::ottl`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::ottl(bytes));
