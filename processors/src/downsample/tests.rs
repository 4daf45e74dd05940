#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::downsample::metric_names;
use bytes::Bytes;
use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_formats::otlp;
use profpipe_profile::{
    LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef, ScopeProfiles,
};

use super::{Config, Keep};

fn config(text: &str) -> Config {
    Section::from_yaml(text).unwrap().read_valid().unwrap()
}

/// A profile of a service of so many stacks, as it comes from the network.
fn batch(stacks: u64) -> Batch {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let mut profile = Profile { time_unix_nano: 1, ..Profile::default() };
    profile.sample_type.kind = dictionary.strings.intern("cpu");
    for leaf in 1..=stacks {
        let locations = [leaf, 1_000_000 + leaf % 100].map(|address| {
            dictionary.locations.intern(LocationRef { address, ..LocationRef::default() })
        });
        let stack = dictionary.stacks.intern(&locations);
        let values = [1 + 1000 / leaf as i64];
        profile.samples.push(SampleRef { stack, values: &values, ..SampleRef::default() });
    }
    let mut resource = Resource::default();
    resource.set("service.name", "shop");
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    Batch::from_wire(Bytes::from(otlp::encode(&profiles)))
}

fn give(processor: &mut dyn Processor, batch: Batch) -> Batch {
    let mut out = Outbox::default();
    processor.process(batch, &mut out).unwrap();
    let mut batches: Vec<Batch> = out.drain().collect();
    assert_eq!(batches.len(), 1);
    batches.pop().unwrap()
}

fn total(batch: &Batch) -> i64 {
    let profiles = batch.shared().unwrap();
    profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter().map(|s| s.weight())).sum()
}

/// Scenario: a large batch and a small one, with a share and with a number of stacks.
/// Guarantees: of the large one so many stacks are kept, their sum as it was, other ones each time;
/// the small one goes through as the bytes it was; all is counted.
#[test]
fn batches_are_sampled() {
    for text in ["", "keep: 10%", "keep: 500"] {
        let services = Services::default();
        let mut processor =
            config(text).build(&Setup::new("downsample", services.clone())).unwrap();
        let (mut seen, mut kept) = (Vec::new(), 0);
        for _ in 0..2 {
            let before = batch(5000);
            let after = give(&mut *processor, before.clone());
            assert!((450..=500).contains(&after.samples()), "{text}: {}", after.samples());
            assert_eq!(total(&after), total(&before));
            kept += after.samples() as u64;
            seen.push(after.to_otlp());
        }
        assert_ne!(seen[0], seen[1]);
        let small = batch(2000);
        let bytes = small.to_otlp();
        let after = give(&mut *processor, small);
        assert_eq!(after.wire(), Some(&bytes));
        let total = |name| services.metrics.total(name);
        assert_eq!(total(metric_names::STACKS_IN), 12_000);
        assert_eq!(total(metric_names::STACKS_OUT), 2000 + kept);
        assert_eq!(total(metric_names::PROFILES_SAMPLED), 2);
        assert_eq!(total(metric_names::PROFILES_REFUSED), 1);
    }
    let mut processor = config("").build(&Setup::new("downsample", Services::default())).unwrap();
    let foreign = Batch::from_wire(Bytes::from_static(b"\xff"));
    assert!(processor.process(foreign, &mut Outbox::default()).is_err());
}

/// Scenario: amounts as users write them, good and bad.
/// Guarantees: the good ones are read and written back the same; the bad ones are mistakes that say
/// what would be right.
#[test]
fn amounts_are_read() {
    let good = [
        ("keep: 10%", Keep::Percent(10.0)),
        ("keep: 2.5%", Keep::Percent(2.5)),
        ("keep: '1 %'", Keep::Percent(1.0)),
        ("keep: 500", Keep::Stacks(500)),
    ];
    for (text, keep) in good {
        let read = config(text);
        assert_eq!(read.keep, keep);
        let again = serde_json::to_string(&read).unwrap();
        assert_eq!(config(&again), read);
    }
    for text in ["0", "0%", "101%", "-5", "many", "0.1", "NaN%", "true", "[1]"] {
        let section = Section::from_yaml(&format!("keep: {text}")).unwrap();
        let errors = (super::FACTORY.parse)(&section).map(drop).unwrap_err();
        assert_eq!((errors.len(), errors[0].path.as_str()), (1, "keep"), "{errors:?}");
    }
    let section = Section::from_yaml("balance: 513").unwrap();
    assert!((super::FACTORY.parse)(&section).is_err());
    let section = Section::from_yaml("{balance: 0, calibrate: true}").unwrap();
    assert_eq!((super::FACTORY.advise)(&section)[0].path, "calibrate");
}
