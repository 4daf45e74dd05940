//! What google/pprof refuses is refused, with the reason; what it lets pass, passes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use profpipe_formats::pprof::{self, DecodeError};

use crate::message::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

fn good() -> Profile {
    let texts = ["", "cpu", "nanoseconds", "main", "/bin/app", "thread", "one"];
    Profile {
        sample_type: vec![ValueType { kind: 1, unit: 2 }],
        sample: vec![Sample {
            location_id: vec![1],
            value: vec![10],
            label: vec![Label { key: 5, text: 6, number: 0, unit: 0 }],
        }],
        mapping: vec![Mapping { id: 1, filename: 4, ..Mapping::default() }],
        location: vec![Location {
            id: 1,
            mapping_id: 1,
            address: 16,
            line: vec![Line { function_id: 1, line: 1, column: 0 }],
            is_folded: false,
        }],
        function: vec![Function { id: 1, name: 3, ..Function::default() }],
        string_table: texts.map(str::to_owned).to_vec(),
        time_nanos: 5,
        ..Profile::default()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut output = GzEncoder::new(Vec::new(), Compression::best());
    output.write_all(bytes).unwrap();
    output.finish().unwrap()
}

/// Scenario: a good profile with one rule of the format broken at a time.
/// Guarantees: each is refused, and the message names what is wrong.
#[test]
fn broken_rules() {
    type Change = fn(&mut Profile);
    let table: [(&str, Change); 22] = [
        ("the first string is not empty", |p| p.string_table[0] = "x".into()),
        ("there is no string", |p| p.string_table.clear()),
        ("there is no string 99", |p| p.sample_type[0].kind = 99),
        ("there is no string -1", |p| p.sample_type[0].unit = -1),
        ("there is no string 99", |p| p.function[0].system_name = 99),
        ("there is no string 99", |p| p.mapping[0].build_id = 99),
        ("there is no string 99", |p| p.sample[0].label[0].text = 99),
        ("there is no string 99", |p| p.comment = vec![1, 99]),
        ("there is no string 99", |p| p.doc_url = 99),
        ("there is no string 99", |p| {
            p.period_type = Some(ValueType { kind: 1, unit: 99 });
        }),
        ("samples but no sample types", |p| p.sample_type.clear()),
        ("sample 0 has 0 values for 1 sample types", |p| p.sample[0].value.clear()),
        ("sample 0 has 2 values for 1 sample types", |p| p.sample[0].value.push(1)),
        ("sample 0 has the unknown location 2", |p| p.sample[0].location_id.push(2)),
        ("sample 0 has the unknown location 0", |p| p.sample[0].location_id.push(0)),
        ("a mapping has the id 0", |p| p.mapping[0].id = 0),
        ("a location has the id 0", |p| p.location[0].id = 0),
        ("a function has the id 0", |p| p.function.push(Function::default())),
        ("two mappings have the id 1", |p| p.mapping.push(p.mapping[0].clone())),
        ("two locations have the id 1", |p| p.location.push(p.location[0].clone())),
        ("two functions have the id 1", |p| p.function.push(p.function[0].clone())),
        ("line without a function", |p| p.location[0].line[0].function_id = 0),
    ];
    assert!(pprof::decode(&good().encode_to_vec()).is_ok());
    for (reason, change) in table {
        let mut profile = good();
        change(&mut profile);
        let error = pprof::decode(&profile.encode_to_vec()).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(error.starts_with("not a valid pprof profile: "), "{error}");
    }
}

/// Scenario: things that look wrong and that google/pprof accepts.
/// Guarantees: they are accepted.
#[test]
fn unusual_but_valid() {
    type Change = fn(&mut Profile);
    let table: [Change; 9] = [
        |p| p.location[0].mapping_id = 77,
        |p| p.location[0].line.clear(),
        |p| p.sample[0].location_id.clear(),
        |p| p.sample.clear(),
        |p| {
            p.sample.clear();
            p.sample_type.clear();
        },
        |p| p.sample[0].value[0] = i64::MIN,
        |p| p.time_nanos = -1,
        |p| p.function.push(Function { id: u64::MAX, ..Function::default() }),
        |p| p.string_table.push(String::new()),
    ];
    for change in table {
        let mut profile = good();
        change(&mut profile);
        let read = pprof::decode(&profile.encode_to_vec()).unwrap();
        assert!(pprof::decode(&pprof::encode(&read).unwrap()).is_ok());
    }
}

/// Scenario: bytes that break the rules of the wire.
/// Guarantees: each is refused.
#[test]
fn broken_wire() {
    let good = good().encode_to_vec();
    let with = |tail: &[u8]| [&good[..], tail].concat();
    for (what, tail) in [
        ("a group", &[0x1b][..]),
        ("a number of eleven groups", &[0x60, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ("a number without end", &[0x60, 0x80]),
        ("a length past the end", &[0x32, 5, 1]),
        ("a length past all ends", &[0x32, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ("a period as a fixed number", &[0x61, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("a sample as a number", &[0x10, 1]),
        ("half a fixed number", &[0x3d, 1, 2]),
    ] {
        assert!(matches!(pprof::decode(&with(tail)), Err(DecodeError::Malformed(_))), "{what}");
    }
    // Ten groups, of which the last has bits past the 64th: dropped. Unknown fields: skipped.
    for tail in [
        &[0x60, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x7f][..],
        &[0xf8, 0x07, 1, 0xfa, 0x07, 1, 0, 0xfd, 0x07, 0, 0, 0, 0],
    ] {
        assert!(pprof::decode(&with(tail)).is_ok());
    }
    assert!(matches!(pprof::decode(&with(&good)), Err(DecodeError::Concatenated)));
}

/// Scenario: nothing, other formats, and gzip that is damaged.
/// Guarantees: each is called by its name.
#[test]
fn not_a_profile_at_all() {
    for empty in [&b""[..], &gzip(b"")] {
        assert!(matches!(pprof::decode(empty), Err(DecodeError::Empty)));
    }
    for (bytes, name) in [
        (&b"heap profile: 1: 2 [3: 4] @ heap/1048576\n"[..], "legacy text format"),
        (b"goroutine profile: total 3\n", "legacy text format"),
        (b"--- contention:\ncycles/second = 1\n", "legacy text format"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"  {\"flamebearer\":{}}", "JSON"),
        (&[0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 16, 39, 0, 0, 0, 0, 0, 0], "legacy binary format"),
    ] {
        for bytes in [bytes, &gzip(bytes)] {
            let error = pprof::decode(bytes).unwrap_err();
            assert!(matches!(error, DecodeError::Foreign(_)), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
    let good = gzip(&good().encode_to_vec());
    let mut trailing = good.clone();
    trailing.extend(b"and more");
    for damaged in [&good[..good.len() - 1], &good[..5], &trailing] {
        assert!(matches!(pprof::decode(damaged), Err(DecodeError::Gzip(_))));
    }
}

/// Scenario: a profile in two gzip members.
/// Guarantees: they are read as one, as Go's gzip does.
#[test]
fn several_gzip_members() {
    let bytes = good().encode_to_vec();
    let (head, tail) = bytes.split_at(20);
    let both = [gzip(head), gzip(tail)].concat();
    assert_eq!(pprof::decode(&both).unwrap().sample_count(), 1);
}

/// Scenario: small files that become large: by decompression, by many sample types times many
/// samples, by one long text in many labels.
/// Guarantees: refused before the memory is taken, with the limit named that does not suffice.
#[test]
fn bombs() {
    let limit = 128 << 10;
    let zeros = gzip(&vec![0; 50 << 20]);
    assert!(zeros.len() < 64 << 10);
    let error = pprof::decode_bounded(&zeros, limit).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
    assert_eq!(error.to_string(), "the profile takes more than 128KiB decompressed");

    let wide = Profile {
        sample_type: vec![ValueType { kind: 0, unit: 0 }; 5000],
        sample: vec![Sample { value: vec![0; 5000], ..Sample::default() }; 20],
        string_table: vec![String::new()],
        ..Profile::default()
    };
    let long = "x".repeat(100_000);
    let keys = (0..100).map(|at| at.to_string());
    let labels = (2..102).map(|key| Label { key, text: 1, number: 0, unit: 0 }).collect();
    let repeated = Profile {
        sample_type: vec![ValueType { kind: 0, unit: 0 }],
        sample: vec![Sample { value: vec![0], label: labels, ..Sample::default() }],
        string_table: [String::new(), long].into_iter().chain(keys).collect(),
        ..Profile::default()
    };
    let commented = Profile { comment: vec![1; 100], sample: vec![], ..repeated.clone() };
    let profiles = [wide, repeated, commented].map(|profile| profile.encode_to_vec());
    for bomb in &profiles {
        assert!(bomb.len() < limit);
        for bomb in [bomb, &gzip(bomb)] {
            let error = pprof::decode_bounded(bomb, limit).unwrap_err();
            assert!(matches!(error, DecodeError::TooMuchMemory { .. }), "{error}");
            let text = "the samples of the profile take more than 4MiB of memory";
            assert_eq!(error.to_string(), text);
        }
        assert!(pprof::decode(bomb).is_ok());
    }
}

/// Scenario: a profile of 4 types whose values take far more memory than its bytes, under a limit of
/// the bytes it has decompressed, and of one less.
/// Guarantees: the limit counts what it is of.
#[test]
fn limit_of_decompressed_bytes() {
    let types = 4;
    let sample = Sample { value: vec![1; types], ..Sample::default() };
    let profile = Profile {
        sample_type: vec![ValueType { kind: 0, unit: 0 }; types],
        sample: vec![sample; 50_000],
        string_table: vec![String::new()],
        ..Profile::default()
    };
    let plain = profile.encode_to_vec();
    let read = pprof::decode_bounded(&gzip(&plain), plain.len()).unwrap();
    assert_eq!(read.sample_count(), 50_000 * types);
    let error = pprof::decode_bounded(&gzip(&plain), plain.len() - 1).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
}

/// Scenario: profiles of several types, whose rows are the same in all or not, with as many values as
/// one file may have, and with more.
/// Guarantees: written and read again; the estimate is not of samples times types twice. More is
/// refused, and the text says of what.
#[test]
fn limit_of_values() {
    let types = 16;
    let sample = Sample { value: vec![1; types], ..Sample::default() };
    let profile = |samples: usize| {
        let profile = Profile {
            sample_type: vec![ValueType { kind: 0, unit: 0 }; types],
            sample: vec![sample.clone(); samples],
            string_table: vec![String::new()],
            ..Profile::default()
        };
        pprof::decode_bounded(&profile.encode_to_vec(), 1 << 30).unwrap()
    };
    let most = (8 << 20) / types;
    let written = pprof::encode_plain(&profile(most / 2)).unwrap();
    assert_eq!(pprof::decode(&written).unwrap().sample_count(), most / 2 * types);
    let error = pprof::encode_plain(&profile(most + 1)).unwrap_err().to_string();
    assert_eq!(
        error,
        "as one pprof file it has more than 8388608 values, samples times sample types"
    );
}
