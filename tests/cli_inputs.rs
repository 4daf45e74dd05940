//! What `top`, `flamegraph` and `convert` take: files under any name, standard input, several files of
//! different types and units, differences; and what they say of what they leave out.
//!
//! Which bytes are of which format is tested in `profpipe-formats`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use profpipe::profile::{Profiles, SampleRef, Samples, ValueType};
use profpipe::{folded, otlp, pprof};

const GO_CPU: &[u8] = include_bytes!("../pipeline/formats/tests/data/go-cpu.pb.gz");
const GO_HEAP: &[u8] = include_bytes!("../pipeline/formats/tests/data/go-heap.pb.gz");

fn profpipe(arguments: &[&str], directory: &Path, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// What a command that must succeed prints, and what it says on standard error.
#[track_caller]
fn good(arguments: &[&str], directory: &Path) -> (String, String) {
    good_with(arguments, directory, b"")
}

#[track_caller]
fn good_with(arguments: &[&str], directory: &Path, input: &[u8]) -> (String, String) {
    let output = profpipe(arguments, directory, input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// The total and the unit of a report.
#[track_caller]
fn total(arguments: &[&str], directory: &Path) -> (i64, String) {
    let (json, _) = good(&[arguments, &["--format", "json"]].concat(), directory);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    (json["total"].as_i64().unwrap(), json["unit"].as_str().unwrap().to_owned())
}

/// A profile of stacks, whose values are of this type.
fn of_type(stacks: &str, kind: &str, unit: &str) -> Profiles {
    let mut profiles = folded::decode(stacks.as_bytes()).unwrap();
    let strings = &mut profiles.dictionary.strings;
    let sample_type = ValueType { kind: strings.intern(kind), unit: strings.intern(unit) };
    for profile in profiles.profiles_mut() {
        profile.sample_type = sample_type;
    }
    profiles
}

fn write(directory: &Path, name: &str, profiles: &Profiles) {
    std::fs::write(directory.join(name), pprof::encode(profiles).unwrap()).unwrap();
}

/// Scenario: the names that Go's documentation, pprof-rs, async-profiler and curl give, and none.
/// Guarantees: read like under our own names.
#[test]
fn names_of_other_tools() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for name in ["cpu.prof", "cpu.out", "heap", "x.pprof.gz", "x.pb", "wrong.folded", "wrong.json"]
    {
        std::fs::write(path.join(name), GO_CPU).unwrap();
        assert_eq!(total(&["top", name], path).0, 1_070_000_000, "{name}");
    }
    for name in ["x.collapsed", "x.txt", "stacks", "wrong.pb.gz"] {
        std::fs::write(path.join(name), "main;f 20\n").unwrap();
        assert_eq!(total(&["top", name], path).0, 20, "{name}");
        good(&["flamegraph", name, "-o", "x.svg"], path);
    }
    let request = otlp::encode_json(&of_type("main;f 5", "samples", "count"));
    std::fs::write(path.join("out.jsonl"), [&request[..], b"\n"].concat().repeat(3)).unwrap();
    assert_eq!(total(&["top", "out.jsonl"], path).0, 15);
}

/// Scenario: `-` as a file to read, alone and among others, and as a file to write.
/// Guarantees: standard input and output; an error names them; a file of that name has a path.
#[test]
fn standard_input_and_output() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("a.folded"), "main;f 20\n").unwrap();
    let (table, said) = good_with(&["top", "-"], path, b"main;f 20\n");
    assert!(table.starts_with("samples: 20 in 20 samples") && said.is_empty(), "{table}{said}");
    let (table, _) = good_with(&["top", "a.folded", "-"], path, b"main;f 5\n");
    assert!(table.starts_with("samples: 25 "), "{table}");
    let (svg, _) = good_with(&["flamegraph", "-", "-o", "-"], path, GO_CPU);
    assert!(svg.contains("</svg>"));
    let (stacks, _) = good_with(&["convert", "-", "-", "--format", "folded"], path, GO_CPU);
    assert!(stacks.lines().any(|line| line.starts_with("runtime.main;main.main")), "{stacks}");
    let piped = profpipe(&["convert", "a.folded", "-", "--format", "pprof"], path, b"");
    assert_eq!(pprof::decode(&piped.stdout).unwrap().sample_count(), 1);
    good(&["convert", "a.folded", "./-", "--format", "otlp_json"], path);
    assert_eq!(total(&["top", "./-"], path).0, 20);

    let nothing = profpipe(&["top", "-"], path, b"");
    assert_eq!(nothing.status.code(), Some(1));
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert_eq!(said, "profpipe: cannot read standard input: the file is empty\n");
}

