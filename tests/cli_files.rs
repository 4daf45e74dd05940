//! `top`, `flamegraph` and `convert` through the real binary, on files of every format.
//!
//! Damaged files are in `bad_input.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use profpipe::pipeline::pprof;
use tempfile::TempDir;

const GO_CPU: &[u8] = include_bytes!("../pipeline/formats/tests/data/go-cpu.pb.gz");
const GO_HEAP: &[u8] = include_bytes!("../pipeline/formats/tests/data/go-heap.pb.gz");

fn profpipe(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Standard output of a command that must succeed and say nothing else.
#[track_caller]
fn good(arguments: &[&str], directory: &Path) -> String {
    let output = profpipe(arguments, directory);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    assert_eq!(stderr, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line on standard error of a command that must fail.
#[track_caller]
fn bad(arguments: &[&str], code: i32, directory: &Path) -> String {
    let output = profpipe(arguments, directory);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    stderr.trim_end().to_owned()
}

/// A directory with Go's profiles in it.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cpu.pb.gz"), GO_CPU).unwrap();
    std::fs::write(directory.path().join("heap.pprof"), GO_HEAP).unwrap();
    directory
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

/// Scenario: `top` of a CPU profile of Go; the figures are those of `pprof -top`.
/// Guarantees: exactly this table.
#[test]
fn top_as_text() {
    let directory = directory();
    let table = [
        "cpu: 1.07s in 107 samples, 0 lost",
        " self      %  total      %  module  function",
        "790ms  73.8%  830ms  77.6%  app     main.hot",
        "210ms  19.6%  400ms  37.4%  app     main.warm",
        " 70ms   6.5%   70ms   6.5%  app     runtime.asyncPreempt",
    ];
    let text = good(&["top", "cpu.pb.gz", "-n", "3"], directory.path());
    assert_eq!(text.lines().collect::<Vec<_>>(), table);

    let by_total = good(&["top", "cpu.pb.gz", "--by", "total", "-n", "1"], directory.path());
    assert!(by_total.lines().nth(2).unwrap().ends_with("main.main"), "{by_total}");
}

/// Scenario: `top --format json`, of the default type and of another.
/// Guarantees: the keys and numbers that programs rely on.
#[test]
fn top_as_json() {
    let directory = directory();
    let read = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&good(arguments, directory.path())).unwrap()
    };
    let cpu = read(&["top", "cpu.pb.gz", "--format", "json", "-n", "1"]);
    let expected = serde_json::json!({
        "profile_type": "cpu",
        "unit": "nanoseconds",
        "total": 1_070_000_000,
        "samples": 107,
        "lost": 0,
        "functions": [
            { "name": "main.hot", "module": "app", "self": 790_000_000, "total": 830_000_000 }
        ],
    });
    assert_eq!(cpu, expected);
    let heap = read(&["top", "heap.pprof", "--format", "json"]);
    assert_eq!(heap["profile_type"], "inuse_space");
    assert_eq!(heap["functions"][0]["name"], "main.alloc");
    let objects =
        read(&["top", "heap.pprof", "--format", "json", "--type", "alloc_objects", "-n", "0"]);
    assert_eq!(objects["unit"], "count");
    assert_eq!(objects["functions"], serde_json::json!([]));
}

/// Scenario: a profile converted to every format that can be read, and from there to pprof again.
/// Guarantees: OTLP keeps everything, to the byte; collapsed stacks keep stacks and costs.
#[test]
fn convert_there_and_back() {
    let directory = directory();
    let path = directory.path();
    for (file, other) in [
        ("cpu.pb.gz", "a.otlp"),
        ("heap.pprof", "b.otlp"),
        ("cpu.pb.gz", "a.json"),
        ("heap.pprof", "b.json"),
    ] {
        good(&["convert", file, "direct.pb.gz"], path);
        good(&["convert", file, other], path);
        good(&["convert", other, "detour.pb.gz"], path);
        let read = |name: &str| std::fs::read(path.join(name)).unwrap();
        assert_eq!(read("direct.pb.gz"), read("detour.pb.gz"));
        assert!(pprof::decode(&read("direct.pb.gz")).is_ok());
    }
    good(&["convert", "cpu.pb.gz", "cpu.folded"], path);
    let folded = std::fs::read_to_string(path.join("cpu.folded")).unwrap();
    let total: i64 =
        folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap()).sum();
    assert_eq!(total, 1_070_000_000);
    assert!(
        folded.starts_with("runtime.main;main.main;runtime/pprof.Do;main.main.func1;main.hot ")
    );
    good(&["convert", "cpu.folded", "again.folded"], path);
    assert_eq!(std::fs::read_to_string(path.join("again.folded")).unwrap(), folded);
}

