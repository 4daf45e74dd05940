#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Outbox, ProcessorConfig, Setup};
use profpipe_pipeline::config::Section;
use profpipe_pipeline::engine::Services;
use profpipe_pipeline::profile::{
    Profile, Profiles, ResourceProfiles, SampleRef, ScopeProfiles, StringIx, Value,
};

use super::Config;

/// Scenario: samples with two sets of attributes, which are set, copied and deleted.
/// Guarantees: every sample has the attributes that the actions make of its own; nothing else of it
/// changes.
#[test]
fn samples_get_their_attributes() {
    let text = "actions: [{key: copy, from_attribute: thread.name}, {key: thread.name, action: \
                delete}, {key: x, value: 1, action: upsert}]";
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    let mut processor = config.build(&Setup::new("attributes", Services::default())).unwrap();
    let mut profiles = Profiles::new();
    let key = profiles.dictionary.strings.intern("thread.name");
    let main = profiles.dictionary.attributes.intern(key, Value::from("main"), StringIx::default());
    let mut profile = Profile::default();
    for (attributes, value) in [(&[main][..], 3), (&[], 4), (&[main], 5)] {
        let values = [value];
        profile.samples.push(SampleRef { attributes, values: &values, ..SampleRef::default() });
    }
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
    let mut out = Outbox::default();
    processor.process(Batch::new(profiles), &mut out).unwrap();
    let mut batch = out.drain().next().unwrap();
    let profiles = batch.profiles().unwrap();
    let dictionary = &profiles.dictionary;
    let found: Vec<(i64, String)> = profiles.resources[0].scopes[0].profiles[0]
        .samples
        .iter()
        .map(|sample| {
            let rows = sample.attributes.iter().map(|row| {
                let key = dictionary.strings.get(dictionary.attributes.key(*row));
                format!("{key}={:?} ", dictionary.attributes.value(*row))
            });
            (sample.weight(), rows.collect())
        })
        .collect();
    let named = "copy=String(\"main\") x=Int(1) ".to_owned();
    let expected = [(3, named.clone()), (4, "x=Int(1) ".to_owned()), (5, named)];
    assert_eq!(found, expected);
}
