//! What must hold of every decoder, whatever the bytes: one function for each fuzz target.
//!
//! `fuzz_targets/` hands them to libFuzzer; `tests/corpus.rs` of the root package replays the corpus and
//! seeded mutations of it with the stable compiler. Each panics where a promise does not hold.

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use profpipe_engine::component::Config as _;
use profpipe_engine::config::{Layers, Problems, Section};
use profpipe_formats::otlp::{self, Rejected};
use profpipe_formats::report::{Column, collapse, top};
use profpipe_formats::{file, folded, pprof};
use profpipe_host::cgroup;
use profpipe_host::elf::{Identity, htlhash, inspect};
use profpipe_host::gopclntab::Header;
use profpipe_host::proc::{Stat, Status, executable};
use profpipe_profile::{Profiles, aggregate, merge};
use prost::Message;

/// A fuzz target: panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("file", profile_file),
    ("folded", folded_stacks),
    ("host", host),
    ("merge", merge_requests),
    ("ottl", ottl),
    ("otlp_json", otlp_json),
    ("otlp_lenient", otlp_lenient),
    ("otlp_protobuf", otlp_protobuf),
    ("pprof", pprof_profile),
    ("process_context", process_context),
    ("queue_segment", queue_segment),
    ("symbol_table", symbol_table),
];

/// Any bytes as a table of a binary's names, and as a block of one: no panic, bounded memory, and what is
/// said of an address is about that address.
pub fn symbol_table(bytes: &[u8]) {
    profpipe_processors::symbolize::tables::try_table(bytes).unwrap();
}

/// Any text as a configuration: read or refused, never a panic, bounded memory.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Errors are fine; what counts is that they come back.
    let _ = Layers::new().text(None, text).load();
    if let Ok(section) = Section::from_yaml(text) {
        let _ = section.read::<serde_json::Value>();
    }
}

