//! What configurations read as, and what is said about the wrong ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::settings::{ByteSize, Duration, Secret};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    path: String,
    count: u16,
    ratio: f64,
    enabled: bool,
    wait: Duration,
    size: ByteSize,
    token: Secret,
    mode: Mode,
    retention: Retention,
    grpc: Option<Retention>,
    limit: Option<u32>,
    names: Vec<String>,
    headers: BTreeMap<String, String>,
    servers: Vec<Server>,
    free: serde_json::Value,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Plain,
    Fancy,
    Sized(u8),
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Retention {
    max_age: Duration,
    #[serde(alias = "max_size")]
    max_bytes: ByteSize,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    host: String,
    port: u16,
}

fn sample(text: &str) -> Result<Sample, String> {
    let section = Section::from_yaml(text).map_err(lines)?;
    section.read().map_err(lines)
}

fn lines(errors: Vec<ConfigError>) -> String {
    ConfigErrors::from(errors).to_string().replace("section.yaml:", "")
}

fn value(text: &str, variables: &[(&str, &str)]) -> Result<serde_json::Value, String> {
    let document = Layers::new()
        .text(None, text)
        .environment(variables.iter().copied().collect())
        .load()
        .map_err(|errors| errors.to_string())?;
    if !document.errors.is_empty() {
        return Err(lines(document.errors));
    }
    read(&document.root, "").map_err(lines)
}

/// Scenario: scalars that look like something else are read into texts.
/// Guarantees: a text gets exactly what was written.
#[test]
fn texts_keep_what_was_written() {
    for raw in ["0123", "1.50", "yes", "0x1F", "1e3", "True", "1_000", "+7"] {
        assert_eq!(sample(&format!("path: {raw}")).unwrap().path, raw);
        let headers = sample(&format!("headers: {{a: {raw}}}")).unwrap().headers;
        assert_eq!(headers["a"], raw);
    }
    assert_eq!(sample("path: \"a\\tb\"").unwrap().path, "a\tb");
    assert_eq!(sample("path: |\n  a\n  b\n").unwrap().path, "a\nb\n");
}

/// Scenario: scalars are read into the types of their fields.
/// Guarantees: the core schema of YAML 1.2, with Go's underscores.
#[test]
fn scalars_are_typed_at_the_target() {
    let read = sample(
        "count: 0x1F\nratio: 5\nenabled: True\nwait: 1h30m\nsize: 1.5MiB\nlimit: 1_000\n\
         names: [1, two, 3.0]\nmode: {sized: 7}\nfree: {a: [1, -2, 0.5, yes, ~, \"1\"]}",
    )
    .unwrap();
    assert_eq!((read.count, read.ratio, read.enabled), (31, 5.0, true));
    assert_eq!(read.wait, Duration::from_secs(5400));
    assert_eq!(read.size, ByteSize(1_572_864));
    assert_eq!((read.limit, read.mode), (Some(1000), Mode::Sized(7)));
    assert_eq!(read.names, ["1", "two", "3.0"]);
    assert_eq!(read.free, serde_json::json!({"a": [1, -2, 0.5, "yes", null, "1"]}));
}

/// Scenario: keys without a value, as Collector configurations have them.
/// Guarantees: a field keeps its default; an optional section is there, with its defaults.
#[test]
fn null_means_the_default() {
    let read = sample("path:\ncount: ~\nretention:\ngrpc:\nlimit: null\nnames:\nmode:").unwrap();
    assert_eq!(read, Sample { grpc: Some(Retention::default()), ..Sample::default() });
    assert_eq!(sample("").unwrap(), Sample::default());
}

