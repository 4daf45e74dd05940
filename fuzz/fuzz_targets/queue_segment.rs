//! See `profpipe_fuzz::queue_segment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::queue_segment(bytes));
