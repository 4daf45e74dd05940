#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::file::metric_names;
use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Config as _, ExporterConfig, Failure, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{self, ByteSize};
use profpipe_formats::{otlp, pprof};
use profpipe_profile::{Profiles, SampleRef, Samples, ValueType};
use proptest::prelude::*;

use super::directory::Directory;
use super::name::{Stem, is_ours};
use super::{Config, Format, Retention};
use crate::testing;

const SECOND: u64 = 1_764_000_000;

fn setup() -> Setup {
    Setup::new("file", Services::default())
}

fn config(path: &Path) -> Config {
    Config { path: path.to_owned(), ..Config::default() }
}

fn names_in(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn stem(service: &str) -> Stem {
    Stem::new(service, at(SECOND))
}

fn keep_all() -> Retention {
    Retention { max_age: settings::Duration::default(), max_bytes: ByteSize(0) }
}

/// Writes a file of ours and dates it, as if written at that second.
fn put(path: &Path, name: &str, size: usize, written: u64) {
    assert!(is_ours(name), "{name}");
    fs::write(path.join(name), vec![b'x'; size]).unwrap();
    fs::File::options()
        .write(true)
        .open(path.join(name))
        .unwrap()
        .set_modified(at(written))
        .unwrap();
}

/// Scenario: the same service and second is written three times.
/// Guarantees: three files, none replaced, each name recognized as ours.
#[test]
fn nothing_is_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let mut directory = Directory::open(home.path(), keep_all(), now).unwrap();
    for content in ["a", "b", "c"] {
        directory.write(&[(stem("web"), content.into())], Format::Pprof, now).unwrap();
    }
    let names = names_in(home.path());
    assert_eq!(
        names,
        [
            "web-20251124T160000Z.2.pb.gz",
            "web-20251124T160000Z.3.pb.gz",
            "web-20251124T160000Z.pb.gz"
        ]
    );
    assert!(names.iter().all(|name| is_ours(name)));
    let contents: HashSet<_> =
        names.iter().map(|name| fs::read_to_string(home.path().join(name)).unwrap()).collect();
    assert_eq!(contents, HashSet::from(["a".into(), "b".into(), "c".into()]));
}

/// Scenario: a hundred batches of one service share a second, more than are numbered one by one.
/// Guarantees: a hundred files.
#[test]
fn many_in_one_second() {
    let home = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let mut directory = Directory::open(home.path(), keep_all(), now).unwrap();
    for _ in 0..100 {
        directory.write(&[(stem("web"), b"x".into())], Format::Folded, now).unwrap();
    }
    let names = names_in(home.path());
    assert_eq!(names.len(), 100);
    assert!(names.iter().all(|name| is_ours(name)));
}

/// Scenario: service names made to escape the directory, to hide, to look like options, to be too
/// long, or to pose as another's changed name.
/// Guarantees: each is one short, visible file name of safe bytes; no two are equal.
#[test]
fn hostile_service_names() {
    let long = "x".repeat(5000);
    let other = format!("{long}y");
    let posing = stem("a/b").file_name(1, Format::Pprof);
    let posing = posing.split_once('-').unwrap().0;
    let services = [
        "../../etc/passwd",
        "..",
        ".",
        "/",
        "a/b",
        "a\\b",
        "a\0b",
        "-rf",
        ".hidden",
        "_hidden",
        "a b",
        "a_b",
        "a\nb",
        "ünï",
        "un",
        "CON",
        "*",
        "?",
        "$(id)",
        ";ls",
        &long,
        &other,
        posing,
        "",
        "~",
        "a:b",
    ];
    let names: HashSet<_> =
        services.iter().map(|service| stem(service).file_name(1, Format::Pprof)).collect();
    assert_eq!(names.len(), services.len());
    for name in names {
        assert!(name.len() <= 200, "{name}");
        assert!(!name.starts_with(['.', '-']), "{name}");
        let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(name.chars().all(safe), "{name}");
        assert!(is_ours(&name), "{name}");
    }
}

