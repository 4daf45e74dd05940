//! `profpipe diff` through the real binary: verdicts and exit codes, every format, names that try to write
//! markup, folders, one run a side, normalisation and what the sides ran on.
//!
//! How often verdicts are right is shown in `store/src/statistics/tests.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use profpipe::profile::{KeyValue, Value};
use profpipe::{folded, otlp};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// What functions cost in thousandths.
const SHARES: [(&str, i64); 12] = [
    ("parse", 200),
    ("lex", 150),
    ("hash", 120),
    ("copy", 100),
    ("alloc", 90),
    ("sort", 80),
    ("emit", 70),
    ("scan", 60),
    ("target", 50),
    ("walk", 40),
    ("release", 30),
    ("log", 10),
];
/// Names that would be markup, steer a terminal or make links and mentions.
const HOSTILE: [&str; 4] = [
    "<img src=x onerror=alert(1)>",
    "</title><script>alert(2)</script>",
    "a|b `c` @all [x](http://example.com) **d**",
    "\u{1b}[31mred\u{202e}\u{7}",
];

/// Runs, whose costs differ by 1 or 2 % from run to run; `change` are factors of some functions.
struct Runs<'r> {
    change: &'r [(&'r str, f64)],
    /// Attributes of the resource.
    attributes: &'r [(&'r str, &'r str)],
    seconds: u64,
    seed: i64,
}

const SAME: Runs<'_> = Runs { change: &[], attributes: &[], seconds: 0, seed: 0 };

impl Runs<'_> {
    fn stacks(&self, run: i64) -> String {
        let line = |(at, (name, share)): (i64, &(&str, i64))| {
            let factor = self.change.iter().find(|(changed, _)| changed == name);
            // -2 … 2 %, in another order for every function; each once in five runs.
            let noise = (run * 7 + at * 3 + self.seed * 11) % 5 - 2;
            let cost = share * (10_000 + 100 * noise);
            let cost = cost as f64 * factor.map_or(1.0, |(_, factor)| *factor) / 100.0;
            (cost >= 1.0).then(|| format!("main;run;{name} {cost:.0}\n"))
        };
        let hostile = HOSTILE.map(|name| format!("main;run;{name} 300\n"));
        (0..).zip(&SHARES).filter_map(line).chain(hostile).collect()
    }

    /// Writes so many runs as files of OTLP; returns their names.
    fn write(&self, directory: &Path, prefix: &str, count: i64) -> Vec<String> {
        std::fs::create_dir_all(directory.join(prefix)).unwrap();
        (0..count)
            .map(|run| {
                let mut profiles = folded::decode(self.stacks(run).as_bytes()).unwrap();
                for resource in &mut profiles.resources {
                    let attributes = self.attributes.iter().map(|(key, value)| KeyValue {
                        key: (*key).to_owned(),
                        value: Value::String((*value).to_owned()),
                    });
                    resource.resource.attributes.extend(attributes);
                    for profile in resource.scopes.iter_mut().flat_map(|it| &mut it.profiles) {
                        profile.time_unix_nano = 1_700_000_000_000_000_000;
                        profile.duration_nano = self.seconds * 1_000_000_000;
                    }
                }
                let name = format!("{prefix}/{run}.otlp");
                std::fs::write(directory.join(&name), otlp::encode(&profiles)).unwrap();
                name
            })
            .collect()
    }
}

