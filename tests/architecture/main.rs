//! The shape of the project, checked: which crate may see which, how long files may be, what every
//! component brings along.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cycles;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use profpipe::registry;

/// The most lines a source file may have.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let hidden = name.to_string_lossy().starts_with('.');
            if entry.file_type().unwrap().is_dir() {
                // What is built or foreign is not ours to measure.
                if !hidden && name != "target" && name != "programs" {
                    collect(&entry.path(), found);
                }
            } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    collect(root(), &mut found);
    assert!(found.len() > 50, "only {} files found", found.len());
    found
}

/// The crates of the workspace from the ground up; each may depend on those named beside it only.
const CRATES: [(&str, &[&str]); 15] = [
    ("profpipe-testing", &[]),
    ("profpipe-profile", &[]),
    ("profpipe-formats", &["profpipe-profile"]),
    ("profpipe-queue", &[]),
    ("profpipe-engine", &["profpipe-profile", "profpipe-formats", "profpipe-queue"]),
    ("profpipe-store", &["profpipe-profile", "profpipe-formats"]),
    ("profpipe-network", &["profpipe-engine"]),
    ("profpipe-host", &[]),
    ("profpipe-heap", &[]),
    ("profpipe-ui", BELOW_PAGE),
    ("profpipe-receivers", BELOW_COMPONENTS),
    ("profpipe-processors", BELOW_COMPONENTS),
    ("profpipe-exporters", BELOW_COMPONENTS),
    ("profpipe-extensions", BELOW_COMPONENTS),
    ("profpipe", ALL),
];
/// What a component may know: never another one's crate.
const BELOW_COMPONENTS: &[&str] = &[
    "profpipe-testing",
    "profpipe-profile",
    "profpipe-formats",
    "profpipe-engine",
    "profpipe-network",
    "profpipe-host",
    "profpipe-heap",
];
/// What the page may know: the query core beside what components do.
const BELOW_PAGE: &[&str] = &[
    "profpipe-testing",
    "profpipe-profile",
    "profpipe-formats",
    "profpipe-store",
    "profpipe-engine",
    "profpipe-network",
];
const ALL: &[&str] = &[
    "profpipe-testing",
    "profpipe-profile",
    "profpipe-formats",
    "profpipe-queue",
    "profpipe-engine",
    "profpipe-store",
    "profpipe-network",
    "profpipe-host",
    "profpipe-heap",
    "profpipe-ui",
    "profpipe-receivers",
    "profpipe-processors",
    "profpipe-exporters",
    "profpipe-extensions",
];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Scenario: the dependencies of every crate of the workspace on others of it, those of tests and
/// benchmarks included.
/// Guarantees: arrows go down the list only, and component crates never depend on each other.
#[test]
fn arrows_point_down() {
    let metadata = cargo(&["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), CRATES.len());
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = CRATES.iter().find(|(known, _)| *known == name).unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            let is_ours = dependency.starts_with("profpipe");
            assert!(!is_ours || allowed.contains(&dependency), "{name} depends on {dependency}");
        }
    }
}

/// Scenario: the crates that stand for themselves, with everything that they bring along.
/// Guarantees: the model takes no runtime and no `serde`, the formats and the query core no
/// runtime and no configuration.
#[test]
fn codecs_stand_alone() {
    let without: [(&str, &[&str]); 3] = [
        ("profpipe-profile", &["tokio", "serde", "figment", "schemars", "profpipe-engine"]),
        ("profpipe-formats", &["tokio", "figment", "schemars", "granit-parser", "profpipe-engine"]),
        ("profpipe-store", &["tokio", "figment", "schemars", "granit-parser", "profpipe-engine"]),
    ];
    for (name, unwanted) in without {
        let arguments =
            ["tree", "--offline", "--edges=normal", "--prefix=none", "--format={p}", "-p", name];
        let tree = cargo(&arguments);
        let crates: BTreeSet<&str> =
            tree.lines().filter_map(|line| line.split_ascii_whitespace().next()).collect();
        assert!(crates.len() > 3, "{tree}");
        for unwanted in unwanted {
            assert!(!crates.contains(unwanted), "{name} takes {unwanted}");
        }
    }
}

