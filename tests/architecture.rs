//! The shape of the project, checked: which crate may see which, how long files may be, what every
//! component brings along.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
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

/// Scenario: the dependencies of every crate of the workspace on others of it.
/// Guarantees: the pipeline depends on none, the network on the pipeline, components on these two
/// only and never on each other, the root on all. Processors see the network for what some of them
/// look up: symbols by build id, pods.
#[test]
fn arrows_point_inward() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let targets = package["dependencies"].as_array().unwrap().iter();
        let ours = targets
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|name| name.starts_with("profpipe"));
        arrows.insert(package["name"].as_str().unwrap(), ours.collect());
    }
    let pipeline = BTreeSet::from(["profpipe-pipeline"]);
    let with_network = BTreeSet::from(["profpipe-network", "profpipe-pipeline"]);
    let networked =
        ["profpipe-receivers", "profpipe-processors", "profpipe-exporters", "profpipe-extensions"];
    let mut expected =
        BTreeMap::from([("profpipe-pipeline", BTreeSet::new()), ("profpipe-network", pipeline)]);
    expected.extend(networked.map(|name| (name, with_network.clone())));
    let all: BTreeSet<&str> = networked.into_iter().chain(with_network).collect();
    expected.insert("profpipe", all);
    assert_eq!(arrows, expected);
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
        assert!(uses == 0 || allowed || file.ends_with("architecture.rs"), "{}", file.display());
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