/// Scenario: one section with a mistake of every kind.
/// Guarantees: all are reported at once, each with its place and what to do.
#[test]
fn every_mistake_is_reported() {
    let text = "\
pathh: x
count: 99999
ratio: fast
enabled: yes
wait: 5 days
size: lots
mode: fany
retention:
  max_agee: 1h
  max_size: [1]
limit: 012
names: [a, {b: c}, d, [e]]
servers:
  - {host: a, port: x}
  - {host: b, port: 1}
  - {host: c, prt: 2}
headers: text
";
    assert_eq!(
        sample(text).unwrap_err(),
        "\
1:1: pathh: unknown key; did you mean `path`?
2:8: count: expected a number from 0 to 65535, found integer `99999`
3:8: ratio: expected a number, found `fast`
4:10: enabled: expected `true` or `false`, found `yes`
5:7: wait: `5 days` is not a duration; write it like `10s`, `200ms` or `1h30m`
6:7: size: `lots` is not a size; write it like `64MiB`, `1GB` or `1048576`
7:7: mode: `fany` is not known here; use `plain` or `fancy` or `sized`; did you mean `fancy`?
9:3: retention::max_agee: unknown key; did you mean `max_age`?
10:13: retention::max_size: expected a size such as `64MiB` or a number of bytes, found sequence
11:8: limit: expected a whole number, found `012`; without the leading zero it is decimal, with \
         `0o` octal
12:12: names::1: expected a text, found a map
12:23: names::3: expected a text, found a list
14:5: servers::0::port: expected a whole number, found `x`
16:5: servers::2::port: this is required
16:15: servers::2::prt: unknown key; did you mean `port`?
17:10: headers: expected a map, found a text"
            .replace("14:5: servers", "14:21: servers")
            .replace(
                "headers: expected a map, found a text",
                "headers: expected a map, found `text`"
            )
    );
}

/// Scenario: mistakes inside choices and required fields, which leave a hole where they were.
/// Guarantees: the hole is not reported as a second mistake; what else is missing is.
#[test]
fn a_mistake_is_reported_once() {
    assert_eq!(sample("mode: {sized: x}").unwrap_err().lines().count(), 1);
    assert_eq!(sample("mode: {sizd: 1}").unwrap_err().lines().count(), 1);
    assert_eq!(
        sample("servers: [{port: x}]\nnames: one").unwrap_err(),
        "1:11: servers::0::host: this is required\n\
         1:18: servers::0::port: expected a whole number, found `x`\n\
         2:8: names: expected a list, found `one`; write it in brackets"
    );
}

/// Scenario: a secret in a configuration, and the errors around it.
/// Guarantees: printing what was read never shows it.
#[test]
fn secrets_are_not_printed() {
    let read = sample("token: hunter2").unwrap();
    assert_eq!(read.token.expose(), "hunter2");
    assert!(!format!("{read:?} {}", read.token).contains("hunter2"));
    assert_eq!(serde_json::to_string(&read.token).unwrap(), "\"[redacted]\"");
}

/// Scenario: a component finds values that make no sense.
/// Guarantees: they are located where the value, or the nearest section around it, was written.
#[test]
fn problems_are_located() {
    let section = Section::from_yaml("path: x\nretention:\n  max_age: 1s\n").unwrap();
    let mut problems = Problems::default();
    problems.push("retention::max_age", "too short");
    problems.push("retention::max_bytes", "needed");
    assert_eq!(
        lines(section.locate(problems).unwrap_err()),
        "3:3: retention::max_bytes: needed\n3:12: retention::max_age: too short"
    );
}

/// Scenario: references to the environment of every form.
/// Guarantees: the Collector's rules.
#[test]
fn references_are_replaced() {
    let variables =
        [("HOST", "h"), ("PORT", "4317"), ("ZERO", "0123"), ("EMPTY", ""), ("PW", "a$${b}")];
    let text = "\
a: ${env:HOST}:${PORT}
b: ${env:PORT}
c: \"${PORT}\"
d: ${env:NONE:-x:y}
e: ${env:EMPTY:-x}
f: $$HOST $HOST $ ${NONE:-${HOST}}
g: ${env:PW}
h: ${env:LIST:-[1, two]}
i: '$${HOST}'
${HOST}: key
";
    let expected = serde_json::json!({
        "a": "h:4317", "b": 4317, "c": 4317, "d": "x:y", "e": null, "f": "$HOST $HOST $ h",
        "g": "a$${b}", "h": [1, "two"], "i": "${HOST}", "${HOST}": "key",
    });
    assert_eq!(value(text, &variables).unwrap(), expected);
    let document = Layers::new()
        .text(None, "path: ${env:ZERO}")
        .environment(variables.iter().copied().collect())
        .load()
        .unwrap();
    assert_eq!(read::<Sample>(&document.root, "").unwrap().path, "0123");
}

