//! The older interface: its query, texts, pprof, forms.

use bytes::Bytes;
use profpipe_engine::settings::ByteSize;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::PROFILE_NAME;

use super::{facts, field, mark, pprof};
use crate::pyroscope::convert::{self, ConvertError};
use crate::pyroscope::query::{Format, Query};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_800_000_000 * SECOND;

const FORM: &str = "multipart/form-data; boundary=\"zz\"";

/// A part of a form.
fn part(field: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--zz\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"f\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

/// A form with a profile, and with what its types mean.
fn form(profile: &[u8], types: Option<&str>) -> Vec<u8> {
    let types = types.map(|types| part("sample_type_config", types.as_bytes()));
    [types.unwrap_or_default(), part("profile", profile), b"--zz--\r\n".to_vec()].concat()
}

fn query(text: &str, content_type: &str) -> Query {
    Query::parse(text, content_type, NOW).unwrap()
}

fn ingest(text: &str, content_type: &str, body: &[u8]) -> Result<Profiles, ConvertError> {
    let body = Bytes::copy_from_slice(body);
    convert::ingest(&query(text, content_type), content_type, &body, ByteSize::mib(16), &mut |_| {
        true
    })
}

/// Scenario: times in every form, also none.
/// Guarantees: nanoseconds, as Pyroscope reads them.
#[test]
fn times_are_read_by_their_length() {
    for (text, wanted) in [
        ("", NOW),
        ("nonsense", NOW),
        ("1700000000", 1_700_000_000 * SECOND),
        ("1700000000123", 1_700_000_000_123_000_000),
        ("1700000000123456", 1_700_000_000_123_456_000),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        ("20240229", 1_709_164_800 * SECOND),
        ("20241329", 20_241_329 * SECOND),
        ("now", NOW),
        ("now-1h", NOW - 3600 * SECOND),
        ("now-15min", NOW - 900 * SECOND),
    ] {
        assert_eq!(query(&format!("name=a&from={text}"), "").from, wanted, "{text}");
    }
}

/// Scenario: names with labels, escapes and mistakes.
/// Guarantees: the application, its labels, or an error.
#[test]
fn names_hold_labels() {
    let one = query("name=my-app.cpu%7Bregion%3Deu%2C+zone=a,region=us%7D&sampleRate=x", "");
    assert_eq!(one.app, "my-app.cpu");
    let labels: Vec<_> = one.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["region=us", "zone=a"]);
    assert_eq!((one.rate, one.spy.as_str()), (100, "unknown"));
    assert_eq!(query("name=a{}", "").app, "a");
    for wrong in ["", "name=", "name=a%20b", "name=a{=x}", "name=a{x y=z}", "name=%zz", "name=%ff"]
    {
        assert!(Query::parse(wrong, "", NOW).is_err(), "{wrong}");
    }
}

/// Scenario: every way to say what the body is.
/// Guarantees: Pyroscope's choice.
#[test]
fn formats_are_told_by_parameter_or_content_type() {
    let form = "multipart/form-data; boundary=x";
    for (text, content_type, wanted) in [
        ("", "", Format::Groups),
        ("&format=folded", "text/plain", Format::Groups),
        ("&format=lines", form, Format::Lines),
        ("&format=pprof", "", Format::Pprof),
        ("", form, Format::Multipart),
        ("&format=jfr", form, Format::Unsupported("jfr")),
        ("&format=speedscope", "", Format::Unsupported("speedscope")),
        ("", "binary/octet-stream+trie", Format::Unsupported("trie")),
        ("&format=tree", "", Format::Unsupported("tree")),
    ] {
        assert_eq!(query(&format!("name=a{text}"), content_type).format, wanted, "{text}");
    }
    let refused = ingest("name=a&format=jfr", "", b"FLR").unwrap_err();
    assert!(
        matches!(&refused, ConvertError::Unsupported(what) if what.contains("accepted are pprof"))
    );
}

/// Scenario: collapsed stacks with counts, and stacks alone, at 100 and 50 samples a second.
/// Guarantees: nanoseconds, and who it was.
#[test]
fn texts_become_time() {
    let batch = ingest("name=app.cpu{region=eu}&from=10&until=20", "", b"a;b 2\na;c 3\n").unwrap();
    assert_eq!(facts(&batch, "service.name"), (50_000_000, vec!["app".to_owned()]));
    assert_eq!(facts(&batch, "region").1, ["eu"]);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("process_cpu"));
    let profile = batch.iter().next().unwrap().2;
    assert_eq!((profile.time_unix_nano, profile.duration_nano), (10 * SECOND, 10 * SECOND));
    assert_eq!(profile.period, 10_000_000);
    let text = b"a;b\na;b\n\na;c with space\n";
    let batch = ingest("name=app.wall&format=lines&sampleRate=50", "", text).unwrap();
    assert_eq!(facts(&batch, "service.name").0, 60_000_000);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("wall"));
    let batch = ingest("name=app.inuse_space{service_name=s}", "", b"a;b 2000\n").unwrap();
    assert_eq!(facts(&batch, "service.name"), (2000, vec!["s".to_owned()]));
    assert_eq!(facts(&batch, "app_name").1, ["app"]);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("memory"));
    assert_eq!(ingest("name=app", "", b"").unwrap().sample_count(), 0);
    let refused = ingest("name=app.nonsense", "", b"a 1\n").unwrap_err();
    assert_eq!(refused, ConvertError::Invalid("unknown profile type: nonsense".to_owned()));
    assert!(matches!(ingest("name=app", "", b"a;b x\n").unwrap_err(), ConvertError::Invalid(_)));
}

