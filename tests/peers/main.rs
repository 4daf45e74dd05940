//! Do our files open in other people's tools, and do those tools see in them what we see?
//!
//! And do the OpenTelemetry Collector, Grafana Pyroscope and Go services get from us, and we from them,
//! what was sent?
//!
//! Layout: `oracles` builds the tools; `go/` pins their versions and holds `agree`, which asks
//! google/pprof's reader; `rules` is profcheck's list of rules in Rust. `collector`, `pyroscope` and
//! `target` are running peers, which `build` builds; `gateway` is profpipe between them;
//! `queries` asks `profpipe ui` and Pyroscope the same, also by Pyroscope's client;
//! `fixture` is what is sent, `totals` what is compared. `sdks` are Pyroscope's SDKs, whose programs lie in
//! `go/target`, `python`, `nodejs` and `java`; `relay` knows what they sent. `events` are those of our own sampler.
//! `uploads` are symbols, by Pyroscope's own client to us.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and tells on stderr what it skipped"
)]

mod among_themselves;
mod built;
mod collector;
mod events;
mod fixture;
mod gateway;
mod http;
mod oracles;
mod paths;
mod pprof;
#[allow(dead_code, reason = "shared with benches/gateway, which uses other parts of it")]
mod process;
mod pyroscope;
mod queries;
mod relay;
mod rules;
mod sdks;
mod serve;
mod target;
mod totals;
mod uploads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use oracles::Oracles;
use prost::Message as _;
use serde::Deserialize;

