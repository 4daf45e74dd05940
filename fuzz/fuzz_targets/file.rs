//! See `profpipe_fuzz::profile_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::profile_file(bytes));
