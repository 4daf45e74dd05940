//! ELF files: real ones, made ones, damaged ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::sync::LazyLock;

use object::{Object, ObjectSegment, SegmentFlags};
use proptest::prelude::*;

use super::*;
use crate::content::Content;
use crate::hex;

/// A real ELF file: this test program.
static PROGRAM: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(std::env::current_exe().unwrap()).unwrap());

/// Scenario: this program's own file is read through its descriptor, from memory, and by the part of
/// `object` that wants all of it in memory.
/// Guarantees: entry, build id and executable segments are the same.
#[test]
fn agrees_with_object() {
    let identity = Identity::read(&PROGRAM[..]).unwrap();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(Identity::read(&file).unwrap(), identity);
    let file = object::File::parse(&PROGRAM[..]).unwrap();
    assert_eq!(identity.entry, file.entry());
    assert_eq!(identity.build_id, file.build_id().unwrap().map(hex));
    let executable = file.segments().filter(
        |segment| matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & 1 != 0),
    );
    let expected: Vec<_> =
        executable.map(|segment| (segment.file_range(), segment.address())).collect();
    let found = identity.segments.iter();
    let found: Vec<_> =
        found.map(|segment| ((segment.offset, segment.length), segment.address)).collect();
    assert_eq!(found, expected);
    assert!(!identity.go);
}

/// Scenario: the hash of a file of three bytes, and of a long one.
/// Guarantees: it is the one that the semantic conventions define.
#[test]
fn hashes_both_ends_and_the_length() {
    use sha2::{Digest, Sha256};
    let of = |first: &[u8], last: &[u8], length: u64| {
        let mut hash = Sha256::new();
        hash.update(first);
        hash.update(last);
        hash.update(length.to_be_bytes());
        hex(&hash.finalize()[..16])
    };
    assert_eq!(htlhash(&b"abc"[..]).unwrap(), of(b"abc", b"abc", 3));
    let long: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
    assert_eq!(htlhash(&long[..]).unwrap(), of(&long[..4096], &long[5904..], 10_000));
}

/// A file of one segment with one note, the build id `1 2 3 4`.
fn small(is_64: bool, is_little: bool) -> Vec<u8> {
    let number = |value: u64, size: usize| {
        if is_little {
            value.to_le_bytes()[..size].to_vec()
        } else {
            value.to_be_bytes()[8 - size..].to_vec()
        }
    };
    let word = if is_64 { 8 } else { 4 };
    let (header, entry) = if is_64 { (64, 56) } else { (52, 32) };
    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend([1 + u8::from(is_64), 2 - u8::from(is_little), 1, 0]);
    bytes.extend([0; 8]);
    for (value, size) in [(2, 2), (8, 2), (1, 4), (0x4000, word), (header, word), (0, word), (0, 4)]
    {
        bytes.extend(number(value, size));
    }
    for value in [header, entry, 1, 0, 0, 0] {
        bytes.extend(number(value, 2));
    }
    let (at, length) = (header + entry, 20);
    let fields = if is_64 {
        vec![(4, 4), (4, 4), (at, 8), (0, 8), (0, 8), (length, 8), (length, 8), (4, 8)]
    } else {
        vec![(4, 4), (at, 4), (0, 4), (0, 4), (length, 4), (length, 4), (4, 4), (4, 4)]
    };
    for (value, size) in fields {
        bytes.extend(number(value, size));
    }
    for value in [4, 4, 3] {
        bytes.extend(number(value, 4));
    }
    bytes.extend(b"GNU\0");
    bytes.extend([1, 2, 3, 4]);
    bytes
}

/// Scenario: small files of both classes and byte orders, whole and cut off anywhere.
/// Guarantees: the build id is found in each, and in none that is cut off; only a little-endian one
/// has an identity.
#[test]
fn reads_both_classes_and_byte_orders() {
    for (is_64, is_little) in [(true, true), (true, false), (false, true), (false, false)] {
        let file = small(is_64, is_little);
        let whole = inspect(&file[..]).unwrap().unwrap();
        assert_eq!(whole.build_id.as_deref(), Some(&[1, 2, 3, 4][..]), "{is_64} {is_little}");
        assert!(!whole.has_debug_info);
        for cut in 0..file.len() {
            let found = inspect(&file[..cut]).unwrap().and_then(|whole| whole.build_id);
            assert_eq!(found, None, "{is_64} {is_little} cut at {cut}");
        }
        let identity = Identity::read(&file[..]);
        assert_eq!(identity.is_some(), is_little);
        if let Some(identity) = identity {
            assert_eq!(identity.build_id.as_deref(), Some("01020304"));
            assert_eq!(identity.entry, 0x4000);
        }
    }
}

