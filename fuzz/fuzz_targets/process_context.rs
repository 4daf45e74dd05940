//! See `profpipe_fuzz::process_context`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::process_context(bytes));
