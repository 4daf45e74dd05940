//! What users and networks get wrong, through the real binary: each is one clear line and exit code
//! 1 or 2, never a panic, never unbounded memory.
//!
//! Mutations are drawn from a fixed seed: a failure names the mutation and comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;
use tempfile::TempDir;

/// A small pprof file that exercises each table; tags as in google/pprof's profile.proto.
mod pprof {
    #[derive(prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) mapping: Vec<Mapping>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "9")]
        pub(super) time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
    }
    #[derive(Clone, prost::Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) kind: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }
    #[derive(prost::Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }
    #[derive(prost::Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) text: i64,
        #[prost(int64, tag = "3")]
        pub(super) number: i64,
    }
    #[derive(prost::Message)]
    pub(super) struct Mapping {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) start: u64,
        #[prost(uint64, tag = "3")]
        pub(super) limit: u64,
        #[prost(int64, tag = "5")]
        pub(super) filename: i64,
    }
    #[derive(prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) mapping_id: u64,
        #[prost(uint64, tag = "3")]
        pub(super) address: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }
    #[derive(prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }
    #[derive(prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
    }
}

const STRINGS: [&str; 11] = [
    "",
    "samples",
    "count",
    "cpu",
    "nanoseconds",
    "main",
    "work",
    "app.c",
    "/bin/app",
    "thread",
    "one",
];