/// Scenario: one type in nanoseconds, microseconds and milliseconds, a file each.
/// Guarantees: they are added, as `go tool pprof` does, in every report, and nothing is said.
#[test]
fn units_of_several_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (name, unit, value) in
        [("ns", "nanoseconds", 3_000_000), ("us", "microseconds", 5000), ("ms", "milliseconds", 7)]
    {
        write(path, name, &of_type(&format!("main;f {value}"), "cpu", unit));
    }
    assert_eq!(total(&["top", "us", "ns", "ms"], path), (15_000_000, "nanoseconds".to_owned()));
    assert_eq!(total(&["top", "us", "ms"], path), (12_000, "microseconds".to_owned()));
    let (_, said) = good(&["flamegraph", "ns", "us", "ms", "-o", "x.svg"], path);
    assert!(said.is_empty(), "{said}");
    let svg = std::fs::read_to_string(path.join("x.svg")).unwrap();
    assert!(svg.contains(">cpu: 15ms<"));
}

/// Scenario: CPU and heap profiles in one report, files of one name for different things, a file
/// without profiles, and a wanted type.
/// Guarantees: each file and type that is left out is named on standard error; a type that was asked for
/// is no surprise, and neither is a count of samples beside what each stands for.
#[test]
fn what_reports_leave_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("cpu"), GO_CPU).unwrap();
    std::fs::write(path.join("heap"), GO_HEAP).unwrap();
    write(path, "cycles", &of_type("main;f 9", "cpu", "cycles"));
    std::fs::write(path.join("empty.json"), "{}").unwrap();

    assert_eq!(good(&["top", "cpu", "cpu"], path).1, "");
    let all = ["cpu", "heap", "cycles", "empty.json"];
    let (table, said) = good(&[&["top"], &all[..]].concat(), path);
    assert!(table.starts_with("cpu: 1.07s in 107 samples"), "{table}");
    let expected = [
        "profpipe: there is no profile in empty.json",
        "profpipe: no `cpu` in heap, cycles, which are left out",
        "profpipe: only `cpu` is shown, not alloc_objects, alloc_space, inuse_objects, inuse_space, \
         cpu in cycles; --type chooses",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let (_, drawn) = good(&[&["flamegraph", "-o", "x.svg"], &all[..]].concat(), path);
    let mut lines: Vec<_> = drawn.lines().collect();
    lines.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(lines, sorted);

    let (_, said) = good(&["top", "cpu", "heap", "--type", "inuse_space"], path);
    assert_eq!(said, "profpipe: no `inuse_space` in cpu, which is left out\n");
}

/// Scenario: conversion of several types to formats that hold one.
/// Guarantees: what is lost is said, unless a type was asked for.
#[test]
fn what_conversion_loses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("heap"), GO_HEAP).unwrap();
    let expected = "profpipe: only `inuse_space` is shown, not alloc_objects, alloc_space, \
                    inuse_objects; --type chooses\n";
    for output in ["x.folded", "x.svg"] {
        assert_eq!(good(&["convert", "heap", output], path).1, expected);
        assert_eq!(good(&["convert", "heap", output, "--type", "alloc_space"], path).1, "");
    }
    assert_eq!(good(&["convert", "heap", "x.otlp"], path).1, "");
}

