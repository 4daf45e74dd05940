//! Memory that is asked for before it is taken, as the allocator sees it.
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use profpipe_formats::otlp::{self, DecodeError};
use proptest::prelude::*;
use prost::Message;

use super::generate::{Random, Shape, request};

/// The system's allocator, which notes what this thread holds. A block that grows counts as one:
/// large ones are moved by the kernel, without a copy.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    /// Bytes that this thread holds.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// Bytes that were asked for.
    static ASKED: Cell<isize> = const { Cell::new(0) };
    /// How much more was ever held than had been asked for.
    static WORST: Cell<isize> = const { Cell::new(0) };
}

fn note(more: isize) {
    HELD.set(HELD.get() + more);
    WORST.set(WORST.get().max(HELD.get() - ASKED.get()));
}

// SAFETY: everything is left to the system's allocator; what is noted is in cells that need none.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller keeps the same promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What errors, messages and tables with nothing but a row 0 take.
const SLACK: isize = 8 << 10;

/// Does something within so much memory. Returns what was asked for, and what came of it.
#[track_caller]
fn measured<T>(limit: usize, run: impl FnOnce(&mut dyn FnMut(usize) -> bool) -> T) -> (usize, T) {
    HELD.set(0);
    ASKED.set(0);
    WORST.set(0);
    let result = run(&mut |more| {
        let fits = ASKED.get() as usize + more <= limit;
        if fits {
            ASKED.set(ASKED.get() + more as isize);
        }
        fits
    });
    let (worst, asked) = (WORST.get(), ASKED.get() as usize);
    assert!(worst <= SLACK, "{worst} bytes more than the {asked} asked for");
    (asked, result)
}

/// Decodes within so much memory. Returns what was asked for, and what came of it.
#[track_caller]
fn within(bytes: &[u8], limit: usize) -> (usize, Result<otlp::Rejected, DecodeError>) {
    let request = Bytes::copy_from_slice(bytes);
    let (asked, result) = measured(limit, |room| otlp::admit_within(request, room));
    let result = result.map(|(batch, rejected)| {
        let bytes = batch.wire().map_or_else(|| batch.bytes(), |_| 0);
        assert!(bytes <= asked + SLACK as usize, "{bytes} bytes of {asked}");
        rejected
    });
    (asked, result)
}

/// What must hold for any bytes.
#[track_caller]
fn assert_paid(bytes: &[u8]) {
    let (asked, result) = within(bytes, usize::MAX);
    assert_ne!(result, Err(DecodeError::NoRoom));
    let known = otlp::admit(Bytes::copy_from_slice(bytes)).map(|(_, rejected)| rejected);
    match &known {
        // Where a sender is an old one is seen only while reading; the rest is the same.
        Ok(_) => assert_eq!(result, known),
        Err(_) => assert!(result.is_err()),
    }
    // One byte less is not enough, and then less is taken.
    if asked > 0 {
        let (less, result) = within(bytes, asked - 1);
        assert!(less < asked);
        // It may do without what was asked for in advance.
        assert!(matches!(result, Err(DecodeError::NoRoom)) || less > 0);
    }
}

fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = body.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(body);
    field
}

fn path(numbers: &[u8], body: &[u8]) -> Vec<u8> {
    numbers.iter().rev().fold(body.to_vec(), |body, number| field(*number, &body))
}

/// A message of no fixed kind, from small parts.
fn part(random: &mut Random, depth: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..random.below(4) {
        let number = 1 + random.below(11) as u8;
        match random.below(6) {
            0 => all.extend([number << 3, random.below(200) as u8 & 0x7f]),
            1 => all.extend([number << 3, 0xff, 0x01]),
            2 => {
                all.push(number << 3 | 1);
                all.extend([0; 8]);
            }
            3 => all.extend(field(number, b"ab")),
            _ if depth > 0 => all.extend(field(number, &part(random, depth - 1))),
            _ => all.extend(field(number, &vec![1; random.below(20)])),
        }
    }
    all
}

/// Where parts may stand: fields of the request, then of what is in them.
const PLACES: &[&[u8]] = &[
    &[1],
    &[1, 1],
    &[1, 1, 1],
    &[1, 1, 1, 2],
    &[1, 1, 1, 2, 5],
    &[1, 1, 1, 2, 5, 1],
    &[1, 1, 1, 2, 6],
    &[1, 1, 1, 2, 6, 1],
    &[1, 2],
    &[1, 2, 1],
    &[1, 2, 1, 3],
    &[1, 2, 2],
    &[1, 2, 2, 2],
    &[1, 2, 2, 2, 2],
    &[1, 2, 2, 2, 4],
    &[1, 2, 2, 2, 5],
    &[1, 2, 2, 10],
    &[1, 2, 2, 11],
    &[2, 1],
    &[2, 1, 5],
    &[2, 2],
    &[2, 2, 3],
    &[2, 2, 4],
    &[2, 3],
    &[2, 4],
    &[2, 5],
    &[2, 6],
    &[2, 6, 2],
    &[2, 6, 2, 5],
    &[2, 6, 2, 6],
    &[2, 7],
    &[2, 7, 1],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Scenario: arbitrary requests, whole and with bytes changed.
    /// Guarantees: at no moment more memory is held than was asked for, a few kilobytes aside; after
    /// a no, nothing more is taken. The answer is the one of who does not ask.
    #[test]
    fn generated_requests_are_paid_for(
        seed: u64, size in 1_usize..60, references: bool, strict: bool,
    ) {
        let mut random = Random(seed);
        let mut bytes = request(&mut random, Shape { size, references, strict }).encode_to_vec();
        assert_paid(&bytes);
        for _ in 0..6 {
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            assert_paid(&bytes);
        }
    }

    /// Scenario: some thousand small parts of any kind at one place, each a message of its own or all
    /// in one.
    /// Guarantees: as above.
    #[test]
    fn small_parts_are_paid_for(
        seed: u64, place in prop::sample::select(PLACES), count in 1_usize..2000, apart in 0..4_usize,
    ) {
        let mut random = Random(seed);
        let kinds: Vec<_> = (0..1 + random.below(3)).map(|_| part(&mut random, 2)).collect();
        let (outer, inner) = place.split_at(place.len() - 1 - apart.min(place.len() - 1));
        let mut all = Vec::new();
        for _ in 0..count {
            all.extend(path(inner, &kinds[random.below(kinds.len())]));
        }
        assert_paid(&path(outer, &all));
    }
}