/// A valid pprof, not compressed.
fn good_pprof() -> Vec<u8> {
    let value_type = |kind, unit| pprof::ValueType { kind, unit };
    let line = |function_id, line| pprof::Line { function_id, line };
    pprof::Profile {
        sample_type: vec![value_type(1, 2), value_type(3, 4)],
        sample: (1..20)
            .map(|n| pprof::Sample {
                location_id: vec![1 + n % 2, 2],
                value: vec![n as i64, 10_000_000 * n as i64],
                label: vec![pprof::Label { key: 9, text: 10, number: 0 }],
            })
            .collect(),
        mapping: vec![pprof::Mapping { id: 1, start: 0x1000, limit: 0x9000, filename: 8 }],
        location: vec![
            pprof::Location {
                id: 1,
                mapping_id: 1,
                address: 0x1234,
                line: vec![line(2, 7), line(1, 3)],
            },
            pprof::Location { id: 2, mapping_id: 1, address: 0x2345, line: vec![line(1, 4)] },
        ],
        function: vec![
            pprof::Function { id: 1, name: 5, filename: 7 },
            pprof::Function { id: 2, name: 6, filename: 7 },
        ],
        string_table: STRINGS.map(String::from).to_vec(),
        time_nanos: 1_700_000_000_000_000_000,
        duration_nanos: 10_000_000_000,
        period_type: Some(value_type(3, 4)),
        period: 10_000_000,
    }
    .encode_to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn profpipe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// The program's stderr, after checking that it did not panic and was not killed.
#[track_caller]
fn calm(what: &str, output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{what}: ended with {:?}: {stderr}", output.status);
    stderr
}

/// Checks that a mistake was told: one line that says who speaks, exit code 1 or 2.
#[track_caller]
fn told(what: &str, output: &Output) -> String {
    let stderr = calm(what, output);
    assert_ne!(output.status.code(), Some(0), "{what}: taken for good");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{what}: not one line: {stderr}");
    assert!(stderr.starts_with("profpipe: "), "{what}: {stderr}");
    stderr
}

/// Either good or told: a flipped bit may leave a file valid.
#[track_caller]
fn good_or_told(what: &str, output: &Output) {
    if output.status.code() == Some(0) {
        calm(what, output);
    } else {
        told(what, output);
    }
}

fn top(file: &Path) -> Output {
    profpipe().arg("top").arg(file).output().unwrap()
}

fn convert(from: &Path, to: &Path) -> Output {
    profpipe().arg("convert").args([from, to]).output().unwrap()
}

/// A directory with one good profile in every format that can be read.
fn good_files() -> (TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let pprof = directory.path().join("good.pb.gz");
    std::fs::write(&pprof, gzip(&good_pprof())).unwrap();
    let mut files = vec![pprof.clone(), directory.path().join("good.pprof")];
    std::fs::write(&files[1], good_pprof()).unwrap();
    for name in ["good.otlp", "good.json", "good.folded"] {
        let file = directory.path().join(name);
        let output = convert(&pprof, &file);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", calm(name, &output));
        files.push(file);
    }
    for file in &files {
        let output = top(file);
        assert_eq!(output.status.code(), Some(0), "{file:?}: {}", calm("top", &output));
    }
    (directory, files)
}

/// xorshift: mutations need no better numbers, and the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Scenario: files of each format cut off at 12 places, with 1 to 8 bits flipped (40 times), and
/// replaced by random bytes.
/// Guarantees: `top` and `convert` say it in one line with exit code 1 or 2, or the file still was
/// valid; no panic.
#[test]
fn damaged_profiles() {
    let (directory, files) = good_files();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for good in &files {
        let bytes = std::fs::read(good).unwrap();
        let name = good.file_name().unwrap().to_string_lossy().replace("good", "bad");
        let bad = directory.path().join(&name);
        let out = directory.path().join("out.otlp");
        let check = |what: String, bytes: &[u8]| {
            std::fs::write(&bad, bytes).unwrap();
            good_or_told(&format!("top {name} {what}"), &top(&bad));
            good_or_told(&format!("convert {name} {what}"), &convert(&bad, &out));
        };
        for _ in 0..12 {
            let length = numbers.below(bytes.len());
            check(format!("cut at {length}"), &bytes[..length]);
        }
        for _ in 0..40 {
            let mut flipped = bytes.clone();
            let mut places = Vec::new();
            for _ in 0..=numbers.below(8) {
                let place = numbers.below(flipped.len() * 8);
                flipped[place / 8] ^= 1 << (place % 8);
                places.push(place);
            }
            check(format!("with bits {places:?} flipped"), &flipped);
        }
        for length in [0, 1, 7, 1000] {
            let random: Vec<u8> = (0..length).map(|_| numbers.below(256) as u8).collect();
            check(format!("of {length} random bytes {:?}", &random[..length.min(16)]), &random);
        }
    }
}

/// Scenario: files that are no profiles at all, and files that are not there.
/// Guarantees: one line that names the file.
#[test]
fn not_a_profile() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("page.pb.gz", &b"<!DOCTYPE html><html>"[..]),
        ("empty.pb.gz", b""),
        ("empty.otlp", b""),
        ("list.json", b"[1,2,3]"),
        ("half.json", b"{\"resourceProfiles\":[{"),
        ("words.folded", b"no value here\n"),
        ("unknown.xyz", b"a;b\n"),
        ("noise.xyz", b"\x07\x00\xff\x01"),
    ] {
        let file = directory.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let stderr = told(name, &top(&file));
        assert!(stderr.contains(name), "the file is not named: {stderr}");
    }
    let stderr = told("a file that is not there", &top(&directory.path().join("absent.pb.gz")));
    assert!(stderr.contains("absent.pb.gz"), "{stderr}");
    told("a directory", &top(directory.path()));
}

