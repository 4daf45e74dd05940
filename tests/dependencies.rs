//! What we link: licences that deny.toml allows, and one version each of the large crates. The same
//! rules as `cargo deny`, for machines without it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Metadata>(&output.stdout).unwrap().packages
}

/// The strings of the list `allow = [ … ]` of deny.toml's section on licences.
fn allowed_licences() -> BTreeSet<String> {
    let text = include_str!("../deny.toml");
    let list = text.split_once("\nallow = [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    list.split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Whether a licence expression can be met: any part of an `OR`, all parts of an `AND`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Old manifests write `/` for OR. Parentheses only ever stand around one operand of an AND.
    let expression = expression.replace('/', " OR ");
    let or = |text: &str| {
        text.split(" OR ").any(|one| allowed.contains(one.trim().trim_matches(['(', ')'])))
    };
    if expression.contains(" AND ") { expression.split(" AND ").all(or) } else { or(&expression) }
}

/// Scenario: the licences of everything in Cargo.lock, features and other systems included.
/// Guarantees: each is in deny.toml's list; inferno alone has its exception.
#[test]
fn licences_are_allowed() {
    let allowed = allowed_licences();
    assert!(allowed.contains("MIT") && !allowed.contains("CDDL-1.0"));
    for package in
        packages().iter().filter(|package| package.source.is_some() && package.name != "inferno")
    {
        let licence = package.license.as_deref().unwrap_or("none");
        assert!(is_met(licence, &allowed), "{} {}: {licence}", package.name, package.version);
    }
}

/// Scenario: the crates whose types meet ours or that are large.
/// Guarantees: exactly one version of each.
#[test]
fn large_crates_have_one_version() {
    let mut versions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    for name in ["prost", "tonic", "hyper", "rustls", "object", "tokio", "opentelemetry-proto"] {
        let found = versions.get(name).cloned().unwrap_or_default();
        assert_eq!(found.len(), 1, "{name} has versions {found:?}");
    }
}

/// Scenario: where the crates come from.
/// Guarantees: the workspace or the public registry, nothing else.
#[test]
fn sources_are_the_registry() {
    for package in packages() {
        let source = package
            .source
            .as_deref()
            .unwrap_or("registry+https://github.com/rust-lang/crates.io-index");
        assert_eq!(
            source, "registry+https://github.com/rust-lang/crates.io-index",
            "{}",
            package.name
        );
    }
}