/// Scenario: pprof raw and in the form of older agents, with a time near the epoch; an empty body.
/// Guarantees: the same sum, a name by its types, the time of the query; nothing for nothing.
#[test]
fn pprof_is_taken_raw_and_in_a_form() {
    let profile = pprof(&[("a", 3), ("b", 4)], 7);
    let name = "name=app.cpu{pyroscope_spy=x}&from=10&until=20&spyName=gospy";
    let batch = ingest(&format!("{name}&format=pprof"), "", &profile).unwrap();
    assert_eq!(facts(&batch, "service.name"), (7, vec!["app.cpu".to_owned()]));
    assert_eq!(facts(&batch, "pyroscope_spy").1, ["gospy"]);
    assert_eq!(batch.iter().next().unwrap().2.time_unix_nano, 10 * SECOND);
    assert_eq!(mark(&batch, PROFILE_NAME), Some("process_cpu"));
    let form = FORM;
    let body = [part("sample_type_config", b"{}"), part("profile", &profile), b"--zz--".to_vec()];
    assert_eq!(facts(&ingest(name, form, &body.concat()).unwrap(), "").0, 7);
    let body = [part("profile", &profile), part("prev_profile", b"x"), b"--zz--\r\n".to_vec()];
    let refused = ingest(name, form, &body.concat()).unwrap_err();
    assert!(refused.to_string().contains("unsupported client version"), "{refused}");
    for broken in [&b""[..], b"--zz", b"--zz\r\nx\r\n--zz--", b"--zz--"] {
        assert!(matches!(ingest(name, form, broken), Err(ConvertError::Invalid(_))), "{broken:?}");
    }
    assert_eq!(ingest("name=a&format=pprof", "", b"").unwrap().sample_count(), 0);
    assert!(matches!(ingest("name=a&format=pprof", "", b"no"), Err(ConvertError::Invalid(_))));
}

/// A pprof profile without samples of these types: nothing but its header.
fn types_only(kinds: &[&str]) -> Vec<u8> {
    let mut profile = field(6, b"");
    for (at, kind) in (1..).zip(kinds) {
        profile.extend(field(1, &[8, at]));
        profile.extend(field(6, kind.as_bytes()));
    }
    profile
}

