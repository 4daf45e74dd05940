//! See `profpipe_fuzz::symbol_table`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| profpipe_fuzz::symbol_table(bytes));
