#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_profile::{
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

/// Scenario: `include` and `exclude` by service, scope, resource and attributes of samples, strict and
/// by expression.
/// Guarantees: only what is meant is changed: all of what must all be, one of what may be one.
#[test]
fn only_what_is_meant_is_changed() {
    let batch = || {
        let mut profiles = Profiles::new();
        let key = profiles.dictionary.strings.intern("thread.name");
        for service in ["shop-a", "other"] {
            let mut profile = Profile::default();
            for thread in ["worker-1", "main"] {
                let attributes = &mut profiles.dictionary.attributes;
                let row = attributes.intern(key, Value::from(thread), StringIx::default());
                profile.samples.push(SampleRef { attributes: &[row], ..SampleRef::default() });
            }
            let mut scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
            scope.scope.name = "profpipe".to_owned();
            scope.scope.version = "1".to_owned();
            let mut group = ResourceProfiles { scopes: vec![scope], ..ResourceProfiles::default() };
            group.resource.set("service.name", service);
            group.resource.set("process.pid", 7);
            profiles.resources.push(group);
        }
        Batch::new(profiles)
    };
    for (selection, expected) in [
        ("include: {services: [shop-a, x]}", "x x - -"),
        ("include: {match_type: regexp, services: ['^shop']}", "x x - -"),
        ("exclude: {services: [shop-a]}", "- - x x"),
        ("include: {attributes: [{key: thread.name, value: main}]}", "- x - x"),
        ("exclude: {attributes: [{key: thread.name, value: main}], services: [other]}", "x x x -"),
        (
            "include: {match_type: regexp, attributes: [{key: thread.name, value: '-[0-9]$'}]}",
            "x - x -",
        ),
        ("include: {resources: [{key: process.pid, value: 7}, {key: none}]}", "- - - -"),
        ("include: {resources: [{key: process.pid, value: 7}]}", "x x x x"),
        ("include: {libraries: [{name: profpipe, version: '2'}, {name: b}]}", "- - - -"),
        ("include: {libraries: [{name: profpipe}]}, exclude: {services: [other]}", "x x - -"),
    ] {
        let text = format!("{{{selection}, actions: [{{key: x, value: 1}}]}}");
        let config: Config = Section::from_yaml(&text).unwrap().read_valid().unwrap();
        let mut processor = config.build(&Setup::new("attributes", Services::default())).unwrap();
        let mut out = Outbox::default();
        processor.process(batch(), &mut out).unwrap();
        let mut batch = out.drain().next().unwrap();
        let samples = batch.profiles().unwrap().iter().flat_map(|(_, _, it)| it.samples.iter());
        let found: Vec<&str> =
            samples.map(|sample| if sample.attributes.len() > 1 { "x" } else { "-" }).collect();
        assert_eq!(found.join(" "), expected, "{selection}");
    }
    for (wrong, at) in [
        ("include: {}", "include"),
        ("exclude: {match_type: regexp, services: ['(']}", "exclude"),
        ("include: {attributes: [{value: 1}]}", "include::attributes::0"),
        (
            "include: {match_type: regexp, resources: [{key: a, value: 1}]}",
            "include::resources::0::value",
        ),
    ] {
        let section = Section::from_yaml(&format!("{{{wrong}}}")).unwrap();
        let errors = section.read_valid::<Config>().unwrap_err();
        assert_eq!(errors[0].path, at, "{errors:?}");
    }
}