proptest! {
    /// Scenario: any two service names.
    /// Guarantees: file names are equal only if the service names are, and stay in the directory.
    #[test]
    fn names_are_distinct(a in ".{0,200}", b in ".{0,200}") {
        let name = stem(&a).file_name(1, Format::Otlp);
        prop_assert!(is_ours(&name), "{}", name);
        prop_assert_eq!(Path::new(&name).components().count(), 1);
        let same = name == stem(&b).file_name(1, Format::Otlp);
        prop_assert_eq!(same, a == b);
    }
}

/// Scenario: names close to ours.
/// Guarantees: none of them is taken for a file of this exporter, so none is ever deleted.
#[test]
fn foreign_names() {
    for name in [
        "web-20251124T160000Z.txt",
        "web-20251124T160000Z.pb.gz.bak",
        "web-2025-11-24T16:00:00Z.pb.gz",
        "web-20251124T160000.pb.gz",
        "web-20251124T160000Z.x.pb.gz",
        "web-20251124T160000Z..pb.gz",
        "web-20251124T160000Z.json",
        "web-20251124T160000Z.cpu.pb.gz",
        "web-20251124T160000Z.cpu.x.folded",
        "web-20251124T160000Z.c u.folded",
        "web-20251124T160000Z.cpu.2.3.folded",
        "web-20251124T160000Z..folded",
        "-20251124T160000Z.pb.gz",
        ".web-20251124T160000Z.pb.gz",
        "we b-20251124T160000Z.pb.gz",
        "20251124T160000Z.pb.gz",
        "web.pb.gz",
        ".pb.gz",
        "",
    ] {
        assert!(!is_ours(name), "{name}");
    }
}

/// Scenario: files of several ages, others' files, a directory and a link with names like ours.
/// Guarantees: exactly the files of ours that are older than max_age go.
#[test]
fn retention_by_age() {
    let home = tempfile::tempdir().unwrap();
    for (name, age) in [("a", 90), ("b", 61), ("c", 59), ("d", 0)] {
        put(home.path(), &stem(name).file_name(1, Format::Pprof), 10, SECOND - age);
    }
    let others = ["notes.txt", "own.pb.gz"];
    for name in others {
        fs::write(home.path().join(name), "x").unwrap();
        let file = fs::File::options().write(true).open(home.path().join(name)).unwrap();
        file.set_modified(at(1)).unwrap();
    }
    let folder = stem("folder").file_name(1, Format::Pprof);
    fs::create_dir(home.path().join(&folder)).unwrap();
    let retention =
        Retention { max_age: settings::Duration::from_secs(60), max_bytes: ByteSize(0) };
    Directory::open(home.path(), retention, at(SECOND)).unwrap();
    let mut expected: Vec<_> = others.iter().map(ToString::to_string).collect();
    expected.extend(["c", "d"].map(|name| stem(name).file_name(1, Format::Pprof)));
    expected.push(folder);
    expected.sort();
    assert_eq!(names_in(home.path()), expected);
}

/// Scenario: the files together exceed max_bytes, at start and again after each write.
/// Guarantees: the oldest go until the limit holds; what was just written stays.
#[test]
fn retention_by_bytes() {
    let home = tempfile::tempdir().unwrap();
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        put(home.path(), &stem(name).file_name(1, Format::Otlp), 100, SECOND + at as u64);
    }
    let retention = Retention { max_age: settings::Duration::default(), max_bytes: ByteSize(300) };
    let now = SystemTime::now();
    let mut directory = Directory::open(home.path(), retention, now).unwrap();
    let left = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| stem(name).file_name(1, Format::Otlp)).collect()
    };
    assert_eq!(names_in(home.path()), left(&["c", "d"]), "5 % below the limit");
    directory.write(&[(stem("e"), vec![b'x'; 100])], Format::Otlp, now).unwrap();
    assert_eq!(names_in(home.path()), left(&["c", "d", "e"]), "at the limit");
    directory.write(&[(stem("f"), vec![b'x'; 100])], Format::Otlp, now).unwrap();
    assert_eq!(names_in(home.path()), left(&["e", "f"]));
    directory.write(&[(stem("g"), vec![b'x'; 1000])], Format::Otlp, now).unwrap();
    assert_eq!(names_in(home.path()), left(&["g"]), "one that is too big stays alone");
}

