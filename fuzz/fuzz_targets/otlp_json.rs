//! Any bytes as an OTLP request in JSON: no panic, and what is written reads the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use profpipe_formats::otlp;

fuzz_target!(|bytes: &[u8]| {
    let Ok(profiles) = otlp::decode_json(bytes) else { return };
    let written = otlp::encode_json(&profiles);
    let again = otlp::decode_json(&written).unwrap();
    assert_eq!(otlp::encode_json(&again), written);
});