/// Scenario: the smallest parts of every kind, thousands of them, alone and behind a large
/// row 0 or a rich first one.
/// Guarantees: as above.
#[test]
fn the_smallest_parts_are_paid_for() {
    for place in PLACES {
        let (outer, inner) = place.split_at(place.len() - 1);
        for body in [&[][..], &[0], &[1; 7], &[0x80, 0x01], &[0x0a, 0x00], &[0x08, 0x01]] {
            let many = path(inner, body).repeat(4000);
            assert_paid(&path(outer, &many));
            let rich = path(inner, &[1; 5000]);
            assert_paid(&path(outer, &[rich, many].concat()));
        }
    }
    // One attribute with a short text for each resource, scope, array and map.
    let text = field(1, b"k");
    for place in [&[1, 1, 1][..], &[1, 2, 1, 3], &[1, 1, 1, 2, 5, 1, 5, 1], &[2, 6, 2, 6, 1]] {
        for from in 0..place.len() {
            let (outer, inner) = place.split_at(from);
            assert_paid(&path(outer, &path(inner, &text).repeat(2000)));
        }
    }
}

/// Scenario: arbitrary requests, many of them clean.
/// Guarantees: finding out, and letting in the clean ones, takes no memory but a context's.
#[test]
fn clean_requests_take_nothing() {
    let mut clean = 0;
    for seed in 0..100 {
        let shape = Shape { size: 30, references: false, strict: true };
        let request = Bytes::from(request(&mut Random(seed), shape).encode_to_vec());
        ASKED.set(HELD.get());
        WORST.set(0);
        let admitted = otlp::admit_clean(request);
        assert!(WORST.get() <= 64, "{seed}: {} bytes", WORST.get());
        clean += usize::from(admitted.is_ok());
    }
    assert!(clean > 20, "{clean}");
}

/// Reads JSON within so much memory. Returns what was asked for, and what came of it.
#[track_caller]
fn json_within(json: &[u8], limit: usize) -> (usize, Result<Vec<u8>, DecodeError>) {
    measured(limit, |room| otlp::json_to_protobuf_within(json, room))
}

#[track_caller]
fn assert_json_paid(json: &[u8]) {
    let (asked, result) = json_within(json, usize::MAX);
    assert_eq!(result, otlp::json_to_protobuf(json));
    if asked > 0 {
        assert_eq!(json_within(json, asked - 1).1, Err(DecodeError::NoRoom));
    }
}

/// Scenario: JSON of arbitrary requests; lists of the shortest numbers, empty messages, texts of
/// escapes, base64, in numbers and lengths that are large.
/// Guarantees: as for protobuf: what is held was asked for; one byte less, and there is no room.
#[test]
fn json_is_paid_for() {
    for seed in 0..50 {
        let shape = Shape { size: 40, references: false, strict: true };
        let request = request(&mut Random(seed), shape).encode_to_vec();
        if let Ok(profiles) = otlp::decode(&request) {
            assert_json_paid(&otlp::encode_json(&profiles));
        }
    }
    let sample = |inner: String| {
        format!(
            r#"{{"resourceProfiles":[{{"scopeProfiles":[{{"profiles":[{{"samples":[{inner}]}}]}}]}}]}}"#
        )
    };
    let list = |key: &str, item: &str| {
        sample(format!(r#"{{"{key}":[{}{item}]}}"#, format!("{item},").repeat(300_000)))
    };
    for json in [
        list("timestampsUnixNano", "0"),
        list("values", "-1"),
        list("attributeIndices", "0"),
        sample(format!("{}{{}}", "{},".repeat(300_000))),
        sample(format!("{}null", "null,".repeat(300_000))),
        format!(r#"{{"dictionary":{{"stringTable":["{}"]}}}}"#, r"\u0001".repeat(300_000)),
        format!(r#"{{"dictionary":{{"stringTable":[{}""]}}}}"#, r#""","#.repeat(300_000)),
        format!(
            r#"{{"dictionary":{{"attributeTable":[{{"value":{{"bytesValue":"{}"}}}}]}}}}"#,
            "AAAA".repeat(300_000)
        ),
        format!(r#"{{"{}":0}}"#, r"\n".repeat(300_000)),
        format!(r#"{{"dictionary":{{"stringTable":["{}"#, r"\n".repeat(300_000)),
    ] {
        assert_json_paid(json.as_bytes());
    }
}