/// Scenario: configurations cut off, with bits flipped, and made of random bytes, to `validate`.
/// Guarantees: exit code 0 or 2 (or 1 where the file cannot be read as text), no panic.
#[test]
fn damaged_configurations() {
    let directory = tempfile::tempdir().unwrap();
    let good = b"receivers:\n  perf: { frequency: 99, interval: 10s, events: [cpu] }\n\
        processors:\n  symbolize: {}\nexporters:\n  file: { path: ./profiles, format: pprof, \
        retention: { max_age: 24h, max_bytes: 1GiB } }\nservice:\n  pipelines:\n    profiles: { \
        receivers: [perf], processors: [symbolize], exporters: [file] }\n";
    let file = directory.path().join("agent.yaml");
    let check = |what: String, bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let output = profpipe().args(["validate", "--config"]).arg(&file).output().unwrap();
        let stderr = calm(&what, &output);
        if output.status.code() != Some(0) {
            assert!(!stderr.trim().is_empty() || !output.stdout.is_empty(), "{what}: nothing said");
        }
    };
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..12 {
        let length = numbers.below(good.len());
        check(format!("cut at {length}"), &good[..length]);
    }
    for _ in 0..60 {
        let mut flipped = good.to_vec();
        let place = numbers.below(flipped.len() * 8);
        flipped[place / 8] ^= 1 << (place % 8);
        check(format!("with bit {place} flipped"), &flipped);
    }
    for length in [0, 3, 500] {
        let random: Vec<u8> = (0..length).map(|_| numbers.below(256) as u8).collect();
        check(format!("of {length} random bytes"), &random);
    }
    // The classics of YAML: each must hit a limit, not the machine's.
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    check("of a billion laughs".into(), laughs.as_bytes());
    check("nested 100000 deep".into(), "[".repeat(100_000).as_bytes());
}

/// Runs profpipe with at most `mebibytes` of address space.
fn within(mebibytes: usize, arguments: &[&Path]) -> Output {
    let limit = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes * 1024);
    let program = profpipe().get_program().to_owned();
    Command::new("sh").args(["-c", &limit]).arg(program).args(arguments).output().unwrap()
}

/// Scenario: gzip bombs of at most 10 KB (10 MB of zeros, of empty strings, of empty samples, of
/// nothing but locations), one of 1 MB (1 GB of zeros), and the same patterns as plain OTLP, under
/// 512 MiB of address space.
/// Guarantees: told in one line; an allocation that fails would be an abort, which is a failure.
#[test]
fn gzip_bombs() {
    let directory = tempfile::tempdir().unwrap();
    let bomb = |name: &str, pattern: &[u8], megabytes: usize| {
        let bytes = pattern.repeat(megabytes * 1_000_000 / pattern.len());
        let file = directory.path().join(name);
        let packed = name.ends_with(".gz");
        std::fs::write(&file, if packed { gzip(&bytes) } else { bytes }).unwrap();
        good_or_told(name, &within(512, &[Path::new("top"), &file]));
    };
    bomb("zeros.pb.gz", &[0], 10);
    // Field 6 of length 0: an empty string. Field 2: a sample without anything.
    bomb("strings.pb.gz", &[0x32, 0], 10);
    bomb("samples.pb.gz", &[0x12, 0], 10);
    // Field 4: a location with an id only, the same id each time.
    bomb("locations.pb.gz", &[0x22, 2, 8, 1], 10);
    bomb("gigabyte.pb.gz", &[0], 1000);
    bomb("zeros.otlp", &[0], 10);
    // Field 1: a resource without anything. Field 2: a dictionary of one empty string (its field 5).
    bomb("resources.otlp", &[0x0a, 0], 10);
    bomb("dictionaries.otlp", &[0x12, 2, 0x2a, 0], 10);
    // The same in JSON, and deep nesting: the stack must not overflow.
    bomb("nested.json", b"[", 1);
    bomb("objects.json", b"{\"resourceProfiles\":", 10);
    bomb("frames.folded", b"a;", 10);
}

/// Scenario: the output cannot be written: no such directory, a file in the place of the directory,
/// a directory where nothing can be created, a full disk.
/// Guarantees: one line that names the output; no half file stays behind.
#[test]
fn output_cannot_be_written() {
    let (directory, files) = good_files();
    let inside_a_file = files[0].join("out.otlp");
    for output in [Path::new("/nonexistent/out.otlp"), &inside_a_file, Path::new("/proc/out.otlp")]
    {
        let stderr = told("convert", &convert(&files[0], output));
        assert!(stderr.contains("out.otlp"), "the output is not named: {stderr}");
        let mut draw = profpipe();
        draw.arg("flamegraph").arg(&files[0]).arg("-o").arg(output.with_extension("svg"));
        let stderr = told("flamegraph", &draw.output().unwrap());
        assert!(stderr.contains("out.svg"), "the output is not named: {stderr}");
    }
    // A file size limit of 0 with its signal ignored makes each write fail, as a full disk does.
    for name in ["full.otlp", "full.pb.gz", "full.json", "full.folded", "full.svg"] {
        let output = directory.path().join(name);
        let before = std::fs::read_dir(directory.path()).unwrap().count();
        let full = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
            .arg(profpipe().get_program())
            .args([Path::new("convert"), &files[0], &output])
            .output()
            .unwrap();
        told(name, &full);
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            before,
            "{name} left a file"
        );
    }
}

