//! Batches to series: sums are kept, limits too.

use profpipe_engine::settings::ByteSize;
use profpipe_profile::attribute_names::{PROFILE_CUMULATIVE, PROFILE_NAME};
use profpipe_profile::{LocationRef, MappingRef, Profiles, SampleRef, StackIx, StringIx, Value};

use super::{by_leaf, link, profile, resource, stack};
use crate::pyroscope::config::{Config, Unsymbolized};
use crate::pyroscope::progress::{Progress, State};
use crate::pyroscope::series::{Built, build};

const CPU: [&str; 4] = ["cpu", "nanoseconds", "cpu", "nanoseconds"];
const SAMPLES: [&str; 4] = ["samples", "count", "cpu", "nanoseconds"];

fn sums(built: &Built) -> Vec<(String, i64)> {
    let profiles = built.pushes.iter().map(|push| push.profile.as_slice());
    by_leaf(profiles)
        .into_iter()
        .map(|((kind, leaf), sum)| (format!("{kind} {leaf}"), sum))
        .collect()
}

fn sum(built: &Built, what: &str) -> i64 {
    sums(built).into_iter().filter(|(name, _)| name == what).map(|(_, sum)| sum).sum()
}

/// Scenario: samples of a clock, alone and beside the time that they stand for.
/// Guarantees: time is computed where it is missing, and never twice.
#[test]
fn samples_of_a_clock_become_time_once() {
    let mut batch = Profiles::new();
    let samples = profile(&mut batch, SAMPLES, 10, &[(&["a", "main"], &[], 3)]);
    resource(&mut batch, &[("service.name", "x")], vec![samples.clone()]);
    let built = build(&batch, &Config::default());
    assert_eq!(built.pushes.len(), 1);
    assert_eq!(built.pushes[0].samples, 1);
    assert_eq!(built.pushes[0].labels["__name__"], "process_cpu");
    assert_eq!(built.pushes[0].labels["__delta__"], "false");
    assert_eq!(sums(&built), [("cpu a".to_owned(), 30), ("samples a".to_owned(), 3)]);
    let time = profile(&mut batch, CPU, 10, &[(&["a", "main"], &[], 31)]);
    batch.resources[0].scopes[0].profiles = vec![samples, time];
    let built = build(&batch, &Config::default());
    assert_eq!(built.pushes.len(), 1, "one pprof with two types");
    assert_eq!(built.pushes[0].samples, 2);
    assert_eq!(sums(&built), [("cpu a".to_owned(), 31), ("samples a".to_owned(), 3)]);
}

/// Scenario: processes of one service that differ only by their number, and another service.
/// Guarantees: one profile for each service, with the sums of its processes.
#[test]
fn processes_of_a_service_are_one_series() {
    let mut batch = Profiles::new();
    for (service, pid, value) in [("x", "1", 5), ("x", "2", 7), ("y", "3", 11)] {
        let threads = [
            (&["a"][..], &[("thread.name", "t1")][..], value),
            (&["a"][..], &[("thread.name", "t2")][..], value),
        ];
        let cpu = profile(&mut batch, CPU, 1, &threads);
        resource(&mut batch, &[("service.name", service), ("process.pid", pid)], vec![cpu]);
    }
    let built = build(&batch, &Config::default());
    assert_eq!(built.pushes.len(), 2);
    assert_eq!(built.pushes[0].labels["service_name"], "x");
    assert_eq!(by_leaf([built.pushes[0].profile.as_slice()]).values().sum::<i64>(), 24);
    assert_eq!(by_leaf([built.pushes[1].profile.as_slice()]).values().sum::<i64>(), 22);
    // Threads are left out, so their samples are one row.
    let decoded = profpipe_formats::pprof::decode(&built.pushes[0].profile).unwrap();
    assert_eq!(decoded.sample_count(), 1);
}

/// Scenario: CPU time as async-profiler's OTLP has it, and the same types from Pyroscope's own client.
/// Guarantees: the words that Pyroscope's clients use; what states its name goes on as it is.
#[test]
fn types_are_written_as_pyroscope_writes_them() {
    let mut batch = Profiles::new();
    let types = ["itimer", "ns", "itimer", "ns"];
    let cpu = profile(&mut batch, types, 10, &[(&["a"], &[], 30)]);
    resource(&mut batch, &[], vec![cpu]);
    let of = |batch: &Profiles| {
        let built = build(batch, &Config::default());
        let decoded = profpipe_formats::pprof::decode(&built.pushes[0].profile).unwrap();
        let profile = &decoded.resources[0].scopes[0].profiles[0];
        let text = |of| decoded.dictionary.strings.get(of).to_owned();
        let (sample, period) = (profile.sample_type, profile.period_type);
        let types = [sample.kind, sample.unit, period.kind, period.unit].map(text).join(":");
        (built.pushes[0].labels["__name__"].clone(), types)
    };
    let usual = "cpu:nanoseconds:cpu:nanoseconds";
    assert_eq!(of(&batch), ("process_cpu".to_owned(), usual.to_owned()));
    let key = batch.dictionary.strings.intern(PROFILE_NAME);
    let name = batch.dictionary.attributes.intern(key, "own".into(), StringIx::NONE);
    batch.resources[0].scopes[0].profiles[0].attributes.push(name);
    assert_eq!(of(&batch), ("own".to_owned(), "itimer:ns:itimer:ns".to_owned()));
}