/// Scenario: profiles of agents by their sample types alone, and with what a form says of them.
/// Guarantees: Pyroscope's names; a form's own words go before the usual ones, for all types.
#[test]
fn profiles_are_called_what_their_agents_mean() {
    let none = "";
    let block = r#"{"contentions":{"display-name":"block_count","units":"lock_samples"},
                    "delay":{"display-name":"block_duration","cumulative":true}}"#;
    let mutex = block.replace("block_", "mutex_");
    for (kinds, config, wanted) in [
        (&["contentions", "delay"][..], block, "block"),
        (&["contentions", "delay"], &mutex, "mutex"),
        (&["contentions", "delay"], none, "mutex"),
        (&["contentions", "delay"], "{}", "delay"),
        (&["contentions", "delay"], r#"{"delay":null}"#, "delay"),
        (&["contentions", "delay"], "null", "mutex"),
        (&["goroutine"], none, "goroutines"),
        (&["goroutine"], r#"{"goroutine":{"display-name":"goroutines"}}"#, "goroutines"),
        (&["goroutine"], "{}", "goroutine"),
        (&["samples", "cpu"], none, "process_cpu"),
        (&["samples"], none, "process_cpu"),
        (&["sample", "wall"], none, "wall"),
        (&["cpu", "wall"], none, "wall"),
        (&["objects", "space"], none, "memory"),
        (&["my_inuse_things"], none, "memory"),
        (&["exceptions"], none, "exceptions"),
        (&["x"], r#"{"x":{"display-name":"cpu"}}"#, "process_cpu"),
    ] {
        let form = form(&types_only(kinds), Some(config));
        let batch = ingest("name=a&spyName=gospy", FORM, &form).unwrap();
        assert_eq!(mark(&batch, PROFILE_NAME), Some(wanted), "{kinds:?} {config}");
    }
    for wrong in ["{", "[]", r#"{"delay":3}"#] {
        let refused = ingest("name=a", FORM, &form(&types_only(&["delay"]), Some(wrong)));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("the field sample_type_config is not JSON"), "{refused}");
    }
}

/// Scenario: profiles of .NET's agent: types with hyphens, functions without ids; the same from others.
/// Guarantees: types as all others have them, every function its name; others are refused as before.
#[test]
fn dotnet_is_understood() {
    let kinds = ["alloc-samples", "alloc-size"];
    for (query, config, wanted) in [
        ("name=a&spyName=dotnetspy", None, "memory"),
        ("name=a", Some(r#"{"inuse-space":{}}"#), "memory"),
        ("name=a&spyName=gospy", None, "alloc-size"),
    ] {
        let batch = ingest(query, FORM, &form(&types_only(&kinds), config)).unwrap();
        assert_eq!(mark(&batch, PROFILE_NAME), Some(wanted), "{query}");
        let strings = &batch.dictionary.strings;
        let mut kinds = batch.iter().map(|(_, _, profile)| strings.get(profile.sample_type.kind));
        let hyphen = if wanted == "memory" { "_" } else { "-" };
        assert!(kinds.all(|kind| kind.contains(hyphen)), "{query}");
    }
    // Functions 1 and 2 by name, locations 7 and 300, whose lines name functions of these ids.
    let mut profile = types_only(&["cpu", "main", "leaf"]);
    let location = |id: &[u8]| {
        let line = [&[8][..], id].concat();
        field(4, &[&[8][..], id, &field(4, &line)].concat())
    };
    profile.extend([location(&[7]), location(&[0xac, 2])].concat());
    profile.extend([field(5, &[16, 2]), field(5, &[16, 3])].concat());
    // The types beside `cpu` have values, too.
    profile.extend(field(2, &[&field(1, &[0xac, 2, 7])[..], &field(2, &[5, 0, 0])].concat()));
    let batch = ingest("name=a&format=pprof&spyName=dotnetspy", "", &profile).unwrap();
    let tables = &batch.dictionary;
    let sample = batch.iter().next().unwrap().2.samples.iter().next().unwrap();
    let names: Vec<&str> = tables
        .stacks
        .get(sample.stack)
        .iter()
        .map(|at| tables.functions.get(tables.locations.get(*at).lines[0].function).name)
        .map(|name| tables.strings.get(name))
        .collect();
    assert_eq!(names, ["leaf", "main"]);
    let refused = ingest("name=a&format=pprof&spyName=gospy", "", &profile).unwrap_err();
    assert!(refused.to_string().contains("a function has the id 0"), "{refused}");
}

/// Scenario: pprof of scripting languages, by every agent that says so and by others, in files with
/// relative, absolute and no names; a file name that many functions have and that is as long as allowed.
/// Guarantees: functions are called as Pyroscope calls them, each file stays what it was, and what would take
/// more memory than allowed is refused.
#[test]
fn functions_of_scripting_languages_have_their_file_in_the_name() {
    let profile = |file: &str, count: usize| {
        let mut batch = profpipe_formats::pprof::decode(&pprof(&[("a", 1)], SECOND)).unwrap();
        let file = batch.dictionary.strings.intern(file);
        for row in batch.dictionary.functions.rows.iter_mut().skip(1) {
            row.filename = file;
        }
        for at in 0..count {
            let name = batch.dictionary.strings.intern(&format!("f{at}"));
            let function =
                profpipe_profile::Function { name, filename: file, ..Default::default() };
            let function = batch.dictionary.functions.intern(function);
            let lines = [profpipe_profile::Line { function, line: 1, column: 0 }];
            let location = profpipe_profile::LocationRef { lines: &lines, ..Default::default() };
            let location = batch.dictionary.locations.intern(location);
            let stack = batch.dictionary.stacks.intern(&[location]);
            let values = [1];
            let sample =
                profpipe_profile::SampleRef { stack, values: &values, ..Default::default() };
            batch.resources[0].scopes[0].profiles[0].samples.push(sample);
        }
        profpipe_formats::pprof::encode(&batch).unwrap()
    };
    let names = |spy: &str, file: &str| {
        let query = format!("name=app&format=pprof&spyName={spy}");
        let batch = ingest(&query, "", &profile(file, 0)).unwrap();
        let strings = &batch.dictionary.strings;
        let rows = batch.dictionary.functions.rows().iter().skip(1);
        let mut names: Vec<String> = rows
            .map(|row| {
                assert_eq!(strings.get(row.filename), file);
                strings.get(row.name).to_owned()
            })
            .collect();
        names.sort();
        names
    };
    for spy in ["pyspy", "rbspy", "scripting"] {
        assert_eq!(names(spy, "qwe.py"), ["qwe.py a", "qwe.py main"], "{spy}");
    }
    assert_eq!(names("pyspy", "/home/x/qwe.py"), ["a", "main"]);
    assert_eq!(names("rbspy", "/home/x/qwe.rb"), ["/home/x/qwe.rb a", "/home/x/qwe.rb main"]);
    for spy in ["gospy", "unknown", "phpspy"] {
        assert_eq!(names(spy, "qwe.py"), ["a", "main"], "{spy}");
    }
    // 1 MiB of a name, in 100 functions, where 16 MiB are allowed.
    let large = profile(&"x".repeat(1 << 20), 100);
    let query = |spy: &str| format!("name=app&format=pprof&spyName={spy}");
    assert!(ingest(&query("gospy"), "", &large).is_ok());
    assert!(matches!(ingest(&query("pyspy"), "", &large), Err(ConvertError::TooLarge(_))));
}
