//! See `profpipe_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::config(bytes));
