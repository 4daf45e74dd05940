//! See `profpipe_fuzz::pprof_profile`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::pprof_profile(bytes));
