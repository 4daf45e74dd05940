//! Names of profiles, labels of resources, meanings of answers.

use std::collections::BTreeMap;

use http::StatusCode;
use profpipe_formats::pyroscope::{Names, Type, name};
use profpipe_profile::{Resource, Scope, Value};

use crate::pyroscope::answer::{Answer, read};
use crate::pyroscope::config::{LabelNames, LabelRules};
use crate::pyroscope::labels::of_resource;

fn named(stated: &str, types: [&str; 4]) -> String {
    let [kind, unit, period_kind, period_unit] = types;
    let period = Type { kind: period_kind, unit: period_unit };
    name(&Names::new(), stated, Type { kind, unit }, period)
}

/// Scenario: the types of known and unknown profilers.
/// Guarantees: the names of the table, usable as names of metrics.
#[test]
fn profiles_are_named_by_their_types() {
    for (types, wanted) in [
        (["cpu", "nanoseconds", "cpu", "nanoseconds"], "process_cpu"),
        (["samples", "count", "cpu", "nanoseconds"], "process_cpu"),
        (["wall", "nanoseconds", "cpu", "nanoseconds"], "wall"),
        (["samples", "count", "wall", "nanoseconds"], "wall"),
        (["alloc_space", "bytes", "space", "bytes"], "memory"),
        (["inuse_objects", "count", "", ""], "memory"),
        (["contentions", "count", "contentions", "count"], "mutex"),
        (["goroutine", "count", "goroutine", "count"], "goroutine"),
        (["off_cpu", "nanoseconds", "", ""], "off_cpu"),
        (["itimer", "ns", "itimer", "ns"], "process_cpu"),
        (["samples", "count", "itimer", "ns"], "process_cpu"),
        (["alloc", "bytes", "", ""], "memory"),
        (["lock", "ns", "", ""], "block"),
        (["events", "count", "page-faults", "count"], "page_faults"),
        (["9lives", "count", "", ""], "_9lives"),
        (["", "", "", ""], "unknown"),
    ] {
        assert_eq!(named("", types), wanted, "{types:?}");
    }
    assert_eq!(named("block", ["delay", "nanoseconds", "contentions", "count"]), "block");
    let names = BTreeMap::from([("delay:nanoseconds".to_owned(), "locks".to_owned())]);
    let delay = Type { kind: "delay", unit: "nanoseconds" };
    assert_eq!(name(&names, "block", delay, Type { kind: "", unit: "" }), "locks");
}

/// Scenario: a resource with dots, numbers, a process id, an empty value, a clash and a long value.
/// Guarantees: names every server takes, no process id, service_name always, limits kept.
#[test]
fn resources_become_labels() {
    let mut resource = Resource::default();
    resource.set("k8s.pod.name", "web-1");
    resource.set("k8s_pod_name", "other");
    resource.set("process.pid", 42);
    resource.set("replicas", 3);
    resource.set("empty", "");
    resource.set("__meta", "x");
    resource.set("nested", Value::Map(Vec::new()));
    resource.set("long", "ä".repeat(2000));
    let scope = Scope::default();
    let rules = LabelRules::default();
    let labels = of_resource(&rules, LabelNames::Legacy, &resource, &scope, 28);
    let names: Vec<_> = labels.keys().map(String::as_str).collect();
    assert_eq!(names, ["k8s_pod_name", "long", "replicas", "service_name"]);
    assert_eq!(labels["k8s_pod_name"], "web-1");
    assert_eq!(labels["service_name"], "unknown_service");
    assert_eq!(labels["long"].len(), 2048);
    resource.set("service.name", "shop");
    let labels = of_resource(&rules, LabelNames::Utf8, &resource, &scope, 28);
    assert_eq!(labels["service_name"], "shop");
    assert_eq!(labels["k8s.pod.name"], "web-1");
    assert!(!labels.contains_key("service.name"));
    for at in 0..50 {
        resource.set(&format!("extra_{at:02}"), "x");
    }
    assert_eq!(of_resource(&rules, LabelNames::Legacy, &resource, &scope, 28).len(), 28);
    let rules = LabelRules { include: vec!["k8s.*".to_owned()], ..rules };
    let labels = of_resource(&rules, LabelNames::Legacy, &resource, &scope, 28);
    assert_eq!(labels.len(), 2);
}

/// Scenario: answers of Pyroscope, of proxies and of something else.
/// Guarantees: each is taken for what it means.
#[test]
fn answers_are_understood() {
    let of = |status: u16, body: &str| read(StatusCode::from_u16(status).unwrap(), body.as_bytes());
    assert_eq!(of(200, "{}"), Answer::Stored);
    let later = |answer| matches!(answer, Answer::Later(_));
    assert!(later(of(429, r#"{"code":"resource_exhausted","message":"limit"}"#)));
    assert!(later(of(500, r#"{"code":"unknown","message":"x"}"#)));
    assert!(later(of(503, "")));
    assert!(later(of(408, "slow")));
    let refused = of(400, r#"{"code":"invalid_argument","message":"too\nbad"}"#);
    assert_eq!(refused, Answer::Refused("HTTP 400: too bad".to_owned()));
    assert!(matches!(of(413, ""), Answer::Refused(_)));
    for status in [401, 403, 404, 301] {
        assert!(matches!(of(status, "<html>"), Answer::Held(_)), "{status}");
    }
    assert!(matches!(of(401, r#"{"code":"unauthenticated","message":"x"}"#), Answer::Held(_)));
}
