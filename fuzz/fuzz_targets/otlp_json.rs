//! See `profpipe_fuzz::otlp_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::otlp_json(bytes));