/// Scenario: collapsed stacks with lines that are none, counts with fractions.
/// Guarantees: read; the lines are counted on standard error, with the file and the first of them.
#[test]
fn skipped_lines_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("a"), "# austin\nevent samples\na;b 3\nno count\na;b 0.5\n").unwrap();
    let (table, said) = good(&["top", "a"], path);
    assert!(table.starts_with("samples: 4 "), "{table}");
    let expected = [
        "profpipe: a: skipped 2 lines, the first is line 2: the count `samples` is not a number",
        "profpipe: a: 1 line with a fraction in the count, rounded so that the sum is right",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

/// Scenario: a difference as a flame graph, one whose sum is zero, one that only shrank; a stack deeper
/// than a picture is high.
/// Guarantees: everything is drawn by its absolute value; that, and what is cut off, is said in the
/// picture or on standard error.
#[test]
fn differences_and_deep_stacks_are_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (stacks, title) in [
        ("main;f -20\nmain;g 50", "space: +50B and -20B, widths are absolute values"),
        ("main;f -50\nmain;g 50", "space: +50B and -50B, widths are absolute values"),
        ("main;f -50", "space: +0 and -50B, widths are absolute values"),
    ] {
        write(path, "a", &of_type(stacks, "space", "bytes"));
        let (_, said) = good(&["flamegraph", "a", "-o", "a.svg"], path);
        assert_eq!(said, "profpipe: some values are below zero: widths are absolute values\n");
        let svg = std::fs::read_to_string(path.join("a.svg")).unwrap();
        assert!(svg.contains(&format!(">{title}<")), "{title}");
        assert!(svg.contains("<title>f ("), "what shrank is not drawn");
    }
    write(path, "a", &of_type("main;f -20\nmain;g 50", "space", "bytes"));
    good(&["flamegraph", "a", "-o", "a.svg"], path);
    let svg = std::fs::read_to_string(path.join("a.svg")).unwrap();
    for frame in ["main (70 bytes, 100.00%", "f (20 bytes, 28.57%", "g (50 bytes, 71.43%"] {
        assert!(svg.contains(&format!("<title>{frame}")), "{frame}");
    }

    let deep = format!("{} 1\nmain;# f 1\n# root;g 1\n", vec!["f"; 1500].join(";"));
    std::fs::write(path.join("deep.otlp"), otlp::encode(&folded::decode(deep.as_bytes()).unwrap()))
        .unwrap();
    let (_, said) = good(&["flamegraph", "deep.otlp", "-o", "a.svg"], path);
    assert_eq!(said, "profpipe: 1 stacks are drawn without what is beyond 1000 frames\n");
    let svg = std::fs::read_to_string(path.join("a.svg")).unwrap();
    assert!(svg.contains("<title>#\u{a0}root (1 samples"), "a root is taken for a comment");
}

/// Scenario: OTLP of two types, one in two units, that came from no file.
/// Guarantees: the first profile is shown and is what pprof shows once converted; the units are one
/// report there, too.
#[test]
fn first_profile_of_otlp() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut profiles = of_type("main;f 3", "objects", "count");
    let strings = &mut profiles.dictionary.strings;
    let others = [("wall", "ms", 2), ("wall", "us", 5), ("space", "bytes", 300)];
    let others = others.map(|(kind, unit, value)| {
        (ValueType { kind: strings.intern(kind), unit: strings.intern(unit) }, value)
    });
    let of_scope = &mut profiles.resources[0].scopes[0].profiles;
    for (sample_type, value) in others {
        let mut profile = of_scope[0].clone();
        let sample = profile.samples.get(0);
        let mut samples = Samples::default();
        samples.push(SampleRef { values: &[value], ..sample });
        profile.samples = samples;
        profile.sample_type = sample_type;
        of_scope.push(profile);
    }
    std::fs::write(path.join("a.otlp"), otlp::encode(&profiles)).unwrap();
    good(&["convert", "a.otlp", "a.pb.gz"], path);
    good(&["convert", "a.pb.gz", "b.otlp"], path);
    for name in ["a.otlp", "a.pb.gz", "b.otlp"] {
        assert_eq!(total(&["top", name], path), (3, "count".to_owned()), "{name}");
    }
    assert_eq!(total(&["top", "a.otlp", "--type", "wall"], path), (2005, "us".to_owned()));
}
