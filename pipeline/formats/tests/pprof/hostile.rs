//! No bytes make the reader panic, and what it reads can be written and reported.

use proptest::prelude::*;
use prost::Message as _;

use profpipe_formats::pprof;
use profpipe_formats::report::{Column, collapse, top};

use crate::arbitrary::profile;

/// Reads bytes and does with them what the program may do.
fn use_all(bytes: &[u8]) {
    if let Ok(profiles) = pprof::decode(bytes) {
        let written = pprof::encode_plain(&profiles).unwrap();
        assert!(pprof::decode(&written).is_ok(), "what we write must be readable");
        let _ = top(&profiles, None, Column::Own).map(|top| (top.to_text(9), top.to_json(9)));
        let _ = collapse(&profiles, Some("0"));
    }
}

/// Scenario: a real profile, compressed and not, cut off at every byte and with every bit flipped.
/// Guarantees: no panic.
#[test]
fn cut_off_or_flipped() {
    let packed = include_bytes!("../data/go-cpu.pb.gz");
    let plain = pprof::encode_plain(&pprof::decode(packed).unwrap()).unwrap();
    for file in [&packed[..], &plain] {
        for at in 0..file.len() {
            use_all(&file[..at]);
            for bit in 0..8 {
                let mut flipped = file.to_vec();
                flipped[at] ^= 1 << bit;
                use_all(&flipped);
            }
        }
    }
}

proptest! {
    /// Scenario: random bytes.
    /// Guarantees: no panic.
    #[test]
    fn random(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use_all(&bytes);
    }

    /// Scenario: a valid profile with some bytes replaced.
    /// Guarantees: no panic.
    #[test]
    fn replaced(
        profile in profile(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..32_u8), 1..4),
    ) {
        let mut bytes = profile.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        use_all(&bytes);
    }
}
