#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use profpipe_formats::folded;
use profpipe_profile::Profiles;
use profpipe_store::{InputFile, Table};
use serde_json::{Value, json};

use super::queries::{METHODS, answer};
use super::wire::Codec;
use super::{Failure, render};
use crate::export::{Exports, Format};
use crate::hosts::Hosts;
use crate::options::Options;
use crate::parameters::Parameters;

struct NoExports;

impl Exports for NoExports {
    fn formats(&self) -> Vec<Format> {
        Vec::new()
    }

    fn write(&self, _: &Format, _: &Profiles) -> Result<Vec<u8>, String> {
        Err(String::new())
    }

    fn source(&self, _: &str, _: &[String]) -> Result<Vec<String>, String> {
        Err(String::new())
    }
}

/// The type of collapsed stacks.
const TYPE: &str = "samples:samples:count::";

/// Pyroscope's example, at one time.
fn options() -> Options {
    let text = "main;a;leaf 100\nmain;a 50\nmain;b;c;leaf 30\nmain;b 1\n";
    let mut profiles = folded::decode(text.as_bytes()).unwrap();
    for profile in profiles.profiles_mut() {
        profile.time_unix_nano = 1_795_886_549_479_000_000;
    }
    let file = InputFile { name: "x".to_owned(), bytes: 7, modified_nanos: 0, profiles };
    Options {
        source: Arc::new(Arc::new(Table::new(vec![file]).unwrap())),
        exports: Arc::new(NoExports),
        token: String::new(),
        hosts: Hosts::of("127.0.0.1:1".parse().unwrap()),
        title: String::new(),
        version: "0",
    }
}

