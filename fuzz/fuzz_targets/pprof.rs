//! Any bytes as a pprof profile: no panic, bounded memory, and what was read can be written, read
//! again to the same bytes, and reported.

#![no_main]

use libfuzzer_sys::fuzz_target;
use profpipe_formats::pprof;
use profpipe_formats::report::{Column, collapse, top};

fuzz_target!(|bytes: &[u8]| {
    let Ok(profiles) = pprof::decode_bounded(bytes, 16 << 20) else { return };
    let written = pprof::encode_plain(&profiles).unwrap();
    let again = pprof::decode(&written).unwrap();
    assert_eq!(pprof::encode_plain(&again).unwrap(), written);
    if let Ok(top) = top(&profiles, None, Column::Own) {
        let _ = (top.to_text(10), top.to_json(10));
    }
    let _ = collapse(&profiles, Some("0"));
});