/// Scenario: `convert --type` to a format that could hold all types.
/// Guarantees: only the type wanted is left.
#[test]
fn convert_one_type() {
    let directory = directory();
    let path = directory.path();
    good(&["convert", "heap.pprof", "one.pb.gz", "--type", "alloc_space"], path);
    assert_eq!(
        good(&["top", "one.pb.gz", "--format", "json"], path),
        good(&["top", "heap.pprof", "--type", "alloc_space", "--format", "json"], path)
    );
    let line = bad(&["top", "one.pb.gz", "--type", "inuse_space"], 1, path);
    assert_eq!(
        line,
        "profpipe: one.pb.gz: there is no sample type `inuse_space` in it; it has alloc_space"
    );
}

/// Scenario: a flame graph by both commands, twice.
/// Guarantees: the same picture each time, with a title, names and units in it; a profile without
/// samples of the type is told.
#[test]
fn flame_graph() {
    let directory = directory();
    let path = directory.path();
    good(&["flamegraph", "cpu.pb.gz", "-o", "a.svg"], path);
    good(&["convert", "cpu.pb.gz", "b.svg"], path);
    let svg = std::fs::read_to_string(path.join("a.svg")).unwrap();
    assert_eq!(svg, std::fs::read_to_string(path.join("b.svg")).unwrap());
    assert!(svg.contains("cpu: 1.07s"), "no title");
    assert!(svg.contains("<title>main.warm ("), "no frame");
    assert!(svg.contains(" us, "), "no unit");
    assert!(svg.contains("id=\"search\""), "no search");

    std::fs::write(path.join("idle.folded"), "main;f 0\n").unwrap();
    let line = bad(&["flamegraph", "idle.folded", "-o", "c.svg"], 1, path);
    assert_eq!(line, "profpipe: cannot write c.svg: there are no samples of `samples` to draw");
    assert!(!path.join("c.svg").exists());
}

/// Scenario: names with what means something in XML, in the lines that are drawn, or on a terminal.
/// Guarantees: the picture is well formed and shows the name; nothing is taken for a cost.
#[test]
fn names_in_a_flame_graph() {
    let directory = directory();
    let path = directory.path();
    let stacks = "main;operator<< <int>;shard 7 10\nmain;# not a comment;a&b\u{1b}[2J 5\n";
    std::fs::write(path.join("odd.folded"), stacks).unwrap();
    good(&["flamegraph", "odd.folded", "-o", "odd.svg"], path);
    let svg = std::fs::read_to_string(path.join("odd.svg")).unwrap();
    assert!(svg.contains("operator&lt;&lt; &lt;int&gt; (10 samples, 66.67%)"), "{svg}");
    assert!(svg.contains("shard\u{a0}7 (10 samples"));
    assert!(svg.contains("# not a comment (5 samples"));
    assert!(svg.contains("a&amp;b\u{fffd}[2J (5 samples"));
}