/// Scenario: the imports between the first-level modules of every crate.
/// Guarantees: there is no circle.
#[test]
fn modules_have_no_cycles() {
    let metadata = cargo(&["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let src = manifest.parent().unwrap().join("src");
        let files: Vec<(String, String)> = sources()
            .into_iter()
            .filter_map(|file| {
                let path = file.strip_prefix(&src).ok()?.to_str()?.to_owned();
                Some((path, std::fs::read_to_string(&file).unwrap()))
            })
            .collect();
        assert!(!files.is_empty(), "{} has no sources", src.display());
        let sources: Vec<_> =
            files.iter().map(|(path, text)| cycles::Source { path, text }).collect();
        let name = package["name"].as_str().unwrap();
        wrong.extend(cycles::cycles(&sources).into_iter().map(|cycle| format!("{name}: {cycle}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Scenario: made-up crates with a circle of two and of three modules, through `super`, a macro, code
/// and a name that the root re-exports; the same without the last import; a circle in tests only.
/// Guarantees: each circle is found with its lines, and only those.
#[test]
fn made_up_cycles_are_found() {
    let source = |path, text| cycles::Source { path, text };
    let a = source("a/deep.rs", "use super::super::b::Thing;\n");
    let two = cycles::cycles(&[a, source("b.rs", "fn f() { println!(\"{}\", crate::a::g()); }")]);
    assert_eq!(two.len(), 1);
    let lines = ["a → b → a", "src/a/deep.rs:1: super::super::b::Thing", "src/b.rs:1: crate::a::g"];
    assert!(lines.iter().all(|line| two[0].contains(line)), "{two:?}");
    let three = |last| {
        cycles::cycles(&[
            source("lib.rs", "mod a;\nmod b;\nmod c;\npub use c::Name;\n"),
            source("a.rs", "use crate::b;\n"),
            source("b.rs", "use std::fmt;\nfn f(name: crate::Name) {}\n"),
            source("c/mod.rs", last),
            source("c/tests.rs", "use crate::a;"),
        ])
    };
    let found = three("mod d {\n    fn f() { super::super::a::g() }\n}\n");
    assert_eq!(found.len(), 1);
    let lines = ["a → b → c → a", "src/b.rs:2: crate::Name", "src/c/mod.rs:2: super::super::a::g"];
    assert!(lines.iter().all(|line| found[0].contains(line)), "{found:?}");
    assert_eq!(three("#[cfg(test)]\nmod d {\n    use crate::a;\n}\n"), Vec::<String>::new());
}

/// Scenario: every source file.
/// Guarantees: none is too long, and each says at its top what it is.
#[test]
fn files_are_short_and_introduce_themselves() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines, at most {MAX_LINES}", file.display()));
        }
        if !text.starts_with("//!") && !file.ends_with("tests.rs") {
            wrong.push(format!("{}: does not open with what it is", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Scenario: unsafe code in the workspace.
/// Guarantees: it is only in files that say why, at their top.
#[test]
fn unsafe_code_says_why() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses = code.filter(|line| line.contains("unsafe {")).count();
        let allowed = text.contains("unsafe_code") && text.contains("reason");
        assert!(
            uses == 0 || allowed || file.ends_with("architecture/main.rs"),
            "{}",
            file.display()
        );
    }
}

/// Scenario: every registered component.
/// Guarantees: it has a folder with a README, a page that names it and its settings' schema, and
/// an example configuration or its README shows how it is used.
#[test]
fn components_are_documented() {
    let mut examples = String::new();
    for entry in std::fs::read_dir(root().join("config-examples")).unwrap() {
        examples.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let mut wrong = Vec::new();
    for factory in registry::components() {
        let kind = serde_json::to_value(factory.kind).unwrap();
        let folder = root().join(format!("{}s/src/{}", kind.as_str().unwrap(), factory.name));
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        if readme.is_empty() {
            wrong.push(format!("{} has no README.md", folder.display()));
        }
        let key = format!("{}:", factory.name);
        let shown = examples.contains(&key) || readme.contains(&key);
        if !shown && !readme.contains(&format!("`{}`", factory.name)) {
            wrong.push(format!("{}: no example shows `{key}`", folder.display()));
        }
        if factory.about.is_empty() || factory.about.ends_with('.') {
            wrong.push(format!("{}: `about` is one line without a full stop", factory.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Scenario: every field of every component's settings.
/// Guarantees: it has a description, which is what users read.
#[test]
fn settings_are_documented() {
    fn undocumented(at: &str, schema: &serde_json::Value, wrong: &mut Vec<String>) {
        let fields = schema.get("properties").and_then(|fields| fields.as_object());
        for (name, field) in fields.into_iter().flatten() {
            if field.get("description").is_none() {
                wrong.push(format!("{at}::{name}"));
            }
        }
        let definitions = schema.get("$defs").and_then(|definitions| definitions.as_object());
        for (name, definition) in definitions.into_iter().flatten() {
            undocumented(&format!("{at}::{name}"), definition, wrong);
        }
    }
    let mut wrong = Vec::new();
    for factory in registry::components() {
        let schema = serde_json::to_value((factory.schema)()).unwrap();
        undocumented(factory.name, &schema, &mut wrong);
    }
    assert!(wrong.is_empty(), "without a description: {}", wrong.join(", "));
}