/// Scenario: temporary files of a dead run, and one that another writer is busy with.
/// Guarantees: the dead run's go, the busy one stays, a user's hidden file stays.
#[test]
fn leftovers_are_removed() {
    let home = tempfile::tempdir().unwrap();
    for name in [".profpipe-dead.tmp", ".profpipe-busy.tmp", ".profpiperc"] {
        fs::write(home.path().join(name), "half").unwrap();
    }
    let busy = fs::File::open(home.path().join(".profpipe-busy.tmp")).unwrap();
    busy.try_lock().unwrap();
    Directory::open(home.path(), keep_all(), SystemTime::now()).unwrap();
    assert_eq!(names_in(home.path()), [".profpipe-busy.tmp", ".profpiperc"]);
}

/// Scenario: the path is below a file; the path is empty.
/// Guarantees: building, or validating, fails with one line that says where and what to do.
#[test]
fn unusable_paths() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let Err(error) = config(&home.path().join("file/profiles")).build(&setup()) else {
        panic!("built below a file")
    };
    let text = error.to_string();
    assert!(text.contains("file/profiles") && text.contains("choose a directory"), "{text}");

    let mut problems = Problems::default();
    config(Path::new("")).validate(&mut problems);
    assert!(format!("{problems:?}").contains("path"), "{problems:?}");
}

/// Scenario: somebody removes the directory while the exporter runs.
/// Guarantees: the next window makes it anew.
#[test]
fn removed_directory_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep/profiles");
    let now = SystemTime::now();
    let mut directory = Directory::open(&path, keep_all(), now).unwrap();
    fs::remove_dir_all(home.path().join("deep")).unwrap();
    directory.write(&[(stem("web"), b"x".into())], Format::Otlp, now).unwrap();
    assert_eq!(names_in(&path).len(), 1);
}

/// Scenario: a batch with two services, one of them in two processes, in each format.
/// Guarantees: one file a service, named by its window's start; the metrics count files and bytes.
#[tokio::test]
async fn one_file_per_service() {
    for format in [Format::Pprof, Format::Otlp, Format::OtlpJson, Format::Folded] {
        let home = tempfile::tempdir().unwrap();
        let setup = setup();
        let mut exporter = Config { format, ..config(home.path()) }.build(&setup).unwrap();
        let mut profiles = Profiles::new();
        for service in ["web", "db", "web"] {
            testing::add(&mut profiles, service, SECOND);
        }
        exporter.export(&Batch::new(profiles)).await.unwrap();
        let names = names_in(home.path());
        let stem_of = |service: &str| match format {
            Format::Folded => stem(service).of_type("cpu"),
            _ => stem(service),
        };
        let expected = ["db", "web"].map(|service| stem_of(service).file_name(1, format));
        assert_eq!(names, expected);
        let metrics = &setup.services.metrics;
        assert_eq!(metrics.total(metric_names::FILES_WRITTEN), 2);
        let bytes: u64 =
            names.iter().map(|name| fs::metadata(home.path().join(name)).unwrap().len()).sum();
        assert_eq!(metrics.total(metric_names::BYTES_WRITTEN), bytes);
        for (name, samples) in names.iter().zip([1, 2]) {
            let content = fs::read(home.path().join(name)).unwrap();
            let read = match format {
                Format::Otlp => otlp::decode(&content).unwrap(),
                Format::OtlpJson => otlp::decode_json(&content).unwrap(),
                Format::Folded => {
                    let expected = format!("main;leaf {}\n", samples * 10_101_010);
                    assert_eq!(String::from_utf8(content).unwrap(), expected);
                    continue;
                }
                _ => pprof::decode(&content).unwrap(),
            };
            assert_eq!(read.sample_count(), samples, "{name}");
            // Nothing of the other service's is in the file.
            let executables =
                read.dictionary.strings.iter().filter(|text| text.contains("/usr/bin/")).count();
            assert_eq!(executables, 1, "{name}");
        }
    }
}

