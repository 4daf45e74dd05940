//! See `profpipe_fuzz::merge_requests`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::merge_requests(bytes));