/// Scenario: stdout is a full disk, or a pipe that nobody reads.
/// Guarantees: no panic; the full disk is told.
#[test]
fn nobody_reads() {
    let (_directory, files) = good_files();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = profpipe();
    command.arg("top").arg(&files[0]).stdout(full).stderr(Stdio::piped());
    told("top > /dev/full", &command.spawn().unwrap().wait_with_output().unwrap());
    for arguments in [&["top"][..], &["top", "--format", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child =
            profpipe().args(arguments).arg(&files[0]).stdout(writer).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{arguments:?} into a closed pipe: {stderr}");
    }
}

fn record(output: &Path, arguments: &[&str]) -> Output {
    profpipe().args(["record", "-o"]).arg(output).args(arguments).output().unwrap()
}

/// Whether this host refused sampling altogether, and said so: then there is no more to see.
fn refused(output: &Output) -> bool {
    let refused = String::from_utf8_lossy(&output.stderr).contains("perf_event");
    // Only where the kernel says the same.
    assert!(!refused || profpipe_testing::sampling_is_permitted().is_err());
    refused
}

/// Scenario: the command to record is not there, or the output cannot be written, or the process
/// does not exist.
/// Guarantees: one line that names it; and with an output that cannot be written the command is not
/// even started: an hour of profiling must not end in a mistyped path.
#[test]
fn record_cannot_begin() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.pb.gz");
    // 127 is what a shell, env, nice and timeout say of a command that is not there.
    let output = record(&out, &["--", "/no/such/command"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2 | 127)), "{:?}: {stderr}", output.status);
    assert_eq!(stderr.trim_end().lines().count(), 1, "not one line: {stderr}");
    assert!(stderr.contains("/no/such/command") && !stderr.contains("panicked"), "{stderr}");
    let stderr = told("no process", &record(&out, &["-p", "4194999", "-d", "1"]));
    assert!(stderr.contains("4194999"), "{stderr}");
    assert!(!out.exists(), "a file without a recording");

    let marker = directory.path().join("started");
    let touch = format!("touch {}", marker.display());
    let nowhere = directory.path().join("absent/out.pb.gz");
    let stderr = told("no directory", &record(&nowhere, &["--", "sh", "-c", &touch]));
    assert!(stderr.contains("absent"), "{stderr}");
    assert!(!marker.exists(), "the command ran although its profile could not be kept");

    let stderr = told("no format", &record(&directory.path().join("out.xyz"), &["--", "true"]));
    assert!(stderr.contains("out.xyz") || stderr.contains("xyz"), "{stderr}");
    // Nothing to profile is wrong usage; clap's own message has more than one line.
    let output = record(&out, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", calm("nothing to record", &output));
}

/// Scenario: the command exits at once, exits with a code of its own, or dies of a signal.
/// Guarantees: the exit code passes through as a shell's does; a file is there that `top` reads.
#[test]
fn record_of_what_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for (name, script, code) in
        [("at-once", ":", 0), ("seven", "exit 7", 7), ("signal", "kill -TERM $$", 143)]
    {
        let out = directory.path().join(format!("{name}.pb.gz"));
        let output = record(&out, &["--", "sh", "-c", script]);
        if refused(&output) {
            return;
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
        assert_eq!(output.status.code(), Some(code), "{name}: {stderr}");
        let read = top(&out);
        assert_eq!(read.status.code(), Some(0), "{name}: {}", calm(name, &read));
    }
}