/// A batch of one service with a sample of each of these types.
fn of_types(types: &[(&str, &str, i64)]) -> Batch {
    let mut profiles = Profiles::new();
    testing::add(&mut profiles, "web", SECOND);
    let one = profiles.resources[0].scopes[0].profiles[0].clone();
    let strings = &mut profiles.dictionary.strings;
    let of_type = types.iter().map(|(kind, unit, value)| {
        let mut profile = one.clone();
        profile.sample_type = ValueType { kind: strings.intern(kind), unit: strings.intern(unit) };
        profile.samples = Samples::default();
        profile.samples.push(SampleRef { values: &[*value], ..one.samples.get(0) });
        profile
    });
    profiles.resources[0].scopes[0].profiles = of_type.collect();
    Batch::new(profiles)
}

/// Scenario: collapsed stacks, which hold one type and do not say which, of a batch with several: one
/// in two units, one name for two things, names made to escape the directory, one without samples
/// that count; then the same batch again.
/// Guarantees: everything is in a file with its type in the name, which retention knows as ours.
#[tokio::test]
async fn one_folded_file_per_type() {
    let home = tempfile::tempdir().unwrap();
    let config = Config { format: Format::Folded, ..config(home.path()) };
    let mut exporter = config.build(&setup()).unwrap();
    let batch = of_types(&[
        ("cpu", "nanoseconds", 7),
        ("cpu", "microseconds", 1),
        ("alloc-space", "bytes", 20),
        ("lock", "nanoseconds", 30),
        ("lock", "count", 40),
        ("../../etc/passwd", "count", 50),
        ("", "", 60),
        ("idle", "count", 0),
    ]);
    exporter.export(&batch).await.unwrap();
    let names = names_in(home.path());
    let time = "web-20251124T160000Z";
    let content = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    for (kind, value) in
        [("cpu", 1007), ("lock_nanoseconds", 30), ("lock_count", 40), ("unknown", 60)]
    {
        let text = content(&format!("{time}.{kind}.folded"));
        assert_eq!(text, format!("main;leaf {value}\n"), "{kind}");
    }
    let all: String = names.iter().map(|name| content(name)).collect();
    assert!(all.contains("main;leaf 20\n") && all.contains("main;leaf 50\n"), "{all}");
    assert_eq!(names.len(), 6);
    exporter.export(&batch).await.unwrap();
    let names = names_in(home.path());
    assert_eq!(names.len(), 12);
    assert!(names.contains(&format!("{time}.cpu.2.folded")));
    for name in names {
        let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(is_ours(&name) && name.chars().all(safe), "{name}");
    }
}

/// Scenario: more sample types in a window than anybody has, as collapsed stacks.
/// Guarantees: rejected with a reason, not thousands of files; pprof, which holds them all, is written.
#[tokio::test]
async fn too_many_types_for_files() {
    let kinds: Vec<String> = (0..65).map(|at| format!("t{at}")).collect();
    let types: Vec<_> = kinds.iter().map(|kind| (kind.as_str(), "count", 1)).collect();
    for (format, files) in [(Format::Folded, 0), (Format::Pprof, 1)] {
        let home = tempfile::tempdir().unwrap();
        let config = Config { format, ..config(home.path()) };
        let mut exporter = config.build(&setup()).unwrap();
        match exporter.export(&of_types(&types)).await {
            Ok(()) => assert_eq!(files, 1),
            Err(Failure::Reject { cause }) => {
                assert!(cause.chain().contains("more than 64 sample types"), "{}", cause.chain());
            }
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(names_in(home.path()).len(), files);
    }
}

/// Scenario: a batch that holds nothing, and one whose bytes are not a request.
/// Guarantees: nothing is written; the second is rejected, not retried.
#[tokio::test]
async fn nothing_to_write() {
    let home = tempfile::tempdir().unwrap();
    let mut exporter = config(home.path()).build(&setup()).unwrap();
    exporter.export(&Batch::new(Profiles::new())).await.unwrap();
    let failure = exporter.export(&Batch::from_wire(vec![0xff; 9].into())).await.unwrap_err();
    assert!(matches!(failure, Failure::Reject { .. }), "{failure:?}");
    assert!(names_in(home.path()).is_empty());
}
