//! The corpus of the fuzz targets, and seeded mutations of it, with the stable compiler: what libFuzzer
//! has found stays found, and every decoder sees some thousand damaged inputs in each run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking; the targets are a crate of their own"
)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use targets::TARGETS;

/// Mutations of each input of a corpus.
const MUTATIONS: u64 = 1500;

/// A small generator of random numbers, the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    /// Some bytes changed, cut out, repeated, or replaced by numbers that decoders trip over.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let length = self.below(16).min(bytes.len() - at);
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 => drop(bytes.drain(at..at + length)),
                2 => {
                    let copy = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, copy);
                }
                3 => bytes.truncate(at),
                _ => {
                    let extremes: [&[u8]; 5] = [
                        &[0xff; 10],
                        &[0; 8],
                        &[0x80, 0x80, 1],
                        &[0xff, 0xff, 0xff, 0x7f],
                        b"\xf0",
                    ];
                    let extreme = extremes[self.below(extremes.len())];
                    bytes.splice(at..at + length, extreme.iter().copied());
                }
            }
        }
    }
}

/// Scenario: every input of every target's corpus, and mutations of it by a fixed seed.
/// Guarantees: what the target promises; a failure prints the input.
#[test]
fn decoders_keep_their_promises() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let mut files: Vec<_> = std::fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("{name} has no corpus: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        for (number, file) in files.iter().enumerate() {
            let original = std::fs::read(file).unwrap();
            let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ number as u64);
            // A large input once in a while says as much.
            let mutations = MUTATIONS / (1 + original.len() as u64 / 20_000);
            for mutation in 0..=mutations {
                let mut bytes = original.clone();
                if mutation > 0 {
                    random.mutate(&mut bytes);
                }
                if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                    panic!("{name}: mutation {mutation} of {}: {bytes:?}", file.display());
                }
            }
        }
    }
}
