//! What programs say in rings, right and wrong, and what is left of their blocks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use profpipe_heap::layout::{
    ALLOCATED, Allocated, DATA_SIZE, DONE, FREED, HEADER_SIZE, MAGIC, PAD, place, word,
};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};

use super::live::{Live, Origin, Stands};
use super::record::{HeapRecord, parse};
use super::ring::ProgramRing;
use crate::perf::linux::handoff::{Frame, Unwound};
use crate::perf::linux::processes::process_context::Memory;

/// Where the head and the tail are, in bytes.
const HEAD: u64 = 128;

/// A ring, and the file that a program would write to.
fn ring() -> (ProgramRing, File) {
    let file = sealed((HEADER_SIZE + DATA_SIZE) as u64);
    (ProgramRing::map(&file).unwrap(), file)
}

fn sealed(size: u64) -> File {
    let file = rustix::fs::memfd_create("ring", MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(file);
    file.set_len(size).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file.write_all_at(&MAGIC.to_ne_bytes(), 0).unwrap();
    file
}

fn write(file: &File, at: u64, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    file.write_all_at(&bytes, at).unwrap();
}

/// The records that are read: how many of each kind, with their lengths.
fn read(ring: &mut ProgramRing, now: u64, is_over: bool) -> (Vec<(u64, usize)>, usize) {
    let mut found = Vec::new();
    let wrong = ring.read(now, is_over, &mut Vec::new(), |kind, body| {
        found.push((kind, body.len()));
    });
    (found, wrong)
}

/// Scenario: files that are not sealed, of another size, without the right beginning, and one that is right.
/// Guarantees: only that one is mapped: no other can be made shorter under the reader.
#[test]
fn only_sealed_rings_are_mapped() {
    let size = (HEADER_SIZE + DATA_SIZE) as u64;
    assert!(ProgramRing::map(&sealed(size)).is_ok());
    assert!(ProgramRing::map(&sealed(size - 4096)).is_err());
    assert!(ProgramRing::map(&sealed(size + 4096)).is_err());
    let file = sealed(size);
    write(&file, 0, &[MAGIC + 1]);
    assert!(ProgramRing::map(&file).is_err());
    let file = File::from(rustix::fs::memfd_create("ring", MemfdFlags::ALLOW_SEALING).unwrap());
    file.set_len(size).unwrap();
    write(&file, 0, &[MAGIC]);
    assert!(ProgramRing::map(&file).is_err());
    assert!(ProgramRing::map(&File::open("/dev/zero").unwrap()).is_err());
}

/// Scenario: records that are whole, one that is not, and others behind it; the writer ends, or takes more
/// than a second.
/// Guarantees: records are read in order up to the one that is not whole; it is skipped when its writer is
/// gone, or takes too long, and then the others are read.
#[test]
fn unfinished_records_are_waited_for() {
    for is_over in [false, true] {
        let (mut ring, file) = ring();
        let data = HEADER_SIZE as u64;
        write(&file, data, &[word(FREED, 24) | DONE, 1, 2, word(FREED, 24), 3, 4]);
        write(&file, data + 48, &[word(PAD, 16) | DONE, 0, word(FREED, 24) | DONE, 5, 6]);
        write(&file, HEAD, &[48 + 16 + 24]);
        assert_eq!(read(&mut ring, 100, false), (vec![(FREED, 16)], 0));
        let now = if is_over { 101 } else { 2_000_000_000 };
        assert_eq!(read(&mut ring, now, is_over), (vec![(FREED, 16)], 0));
        assert_eq!(read(&mut ring, now, is_over), (vec![], 0));
    }
}

/// Scenario: a block of 1000 bytes with a stack of 13, sampled in 512 KiB; the same cut off anywhere.
/// Guarantees: everything is read as it was written, its time not later than now; what is cut off is nothing.
#[test]
fn allocations_are_read() {
    let head = size_of::<Allocated>() / 8;
    let mut words = vec![0_u64; head];
    words[..8].copy_from_slice(&[900, 0x1000, 1000, 512 << 10, 7, 1, 0x401, 0x7000]);
    words[head - 3..].copy_from_slice(&[13, 0xabc, 32]);
    words.extend([0x0807_0605_0403_0201, 0x000d_0c0b_0a09, 0xabc, 9, 77, 88]);
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let Some(HeapRecord::Allocated(found)) = parse(ALLOCATED, &body, 800) else { panic!() };
    assert_eq!((found.time, found.address, found.size, found.tid), (800, 0x1000, 1000, 7));
    assert_eq!(&*found.stack, (1..=13).collect::<Vec<u8>>());
    assert!((found.blocks() - 524.788).abs() < 0.01, "{}", found.blocks());
    let mut python = found.python.unwrap();
    let mut bytes = [0; 16];
    assert!(python.read(0xab4, &mut bytes));
    assert_eq!(u64::from_ne_bytes(*bytes.first_chunk::<8>().unwrap()), 0);
    assert_eq!(u64::from_ne_bytes(*bytes.last_chunk::<8>().unwrap()), 77);
    assert!(!python.read(0xac5, &mut bytes));
    for length in 0..body.len() {
        assert_eq!(parse(ALLOCATED, &body[..length], 800), None, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: rings full of records whose words are anything, with a head that is anything, read again and
    /// again while the program may run and when it has ended.
    /// Guarantees: nothing panics, what is taken lies in the ring, every reading ends, and in the end a right
    /// record is read again.
    #[test]
    fn nonsense_in_rings(
        words in prop::collection::vec(
            prop_oneof![
                any::<u64>(),
                (0..4_u64, 0..64_usize).prop_map(|(kind, words)| word(kind, 8 * words) | DONE),
                (0..4_u64, 0..64_usize).prop_map(|(kind, words)| word(kind, 8 * words)),
                Just(0),
            ],
            1..400,
        ),
        head in prop_oneof![any::<u64>(), 0..4096_u64],
        places: [u64; place::COUNT],
    ) {
        let (mut ring, file) = ring();
        write(&file, HEADER_SIZE as u64, &words);
        write(&file, HEAD, &[head]);
        write(&file, 24, &[u64::MAX, 5, u64::MAX]);
        ring.set_python(&places);
        ring.take_losses();
        for (now, is_over) in [(1, false), (2_000_000_000, false), (9_000_000_000, false), (1, true)] {
            ring.read(now, is_over, &mut Vec::new(), |kind, body| {
                assert!(body.len() < DATA_SIZE);
                if let Some(HeapRecord::Allocated(found)) = parse(kind, body, 5) {
                    assert!(found.time <= 5 && found.blocks() >= 1.0);
                    if let Some(mut python) = found.python {
                        python.read(found.address, &mut [0; 64]);
                    }
                }
            });
        }
        let mut next = [0; 8];
        file.read_exact_at(&mut next, HEAD).unwrap();
        let next = u64::from_ne_bytes(next);
        prop_assert_eq!(next % 8, 0);
        let at = HEADER_SIZE as u64 + next % DATA_SIZE as u64;
        if next % DATA_SIZE as u64 <= DATA_SIZE as u64 - 24 {
            write(&file, at, &[word(FREED, 24) | DONE, 1, 2]);
            write(&file, HEAD, &[next.wrapping_add(24)]);
            prop_assert_eq!(read(&mut ring, 1, true), (vec![(FREED, 16)], 0));
        }
    }
}

/// Scenario: blocks of two places are allocated, some freed before and some after their stack is known, and
/// addresses are used again; thousands of places come and go.
/// Guarantees: the sums are those of the blocks that are there, and places without a block are forgotten.
#[test]
fn what_is_left() {
    let origin = |number: u64| Origin {
        process: 1,
        frames: [Frame { row: 1, address: number }].into(),
        unwound: Unwound::Complete,
    };
    let stands = |bytes| Stands { bytes, blocks: 1 };
    let mut live = Live::default();
    for (address, serial, bytes) in [(16, 1, 100), (32, 2, 200), (48, 3, 400)] {
        assert!(live.allocated(address, serial, stands(bytes)));
    }
    live.freed(32);
    live.unwound(16, 1, origin(1));
    live.unwound(32, 2, origin(1));
    live.unwound(48, 3, origin(2));
    live.unwound(48, 3, origin(1));
    // The free of the first was lost.
    live.allocated(16, 4, stands(800));
    live.unwound(16, 1, origin(1));
    live.unwound(16, 4, origin(2));
    let sums: Vec<_> = live.sums().cloned().collect();
    assert_eq!(sums, [(origin(2), Stands { bytes: 1200, blocks: 2 })]);
    for number in 0..3000 {
        live.allocated(4096, 10 + number, stands(1));
        live.unwound(4096, 10 + number, origin(100 + number));
    }
    live.shrink();
    live.freed(48);
    let mut sums: Vec<_> = live.sums().map(|(_, sum)| sum.bytes).collect();
    sums.sort_unstable();
    assert_eq!(sums, [1, 800]);
}

/// A Go program's buckets, as words from an address on.
struct Words(u64, Vec<u64>);

impl Memory for Words {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        let bytes: Vec<u8> = self.1.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let at = usize::try_from(address.wrapping_sub(self.0)).unwrap_or(usize::MAX);
        let Some(found) = at.checked_add(into.len()).and_then(|end| bytes.get(at..end)) else {
            return false;
        };
        into.copy_from_slice(found);
        true
    }
}

/// Scenario: two buckets of a Go program; the same with counts that do not fit their size, of another type,
/// with far too many frames, and with a list that ends nowhere.
/// Guarantees: the first is read, blocks of all cycles and what is in use since the last one; of the others
/// nothing is believed, and a list that goes in a circle ends.
#[test]
fn go_buckets_are_believed_if_they_fit() {
    const START: u64 = 0x1000;
    // The list; then a bucket with two frames, and one with none.
    let bucket = |next: u64, size: u64, stack: &[u64]| {
        let mut words = vec![0, next, 1, 0xabc, size, stack.len() as u64];
        words.extend(stack);
        for (blocks, freed) in [(10, 4), (3, 0), (0, 0), (1, 1)] {
            words.extend([blocks, freed, blocks * size, freed * size]);
        }
        words
    };
    let first = bucket(START + 8 * 25, 48, &[0x401, 0x402]);
    assert_eq!(first.len(), 24);
    let right = [vec![START + 8], first, bucket(0, 16, &[])].concat();
    let found = super::go::read(&mut Words(START, right.clone()), START).unwrap();
    let seen: Vec<_> =
        found.iter().map(|it| (it.stack.as_slice(), it.size, it.allocated, it.in_use)).collect();
    assert_eq!(seen, [(&[0x401, 0x402][..], 48, 14, 6), (&[][..], 16, 14, 6)]);
    // The type, the number of frames, where the next one is.
    for (at, number) in [(3, 2), (6, 1 << 20), (2, START - 64), (2, u64::MAX - 8)] {
        let mut wrong = right.clone();
        wrong[at] = number;
        assert_eq!(super::go::read(&mut Words(START, wrong), START), None, "{at}");
    }
    let mut circle = right.clone();
    circle[2] = START + 8;
    circle[9] += 1;
    assert_eq!(super::go::read(&mut Words(START, circle), START), None);
}
