//! See `profpipe_fuzz::folded_stacks`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::folded_stacks(bytes));
