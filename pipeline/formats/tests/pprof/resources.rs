//! Several resources in one file, as the native sampler has them: one for each process.

use std::collections::BTreeSet;

use profpipe_formats::pprof;
use profpipe_formats::report::{Column, top};
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_HTLHASH, FRAME_TYPE, PPROF_COMMENT, PPROF_DEFAULT_SAMPLE_TYPE,
    PROCESS_EXECUTABLE_PATH, PROCESS_PID, SAMPLES_LOST, SERVICE_NAME, STACK_STATE, THREAD_ID,
    THREAD_NAME,
};
use profpipe_profile::{
    AttributeIx, Dictionary, Function, KeyValue, Line, Link, LinkIx, LocationRef, MappingIx,
    MappingRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef, Scope, ScopeProfiles,
    StackIx, StringIx, Value, ValueType,
};

use crate::message::{LabelValue, Meaning, Profile as Message};

const HZ: i64 = 100;

fn attribute(dictionary: &mut Dictionary, key: &str, value: impl Into<Value>) -> AttributeIx {
    let key = dictionary.strings.intern(key);
    dictionary.attributes.intern(key, value.into(), StringIx::NONE)
}

fn value_type(dictionary: &mut Dictionary, kind: &str, unit: &str) -> ValueType {
    let strings = &mut dictionary.strings;
    ValueType { kind: strings.intern(kind), unit: strings.intern(unit) }
}

fn mapping(dictionary: &mut Dictionary, path: &str, build_id: &str) -> MappingIx {
    let attributes = [attribute(dictionary, BUILD_ID_GNU, build_id)];
    let filename = dictionary.strings.intern(path);
    dictionary.mappings.intern(MappingRef {
        memory_start: 0x1000,
        memory_limit: 0x9000,
        file_offset: 0x400,
        filename,
        attributes: &attributes,
    })
}

/// A stack of named functions, leaf first; a name that is empty has no lines.
fn stack(dictionary: &mut Dictionary, mapping: MappingIx, names: &[&str]) -> StackIx {
    let frame_type = [attribute(dictionary, FRAME_TYPE, "native")];
    let mut locations = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let name = dictionary.strings.intern(name);
        let function = dictionary.functions.intern(Function { name, ..Function::default() });
        let line = [Line { function, line: 3, column: 0 }];
        locations.push(dictionary.locations.intern(LocationRef {
            mapping,
            address: 0x1200 + at as u64,
            lines: if name == StringIx::NONE { &[] } else { &line },
            attributes: &frame_type,
        }));
    }
    dictionary.stacks.intern(&locations)
}

/// One process as the sampler tells of it: counts of stacks, as samples and as CPU time.
fn process(
    dictionary: &mut Dictionary,
    pid: i64,
    path: &str,
    lost: i64,
    rows: &[(StackIx, Vec<AttributeIx>, i64)],
) -> ResourceProfiles {
    let mut resource = Resource::default();
    resource.set(SERVICE_NAME, path.rsplit('/').next().unwrap());
    resource.set(PROCESS_PID, pid);
    resource.set(PROCESS_EXECUTABLE_PATH, path);
    let period_type = value_type(dictionary, "cpu", "nanoseconds");
    let types =
        [(value_type(dictionary, "samples", "count"), 1), (period_type, 1_000_000_000 / HZ)];
    let attributes = vec![attribute(dictionary, SAMPLES_LOST, lost)];
    let profiles = types.map(|(sample_type, weight)| {
        let mut profile = Profile {
            sample_type,
            period_type,
            period: 1_000_000_000 / HZ,
            time_unix_nano: 1_000 + pid as u64,
            duration_nano: 5_000,
            attributes: attributes.clone(),
            ..Profile::default()
        };
        for (stack, attributes, count) in rows {
            profile.samples.push(SampleRef {
                stack: *stack,
                attributes,
                link: LinkIx::NONE,
                values: &[count * weight],
                timestamps_unix_nano: &[],
            });
        }
        profile
    });
    let default = KeyValue { key: PPROF_DEFAULT_SAMPLE_TYPE.to_owned(), value: "cpu".into() };
    let scope =
        Scope { name: "profpipe".to_owned(), attributes: vec![default], ..Scope::default() };
    ResourceProfiles {
        resource,
        scopes: vec![ScopeProfiles { scope, profiles: profiles.into(), schema_url: String::new() }],
        schema_url: String::new(),
    }
}