fn profpipe(arguments: &[&Path]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe")).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "profpipe {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn convert(from: &Path, to: &Path) {
    profpipe(&[Path::new("convert"), from, to]);
}

/// An OTLP file keeps the profiling SIG's rules, by our port of them and by the tool itself.
#[track_caller]
fn conforms(oracles: Option<&Oracles>, file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    let data = ProfilesData::decode(bytes.as_slice()).expect("OTLP protobuf");
    let broken = rules::broken(&data);
    assert!(broken.is_empty(), "{}:\n{}", file.display(), broken.join("\n"));
    if let Some(oracles) = oracles {
        oracles.profcheck(file);
    }
}

/// google/pprof opens a pprof file, and its totals are those that `top` prints.
#[track_caller]
fn opens_in_pprof(oracles: &Oracles, file: &Path) {
    #[derive(Deserialize)]
    struct Column {
        #[serde(rename = "type")]
        kind: String,
        unit: String,
        total: i64,
        functions: BTreeMap<String, Sums>,
    }
    #[derive(Deserialize, PartialEq, Debug)]
    struct Sums {
        flat: i64,
        cum: i64,
    }
    #[derive(Deserialize)]
    struct Top {
        profile_type: String,
        unit: String,
        total: i64,
        functions: Vec<Function>,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
        #[serde(rename = "self")]
        own: i64,
        total: i64,
    }

    assert!(oracles.pprof(&[Path::new("-raw"), file]).contains("Samples:"), "{file:?}");
    oracles.pprof(&[Path::new("-top"), file]);
    let columns = oracles.agree(&[Path::new("totals"), file]);
    for column in serde_json::from_str::<Vec<Column>>(&columns).unwrap() {
        let arguments =
            ["--type", &column.kind, "-n", "1000000", "--by", "total", "--format", "json"]
                .map(Path::new);
        let top = profpipe(&[&[Path::new("top"), file][..], &arguments].concat());
        let top: Top = serde_json::from_str(&top).unwrap();
        let place = format!("{} of {}", column.kind, file.display());
        assert_eq!((&top.profile_type, &top.unit), (&column.kind, &column.unit), "{place}");
        assert_eq!(top.total, column.total, "{place}");
        // A function of the same name in two modules is two rows of ours; a sample in both counts in
        // each, so only names of one row are comparable.
        for (name, sums) in &column.functions {
            let rows: Vec<_> =
                top.functions.iter().filter(|function| function.name == *name).collect();
            if let [row] = rows[..] {
                assert_eq!(&Sums { flat: row.own, cum: row.total }, sums, "{name}, {place}");
            } else if sums.cum != 0 {
                assert!(!rows.is_empty(), "{name} is missing, {place}");
            }
        }
    }
}

/// Files that google/pprof itself wrote, with every corner of the format.
fn written_by_pprof(oracles: &Oracles, directory: &Path) -> Vec<PathBuf> {
    oracles.agree(&[Path::new("write"), directory]);
    ["cpu", "heap", "plain", "empty"].map(|name| directory.join(format!("{name}.pb.gz"))).to_vec()
}

/// Scenario: pprof files with several types, inlined frames, labels with units, comments, frames to
/// drop and keep, unused mappings, negative values; through pprof → pprof, pprof → OTLP → pprof and
/// pprof → OTLP JSON → pprof.
/// Guarantees: google/pprof reads the same meaning out of each result, and the same totals as `top`.
#[test]
fn pprof_keeps_its_meaning() {
    let Some(oracles) = Oracles::get() else { return };
    let directory = tempfile::tempdir().unwrap();
    for original in written_by_pprof(oracles, directory.path()) {
        opens_in_pprof(oracles, &original);
        let result = original.with_extension("result.pb.gz");
        convert(&original, &result);
        oracles.agree(&[Path::new("same"), &original, &result]);
        for extension in ["otlp", "json"] {
            let between = original.with_extension(extension);
            convert(&original, &between);
            convert(&between, &result);
            oracles.agree(&[Path::new("same"), &original, &result]);
        }
    }
}

/// Scenario: the same files as OTLP, directly and by way of OTLP JSON.
/// Guarantees: the OTLP keeps the profiling SIG's rules.
#[test]
fn otlp_keeps_the_rules() {
    let Some(oracles) = Oracles::get() else { return };
    let directory = tempfile::tempdir().unwrap();
    for original in written_by_pprof(oracles, directory.path()) {
        let otlp = original.with_extension("otlp");
        convert(&original, &otlp);
        conforms(Some(oracles), &otlp);
        let json = original.with_extension("json");
        convert(&original, &json);
        convert(&json, &otlp);
        conforms(Some(oracles), &otlp);
    }
}

/// Scenario: a freshly compiled program is recorded as pprof and as OTLP, and converted to the other.
/// Guarantees: all four files pass their tools.
#[test]
fn recordings_open_elsewhere() {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let oracles = Oracles::get();
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("split");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/programs/split.c");
    let compiled = Command::new("cc").args(["-O2", "-g", "-o"]).args([&program, &source]).status();
    assert!(compiled.expect("a C compiler").success());
    for (name, other) in
        [("recorded.pb.gz", "converted.otlp"), ("recorded.otlp", "converted.pb.gz")]
    {
        let file = directory.path().join(name);
        let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["record", "-F", "199", "-o"])
            .arg(&file)
            .arg("--")
            .arg(&program)
            .args([Path::new("/dev/null"), Path::new("1")])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let other = directory.path().join(other);
        convert(&file, &other);
        for file in [&file, &other] {
            if file.extension().is_some_and(|extension| extension == "otlp") {
                conforms(oracles, file);
            } else if let Some(oracles) = oracles {
                opens_in_pprof(oracles, file);
            }
        }
    }
}

/// Scenario: OTLP that breaks rules: an index out of range, a missing zero entry, a duplicate.
/// Guarantees: the port of the rules finds each, so that silence from it means something.
#[test]
fn rules_find_what_is_broken() {
    let mut data = ProfilesData::default();
    assert_eq!(rules::broken(&data), ["no dictionary"]);
    let dictionary = data.dictionary.get_or_insert_default();
    dictionary.string_table = ["", "a", "a"].map(String::from).to_vec();
    dictionary.stack_table = vec![Default::default()];
    dictionary.stack_table[0].location_indices.push(5);
    let broken = rules::broken(&data).join("; ");
    for part in [
        "string_table[2] stands there before",
        "stack_table[0] is not",
        "location 5 of 0",
        "no resource",
    ] {
        assert!(broken.contains(part), "{part}: {broken}");
    }
}