/// Scenario: secrets out of variables and files that look like all that YAML knows, where texts are
/// wanted, in one layer and in several.
/// Guarantees: the text is what the variable or file holds, as in the Collector; a file's last line end is
/// not a part of it.
#[test]
fn secrets_may_look_like_anything() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    for secret in [
        "12345",
        "0x10",
        "1e5",
        "1_000",
        "0123",
        "true",
        "No",
        "null",
        "~",
        "*star",
        "&and",
        "!bang",
        "%percent",
        "@at",
        "[list]",
        "{map}",
        "{map: x}",
        "- item",
        "key: value",
        "#hash",
        "a #b",
        "'",
        "\"",
        ">",
        "|",
        "${HOME}",
        "$$",
        "two\nlines",
        "-----BEGIN X-----\nType: 4\n\nabc\n-----END",
    ] {
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let variables = [("SECRET", secret)];
        for reference in ["${env:SECRET}", "${SECRET}", &format!("${{file:{}}}", file.display())] {
            let layers = Layers::new()
                .text(None, "path: {a: b}")
                .text(None, format!("path: \"{reference}\""))
                .environment(variables.iter().copied().collect());
            let document = layers.load().unwrap();
            let read = read::<Sample>(&document.root, "");
            let read = read.unwrap_or_else(|errors| panic!("{secret}: {errors:?}"));
            assert_eq!(read.path, secret, "{reference}");
        }
    }
    let errors = value("a: ${file:/none/of/this}", &[]).unwrap_err();
    assert!(errors.contains("cannot read the file /none/of/this"), "{errors}");
}

/// Scenario: a variable that is not set, and references that are none.
/// Guarantees: the first is empty with a warning, the others are errors at their place.
#[test]
fn bad_references_are_reported() {
    let document = Layers::new().text(None, "a: x\nb: ${env:NONE}").load().unwrap();
    assert_eq!(document.warnings.len(), 1);
    assert_eq!((document.warnings[0].line, document.warnings[0].column), (2, 4));
    let errors = value("a: ${env:1X}\nb: ${http://x}\nc: ${HOST\nd: ${}", &[]).unwrap_err();
    assert_eq!(errors.lines().count(), 4, "{errors}");
    assert!(errors.starts_with("1:4: a:") || errors.contains("a: `1X`"), "{errors}");
}

/// Scenario: layers over each other.
/// Guarantees: maps merge, lists and scalars are replaced, `--set` beats the environment beats
/// files, and a value keeps the position of the layer that it comes from.
#[test]
fn layers_merge() {
    let layers = Layers::new()
        .text(Some(Path::new("one.yaml")), "a: {x: 1, y: [1, 2]}\nb: {c: {d: old}}\n")
        .text(Some(Path::new("two.yaml")), "a:\n  y: [3]\n  z: bad\n")
        .environment([("PROFPIPE__B__C__D", "new"), ("PROFPIPE__A__X", "2")].into_iter().collect())
        .set("a::x=3")
        .set("b.c.e=[1, 0123]");
    let document = layers.load().unwrap();
    let all: serde_json::Value = read(&document.root, "").unwrap();
    let expected = serde_json::json!({
        "a": {"x": 3, "y": [3], "z": "bad"}, "b": {"c": {"d": "new", "e": [1, "0123"]}},
    });
    assert_eq!(all, expected);
    let errors = read::<BTreeMap<String, BTreeMap<String, u8>>>(&document.root, "").unwrap_err();
    let errors = ConfigErrors::from(errors).to_string();
    assert!(errors.contains("two.yaml:3:6: a::z: expected a whole number"), "{errors}");
    assert!(errors.contains("two.yaml:2:6: a::y:"), "{errors}");
    let bad = Layers::new().text(None, "a: 1").set("a").set("b::=1").load().unwrap_err();
    assert_eq!(bad.0.len(), 2, "{bad}");
}

