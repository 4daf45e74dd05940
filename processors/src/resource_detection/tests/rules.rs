//! Which attributes win, on whose profiles; and what happens when the host changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_profile::{Profiles, Resource, ResourceProfiles};
use tempfile::TempDir;

use super::super::{CHANGES, Config, system};
use super::{enriched, get};

fn resource(pairs: &[(&str, &str)]) -> Resource {
    let mut resource = Resource::default();
    for (key, value) in pairs {
        resource.set(key, *value);
    }
    resource
}

/// Scenario: profiles taken here and received, about this host, another one and none, with and
/// without `override`, with a list of wanted attributes, and with one switched off.
/// Guarantees: the README's table.
#[test]
fn who_gets_what() {
    let here = system::name();
    let os = |text: &str, receiver: &str, host: &str| {
        let described = resource(&[("host.name", host), ("os.type", "theirs")]);
        let described = enriched(text, receiver, described);
        let arch = described.get("host.arch").is_some();
        let environment = described.get("profpipe.environment.id").is_some();
        (get(&described, "os.type").unwrap() == "theirs", arch, environment)
    };
    // Kept what was there; described the host; has a fingerprint.
    for (text, receiver, host, expected) in [
        ("{}", "perf", &*here, (false, true, true)),
        ("{}", "inprocess/own", &here, (false, true, true)),
        ("{}", "otlp", &here, (true, true, false)),
        ("{}", "otlp", "elsewhere", (true, false, false)),
        ("{}", "", &here, (true, true, false)),
        ("{}", "perfect", &here, (true, true, false)),
        ("override: true", "otlp", "elsewhere", (false, true, false)),
        ("override: false", "perf", &here, (true, true, true)),
        ("override: false", "otlp", "elsewhere", (true, false, false)),
        ("attributes: [os.type]", "perf", &here, (false, false, false)),
        ("detectors: [fingerprint]", "perf", &here, (true, false, true)),
        (
            "system: {resource_attributes: {host.arch: {enabled: false}}}",
            "perf",
            &here,
            (false, false, true),
        ),
    ] {
        assert_eq!(os(text, receiver, host), expected, "{text} from {receiver:?} on {host}");
    }
    let moved = enriched("override: true", "otlp", resource(&[("host.name", "elsewhere")]));
    assert_eq!(get(&moved, "host.name"), Some(&*here));
}

/// Scenario: a host whose files lie elsewhere; its governor changes; time passes.
/// Guarantees: values come from there; a change shows after `refresh_interval`, is counted, and
/// gives another identity.
#[test]
fn a_change_of_the_host_shows() {
    let root = TempDir::new().unwrap();
    let governor = root.path().join("sys/devices/system/cpu/cpufreq/policy0/scaling_governor");
    std::fs::create_dir_all(governor.parent().unwrap()).unwrap();
    std::fs::write(&governor, "powersave\n").unwrap();
    let text = format!(
        "{{detectors: [fingerprint], refresh_interval: 10s, root_path: '{}'}}",
        root.path().display()
    );
    let config: Config = Section::from_yaml(&text).unwrap().read_valid().unwrap();
    let services = Services::default();
    let setup = Setup::new("resource_detection", services.clone());
    let mut processor = config.build(&setup).unwrap();
    let begin = Instant::now();
    let mut pass = |seconds: u64| {
        let mut out = Outbox::default();
        processor.tick(begin + Duration::from_secs(seconds), &mut out);
        let mut profiles = Profiles::new();
        profiles.resources.push(ResourceProfiles::default());
        let mut batch = Batch::new(profiles);
        batch.context.receiver = Arc::from("perf");
        batch = batch.taken_here();
        processor.process(batch, &mut out).unwrap();
        let mut batch = out.drain().next().unwrap();
        let resource = batch.profiles().unwrap().resources[0].resource.clone();
        ["profpipe.environment.cpu.governor", "profpipe.environment.id"]
            .map(|key| get(&resource, key).unwrap().to_owned())
    };
    let [before, id] = pass(1);
    assert_eq!(before, "powersave");
    std::fs::write(&governor, "performance\n").unwrap();
    assert_eq!(pass(5), [before, id.clone()]);
    let [after, other] = pass(11);
    assert_eq!(after, "performance");
    assert_ne!(other, id);
    assert_eq!(services.metrics.total(CHANGES), 1);
    pass(22);
    assert_eq!(services.metrics.total(CHANGES), 1);

    let nowhere = root.path().join("nowhere");
    let text = format!("root_path: '{}'", nowhere.display());
    let config: Config = Section::from_yaml(&text).unwrap().read_valid().unwrap();
    let Err(error) = config.build(&setup) else { panic!("it was built") };
    assert!(error.to_string().contains("root_path"), "{error}");
}