/// Scenario: a pprof file of several types, read and sent on.
/// Guarantees: its columns are in the order of the file.
#[test]
fn columns_stand_as_in_the_file() {
    use profpipe_formats::{pprof, report::sample_types};
    let mut batch = Profiles::new();
    let types = [["contentions", "count"], ["delay", "nanoseconds"]];
    let profiles = types.map(|[kind, unit]| {
        profile(&mut batch, [kind, unit, "contentions", "count"], 1, &[(&["a"], &[], 3)])
    });
    resource(&mut batch, &[], profiles.to_vec());
    let read = pprof::decode(&pprof::encode(&batch).unwrap()).unwrap();
    let built = build(&read, &Config::default());
    let sent = pprof::decode(&built.pushes[0].profile).unwrap();
    assert_eq!(sample_types(&sent), sample_types(&read));
    assert_eq!(sample_types(&sent).len(), 2);
}

/// Scenario: labels of samples: wanted ones, too many different ones, links, one that the series has.
/// Guarantees: series stay few, values are kept, the labels of the series win.
#[test]
fn labels_of_samples_are_bounded() {
    let mut batch = Profiles::new();
    let values: Vec<String> = (0..300).map(|at| format!("v{at}")).collect();
    let labels: Vec<[(&str, &str); 2]> =
        values.iter().map(|value| [("endpoint", value.as_str()), ("region", "eu")]).collect();
    let samples: Vec<(&[&str], super::Labels<'_>, i64)> =
        labels.iter().map(|labels| (&["a"][..], &labels[..], 1)).collect();
    let cpu = profile(&mut batch, CPU, 1, &samples);
    resource(&mut batch, &[("service.name", "x"), ("region", "us")], vec![cpu]);
    let built = build(&batch, &Config::default());
    assert_eq!((built.pushes.len(), built.unlabelled), (1, 100));
    assert_eq!(sum(&built, "cpu a"), 300);
    let decoded = profpipe_formats::pprof::decode(&built.pushes[0].profile).unwrap();
    assert_eq!(decoded.sample_count(), 201);
    let tables = &decoded.dictionary;
    let keys: Vec<_> = (1..tables.attributes.len() as u32)
        .map(|row| tables.strings.get(tables.attributes.key(tables.attributes.check(row).unwrap())))
        .collect();
    assert!(keys.iter().all(|key| *key == "endpoint"), "{keys:?}");
}

/// Scenario: a sample with a link to a span.
/// Guarantees: its ids are labels in hex.
#[test]
fn links_become_labels() {
    let mut batch = Profiles::new();
    let mut cpu = profile(&mut batch, CPU, 1, &[]);
    let (link, stack) = (link(&mut batch), stack(&mut batch, &["a"]));
    cpu.samples.push(SampleRef { stack, link, values: &[2], ..SampleRef::default() });
    resource(&mut batch, &[], vec![cpu]);
    let built = build(&batch, &Config::default());
    let text = String::from_utf8_lossy(&built.pushes[0].profile).into_owned();
    assert!(text.contains("span_id") && text.contains("0202020202020202"), "{text}");
}

/// Scenario: Datadog's labels of spans, in decimal, one that is no number, and an id in hex by its own
/// name.
/// Guarantees: the server, which reads `span_id` in hex, gets the number that was meant, or none.
#[test]
fn decimal_span_ids_become_hex() {
    let mut batch = Profiles::new();
    let labels = [
        [("span id", "77"), ("local root span id", "18446744073709551615")],
        [("span id", "none"), ("local root span id", "1")],
        [("span_id", "00000000000000ff"), ("local root span id", "1")],
    ];
    let samples: Vec<(&[&str], super::Labels<'_>, i64)> =
        labels.iter().map(|labels| (&["a"][..], &labels[..], 1)).collect();
    let cpu = profile(&mut batch, CPU, 1, &samples);
    resource(&mut batch, &[], vec![cpu]);
    let built = build(&batch, &Config::default());
    assert_eq!(sum(&built, "cpu a"), 3);
    let decoded = profpipe_formats::pprof::decode(&built.pushes[0].profile).unwrap();
    let tables = &decoded.dictionary;
    let mut ids: Vec<_> = (1..tables.attributes.len() as u32)
        .map(|row| tables.attributes.check(row).unwrap())
        .filter(|row| tables.strings.get(tables.attributes.key(*row)) == "span_id")
        .map(|row| tables.attributes.value(row).as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["000000000000004d", "00000000000000ff"]);
}

/// Scenario: values of zero and below, and timestamps instead of values.
/// Guarantees: what no server keeps is left out and counted; timestamps count.
#[test]
fn what_no_server_takes_is_left_out() {
    let mut batch = Profiles::new();
    let mut cpu =
        profile(&mut batch, CPU, 1, &[(&["a"], &[], 0), (&["a"], &[], -4), (&["b"], &[], 6)]);
    let stack = stack(&mut batch, &["c"]);
    let times = [1, 2, 3];
    cpu.samples.push(SampleRef { stack, timestamps_unix_nano: &times, ..SampleRef::default() });
    resource(&mut batch, &[], vec![cpu]);
    let built = build(&batch, &Config::default());
    assert_eq!((built.empty, built.negative), (1, 1));
    assert_eq!(sums(&built), [("cpu b".to_owned(), 6), ("cpu c".to_owned(), 3)]);
    let mut batch = Profiles::new();
    let cpu = profile(&mut batch, CPU, 1, &[(&["a"], &[], 0)]);
    resource(&mut batch, &[], vec![cpu]);
    assert!(build(&batch, &Config::default()).pushes.is_empty());
}

/// Scenario: more samples and more bytes than a profile may have.
/// Guarantees: several profiles within the limits, with the same sum, and different times.
#[test]
fn large_profiles_are_split() {
    let mut batch = Profiles::new();
    let names: Vec<String> = (0..5000).map(|at| format!("{}{at}", "function".repeat(20))).collect();
    let stacks: Vec<[&str; 2]> = names.iter().map(|name| [name.as_str(), "main"]).collect();
    let samples: Vec<(&[&str], super::Labels<'_>, i64)> =
        stacks.iter().map(|stack| (&stack[..], &[][..], 7)).collect();
    let cpu = profile(&mut batch, CPU, 1, &samples);
    resource(&mut batch, &[], vec![cpu]);
    for (bytes, samples) in [(100_000, 16_000), (10_000_000, 1000), (300, 3)] {
        let config = Config {
            max_profile_size: ByteSize(bytes),
            max_profile_samples: samples,
            ..Config::default()
        };
        let built = build(&batch, &config);
        assert!(built.pushes.len() >= 5);
        assert_eq!(sums(&built).iter().map(|(_, sum)| sum).sum::<i64>(), 35_000);
        assert_eq!(built.pushes.iter().map(|push| push.samples).sum::<u64>(), 5000);
        for push in &built.pushes {
            assert!(push.samples <= samples as u64);
            assert!(push.profile.len() as u64 <= bytes || push.samples == 1);
        }
        let attempt = Progress::default().begin(&built.pushes, 5);
        let mut times: Vec<_> = attempt.times.iter().map(|time| time / 1_000_000).collect();
        times.dedup();
        assert_eq!(times.len(), built.pushes.len());
    }
}

/// Scenario: a recursion deeper than any server keeps, and a name longer than any server keeps.
/// Guarantees: leaf and root stay, what is between is one frame; the end of the name stays.
#[test]
fn deep_stacks_keep_both_ends() {
    let mut batch = Profiles::new();
    let long = format!("{}end", "x".repeat(70_000));
    let mut names = vec!["leaf"];
    names.extend(std::iter::repeat_n("recursion", 3000));
    names.extend([long.as_str(), "main"]);
    let cpu = profile(&mut batch, CPU, 1, &[(&names, &[], 9)]);
    resource(&mut batch, &[], vec![cpu]);
    let built = build(&batch, &Config::default());
    let decoded = profpipe_formats::pprof::decode(&built.pushes[0].profile).unwrap();
    let tables = &decoded.dictionary;
    let row = decoded.iter().next().unwrap().2.samples.get(0).stack;
    let name = |at: usize| {
        let location = tables.stacks.get(row)[at];
        let function = tables.locations.get(location).lines[0].function;
        tables.strings.get(tables.functions.get(function).name)
    };
    assert_eq!(tables.stacks.get(row).len(), 1000);
    assert_eq!((name(0), name(500), name(999)), ("leaf", "[truncated]", "main"));
    assert_eq!(name(998).len(), 65_535);
    assert!(name(998).ends_with("xend"));
}

/// Scenario: a frame without a name, sent by name and by address.
/// Guarantees: `module+0xoffset`, or no line at all.
#[test]
fn frames_without_a_name_get_one() {
    let mut batch = Profiles::new();
    let mut cpu = profile(&mut batch, CPU, 1, &[]);
    let tables = &mut batch.dictionary;
    let filename = tables.strings.intern("/usr/lib/libx.so");
    let mapping = tables.mappings.intern(MappingRef {
        memory_start: 0x1000,
        memory_limit: 0x2000,
        file_offset: 0x200,
        filename,
        ..MappingRef::default()
    });
    let location =
        tables.locations.intern(LocationRef { mapping, address: 0x1010, ..LocationRef::default() });
    let stack: StackIx = tables.stacks.intern(&[location]);
    cpu.samples.push(SampleRef { stack, values: &[2], ..SampleRef::default() });
    resource(&mut batch, &[], vec![cpu]);
    assert_eq!(sum(&build(&batch, &Config::default()), "cpu libx.so+0x210"), 2);
    let config = Config { unsymbolized: Unsymbolized::Address, ..Config::default() };
    let built = build(&batch, &config);
    let decoded = profpipe_formats::pprof::decode(&built.pushes[0].profile).unwrap();
    let locations: Vec<_> = decoded.dictionary.locations.iter().skip(1).collect();
    assert_eq!(locations.len(), 1);
    assert_eq!((locations[0].lines.len(), locations[0].address), (0, 0x1010));
}

/// Scenario: profiles that came from Pyroscope's clients: blocking, cumulative memory.
/// Guarantees: they are called as before, and only what is cumulative is left to the server.
#[test]
fn what_came_from_pyroscope_keeps_its_name() {
    let mut batch = Profiles::new();
    let delay = ["delay", "nanoseconds", "contentions", "count"];
    let mut block = profile(&mut batch, delay, 1, &[(&["a"], &[], 5)]);
    let tables = &mut batch.dictionary;
    for (key, value) in [(PROFILE_NAME, Value::from("block")), (PROFILE_CUMULATIVE, true.into())] {
        let key = tables.strings.intern(key);
        block.attributes.push(tables.attributes.intern(key, value, StringIx::NONE));
    }
    resource(&mut batch, &[], vec![block]);
    let built = build(&batch, &Config::default());
    assert_eq!(built.pushes[0].labels["__name__"], "block");
    assert!(!built.pushes[0].labels.contains_key("__delta__"));
}

/// Scenario: a batch is taken up again after a part of it was stored; then an equal batch comes.
/// Guarantees: the stored part is known, with its times; what got through is forgotten.
#[test]
fn progress_is_kept_between_attempts() {
    let mut batch = Profiles::new();
    for service in ["x", "y"] {
        let cpu = profile(&mut batch, CPU, 1, &[(&["a"], &[], 5)]);
        resource(&mut batch, &[("service.name", service)], vec![cpu]);
    }
    let pushes = build(&batch, &Config::default()).pushes;
    let progress = Progress::default();
    let mut first = progress.begin(&pushes, 1);
    let times = first.times.clone();
    first.states[1] = State::Stored;
    progress.keep(first);
    let again = build(&batch, &Config::default()).pushes;
    let mut second = progress.begin(&again, 2);
    assert_eq!(second.states, [State::Pending, State::Stored]);
    assert_eq!(second.times, times);
    second.states[0] = State::Stored;
    progress.keep(second);
    let third = progress.begin(&again, 3);
    assert_eq!(third.states, [State::Pending, State::Pending]);
    assert!(third.times.iter().zip(&times).all(|(new, old)| new > old), "{:?}", third.times);
}

/// Scenario: profiles without a time, and with one that no clock shows.
/// Guarantees: they are sent as of now, each with a time of its own.
#[test]
fn times_that_no_clock_shows_become_now() {
    let mut batch = Profiles::new();
    for time in [0, 0, u64::MAX, u64::MAX] {
        let mut cpu = profile(&mut batch, CPU, 1, &[(&["a"], &[], 5)]);
        cpu.time_unix_nano = time;
        cpu.duration_nano = time.wrapping_add(batch.resources.len() as u64);
        resource(&mut batch, &[], vec![cpu]);
    }
    let pushes = build(&batch, &Config::default()).pushes;
    let attempt = Progress::default().begin(&pushes, 7_000_000);
    assert_eq!(attempt.times, [7_000_000, 8_000_000, 9_000_000, 10_000_000]);
}
