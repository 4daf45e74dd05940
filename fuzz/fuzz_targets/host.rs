//! See `profpipe_fuzz::host`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::host(bytes));
