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
use profpipe_pipeline::profile::{Profiles, Resource, ResourceProfiles, Value};

use super::Config;

/// Scenario: every action, with an attribute that is there and one that is not, with values of every
/// kind.
/// Guarantees: they do what the Collector's do, in order.
#[test]
fn actions_are_the_collectors() {
    let text = "\
attributes:
  - {key: new, value: 1, action: insert}
  - {key: old, value: 2, action: insert}
  - {key: none, value: 3, action: update}
  - {key: old, value: x, action: update}
  - {key: up, value: [true, 1.5], action: upsert}
  - {key: copy, from_attribute: old, action: upsert}
  - {key: not, from_attribute: nothing, action: upsert}
  - {key: gone, action: delete}
  - {key: text, value: '007', action: upsert}
";
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    let mut processor = config.build(&Setup::new("resource", Services::default())).unwrap();
    let mut profiles = Profiles::new();
    let mut resource = Resource::default();
    resource.set("old", "o");
    resource.set("gone", true);
    profiles.resources.push(ResourceProfiles { resource, ..ResourceProfiles::default() });
    let mut out = Outbox::default();
    processor.process(Batch::new(profiles), &mut out).unwrap();
    let mut batch = out.drain().next().unwrap();
    let attributes = &batch.profiles().unwrap().resources[0].resource.attributes;
    let found: Vec<(&str, &Value)> =
        attributes.iter().map(|attribute| (attribute.key.as_str(), &attribute.value)).collect();
    let list = Value::Array(vec![Value::Bool(true), Value::Double(1.5)]);
    let expected = [
        ("old", &Value::from("x")),
        ("new", &Value::Int(1)),
        ("up", &list),
        ("copy", &Value::from("x")),
        ("text", &Value::from("007")),
    ];
    assert_eq!(found, expected);
}

/// Scenario: actions without key or value, with two values, of a kind that there is not.
/// Guarantees: each is a mistake at its place.
#[test]
fn wrong_actions_are_mistakes() {
    for wrong in [
        "{value: 1}",
        "{key: a}",
        "{key: a, value: 1, from_attribute: b}",
        "{key: a, value: 1, action: delete}",
        "{key: a, value: {b: 1}}",
        "{key: a, action: hash}",
        "{key: a, from_context: b}",
    ] {
        let text = format!("attributes: [{wrong}]");
        let errors = Section::from_yaml(&text).unwrap().read_valid::<Config>().unwrap_err();
        assert!(errors[0].path.starts_with("attributes::0"), "{wrong}: {errors:?}");
    }
}