fn ask(method: &str, question: &Value) -> Result<Value, Failure> {
    let body = answer(&options(), method, Codec::Json, question.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// The levels of a flame graph as numbers.
fn levels(graph: &Value) -> Vec<Vec<i64>> {
    let number = |value: &Value| value.as_str().unwrap().parse().unwrap();
    let level = |level: &Value| level["values"].as_array().unwrap().iter().map(number).collect();
    graph["levels"].as_array().unwrap().iter().map(level).collect()
}

/// Scenario: the stacks of the example that was read on the wire of Pyroscope 1.21.1, whole and with two nodes.
/// Guarantees: the same levels, names, total and largest own weight.
#[test]
fn flame_graphs_are_those_of_pyroscope() {
    let whole = ask("SelectMergeStacktraces", &json!({ "profileTypeID": TYPE })).unwrap();
    let graph = &whole["flamegraph"];
    assert_eq!(graph["names"], json!(["total", "main", "b", "c", "leaf", "a"]));
    let expected: [&[i64]; 5] = [
        &[0, 181, 0, 0],
        &[0, 181, 0, 1],
        &[0, 150, 50, 5, 0, 31, 1, 2],
        &[50, 100, 100, 4, 1, 30, 0, 3],
        &[151, 30, 30, 4],
    ];
    assert_eq!(levels(graph), expected);
    assert_eq!((&graph["total"], &graph["maxSelf"]), (&json!("181"), &json!("100")));
    assert!(graph.get("leftTicks").is_none());
    let question =
        json!({ "profile_typeID": TYPE, "max_nodes": "2", "label_selector": "{}", "unknown": 1 });
    let few = ask("SelectMergeStacktraces", &question).unwrap();
    assert_eq!(few["flamegraph"]["names"], json!(["total", "main", "other", "a"]));
    let expected: [&[i64]; 4] =
        [&[0, 181, 0, 0], &[0, 181, 0, 1], &[0, 150, 50, 3, 0, 31, 31, 2], &[50, 100, 100, 2]];
    assert_eq!(levels(&few["flamegraph"]), expected);
}

/// Scenario: a type and a time that nothing is of.
/// Guarantees: an empty flame graph whose first name is the root's, and no series.
#[test]
fn nothing_is_an_empty_answer() {
    for question in [
        json!({ "profileTypeID": "a:b:c:d:e" }),
        json!({ "profileTypeID": TYPE, "start": "1", "end": 2 }),
        json!({ "profileTypeID": TYPE, "labelSelector": "{service_name=\"none\"}" }),
    ] {
        let graph = ask("SelectMergeStacktraces", &question).unwrap();
        let expected =
            json!({ "names": ["total"], "levels": [{ "values": ["0", "0", "0", "0"] }] });
        assert_eq!(graph["flamegraph"], expected, "{question}");
        let mut question = question;
        question["step"] = json!(15);
        assert_eq!(ask("SelectSeries", &question).unwrap(), json!({}), "{question}");
    }
}

/// Scenario: the bytes of a tree, as Pyroscope 1.21.1 sent them.
/// Guarantees: the same.
#[test]
fn trees_are_those_of_pyroscope() {
    let question = json!({ "profileTypeID": TYPE, "format": "PROFILE_FORMAT_TREE" });
    let expected = "AAABBG1haW4AAgFiAQEBYwABBGxlYWYeAAFhMgEEbGVhZmQA";
    assert_eq!(ask("SelectMergeStacktraces", &question).unwrap(), json!({ "tree": expected }));
}

/// Scenario: two selections as one, one of them empty.
/// Guarantees: boxes of two sides, with the sums of each.
#[test]
fn differences_have_both_sides() {
    let side =
        |start: i64| json!({ "profileTypeID": TYPE, "start": start, "end": 1_795_886_549_479_i64 });
    let question = json!({ "left": side(1), "right": side(1_795_886_549_479) });
    let both = &ask("Diff", &question).unwrap()["flamegraph"];
    assert_eq!(levels(both)[2], [0, 150, 50, 0, 150, 50, 5, 0, 31, 1, 0, 31, 1, 2]);
    assert_eq!((&both["total"], &both["leftTicks"]), (&json!("362"), &json!("181")));
    let none = json!({ "profileTypeID": TYPE, "labelSelector": "{x=\"y\"}" });
    let one = &ask("Diff", &json!({ "left": none, "right": side(1) })).unwrap()["flamegraph"];
    assert_eq!(levels(one)[1], [0, 0, 0, 0, 181, 0, 1]);
    assert!(one.get("leftTicks").is_none());
}

/// Scenario: every method with an empty message, with rubbish, and with what makes no sense.
/// Guarantees: an answer or an error of one line; nothing panics.
#[test]
fn hostile_messages_are_errors() {
    for method in METHODS.into_iter().chain(["Nope", ""]) {
        for body in [
            "",
            "{}",
            "{",
            "[]",
            "null",
            "\u{0}",
            "{\"start\":\"x\"}",
            "{\"profileTypeID\":1}",
            "{\"matchers\":[\"{\"]}",
        ] {
            for codec in [Codec::Json, Codec::Protobuf] {
                if let Err(Failure::Query(error)) =
                    answer(&options(), method, codec, body.as_bytes())
                {
                    assert!(!error.to_string().contains('\n'), "{method} {body}: {error}");
                }
            }
        }
    }
    for (method, question) in [
        ("SelectMergeStacktraces", json!({ "profileTypeID": "x" })),
        ("SelectMergeStacktraces", json!({ "profileTypeID": TYPE, "labelSelector": "{a" })),
        ("SelectMergeStacktraces", json!({ "profileTypeID": TYPE, "spanSelector": ["x"] })),
        ("SelectMergeProfile", json!({})),
        ("SelectSeries", json!({ "profileTypeID": TYPE })),
        ("SelectSeries", json!({ "profileTypeID": TYPE, "step": -1 })),
        ("LabelValues", json!({})),
        ("Diff", json!({})),
    ] {
        assert!(matches!(ask(method, &question), Err(Failure::Query(_))), "{method} {question}");
    }
    for (method, question) in [
        ("Nope", json!({})),
        ("SelectHeatmap", json!({})),
        (
            "SelectMergeStacktraces",
            json!({ "profileTypeID": TYPE, "format": "PROFILE_FORMAT_FUNCTIONS" }),
        ),
        ("SelectMergeStacktraces", json!({ "profileTypeID": TYPE, "format": 9 })),
    ] {
        assert!(
            matches!(ask(method, &question), Err(Failure::Unimplemented(_))),
            "{method} {question}"
        );
    }
}

/// Scenario: types, labels and series, with numbers as texts and without.
/// Guarantees: names as Pyroscope's; what is asked for alone is answered alone.
#[test]
fn labels_are_those_of_pyroscope() {
    let types = ask("ProfileTypes", &json!({ "start": "0", "end": null })).unwrap();
    let expected = json!([{
        "ID": TYPE, "name": "samples", "sampleType": "samples", "sampleUnit": "count",
    }]);
    assert_eq!(types["profileTypes"], expected);
    let names = ask("LabelNames", &json!({ "matchers": ["{}"] })).unwrap();
    let names = names["names"].as_array().unwrap().clone();
    assert!(names.contains(&json!("__profile_type__")) && names.contains(&json!("service_name")));
    let values = ask("LabelValues", &json!({ "name": "__type__" })).unwrap();
    assert_eq!(values, json!({ "names": ["samples"] }));
    let question = json!({ "label_names": ["service_name", "none"] });
    let series = ask("Series", &question).unwrap();
    let expected = json!([{ "labels": [{ "name": "service_name", "value": "unknown_service" }] }]);
    assert_eq!(series["labelsSet"], expected);
    let series = ask("SelectSeries", &json!({ "profileTypeID": TYPE, "step": 15 })).unwrap();
    assert_eq!(series["series"][0]["points"][0]["value"], json!(181.0));
}

/// Scenario: a profile in JSON, with stacks cut for Go's compiler.
/// Guarantees: protobuf's JSON of pprof with the sum, and stacks of so many locations.
#[test]
fn profiles_are_pprof() {
    let selector = json!({ "goPgo": { "keepLocations": 1 } });
    for (selector, most) in [(json!({}), 4), (selector, 1)] {
        let question = json!({ "profileTypeID": TYPE, "stackTraceSelector": selector });
        let profile = ask("SelectMergeProfile", &question).unwrap();
        let samples = profile["sample"].as_array().unwrap();
        let value = |sample: &Value| sample["value"][0].as_str().unwrap().parse::<i64>().unwrap();
        assert_eq!(samples.iter().map(value).sum::<i64>(), 181);
        let depth = |sample: &Value| sample["locationId"].as_array().unwrap().len();
        assert_eq!(samples.iter().map(depth).max(), Some(most));
    }
}

/// Scenario: the older paths.
/// Guarantees: a flame graph with its timeline, which has the whole sum; errors name the parameter.
#[test]
fn older_paths_answer() {
    let get = |query: &str| {
        let parameters = Parameters::parse(query).unwrap();
        render::render(&options(), &parameters)
            .map(|answer| serde_json::from_slice::<Value>(&answer.body).unwrap_or_default())
    };
    let one =
        get(&format!("query={TYPE}%7B%7D&from=1795886500&until=1795886600&groupBy=service_name"))
            .unwrap();
    assert_eq!(one["flamebearer"]["levels"][2], json!([0, 150, 50, 5, 0, 31, 1, 2]));
    assert_eq!(one["metadata"]["units"], "objects");
    let sum = |timeline: &Value| {
        timeline["samples"].as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!((sum(&one["timeline"]), one["timeline"]["durationDelta"].as_i64()), (181, Some(15)));
    assert_eq!(sum(&one["groups"]["unknown_service"]), 181);
    for query in [
        "",
        "query=x",
        "query=a:b:c:d:e%7B",
        "query=a:b:c:d:e%7B%7D&from=x",
        "query=a:b:c:d:e%7B%7D&maxNodes=x",
    ] {
        assert!(matches!(get(query), Err(Failure::Query(_))), "{query}");
    }
    let dot = Parameters::parse(&format!("query={TYPE}%7B%7D&format=dot")).unwrap();
    let dot = render::render(&options(), &dot).unwrap();
    let text = String::from_utf8(dot.body.to_vec()).unwrap();
    assert!(text.starts_with("digraph") && text.contains("label=\"leaf\\n130 (71.8%)"), "{text}");
}