/// A file of a tebibyte of zeros after its first bytes, which counts what is read of it.
struct Sparse {
    start: Vec<u8>,
    read: std::cell::Cell<usize>,
    largest: std::cell::Cell<usize>,
}

impl Content for Sparse {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.read.set(self.read.get() + buffer.len());
        self.largest.set(self.largest.get().max(buffer.len()));
        buffer.fill(0);
        self.start[..].read_at(buffer, offset)?;
        Ok(buffer.len())
    }

    fn length(&self) -> std::io::Result<u64> {
        Ok(1 << 40)
    }
}

/// Scenario: a file with holes says that it has four billion sections, in the way that large files
/// do, and notes as long as itself.
/// Guarantees: what is read, and held at once, stays within the bounds.
#[test]
fn claims_cost_no_more_than_the_bounds() {
    let mut start = small(true, true);
    // The section table: at 4096, of entries of 64 bytes, their number in the first of them.
    start[40..48].copy_from_slice(&4096_u64.to_le_bytes());
    start[58..60].copy_from_slice(&64_u16.to_le_bytes());
    start[64 + 32..64 + 40].copy_from_slice(&(1_u64 << 39).to_le_bytes());
    start.resize(4096, 0);
    start.resize(4096 + 64, 0);
    start[4096 + 32..4096 + 40].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
    let sparse = Sparse { start, read: 0.into(), largest: 0.into() };
    assert!(Identity::read(&sparse).is_some());
    let most = MAX_HEADERS * 64 + MAX_NOTES as usize;
    assert!(sparse.read.get() <= most + 4096, "{}", sparse.read.get());
    assert!(inspect(&sparse).unwrap().is_some());
    assert!(sparse.largest.get() <= 4 << 20, "{}", sparse.largest.get());
}

/// Scenario: a file that cannot be read.
/// Guarantees: that is an error and not a file that is not ELF.
#[test]
fn failures_are_not_findings() {
    struct Broken;
    impl Content for Broken {
        fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }

        fn length(&self) -> std::io::Result<u64> {
            Ok(1000)
        }
    }
    assert_eq!(inspect(&Broken).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(inspect(&b"#!/bin/sh\n"[..]).unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Scenario: a real program is cut off and some of its bits are flipped, mostly in its headers.
    /// Guarantees: reading it ends without a panic.
    #[test]
    fn a_damaged_file_is_harmless(
        flips in proptest::collection::vec((0_usize..1200, any::<u8>()), 0..20),
        anywhere in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = PROGRAM.clone();
        let sections = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
        for (at, value) in flips {
            bytes[at] ^= value;
            if let Some(byte) = bytes.get_mut(sections + at) {
                *byte ^= value;
            }
        }
        for (at, value) in anywhere {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = (htlhash(&bytes[..]), inspect(&bytes[..]).unwrap());
        if let Some(identity) = Identity::read(&bytes[..]) {
            for offset in [0, 4096, u64::MAX] {
                let _ = identity.segment_at(offset, 4096);
            }
        }
    }

    /// Scenario: arbitrary bytes as notes.
    /// Guarantees: no panic, and no id that is longer than ids are.
    #[test]
    fn arbitrary_notes_are_harmless(
        bytes in proptest::collection::vec(0_u8..8, 0..200),
        alignment: u64,
    ) {
        for endian in [object::Endianness::Little, object::Endianness::Big] {
            for note in notes::ids(&bytes, endian, alignment) {
                let (notes::IdNote::Gnu(id) | notes::IdNote::Go(id)) = note;
                prop_assert!(id.len() <= 256);
            }
        }
    }
}