fn diff(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .arg("diff")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Standard output and standard error of a command that must end with this code.
#[track_caller]
fn ends(directory: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = diff(directory, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// Directories with five runs each: `base`, the same again as `same`, and `slow`, in which `target` takes 40 %
/// more.
fn directory() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    SAME.write(home.path(), "base", 5);
    Runs { seed: 3, ..SAME }.write(home.path(), "same", 5);
    let change = [("target", 1.4)];
    Runs { change: &change, seed: 1, ..SAME }.write(home.path(), "slow", 5);
    home
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn row<'j>(report: &'j Json, name: &str) -> &'j Json {
    let functions = report["functions"].as_array().unwrap();
    functions.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// Scenario: folders of five runs with and without a function that takes 40 % more; conditions that are met,
/// that are not, and that so few runs cannot decide; several; one run a side.
/// Guarantees: exit code 0 without a finding, 3 with one, 4 where it cannot be told, which `--undecided ok`
/// takes for none; what was found or is missing is said on standard error, with the runs that it takes.
#[test]
fn verdicts() {
    let home = directory();
    let home = home.path();
    ends(home, &["base", "slow"], 0);
    let (_, said) = ends(home, &["base", "slow", "--fail-on", "slower>5%"], 3);
    assert!(said.contains("slower>5%: target takes +"), "{said}");
    let (_, said) = ends(home, &["base", "same", "--fail-on", "slower>5%,new>1%"], 0);
    assert_eq!(said, "");
    // It is slower, but not by that much.
    ends(home, &["base", "slow", "--fail-on", "slower>80%"], 0);
    ends(home, &["base", "slow", "--fail-on", "slower>80%", "--fail-on", "slower>10%"], 3);
    let (_, said) = ends(home, &["base", "same", "--fail-on", "slower>0.1%"], 4);
    assert!(said.contains("not decidable: slower>0.1%"), "{said}");
    assert!(said.contains("runs a side"), "{said}");
    ends(home, &["base", "same", "--fail-on", "slower>0.1%", "--undecided", "ok"], 0);
    // What is found goes before what cannot be told.
    ends(home, &["base", "slow", "--fail-on", "slower>0.1%"], 3);
    for new in ["same/0.otlp", "slow/0.otlp"] {
        let one = ["base/0.otlp", new, "--fail-on", "slower>5%"];
        let (table, said) = ends(home, &one, 4);
        assert!(said.contains("noise") && table.contains("not tested"), "{said} {table}");
        ends(home, &[&one[..], &["--undecided", "ok"]].concat(), 0);
    }
}

/// Scenario: a build whose every function takes twice as long, one with another function, and one that cost
/// less.
/// Guarantees: shares hide the first and the total shows it; `new` finds the second; less is no finding.
#[test]
fn totals_and_new_functions() {
    let home = directory();
    let home = home.path();
    let twice: Vec<(&str, f64)> = SHARES.iter().map(|(name, _)| (*name, 2.0)).collect();
    let half: Vec<(&str, f64)> = SHARES.iter().map(|(name, _)| (*name, 0.5)).collect();
    Runs { change: &twice, seed: 2, ..SAME }.write(home, "twice", 5);
    Runs { change: &half, seed: 2, ..SAME }.write(home, "half", 5);
    let (_, said) = ends(home, &["base", "twice", "--fail-on", "total>3%,slower>20%"], 3);
    assert!(said.contains("total>3%") && !said.contains("slower"), "{said}");
    ends(home, &["base", "half", "--fail-on", "total>3%"], 0);
    let change = [("target", 0.0)];
    Runs { change: &change, seed: 4, ..SAME }.write(home, "without", 5);
    let (_, said) = ends(home, &["without", "base", "--fail-on", "new>1%"], 3);
    assert!(said.contains("target is new"), "{said}");
    ends(home, &["without", "base", "--fail-on", "new>50%"], 0);
    let (text, _) = ends(home, &["base", "without", "--format", "json"], 0);
    assert_eq!(row(&json(&text), "target")["class"], "gone");
}

/// Scenario: files on both sides of `--`, folders, and wrong usage.
/// Guarantees: both forms give the same; exit code 2 for usage and 1 for what fails, with one line.
#[test]
fn sides_and_mistakes() {
    let home = directory();
    let path = home.path();
    let (folders, _) = ends(path, &["base", "slow"], 0);
    let files = |side: &str| (0..5).map(|run| format!("{side}/{run}.otlp")).collect::<Vec<_>>();
    let named = [files("base"), vec!["--".to_owned()], files("slow")].concat();
    let (files, _) = ends(path, &named.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    assert_eq!(folders, files);
    for (arguments, code, expected) in [
        (&["base"][..], 2, "several of each with --"),
        (&["base", "same", "slow"], 2, "several of each with --"),
        (&["-", "--", "-"], 2, "only once"),
        (&["base", "slow", "-o", "out.png"], 2, ".html"),
        (&["base", "slow", "--fail-on", "slower"], 2, "not a condition such as"),
        (&["base", "slow", "--fail-on", "faster>5%"], 2, "not a condition such as"),
        (&["base", "slow", "--fail-on", "slower>x%"], 2, "not a condition such as"),
        (&["base", "slow", "--self", "--total"], 2, "cannot be used with"),
        (&["base", "gone"], 1, "gone"),
        (&["base", "slow", "--type", "cpu"], 1, "cpu"),
        (&["base", "slow", "--per", "time"], 1, "how long a run took is not known of 5 of 5 runs"),
        (&["base", "slow", "--per", "requests"], 1, "neither a sample type nor a number"),
        (&["base", "slow", "--require-same", "cpu"], 1, "not known of the base side"),
        (&["base", "slow", "-o", "missing/out.md"], 1, "cannot write"),
    ] {
        let (_, said) = ends(path, arguments, code);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(code == 2 || said.lines().count() == 1, "{said}");
    }
    // Half of an output is none.
    assert!(!path.join("out.png").exists());
}

/// Scenario: JSON of five runs a side, and of one.
/// Guarantees: its version; shares, intervals around the differences, a ratio with its interval, rates of
/// false discoveries and classes; the total of both sides; nulls where nothing was tested.
#[test]
fn json_has_everything() {
    let home = directory();
    let home = home.path();
    let (text, _) = ends(home, &["base", "slow", "--format", "json", "--fail-on", "total>50%"], 0);
    let report = json(&text);
    assert_eq!(
        (&report["version"], &report["cost"], &report["per"]),
        (&1.into(), &"self".into(), &"total".into())
    );
    assert_eq!(report["base"]["runs"], 5);
    assert_eq!(
        (&report["decidable"], &report["verdict"]["result"]),
        (&true.into(), &"no_finding".into())
    );
    let target = row(&report, "target");
    assert_eq!((&target["class"], &target["is_finding"]), (&"slower".into(), &true.into()));
    let number = |value: &Json| value.as_f64().unwrap();
    let ends_of = |value: &Json| (number(&value[0]), number(&value[1]));
    let (low, high) = ends_of(&target["delta_interval"]);
    let delta = number(&target["delta_share"]);
    assert!(low < delta && delta < high && low > 0.0, "{target}");
    assert!((number(&target["new_share"]) - number(&target["base_share"]) - delta).abs() < 1e-12);
    let (low, high) = ends_of(&target["ratio_interval"]);
    assert!(low < 1.4 && 1.4 < high && low > 1.3 && high < 1.5, "{target}");
    assert!(number(&target["q"]) < 0.025);
    let functions = report["functions"].as_array().unwrap();
    let findings: Vec<_> = functions.iter().filter(|it| it["is_finding"] == true).collect();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(functions.len(), SHARES.len() + HOSTILE.len());
    let (low, high) = ends_of(&report["total"]["ratio_interval"]);
    assert!(low < 1.02 && 1.02 < high, "{}", report["total"]);
    let (text, _) = ends(home, &["base/0.otlp", "slow/0.otlp", "--format", "json", "-n", "3"], 0);
    let report = json(&text);
    assert_eq!(
        (&report["decidable"], &report["verdict"]["result"]),
        (&false.into(), &"none".into())
    );
    assert_eq!(report["functions"].as_array().unwrap().len(), 3);
    assert!(report["functions"][0]["q"].is_null() && report["functions"][0]["ratio"].is_number());
}

/// Scenario: names that are markup, in every format.
/// Guarantees: the terminal gets no control characters; markdown has no markup and no mention outside of
/// code, and at most 20 rows; HTML and SVG have the names as text only.
#[test]
fn hostile_names() {
    let home = directory();
    let home = home.path();
    let outputs = ["d.txt", "d.json", "d.md", "d.svg", "d.html"];
    let mut arguments = vec!["base", "slow", "-n", "100"];
    arguments.extend(outputs.iter().flat_map(|output| ["-o", output]));
    let (printed, _) = ends(home, &arguments, 0);
    assert_eq!(printed, "");
    let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap();
    let text = read("d.txt");
    assert!(text.contains(HOSTILE[0]) && text.contains("?[31mred??"), "{text}");
    assert!(!text.contains(|char: char| (char.is_control() && char != '\n') || char == '\u{202e}'));
    assert!(
        json(&read("d.json"))["functions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["name"] == HOSTILE[0])
    );
    let markdown = read("d.md");
    for line in markdown.lines().filter(|line| line.starts_with("| <code>")) {
        // Cells are as many as there are columns: no name has made one.
        assert_eq!(line.matches('|').count(), 10, "{line}");
    }
    assert!(markdown.lines().filter(|line| line.starts_with("| <code>")).count() <= 20);
    let outside: String = markdown
        .split("<code>")
        .map(|part| part.split_once("</code>").map_or(part, |(_, rest)| rest))
        .collect();
    assert!(!outside.contains(['<', '@', '[', '`']), "{outside}");
    for piece in ["<img", "<script", "@all", "](http", "`c`"] {
        assert!(!markdown.contains(piece), "{piece}");
    }
    for (name, tags) in [("d.svg", "<script"), ("d.html", "<script>")] {
        let page = read(name);
        assert!(!page.contains("<img"), "{name}");
        assert!(!page.contains("<script>alert") && !page.contains("\u{1b}"), "{name}");
        // Only its own.
        assert_eq!(page.matches(tags).count(), 1, "{name}");
        assert!(page.contains("&lt;img src=x"), "{name}");
    }
}

/// Scenario: the page that stands alone.
/// Guarantees: its policy allows its own style and script by their hashes, and nothing else; there is no
/// address in it and no attribute that a policy would forbid.
#[test]
fn the_page_stands_alone() {
    let home = directory();
    ends(home.path(), &["base", "slow", "-o", "d.html"], 0);
    let page = std::fs::read_to_string(home.path().join("d.html")).unwrap();
    let between = |from: &str, to: &str| {
        let (_, rest) = page.split_once(from).unwrap();
        rest.split_once(to).unwrap().0.to_owned()
    };
    let policy = between("Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let hash =
        |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    for (kind, text) in [
        ("style-src", between("<style>", "</style>")),
        ("script-src", between("<script>", "</script>")),
    ] {
        assert!(policy.contains(&format!("{kind} {}", hash(&text))), "{kind}: {policy}");
    }
    for forbidden in [" href=", "url(", "@import", " style=", " onclick=", " onload=", "unsafe"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("<td>slower</td>") && page.contains("</svg>"), "{page}");
}

/// Scenario: the flame graph, of five runs a side and of one.
/// Guarantees: the function that takes more is orange, others grey; of one run all are pale.
#[test]
fn the_picture_is_grey_where_nothing_is_known() {
    let home = directory();
    let home = home.path();
    ends(home, &["base", "slow", "-o", "d.svg"], 0);
    ends(home, &["base/0.otlp", "slow/0.otlp", "-o", "one.svg"], 0);
    let color = |file: &str, name: &str| {
        let svg = std::fs::read_to_string(home.join(file)).unwrap();
        let (_, rest) = svg.split_once(&format!("<title>{name} (")).unwrap();
        let (_, rest) = rest.split_once("fill=\"rgb(").unwrap();
        let numbers = rest.split_once(')').unwrap().0;
        numbers.split(',').map(|it| it.trim().parse::<i32>().unwrap()).collect::<Vec<_>>()
    };
    let target = color("d.svg", "target");
    assert!(target[0] > target[2] + 50, "{target:?}");
    for name in ["parse", "main", "log"] {
        assert_eq!(color("d.svg", name), [214, 214, 214], "{name}");
    }
    let pale = color("one.svg", "target");
    assert!(pale[0] > pale[2] && pale[0] - pale[2] < target[0] - target[2], "{pale:?} {target:?}");
}

/// Scenario: sides that ran on different CPUs and kernels, on the same, and builds that differ.
/// Guarantees: what differs is shown first; a function that differs may be so for that reason, is classified
/// so, and decides nothing; `--require-same` is an error where it differs, and none where it does not.
#[test]
fn environments() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let change = [("target", 1.4)];
    let of = |cpu, build| {
        [
            ("host.cpu.model.name", cpu),
            ("profpipe.environment.kernel.release", "6.18"),
            ("process.executable.build_id.gnu", build),
        ]
    };
    Runs { attributes: &of("A", "1"), ..SAME }.write(home, "base", 5);
    let (other, build) = (of("B", "2"), of("A", "2"));
    Runs { change: &change, seed: 1, attributes: &other, ..SAME }.write(home, "other", 5);
    Runs { change: &change, seed: 1, attributes: &build, ..SAME }.write(home, "build", 5);
    let (text, said) = ends(home, &["base", "other", "--fail-on", "slower>5%"], 4);
    assert!(text.contains("environment: host.cpu.model.name: A → B"), "{text}");
    assert!(said.contains("what the sides ran on differs"), "{said}");
    let (text, _) = ends(home, &["base", "other", "--format", "json"], 0);
    assert_eq!(row(&json(&text), "target")["class"], "environment");
    let (_, said) = ends(home, &["base", "other", "--require-same", "kernel,cpu"], 1);
    assert!(said.contains("--require-same cpu: host.cpu.model.name is `A` and `B`"), "{said}");
    let (text, _) =
        ends(home, &["base", "build", "--require-same", "cpu,kernel", "--fail-on", "slower>5%"], 3);
    assert!(text.contains("build_id.gnu: 1 → 2"), "{text}");
}

/// Scenario: runs of known length and with a number of requests; the new ones took half of the time for as
/// many requests.
/// Guarantees: costs by time and by requests, of functions and in all; shares are the same.
#[test]
fn normalisation() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    Runs { seconds: 10, attributes: &[("requests", "1000")], ..SAME }.write(home, "base", 5);
    Runs { seconds: 5, seed: 3, attributes: &[("requests", "1000")], ..SAME }.write(home, "new", 5);
    let total = |per: &str| {
        let (text, _) = ends(home, &["base", "new", "--format", "json", "--per", per], 0);
        let report = json(&text);
        let target = row(&report, "target").clone();
        (report["total"]["ratio"].as_f64().unwrap(), target)
    };
    let (ratio, target) = total("time");
    assert!((1.9..2.1).contains(&ratio) && target["class"] == "slower", "{ratio} {target}");
    let (ratio, target) = total("requests");
    assert!((0.97..1.03).contains(&ratio) && target["class"] == "same", "{ratio} {target}");
    let (ratio, target) = total("total");
    assert!((0.97..1.03).contains(&ratio) && target["class"] == "same", "{ratio} {target}");
}

/// Scenario: builds in which names have other hashes, modules other versions, and a function is renamed.
/// Guarantees: hashes and suffixes of compilers make no new functions; what was renamed has moved.
#[test]
fn names_of_two_builds() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let write = |side: &str, run: i64, names: [&str; 2]| {
        let stacks = Runs { seed: run % 3, ..SAME }.stacks(run);
        let stacks = stacks.replace("target", names[0]).replace("walk", names[1]);
        std::fs::create_dir_all(home.join(side)).unwrap();
        std::fs::write(home.join(side).join(format!("{run}.folded")), stacks).unwrap();
    };
    for run in 0..5 {
        write("base", run, ["app::target::h0123456789abcdef", "walk"]);
        write("new", run, ["app::target::hfedcba9876543210", "stroll.constprop.0"]);
    }
    let (text, _) = ends(home, &["base", "new", "--format", "json", "--fail-on", "new>1%"], 0);
    let report = json(&text);
    assert_eq!(row(&report, "app::target")["class"], "same");
    assert_eq!(row(&report, "walk")["class"], "moved");
    assert_eq!(row(&report, "stroll")["class"], "moved");
}

/// Scenario: costs with everything that functions call, and fewer functions than there are.
/// Guarantees: `run` has all of it; what is left out is said in a line.
#[test]
fn totals_of_functions_and_limits() {
    let home = directory();
    let home = home.path();
    let (text, _) = ends(home, &["base", "slow", "--total", "--format", "json"], 0);
    let report = json(&text);
    let share = row(&report, "run")["base_share"].as_f64().unwrap();
    assert!((share - 1.0).abs() < 1e-9 && report["cost"] == "total", "{share}");
    let (text, _) = ends(home, &["base", "slow", "-n", "2"], 0);
    assert!(text.contains("and 14 more functions"), "{text}");
    assert!(text.contains("functions tested; runs differ by"), "{text}");
}
