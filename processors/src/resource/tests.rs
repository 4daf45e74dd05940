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
use profpipe_profile::{Profiles, Resource, ResourceProfiles, Value};

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
        "{key: a, action: convert}",
        "{key: a, action: convert, converted_type: bool}",
        "{key: a, value: 1, converted_type: int}",
        "{key: a, action: extract}",
        "{key: a, action: extract, pattern: '(.*)'}",
        "{key: a, action: extract, pattern: '('}",
        "{key: a, action: hash, value: 1}",
        "{action: hash}",
        "{key: a, pattern: b, action: delete}",
        "{key: a, pattern: b, value: 1}",
        "{key: a, from_context: b}",
    ] {
        let text = format!("attributes: [{wrong}]");
        let errors = Section::from_yaml(&text).unwrap().read_valid::<Config>().unwrap_err();
        assert!(errors[0].path.starts_with("attributes::0"), "{wrong}: {errors:?}");
    }
}

/// Scenario: `hash`, `extract`, `convert`, and `delete` and `hash` by a pattern of keys, with values
/// that they are for and others.
/// Guarantees: they do what the Collector's do; what cannot be converted stays.
#[test]
fn values_are_hashed_extracted_and_converted() {
    let text = "\
attributes:
  - {key: user, action: hash}
  - {key: path, pattern: '^/(?P<team>[^/]+)/(?P<app>.*)$', action: extract}
  - {key: port, action: convert, converted_type: int}
  - {key: ratio, action: convert, converted_type: double}
  - {key: flag, action: convert, converted_type: string}
  - {key: word, action: convert, converted_type: int}
  - {pattern: '^secret\\.', action: delete}
  - {pattern: 'mail', action: hash}
  - {key: none, action: hash}
  - {key: none, pattern: '(?P<x>.)', action: extract}
";
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    let mut processor = config.build(&Setup::new("resource", Services::default())).unwrap();
    let mut resource = Resource::default();
    for (key, value) in [
        ("user", "abc"),
        ("path", "/shop/cart/v2"),
        ("port", "8080"),
        ("ratio", "0.5"),
        ("word", "many"),
        ("secret.a", "x"),
        ("my.secret.b", "stays"),
        ("mail", ""),
    ] {
        resource.set(key, value);
    }
    resource.set("flag", true);
    let mut profiles = Profiles::new();
    profiles.resources.push(ResourceProfiles { resource, ..ResourceProfiles::default() });
    // As bytes, which stay bytes.
    let wire = Batch::from_wire(Batch::new(profiles).to_otlp());
    let mut out = Outbox::default();
    processor.process(wire, &mut out).unwrap();
    let mut batch = out.drain().next().unwrap();
    assert!(batch.wire().is_some());
    let resource = &batch.profiles().unwrap().resources[0].resource;
    let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (key, value) in [
        ("user", Value::from(sha)),
        ("team", Value::from("shop")),
        ("app", Value::from("cart/v2")),
        ("port", Value::Int(8080)),
        ("ratio", Value::Double(0.5)),
        ("flag", Value::from("true")),
        ("word", Value::from("many")),
        ("my.secret.b", Value::from("stays")),
        ("mail", Value::from(empty)),
    ] {
        assert_eq!(resource.get(key), Some(&value), "{key}");
    }
    assert_eq!(resource.get("secret.a"), None);
    assert_eq!(resource.get("x"), None);
}