/// Any bytes as a file of any format: no panic, an error is a line, and what was read can be reported
/// and written as OTLP.
pub fn profile_file(bytes: &[u8]) {
    for named in [None, Some(file::Format::Folded), Some(file::Format::Otlp)] {
        match file::decode(bytes, named) {
            Ok(decoded) => {
                assert_eq!(decoded.profiles.dictionary.check(), Ok(()));
                if let Ok(top) = top(&decoded.profiles, None, Column::Own) {
                    assert!(!top.to_text(10).contains('\u{1b}'));
                }
                otlp::decode(&otlp::encode(&decoded.profiles)).unwrap();
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}

/// Any bytes as collapsed stacks: no panic, and what was read and written is read and written to
/// the same text again.
pub fn folded_stacks(bytes: &[u8]) {
    if let Ok((profiles, _)) = folded::decode_file(bytes) {
        let text = folded::encode(&profiles, None).unwrap();
        let (again, deviations) = folded::decode_file(text.as_bytes()).unwrap();
        assert_eq!(deviations, folded::Deviations::default());
        assert_eq!(folded::encode(&again, None).unwrap(), text);
    }
    let Ok(profiles) = folded::decode(bytes) else { return };
    let text = folded::encode(&profiles, None).unwrap();
    let again = folded::decode(text.as_bytes()).unwrap();
    assert_eq!(folded::encode(&again, None).unwrap(), text);
}

/// Any bytes as an OTLP request in JSON: no panic, and what is written reads the same again.
pub fn otlp_json(bytes: &[u8]) {
    let Ok(profiles) = otlp::decode_json(bytes) else { return };
    let written = otlp::encode_json(&profiles);
    let again = otlp::decode_json(&written).unwrap();
    assert_eq!(otlp::encode_json(&again), written);
}

/// Any bytes as a request from a stranger: no panic, what is let in is usable and read by a strict
/// reader, and a request that a strict reader takes is taken as it is.
pub fn otlp_lenient(bytes: &[u8]) {
    let strict = otlp::decode(bytes);
    let Ok((batch, rejected)) = otlp::admit(bytes.to_vec().into()) else {
        assert!(strict.is_err());
        return;
    };
    let (lenient, again) = otlp::decode_lenient(bytes).unwrap();
    assert_eq!(lenient.dictionary.check(), Ok(()));
    assert_eq!((batch.samples(), &again), (lenient.sample_count(), &rejected));
    if let Ok(strict) = strict {
        assert_eq!(rejected, Rejected::default());
        assert_eq!(otlp::encode(&strict), otlp::encode(&lenient));
    }
    let passed_on = otlp::decode(&batch.to_otlp()).unwrap();
    assert_eq!(passed_on.sample_count(), batch.samples());
}

/// Any bytes as an OTLP request: no panic, what is read the generated reader reads too, and what
/// is written reads the same again.
pub fn otlp_protobuf(bytes: &[u8]) {
    let _ = otlp::summary(bytes);
    let Ok(profiles) = otlp::decode(bytes) else { return };
    assert_eq!(profiles.dictionary.check(), Ok(()));
    // The generated reader looks into a field that we skip.
    if let Err(error) = ExportProfilesServiceRequest::decode(bytes) {
        assert!(error.to_string().contains("entity_refs"), "{error}");
    }
    let written = otlp::encode(&profiles);
    assert_eq!(written.len(), otlp::encoded_len(&profiles));
    let again = otlp::decode(&written).unwrap();
    assert_eq!(otlp::encode(&again), written);
}

/// Any bytes as a pprof profile: no panic, bounded memory, and what was read can be written, read
/// again to the same bytes, and reported.
pub fn pprof_profile(bytes: &[u8]) {
    let Ok(profiles) = pprof::decode_bounded(bytes, 16 << 20) else { return };
    let written = pprof::encode_plain(&profiles).unwrap();
    let again = pprof::decode(&written).unwrap();
    assert_eq!(pprof::encode_plain(&again).unwrap(), written);
    if let Ok(top) = top(&profiles, None, Column::Own) {
        let _ = (top.to_text(10), top.to_json(10));
    }
    let _ = collapse(&profiles, Some("0"));
}

/// Two requests in one input, merged, aggregated, compacted and split: no panic, no sample lost,
/// and every index stays in its table.
/// The input is a limit of two bytes, the length of the first request in two bytes, and both.
pub fn merge_requests(bytes: &[u8]) {
    let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk() else { return };
    let limit = usize::from(u16::from_le_bytes([a, b]));
    let length = usize::from(u16::from_le_bytes([c, d]));
    let Some((first, second)) = rest.split_at_checked(length) else { return };
    let (Ok(first), Ok(second)) = (otlp::decode(first), otlp::decode(second)) else { return };
    let expected = total(&first) + total(&second);
    let samples = first.sample_count() + second.sample_count();
    let mut merged = merge([first.clone(), second.clone()]);
    check(&merged);
    assert_eq!((total(&merged), merged.sample_count()), (expected, samples));
    merged.compact();
    check(&merged);
    assert_eq!(total(&merged), expected);
    let parts = otlp::split(merged, limit);
    parts.iter().for_each(check);
    assert_eq!(parts.iter().map(total).sum::<i128>(), expected);
    assert_eq!(parts.iter().map(Profiles::sample_count).sum::<usize>(), samples);
    let united = aggregate([first, second]);
    check(&united);
    assert_eq!(total(&united), expected);
}

/// The sum of all weights.
fn total(profiles: &Profiles) -> i128 {
    let samples = profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter());
    samples
        .map(|sample| match sample.values {
            [] => sample.timestamps_unix_nano.len() as i128,
            values => values.iter().map(|value| i128::from(*value)).sum(),
        })
        .sum()
}

fn check(profiles: &Profiles) {
    assert_eq!(profiles.dictionary.check(), Ok(()));
    for (_, _, profile) in profiles.iter() {
        assert_eq!(profile.check(&profiles.dictionary), Ok(()));
    }
}

/// Any text as a condition of the processor `filter`: parsed, or a mistake with its place; never a panic.
pub fn ottl(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let conditions = || vec![text.to_owned()];
    let config = profpipe_processors::filter::Config {
        keep_resources: conditions(),
        keep_profiles: conditions(),
        keep_samples: conditions(),
        drop_frames: conditions(),
        ..profpipe_processors::filter::Config::default()
    };
    config.validate(&mut Problems::default());
}

/// Any bytes as what an SDK publishes of its process: a resource, or an error.
pub fn process_context(bytes: &[u8]) {
    let _ = otlp::decode_process_context(bytes);
}

/// Any bytes as the first segment of a queue on disk: it opens, says what is damaged, and gives no record
/// that it does not hold.
pub fn queue_segment(bytes: &[u8]) {
    let directory = std::env::temp_dir().join(format!("profpipe-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("seg-00000000000000000001.pq"), bytes).unwrap();
    let report = profpipe_queue::tools::verify(&directory).unwrap();
    let shown = profpipe_queue::tools::inspect(&directory).unwrap();
    drop((report, shown));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Any bytes as what a host shows: an ELF file, Go's table of functions, files of `/proc/PID`. Memory is
/// never read as an error; a mapping ends after it starts.
pub fn host(bytes: &[u8]) {
    let _ = inspect(bytes).unwrap();
    if let Some(identity) = Identity::read(bytes) {
        let _ = identity.segment_at(4096, 4096);
    }
    assert!(htlhash(bytes).is_some());
    if let Some(header) = Header::parse(bytes) {
        for at in 0..header.functions.min(64) {
            let Some((_, record)) = header.row(bytes, at) else { break };
            if let Some(record) = header.record(bytes, record) {
                let _ = header.field(record, 1);
            }
        }
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(executable(&text).all(|mapping| mapping.start < mapping.end));
    let _ = (Stat::parse(&text), Status::parse(&text));
    let _ = (cgroup::container_id(&text), cgroup::unit(&text));
}