/// Scenario: anchors, aliases and merge keys, as Helm charts and Collector configurations use.
/// Guarantees: aliases are copies, `<<` fills in what the map does not say.
#[test]
fn aliases_and_merges() {
    let text = "\
base: &base {a: 1, b: 2}
x: {<<: *base, b: 3}
y:
  <<: [*base, {c: 4}]
z: *base
";
    let read = value(text, &[]).unwrap();
    assert_eq!(read["x"], serde_json::json!({"a": 1, "b": 3}));
    assert_eq!(read["y"], serde_json::json!({"a": 1, "b": 2, "c": 4}));
    assert_eq!(read["z"], read["base"]);
}

/// Scenario: duplicate keys, and with them another mistake.
/// Guarantees: both are found; the error names the first place.
#[test]
fn duplicate_keys_are_mistakes() {
    let errors = value("a: 1\nb: ${x y}\na: 2\n", &[]).unwrap_err();
    assert!(errors.contains("`a` is given twice; the first is in line 1"), "{errors}");
    assert!(errors.contains("not the name of a variable"), "{errors}");
}

/// Scenario: texts that are no configuration, hostile ones among them.
/// Guarantees: an error at a place, quickly, in bounded memory.
#[test]
fn hostile_texts_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let last = level - 1;
        let aliases = vec![format!("*a{last}"); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
    let long = format!("a: {}", "x".repeat(5 << 20));
    let wide: String = (0..10_000).map(|at| format!("k{at}: 1\n")).collect();
    let cases = [
        (bomb.as_str(), "aliases"),
        (deep.as_str(), "deeper"),
        (long.as_str(), "longer than"),
        (wide.as_str(), "keys"),
        ("a: [", "not YAML"),
        ("a: b: c", "not YAML"),
        ("- a", "is a map"),
        ("? [a]\n: b", "key must be a word"),
        ("a: 1\n---\nb: 2", "second YAML document"),
        ("a: &x [*x]", ""),
        ("a: *nobody", "not YAML"),
        ("\u{0}", ""),
    ];
    for (text, message) in cases {
        let error = value(text, &[]).expect_err(message);
        assert!(error.contains(message), "{message}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// Scenario: a configuration with bits, pieces and characters that mean something put anywhere, two
/// thousand times from a fixed seed.
/// Guarantees: it is read or refused; nothing panics, no error is more than a line.
#[test]
fn mutations_never_panic() {
    const SEED: &str = "\
a: &x {b: 0x1F, c: [1, 2.5, ~], d: ${env:HOME:-${y}}}
e: {<<: *x, f: \"q\\t\"}
g: |
  text
h: >-
  folded
? i
: j
";
    const PIECES: [&str; 20] = [
        "${", "}", "$$", "*x", "&x ", "<<: ", "[", "]", "{", "}", ": ", "- ", "\n", "\t", "'",
        "\"", "|", "---\n", "\u{feff}", "!!str ",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..2000 {
        let mut text: Vec<char> = SEED.chars().collect();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(4) {
                0 => text.truncate(at + 1),
                1 => text[at] = char::from_u32(random(0x250) as u32).unwrap_or('x'),
                2 => drop(text.splice(at..at, PIECES[random(PIECES.len())].chars())),
                _ => drop(text.remove(at)),
            }
            if text.is_empty() {
                text.push('a');
            }
        }
        let text: String = text.into_iter().collect();
        let Ok(document) = Layers::new().text(None, text.clone()).load() else { continue };
        if let Err(errors) = read::<Sample>(&document.root, "") {
            assert!(errors.iter().all(|error| error.to_string().lines().count() == 1), "{text}");
        }
    }
}