/// Scenario: wrong usage and bad files.
/// Guarantees: exit code 2 or 1, one line that names the file and says what would be right; no file
/// is left behind.
#[test]
fn errors() {
    let directory = directory();
    let path = directory.path();
    let before = names(path);
    let line = bad(&["top", "-", "cpu.pb.gz", "-"], 2, path);
    assert_eq!(line, "profpipe: standard input can be read only once");
    let line = bad(&["convert", "cpu.pb.gz", "-"], 2, path);
    assert!(line.contains("standard output has no name") && line.contains("--format"), "{line}");
    let line = bad(&["convert", "absent.pb.gz", "out.xyz"], 2, path);
    assert!(line.contains("out.xyz: the name of an output must end with .pb.gz"), "{line}");
    let line = bad(&["flamegraph", "cpu.pb.gz", "-o", "out.png"], 2, path);
    assert!(line.contains("out.png: the name of a flame graph must end with .svg"), "{line}");
    let line = bad(&["top", "absent.pb.gz"], 1, path);
    assert!(line.starts_with("profpipe: cannot read absent.pb.gz: No such file"), "{line}");
    let line = bad(&["convert", "cpu.pb.gz", "no/out.pb.gz"], 1, path);
    assert!(line.starts_with("profpipe: cannot write no/out.pb.gz: No such file"), "{line}");

    std::fs::write(path.join("text.pb.gz"), "heap profile: 1: 2 [3: 4] @ heap/1\n").unwrap();
    let line = bad(&["top", "text.pb.gz"], 1, path);
    let legacy = "a profile in a legacy text format, which is not read: convert it with \
                  `go tool pprof -proto`";
    assert_eq!(line, format!("profpipe: cannot read text.pb.gz: {legacy}"));
    std::fs::write(path.join("words.folded"), "# a comment\nno count\n").unwrap();
    let line = bad(&["top", "words.folded"], 1, path);
    assert_eq!(
        line,
        "profpipe: cannot read words.folded: line 2: the count `count` is not a number"
    );
    std::fs::remove_file(path.join("text.pb.gz")).unwrap();
    std::fs::remove_file(path.join("words.folded")).unwrap();
    assert_eq!(names(path), before);
}

/// Scenario: the output is there already, is a link, is a device.
/// Guarantees: a file is replaced as a whole, a link stays a link, a device is written to.
#[cfg(unix)]
#[test]
fn output_in_the_place_of_another() {
    let directory = directory();
    let path = directory.path();
    std::fs::write(path.join("old.folded"), "old").unwrap();
    std::os::unix::fs::symlink("old.folded", path.join("link.folded")).unwrap();
    good(&["convert", "cpu.pb.gz", "link.folded"], path);
    assert!(path.join("link.folded").is_symlink());
    assert!(std::fs::read_to_string(path.join("old.folded")).unwrap().contains("main.hot"));

    std::os::unix::fs::symlink("/dev/null", path.join("null.otlp")).unwrap();
    good(&["convert", "cpu.pb.gz", "null.otlp"], path);
    good(&["convert", "old.folded", "old.folded"], path);
    assert_eq!(
        names(path),
        ["cpu.pb.gz", "heap.pprof", "link.folded", "null.otlp", "old.folded"].map(PathBuf::from)
    );
}

/// Scenario: small files of a megabyte or less that ask for very much memory: many sample types
/// times many samples, and stacks that unfold.
/// Guarantees: told in one line within half a gigabyte of address space.
#[cfg(unix)]
#[test]
fn files_that_unfold() {
    let directory = directory();
    let path = directory.path();
    // Field 6: an empty text. Field 1: a sample type, 2 bytes. Field 2: a sample of 10,000 values.
    let mut wide = vec![0x32, 0];
    wide.extend([0x0a, 0].repeat(10_000));
    let sample = [&[0x12, 0x93, 0x4e, 0x12, 0x90, 0x4e][..], &[0; 10_000]].concat();
    wide.extend(sample.repeat(1000));
    // A function, a location with it 200,000 times, a sample of 200,000 such locations.
    let mut deep = vec![0x32, 0, 0x0a, 0, 0x2a, 2, 8, 1];
    let field = |tag: u8, content: &[u8]| {
        let length = content.len();
        let groups = [length & 0x7f | 0x80, length >> 7 & 0x7f | 0x80, length >> 14];
        [&[tag], &groups.map(|group| group as u8)[..], content].concat()
    };
    let lines = [0x22, 2, 8, 1].repeat(200_000);
    deep.extend(field(0x22, &[&[8, 1][..], &lines].concat()));
    let stack = field(0x0a, &[1].repeat(200_000));
    deep.extend(field(0x12, &[&stack[..], &[0x10, 1]].concat()));
    for (name, bytes, expected) in [
        ("wide.pb.gz", wide, "take more than 256MiB of memory"),
        ("deep.pb.gz", deep, "its stacks have too many frames"),
    ] {
        let mut output = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut output, &bytes).unwrap();
        std::fs::write(path.join(name), output.finish().unwrap()).unwrap();
        for arguments in [&["top", name][..], &["convert", name, "out.folded"]] {
            let output = Command::new("sh")
                .args(["-c", "ulimit -v 524288; exec \"$0\" \"$@\""])
                .arg(env!("CARGO_BIN_EXE_profpipe"))
                .args(arguments)
                .current_dir(path)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.contains(expected), "{stderr}");
        }
    }
}
