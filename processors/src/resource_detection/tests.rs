#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;

use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Outbox, ProcessorConfig, Setup};
use profpipe_pipeline::config::Section;
use profpipe_pipeline::engine::Services;
use profpipe_pipeline::profile::{Profiles, Resource, ResourceProfiles};

use super::Config;

fn enriched(text: &str, receiver: &str, resource: Resource) -> Resource {
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    let mut processor =
        config.build(&Setup::new("resource_detection", Services::default())).unwrap();
    let mut profiles = Profiles::new();
    profiles.resources.push(ResourceProfiles { resource, ..ResourceProfiles::default() });
    let mut batch = Batch::new(profiles);
    batch.context.receiver = Arc::from(receiver);
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