fn two_processes() -> Profiles {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let libc = mapping(dictionary, "/lib/libc.so.6", "00");
    let small = mapping(dictionary, "/bin/small", "01");
    let large = mapping(dictionary, "/bin/large", "02");
    let work = stack(dictionary, large, &["work", "main"]);
    let read = stack(dictionary, libc, &["read", "main"]);
    let unknown = stack(dictionary, small, &["", "main"]);
    let thread = |dictionary: &mut Dictionary, id: i64| {
        vec![attribute(dictionary, THREAD_NAME, "worker"), attribute(dictionary, THREAD_ID, id)]
    };
    let first = thread(dictionary, 11);
    let mut second = thread(dictionary, 12);
    second.push(attribute(dictionary, STACK_STATE, "truncated"));
    let one = process(dictionary, 10, "/bin/small", 2, &[(unknown, first.clone(), 3)]);
    let rows = [(work, first, 50), (work, second.clone(), 20), (read, second, 5)];
    let two = process(dictionary, 20, "/bin/large", 1, &rows);
    profiles.resources = vec![one, two];
    profiles
}

fn meaning(profiles: &Profiles) -> Meaning {
    Message::read(&pprof::encode_plain(profiles).unwrap()).meaning()
}

/// Scenario: two processes, each with samples and CPU time, in one batch.
/// Guarantees: one file with both types; resources, threads, losses and the interval are in it;
/// the program with most samples is the first mapping; a frame without a name keeps its address.
#[test]
fn native_sampler() {
    let file = meaning(&two_processes());
    let text = |kind: &str, unit: &str| (kind.to_owned(), unit.to_owned());
    assert_eq!(file.types, [text("samples", "count"), text("cpu", "nanoseconds")]);
    assert_eq!(file.default_type, "cpu");
    assert_eq!(file.period, ("cpu".to_owned(), "nanoseconds".to_owned(), 10_000_000));
    assert_eq!(file.interval, (1_010, 5_010));
    assert_eq!(file.comments, ["profpipe.samples.lost=3"]);
    let paths: Vec<_> = file.mappings.iter().map(|(_, path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/bin/large", "/lib/libc.so.6", "/bin/small"]);
    let build_ids: Vec<_> = file.mappings.iter().map(|(_, _, id)| id.as_str()).collect();
    assert_eq!(build_ids, ["02", "00", "01"]);

    let values: Vec<_> = file.samples.iter().map(|(_, values, _)| values.as_slice()).collect();
    let expected = [3_i64, 50, 20, 5].map(|count| [count, count * 10_000_000]);
    assert_eq!(values, expected);
    let label = |row: usize, key: &str| {
        let found = file.samples[row].2.iter().find(|(known, _)| known == key);
        found.map(|(_, values)| values.clone()).unwrap_or_default()
    };
    let text = |text: &str| vec![LabelValue::Text(text.to_owned())];
    let number = |number| vec![LabelValue::Number(number, String::new())];
    for (row, (pid, service, thread)) in
        [(10, "small", 11), (20, "large", 11), (20, "large", 12), (20, "large", 12)]
            .into_iter()
            .enumerate()
    {
        assert_eq!(label(row, PROCESS_PID), number(pid));
        assert_eq!(label(row, SERVICE_NAME), text(service));
        assert_eq!(label(row, THREAD_ID), number(thread));
        assert_eq!(label(row, THREAD_NAME), text("worker"));
    }
    assert_eq!(label(2, STACK_STATE), text("truncated"));
    let (mapping, address, _, lines) = &file.samples[0].0[0];
    assert_eq!((*mapping, *address, lines.len()), (3, 0x1200, 0));
}

/// Scenario: one library, stated with a hash of the file and, by a process that was gone too soon,
/// without.
/// Guarantees: pprof, which has no place for the hash, has the mapping once, with both frames in it.
#[test]
fn mappings_that_pprof_cannot_tell_apart() {
    let mut profiles = two_processes();
    let dictionary = &mut profiles.dictionary;
    let known = mapping(dictionary, "/lib/libc.so.6", "00");
    let row = dictionary.mappings.get(known);
    let (start, filename) = (row.memory_start, row.filename);
    let mut attributes = row.attributes.to_vec();
    attributes.push(attribute(dictionary, BUILD_ID_HTLHASH, "f00d"));
    let hashed = dictionary.mappings.intern(MappingRef {
        memory_start: start,
        memory_limit: 0x9000,
        file_offset: 0x400,
        filename,
        attributes: &attributes,
    });
    assert_ne!(hashed, known);
    let write = stack(dictionary, hashed, &["write", "main"]);
    profiles.resources.push(process(
        &mut profiles.dictionary,
        30,
        "/bin/other",
        1,
        &[(write, vec![], 9)],
    ));

    let file = meaning(&profiles);
    let libraries = file.mappings.iter().filter(|(_, path, _)| path == "/lib/libc.so.6");
    assert_eq!(libraries.count(), 1);
    let of_leaf = |row: usize| file.samples[row].0[0].0;
    assert_eq!(of_leaf(4), of_leaf(3), "both frames are in the one mapping");
}

/// Scenario: the same batch reported before it is written and after it is read again.
/// Guarantees: the same report, losses and states of stacks included.
#[test]
fn report_of_the_file() {
    let before = two_processes();
    let after = pprof::decode(&pprof::encode(&before).unwrap()).unwrap();
    for wanted in [None, Some("samples")] {
        let report = top(&before, wanted, Column::Total).unwrap();
        assert_eq!(report, top(&after, wanted, Column::Total).unwrap());
        assert_eq!((report.samples, report.lost, report.stacks.truncated), (78, 3, 25));
    }
    // Written again, the file says the same: nothing is added to what is there.
    assert_eq!(meaning(&after), meaning(&before));
}

/// Scenario: a sample has an attribute that its resource has too.
/// Guarantees: the sample's own wins, and the label is there once.
#[test]
fn own_attribute_wins() {
    let mut profiles = two_processes();
    let own = vec![attribute(&mut profiles.dictionary, PROCESS_PID, 99)];
    let stack = StackIx::NONE;
    let one = process(&mut profiles.dictionary, 5, "/bin/x", 0, &[(stack, own, 1)]);
    profiles.resources = vec![one];
    let file = meaning(&profiles);
    let pids: Vec<_> = file.samples[0].2.iter().filter(|(key, _)| key == PROCESS_PID).collect();
    let number = vec![LabelValue::Number(99, String::new())];
    assert_eq!(pids, [&(PROCESS_PID.to_owned(), number)]);
}

/// Scenario: one process has only CPU time, the other allocations; rows are in another order.
/// Guarantees: the file has all types, no sum changes, and rows of one stack come together.
#[test]
fn different_types() {
    let mut profiles = two_processes();
    let before = top(&profiles, Some("cpu"), Column::Own).unwrap();
    let space = value_type(&mut profiles.dictionary, "space", "bytes");
    profiles.resources[0].scopes[0].profiles.remove(0);
    let profile = &mut profiles.resources[0].scopes[0].profiles[0];
    let mut allocations = Profile { sample_type: space, ..profile.clone() };
    let row = profile.samples.get(0);
    allocations.samples = Default::default();
    for (stack, bytes) in [(StackIx::NONE, 7), (row.stack, 70), (row.stack, 700)] {
        allocations.samples.push(SampleRef { stack, values: &[bytes], ..row });
    }
    profiles.resources[0].scopes[0].profiles.push(allocations);

    let file = meaning(&profiles);
    let types: Vec<_> = file.types.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["cpu", "space", "samples"]);
    let values: Vec<_> = file.samples.iter().map(|(_, values, _)| values.as_slice()).collect();
    assert_eq!(values[..2], [[30_000_000, 770, 0], [0, 7, 0]]);
    assert_eq!(values[2], [500_000_000, 0, 50]);
    let after = pprof::decode(&pprof::encode(&profiles).unwrap()).unwrap();
    assert_eq!(top(&after, Some("cpu"), Column::Own).unwrap().total, before.total);
    assert_eq!(top(&after, Some("space"), Column::Own).unwrap().total, 777);
}

/// Scenario: what OTLP has and pprof has not: timestamps, links, values of other kinds.
/// Guarantees: timestamps become their count or sum; links and odd values become labels.
#[test]
fn timestamps_and_links() {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let sample_type = value_type(dictionary, "events", "count");
    let link = dictionary.links.intern(Link { trace_id: [0xab; 16], span_id: [1; 8] });
    let odd = [
        attribute(dictionary, "truth", true),
        attribute(dictionary, "share", Value::Double(0.5)),
        attribute(dictionary, "list", Value::Array(vec!["a".into(), 2.into()])),
        attribute(dictionary, "empty", ""),
        attribute(dictionary, "none", Value::Empty),
    ];
    let comment = attribute(dictionary, PPROF_COMMENT, Value::Array(vec!["seen".into()]));
    let mut profile = Profile { sample_type, attributes: vec![comment], ..Profile::default() };
    for values in [&[][..], &[5, 7]] {
        profile.samples.push(SampleRef {
            stack: StackIx::NONE,
            attributes: &odd,
            link,
            values,
            timestamps_unix_nano: &[100, 200],
        });
    }
    let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
    let resource = ResourceProfiles { scopes: vec![scope], ..ResourceProfiles::default() };
    profiles.resources.push(resource);

    let file = meaning(&profiles);
    assert_eq!(file.comments, ["seen"]);
    let (_, values, labels) = &file.samples[0];
    assert_eq!(values, &[2]);
    assert_eq!(file.samples[1].1, [12]);
    let text = |text: &str| LabelValue::Text(text.to_owned());
    let expected = [
        ("truth", vec![text("true")]),
        ("share", vec![text("0.5")]),
        ("list", vec![text("a"), LabelValue::Number(2, String::new())]),
        ("empty", vec![text("")]),
        ("trace_id", vec![text(&"ab".repeat(16))]),
        ("span_id", vec![text(&"01".repeat(8))]),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(key, values)| (key.to_owned(), values)).collect();
    assert_eq!(labels, &expected);
}

/// Scenario: a file with labels that look like a trace span: good ones, zero, in capitals, too short,
/// one alone, one twice, numbers.
/// Guarantees: the good ones are a link; everything else stays a label and is written as it was.
#[test]
fn labels_of_a_span_are_a_link() {
    let (trace, span) = ("ab".repeat(16), "01".repeat(8));
    let texts = [
        (vec![("trace_id", trace.clone()), ("span_id", span.clone())], true),
        (vec![("span_id", span.clone()), ("trace_id", trace.clone())], true),
        (vec![("trace_id", "0".repeat(32)), ("span_id", span.clone())], false),
        (vec![("trace_id", trace.to_uppercase()), ("span_id", span.clone())], false),
        (vec![("trace_id", trace.clone()), ("span_id", "01".into())], false),
        (vec![("trace_id", trace.clone()), ("other", span.clone())], false),
        (vec![("span_id", span.clone())], false),
    ];
    for (labels, is_link) in texts {
        let mut profiles = Profiles::new();
        let dictionary = &mut profiles.dictionary;
        let sample_type = value_type(dictionary, "events", "count");
        let rows: Vec<_> =
            labels.iter().map(|(key, text)| attribute(dictionary, key, text.as_str())).collect();
        let mut profile = Profile { sample_type, ..Profile::default() };
        profile.samples.push(SampleRef { attributes: &rows, values: &[1], ..SampleRef::default() });
        let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
        profiles.resources.push(ResourceProfiles { scopes: vec![scope], ..Default::default() });
        let read = pprof::decode(&pprof::encode(&profiles).unwrap()).unwrap();
        let sample = read.resources[0].scopes[0].profiles[0].samples.get(0);
        let link = Link { trace_id: [0xab; 16], span_id: [1; 8] };
        assert_eq!(read.dictionary.links.get(sample.link) == link, is_link, "{labels:?}");
        assert_eq!(sample.attributes.is_empty(), is_link, "{labels:?}");
        let written = |profiles: &Profiles| {
            let mut labels = meaning(profiles).samples[0].2.clone();
            labels.sort_by(|(a, _), (b, _)| a.cmp(b));
            labels
        };
        assert_eq!(written(&read), written(&profiles));
    }
}

/// Scenario: a batch without anything.
/// Guarantees: a valid file without sample types, which is read and written again.
#[test]
fn nothing() {
    let bytes = pprof::encode(&Profiles::new()).unwrap();
    let read = pprof::decode(&bytes).unwrap();
    assert_eq!(read.sample_count(), 0);
    assert_eq!(pprof::encode(&read).unwrap(), bytes);
}

/// Scenario: one batch written twice.
/// Guarantees: the same bytes; texts are in the file once.
#[test]
fn deterministic() {
    let profiles = two_processes();
    let plain = pprof::encode_plain(&profiles).unwrap();
    assert_eq!(pprof::encode_plain(&two_processes()).unwrap(), plain);
    let texts = Message::read(&plain).string_table;
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len());
}
