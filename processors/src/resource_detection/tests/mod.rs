//! What the processor does, on this host and on hosts that are made up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod clouds;
mod hosts;
mod making;
mod rules;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_profile::{Profiles, Resource, ResourceProfiles};

use super::catalog::{About, Detector, KNOWN};
use super::{Config, FACTORY};

fn enriched(text: &str, receiver: &str, resource: Resource) -> Resource {
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    let mut processor =
        config.build(&Setup::new("resource_detection", Services::default())).unwrap();
    let mut profiles = Profiles::new();
    profiles.resources.push(ResourceProfiles { resource, ..ResourceProfiles::default() });
    let mut batch = Batch::new(profiles);
    batch.context.receiver = Arc::from(receiver);
    if matches!(receiver.split('/').next(), Some("perf" | "inprocess")) {
        batch = batch.taken_here();
    }
    let mut out = Outbox::default();
    processor.process(batch, &mut out).unwrap();
    let mut batch = out.drain().next().unwrap();
    batch.profiles().unwrap().resources[0].resource.clone()
}

fn get<'a>(resource: &'a Resource, key: &str) -> Option<&'a str> {
    resource.get(key).and_then(|value| value.as_str())
}

/// Scenario: a profile taken on this very host with all defaults, and one that came from a network.
/// Guarantees: the first says where it was taken and on what; the second gets no fingerprint.
#[test]
fn a_profile_says_where_it_was_taken() {
    let native = enriched("{}", "perf/x", Resource::default());
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(get(&native, "host.name"), Some(name.as_str()));
    assert_eq!(get(&native, "os.type"), Some(std::env::consts::OS));
    if Path::new("/proc/cpuinfo").exists() {
        assert!(get(&native, "profpipe.environment.id").is_some_and(|id| id.len() == 16));
    }
    let received = enriched("{}", "otlp", Resource::default());
    assert_eq!(get(&received, "host.name"), Some(name.as_str()));
    let keys = received.attributes.iter().map(|attribute| attribute.key.as_str());
    assert_eq!(keys.filter(|key| key.starts_with("profpipe.")).count(), 0);
}

/// The README's table of attributes, as it should be.
fn table() -> String {
    let mut table = String::from(
        "| attribute | detector | where | default | meaning |\n|---|---|---|---|---|\n",
    );
    for known in KNOWN {
        let place = match known.about {
            About::Host => "host",
            About::Process => "process",
            About::Profile => "profile",
        };
        let on = if known.on { "on" } else { "off" };
        let (name, detector, meaning) = (known.name, known.detector.name(), known.meaning);
        writeln!(table, "| `{name}` | `{detector}` | {place} | {on} | {meaning} |").unwrap();
    }
    table
}

/// Scenario: the README's table of attributes, settings and metrics.
/// Guarantees: the table is what the code does; every setting and every metric is told.
#[test]
fn the_readme_tells_what_the_code_does() {
    let readme = include_str!("../README.md");
    let table = table();
    assert!(readme.contains(&table), "the table should be:\n{table}");
    let schema = serde_json::to_value((FACTORY.schema)()).unwrap();
    for key in schema["properties"].as_object().unwrap().keys() {
        let told = readme.contains(&format!("`{key}`")) || readme.contains(&format!("`{key}::"));
        assert!(told, "{key} is missing");
    }
    for name in [super::ENRICHED, super::GONE, super::CHANGES, super::waiting::FAILED] {
        assert!(readme.contains(&format!("`{name}`")), "{name} is missing");
    }
    for (at, known) in KNOWN.iter().enumerate() {
        let same = |other: &super::catalog::AttributeSpec| {
            other.detector == known.detector && other.name == known.name
        };
        assert!(!KNOWN[..at].iter().any(same), "{} is there twice", known.name);
    }
}

/// Scenario: detectors that there are not, attributes that a detector does not have, nonsense.
/// Guarantees: each is a mistake at its place that tells what is accepted; the Collector's spelling
/// of attributes and of the component is read.
#[test]
fn mistakes_are_told_with_what_is_accepted() {
    for (text, path, words) in [
        ("detectors: [env, docker]", "detectors::1", "fingerprint"),
        ("detectors: []", "detectors", "default"),
        ("system: {resource_attributes: {host.ip: {enabled: true}}}", "system", "host.arch"),
        ("system: {hostname_sources: [dns]}", "system::hostname_sources::0", "os"),
        ("system: {resource_attributes: {host.id: true}}", "system", ""),
        ("ec2: {endpoint: 'ftp://x'}", "ec2::endpoint", "http://"),
        ("refresh_interval: 1ms", "refresh_interval", "1s"),
    ] {
        let errors = Section::from_yaml(text).unwrap().read_valid::<Config>().unwrap_err();
        assert!(errors[0].path.starts_with(path), "{text}: {errors:?}");
        assert!(errors[0].message.contains(words), "{text}: {errors:?}");
    }
    let text = "\
detectors: [env, system, ec2]
timeout: 2s
override: false
attributes: [os.build_id, host.name]
system: {hostname_sources: [os], resource_attributes: {os.build.id: {enabled: false}}}
";
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    assert!(config.sets(Detector::System, "host.name"));
    assert!(!config.sets(Detector::System, "os.build_id"));
    assert!(!config.sets(Detector::System, "host.arch"));
    assert_eq!(FACTORY.aliases, ["resourcedetection"]);
}
