//! What users type, and what they read about it.

use profpipe_engine::component::Kind;
use profpipe_engine::config::Section;
use serde_json::Value;

use super::super::FACTORY;
use super::super::remote::config::Urls;

fn mistakes(text: &str) -> Vec<String> {
    let read = (FACTORY.parse)(&Section::from_yaml(text).unwrap());
    let errors = read.map(drop).err().unwrap_or_default();
    errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect()
}

/// Scenario: every setting with its default. Guarantees: the README has both in one row.
#[test]
fn the_readme_has_every_setting() {
    let readme = include_str!("../README.md");
    let defaults = (FACTORY.defaults)();
    assert_eq!(FACTORY.kind, Kind::Processor);
    let mut rows = Vec::new();
    for (key, value) in defaults.as_object().unwrap() {
        match value {
            Value::Object(part) => rows.extend(part),
            value => rows.push((key, value)),
        }
    }
    for (key, value) in rows {
        let is_about = |line: &&str| {
            line.starts_with('|') && line.split('|').nth(1).unwrap().contains(&format!("`{key}`"))
        };
        let about: Vec<_> = readme.lines().filter(is_about).collect();
        assert!(!about.is_empty(), "{key} is not in the README");
        let shown = match value {
            Value::String(text) if !text.is_empty() => format!("| `{text}` |"),
            Value::Number(number) => format!("| `{number}` |"),
            Value::Array(list) if !list.is_empty() => {
                let list: Vec<_> = list.iter().map(|it| it.as_str().unwrap()).collect();
                format!("| `[{}]` |", list.join(", "))
            }
            _ => continue,
        };
        let is_right = about.iter().any(|row| row.contains(&shown));
        assert!(is_right, "{key} is {shown} and not as in {about:?}");
    }
}

/// Scenario: servers that may not be asked, values without sense, a cache that is not told.
/// Guarantees: a clear word about each.
#[test]
fn mistakes_are_told() {
    let cases = [
        (
            "debuginfod: {urls: ['http://far.example']}\ncache: {directory: /x}",
            "debuginfod::urls::0: whoever is on the way could send other files; use `https://`, or \
             say `tls: {insecure: true}` in `debuginfod`",
        ),
        (
            "debuginfod: {urls: https://a.example ftp://b.example}\ncache: {directory: /x}",
            "debuginfod::urls::1: has a scheme that is neither http nor https; write it like \
             `https://debuginfod.debian.net`",
        ),
        (
            "debuginfod: {urls: https://a.example}",
            "cache::directory: is missing; name a directory for files from `debuginfod`, such as \
             /var/cache/profpipe",
        ),
        ("cache: {directory: x}", "cache::directory: `x` is not an absolute path"),
        ("cache: {max_bytes: 0}", "cache::max_bytes: must be more than 0"),
        ("debuginfod: {timeout: 0s}", "debuginfod::timeout: must be longer than 0s"),
        ("debuginfod: {files_per_minute: 0}", "debuginfod::files_per_minute: must be more than 0"),
        (
            "debuginfod: {headers: {'a b': c}}",
            "debuginfod::headers::a b: is not the name of a header",
        ),
        (
            "debuginfod: {tls: {key_file: /x}}",
            "debuginfod::tls::key_file: the certificate of this key is missing; set `cert_file` too",
        ),
    ];
    for (text, expected) in cases {
        let found = mistakes(text);
        assert!(found.len() == 1 && found[0] == expected, "{found:?}");
    }
    for good in [
        "debuginfod: {urls: }",
        "debuginfod: {urls: ''}",
        "debuginfod: {urls: ['http://localhost:8002', 'http://[::1]:8002']}\ncache: {directory: /x}",
        "debuginfod: {urls: ['http://far.example'], tls: {insecure: true}}\ncache: {directory: /x}",
        "debuginfod: {urls: 'ima:enforcing https://a.example'}\ncache: {directory: /x}",
    ] {
        assert_eq!(mistakes(good), Vec::<String>::new(), "{good}");
    }
    assert_eq!(
        serde_json::from_str::<Urls>("\"a  b\"").unwrap(),
        Urls(vec!["a".into(), "b".into()])
    );
}
