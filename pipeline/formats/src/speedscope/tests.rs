#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::decode;
use crate::folded;
use crate::report::{Choice, collapse};
use profpipe_profile::attribute_names::THREAD_NAME;

fn file(profiles: &str) -> Vec<u8> {
    format!(
        r#"{{"$schema":"https://www.speedscope.app/file-format-schema.json",
        "shared":{{"frames":[{{"name":"a","file":"a.py","line":3}},{{"name":"b"}},{{"name":"\u00e9"}}]}},
        "profiles":[{profiles}],"name":"x","activeProfileIndex":0,"exporter":"py-spy@0.4"}}"#
    )
    .into_bytes()
}

/// The stacks of a file, and what they are in.
fn read(profiles: &str) -> (String, String) {
    let profiles = decode(&file(profiles)).unwrap();
    let collapsed = collapse(&profiles, None).unwrap();
    let kind = format!("{}/{}", collapsed.profile_type, collapsed.unit);
    (folded::write(&collapsed), kind)
}

/// Scenario: stacks with weights, in each unit, with fractions and without weights; frames that open
/// and close, one left open at the end.
/// Guarantees: the costs that speedscope shows.
#[test]
fn both_kinds_of_profiles() {
    let sampled = |unit: &str, weights: &str| {
        format!(
            r#"{{"type":"sampled","name":"p","unit":"{unit}","startValue":0,"endValue":9,
            "samples":[[0,1],[0],[0,2],[]],"weights":{weights}}}"#
        )
    };
    let nanoseconds = |scale: i64| {
        let [one, two, four] = [scale / 2, scale * 2, scale * 4];
        format!("[no stack] {scale}\na {two}\na;b {one}\na;\u{e9} {four}\n")
    };
    for (unit, scale) in
        [("seconds", 1_000_000_000), ("milliseconds", 1_000_000), ("microseconds", 1000)]
    {
        let (stacks, kind) = read(&sampled(unit, "[0.5,2,4,1]"));
        assert_eq!((stacks, kind.as_str()), (nanoseconds(scale), "wall/nanoseconds"));
    }
    let (stacks, kind) = read(&sampled("bytes", "[5,2,4,1]"));
    assert_eq!(
        (stacks.as_str(), kind.as_str()),
        ("[no stack] 1\na 2\na;b 5\na;\u{e9} 4\n", "space/bytes")
    );
    let (stacks, kind) = read(&sampled("none", "[]"));
    assert_eq!(
        (stacks.as_str(), kind.as_str()),
        ("[no stack] 1\na 1\na;b 1\na;\u{e9} 1\n", "samples/count")
    );

    let events = r#"{"type":"evented","name":"p","unit":"nanoseconds","startValue":0,"endValue":100,
        "events":[{"type":"O","frame":0,"at":10},{"type":"O","frame":1,"at":15},
        {"type":"C","frame":1,"at":35},{"type":"O","frame":1,"at":35},{"type":"C","frame":1,"at":40},
        {"type":"C","frame":0,"at":50},{"type":"O","frame":2,"at":90}]}"#;
    assert_eq!(read(events).0, "a 15\na;b 25\n\u{e9} 10\n");
}

/// Scenario: two profiles, which are threads.
/// Guarantees: they are one report; samples have the name of their thread, places their file.
#[test]
fn several_profiles() {
    let one = |name: &str| {
        format!(
            r#"{{"type":"sampled","name":"{name}","unit":"seconds","samples":[[0]],"weights":[1]}}"#
        )
    };
    let profiles = decode(&file(&format!("{},{}", one("main"), one("worker")))).unwrap();
    let choice = Choice::new(&profiles, None).unwrap();
    assert_eq!(choice.profiles.len(), 2);
    let tables = &profiles.dictionary;
    let names = choice.profiles.iter().map(|one| {
        let attribute = one.profile.samples.get(0).attributes[0];
        assert_eq!(tables.strings.get(tables.attributes.key(attribute)), THREAD_NAME);
        tables.attributes.value(attribute).as_str().unwrap()
    });
    assert_eq!(names.collect::<Vec<_>>(), ["main", "worker"]);
    assert!(tables.strings.iter().any(|text| text == "a.py"));
}

/// Scenario: frames that there are not, lists of other lengths, events out of order or that close what
/// is not open, stacks that grow with the square of the file.
/// Guarantees: an error of one line, in bounded memory.
#[test]
fn malformed() {
    let events =
        |events: &str| format!(r#"{{"type":"evented","unit":"none","events":[{events}]}}"#);
    let open = |at: u32| format!(r#"{{"type":"O","frame":0,"at":{at}}}"#);
    let deep: Vec<String> = (0..20_000).map(open).collect();
    for (profile, expected) in [
        (r#"{"type":"sampled","samples":[[3]]}"#.to_owned(), "there is no frame 3"),
        (
            r#"{"type":"sampled","samples":[[0]],"weights":[1,2]}"#.to_owned(),
            "1 samples have 2 weights",
        ),
        (r#"{"type":"sampled","samples":[["a"]]}"#.to_owned(), "invalid type"),
        (r#"{"type":"heap"}"#.to_owned(), "neither `sampled` nor `evented`"),
        (events(r#"{"type":"C","frame":0,"at":1}"#), "event 1 closes a frame that is not the last"),
        (events(r#"{"type":"X","frame":0,"at":1}"#), "event 1 neither opens nor closes"),
        (events(&format!("{},{}", open(9), open(3))), "not in order"),
        (events(&deep.join(",")), "too many frames"),
    ] {
        let error = decode(&file(&profile)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}
