#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::filter::metric_names;
use std::sync::Arc;

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Outbox, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_engine::telemetry::Metrics;
use profpipe_profile::{
    Dictionary, Function, Line, LocationIx, LocationRef, MappingRef, Profile, Profiles,
    ResourceProfiles, SampleRef, ScopeProfiles, StackIx, StringIx, Value, ValueType,
};

use proptest::prelude::*;

use super::Config;

/// A processor of this configuration, with the counters that it keeps.
fn processor(text: &str) -> (Box<dyn Processor>, Arc<Metrics>) {
    let text = format!("{{{text}}}");
    let config: Config = Section::from_yaml(&text).unwrap().read_valid().unwrap();
    let services = Services::default();
    let metrics = Arc::clone(&services.metrics);
    (config.build(&Setup::new("filter", services)).unwrap(), metrics)
}

/// What a configuration leaves of a batch; nothing if it drops it.
fn filtered(text: &str, batch: Batch) -> Option<Batch> {
    let mut out = Outbox::default();
    processor(text).0.process(batch, &mut out).unwrap();
    let left: Vec<Batch> = out.drain().collect();
    assert!(left.len() < 2);
    left.into_iter().next()
}

/// Puts together a batch.
#[derive(Default)]
struct Builder(Profiles);

impl Builder {
    fn dictionary(&mut self) -> &mut Dictionary {
        &mut self.0.dictionary
    }

    /// A stack of functions, root first; `a+b` are two lines of one location, `b` inlined in `a`.
    fn stack(&mut self, frames: &str) -> StackIx {
        let dictionary = self.dictionary();
        let filename = dictionary.strings.intern("/usr/bin/shop");
        let mapping = dictionary.mappings.intern(MappingRef { filename, ..MappingRef::default() });
        let mut stack: Vec<LocationIx> = frames
            .split_whitespace()
            .map(|frame| {
                let mut lines: Vec<Line> = frame
                    .split('+')
                    .map(|name| {
                        let filename = dictionary.strings.intern(&format!("src/{name}.rs"));
                        let name = dictionary.strings.intern(name);
                        let function = dictionary.functions.intern(Function {
                            name,
                            system_name: name,
                            filename,
                            start_line: 1,
                        });
                        Line { function, line: 7, column: 0 }
                    })
                    .collect();
                lines.reverse();
                let location = LocationRef { mapping, lines: &lines, ..LocationRef::default() };
                dictionary.locations.intern(location)
            })
            .collect();
        stack.reverse();
        dictionary.stacks.intern(&stack)
    }

    /// A resource with a profile of each type, whose samples have a stack, a thread and a value.
    fn resource(&mut self, service: &str, types: &[(&str, &str)], samples: &[(&str, &str, i64)]) {
        let mut group = ResourceProfiles::default();
        group.resource.set("service.name", service);
        let mut scope = ScopeProfiles::default();
        scope.scope.name = "profpipe".to_owned();
        for (kind, unit) in types {
            let mut profile = Profile::default();
            let strings = &mut self.dictionary().strings;
            profile.sample_type =
                ValueType { kind: strings.intern(kind), unit: strings.intern(unit) };
            for (stack, thread, value) in samples {
                let stack = self.stack(stack);
                let dictionary = self.dictionary();
                let key = dictionary.strings.intern("thread.name");
                let row =
                    dictionary.attributes.intern(key, Value::from(*thread), StringIx::default());
                let attributes = if thread.is_empty() { vec![] } else { vec![row] };
                profile.samples.push(SampleRef {
                    stack,
                    attributes: &attributes,
                    values: &[*value],
                    ..SampleRef::default()
                });
            }
            scope.profiles.push(profile);
        }
        group.scopes.push(scope);
        self.0.resources.push(group);
    }

    fn batch(self) -> Batch {
        Batch::new(self.0)
    }
}

const CPU: (&str, &str) = ("cpu", "nanoseconds");
const SAMPLES: (&str, &str) = ("samples", "count");

/// Two services, of which one has two types, three threads and inlined functions.
fn usual() -> Batch {
    let mut builder = Builder::default();
    builder.resource(
        "shop",
        &[SAMPLES, CPU],
        &[("main serve parse+read", "http", 3), ("main gc", "GC worker", 5), ("main idle", "", 7)],
    );
    builder.resource("load-test", &[CPU], &[("main fire", "http", 11)]);
    builder.batch()
}

/// A batch as text: one line for each sample, `service type root;…;leaf thread value`.
fn shown(batch: Option<Batch>) -> Vec<String> {
    let Some(mut batch) = batch else { return Vec::new() };
    let profiles = batch.profiles().unwrap();
    let Dictionary { strings, attributes, functions, locations, stacks, .. } = &profiles.dictionary;
    let mut lines = Vec::new();
    for (resource, _, profile) in profiles.iter() {
        for sample in profile.samples.iter() {
            let stack: Vec<String> = stacks
                .get(sample.stack)
                .iter()
                .rev()
                .map(|row| {
                    let lines = locations.get(*row).lines.iter().rev();
                    let names = lines.map(|line| strings.get(functions.get(line.function).name));
                    names.collect::<Vec<_>>().join("+")
                })
                .collect();
            let threads: Vec<String> = sample
                .attributes
                .iter()
                .map(|row| attributes.value(*row).as_str().unwrap().to_owned())
                .collect();
            lines.push(format!(
                "{} {} {} {} {}",
                resource.get("service.name").and_then(Value::as_str).unwrap_or("?"),
                strings.get(profile.sample_type.kind),
                stack.join(";"),
                threads.join(","),
                sample.weight()
            ));
        }
    }
    lines
}

/// Scenario: conditions of every level, in each of the ways to write them.
/// Guarantees: what one of them holds for is gone, the rest is as it was; what is empty thereby goes
/// too.
#[test]
fn what_a_condition_holds_for_is_dropped() {
    let all = shown(Some(usual()));
    let without = |gone: &str| -> Vec<String> {
        all.iter().filter(|line| !line.contains(gone)).cloned().collect()
    };
    for (config, gone) in [
        (
            "profile_conditions: ['resource.attributes[\"service.name\"] == \"load-test\"']",
            "load-test",
        ),
        ("profiles: {resource: ['attributes[\"service.name\"] == \"load-test\"']}", "load-test"),
        (
            "profile_conditions: [{context: resource, conditions: ['attributes[\"service.name\"] != \
             \"shop\"'], error_mode: silent}]",
            "load-test",
        ),
        ("profiles: {profile: ['profile.sample_type.type == \"samples\"']}", " samples "),
        ("profile_conditions: ['profile.sample_type.unit == \"count\"']", " samples "),
        ("profiles: {sample: ['IsMatch(attributes[\"thread.name\"], \"^GC\")']}", "GC"),
        ("profile_conditions: ['sample.attributes[\"thread.name\"] == \"GC worker\"']", "GC"),
        ("profiles: {sample: ['AnyFrame(frame.function.name == \"parse\")']}", "parse"),
        ("profiles: {sample: ['LeafFrame(frame.function.name == \"read\")']}", "read"),
        ("profiles: {sample: ['sample.value == 7']}", " 7"),
        ("keep_resources: ['attributes[\"service.name\"] == \"shop\"']", "load-test"),
        ("keep_profiles: ['profile.sample_type.type == \"cpu\"']", " samples "),
        ("keep_samples: ['not AnyFrame(frame.file == \"src/idle.rs\")']", "idle"),
        ("profiles: {scope: ['name == \"other\"']}", "nothing"),
    ] {
        assert_eq!(shown(filtered(config, usual())), without(gone), "{config}");
    }
    let everything = "profile_conditions: ['RootFrameless == 1']";
    assert!(Section::from_yaml(everything).unwrap().read_valid::<Config>().is_err());
    for config in ["profile_conditions: ['true']", "keep_samples: ['false']"] {
        assert!(filtered(config, usual()).is_none(), "{config}");
    }
}

/// Scenario: conditions for frames, with inlined ones: dropped with what they call, hidden alone, kept
/// as exceptions; all frames of a stack, and none.
/// Guarantees: as pprof's `drop_frames` and `hide`; values and samples stay.
#[test]
fn frames_are_left_out_of_stacks() {
    let shop = |stacks: [&str; 3]| -> Vec<String> {
        let of = |kind: &str| {
            let ends = [" http 3", " GC worker 5", "  7"];
            let lines =
                stacks.iter().zip(ends).map(|(stack, end)| format!("shop {kind} {stack}{end}"));
            lines.collect::<Vec<_>>()
        };
        [of("samples"), of("cpu"), vec!["load-test cpu main;fire http 11".to_owned()]].concat()
    };
    for (config, stacks) in [
        ("drop_frames: ['frame.function.name == \"serve\"']", ["main", "main;gc", "main;idle"]),
        (
            "drop_frames: ['frame.function.name == \"read\"']",
            ["main;serve;parse", "main;gc", "main;idle"],
        ),
        (
            "hide_frames: ['frame.function.name == \"parse\"']",
            ["main;serve;read", "main;gc", "main;idle"],
        ),
        (
            "hide_frames: ['frame.file == \"src/serve.rs\"', 'frame.function.name == \"gc\"']",
            ["main;parse+read", "main", "main;idle"],
        ),
        (
            "hide_frames: ['mapping.filename == \"/usr/bin/shop\"'], keep_frames: \
             ['not IsMatch(frame.function.name, \"^(main|read)$\")']",
            ["serve;parse", "gc", "idle"],
        ),
        // From the root on everything matches, so that nothing is dropped, as in pprof.
        (
            "drop_frames: ['IsMatch(frame.function.name, \"^(main|gc)$\")']",
            ["main;serve;parse+read", "main;gc", "main;idle"],
        ),
    ] {
        let mut expected = shop(stacks);
        if config.contains("mapping") {
            expected[6] = "load-test cpu fire http 11".to_owned();
        }
        assert_eq!(shown(filtered(config, usual())), expected, "{config}");
    }
    let everything = "hide_frames: ['true']";
    assert_eq!(
        shown(filtered(everything, usual())),
        shop(["", "", ""]).iter().map(|line| line.replace("main;fire", "")).collect::<Vec<_>>()
    );
}

/// Scenario: names and attributes that must not leave, in every place, and an original payload.
/// Guarantees: they are replaced there, and in no other place; the batch as it is sent has none of them.
#[test]
fn texts_are_redacted() {
    let build = || {
        let mut builder = Builder::default();
        builder.resource("customer_acme", &[CPU], &[("main customer_acme", "customer_acme 7", 3)]);
        let group = &mut builder.0.resources[0];
        group.resource.set("process.command_line", "app --token=s3cret -v");
        group.scopes[0].profiles[0].original_payload = b"customer_acme".as_slice().into();
        builder.batch()
    };
    let config = "redact: [{in: [function, file, attributes, resource_attributes], pattern: \
                  'customer_[a-z]+', replacement: 'customer_x'}, {in: [resource_attributes], key: \
                  'process\\..*', pattern: '--(token|key)=\\S+', replacement: '--$1=…'}]";
    let config = config.replace("\\\\", "\\");
    let mut batch = filtered(&config, build()).unwrap();
    let resource = &batch.profiles().unwrap().resources[0].resource;
    assert_eq!(resource.get("process.command_line"), Some(&Value::from("app --token=… -v")));
    let sent = batch.to_otlp();
    let has = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!has("acme") && !has("s3cret") && has("src/customer_x.rs"));
    assert_eq!(shown(Some(batch)), ["customer_x cpu main;customer_x customer_x 7 3"]);
    let elsewhere = "redact: [{in: [mapping, scope_attributes], pattern: acme, replacement: x}]";
    let left = shown(filtered(elsewhere, build()));
    assert_eq!(left, ["customer_acme cpu main;customer_acme customer_acme 7 3"]);
}

/// Scenario: what was dropped, looked for in the batch as it is sent.
/// Guarantees: no text of it is in any table.
#[test]
fn what_is_dropped_does_not_leave() {
    let config = "profile_conditions: ['AnyFrame(frame.function.name == \"gc\")']";
    let sent = filtered(config, usual()).unwrap().to_otlp();
    let has = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!has("src/gc.rs") && !has("GC worker") && has("src/idle.rs"));
}

/// Scenario: conditions that drop samples of several types, and a whole resource.
/// Guarantees: samples and sums of values are counted by condition, by type where it is a usual one.
#[test]
fn what_was_dropped_is_counted() {
    let config = "profile_conditions: ['sample.attributes[\"thread.name\"] == \"http\"'], \
                  keep_resources: ['attributes[\"service.name\"] == \"shop\"']";
    let (mut filter, metrics) = processor(config);
    filter.process(usual(), &mut Outbox::default()).unwrap();
    let read = |name: &str| -> Vec<(String, u64)> {
        let readings = metrics.readings().into_iter().filter(|reading| reading.name == name);
        readings
            .map(|reading| {
                let labels: Vec<String> =
                    reading.labels.iter().map(|(_, value)| value.clone()).collect();
                (labels.join(" "), reading.value)
            })
            .collect()
    };
    let count = |at: &str, value| (at.to_owned(), value);
    assert_eq!(
        read(metric_names::DROPPED_SAMPLES),
        [count("keep_resources", 1), count("profile_conditions::0", 2)]
    );
    assert_eq!(
        read(metric_names::DROPPED_VALUE),
        [
            count("keep_resources cpu/nanoseconds", 11),
            count("profile_conditions::0 cpu/nanoseconds", 3),
            count("profile_conditions::0 samples/count", 3),
        ]
    );
}

/// Scenario: a condition that has no answer for some samples, in every mode; one in a `keep` list.
/// Guarantees: `propagate` rejects the batch, the others go on with the next condition; what has no
/// answer drops nothing.
#[test]
fn conditions_without_an_answer() {
    let conditions = "profiles: {sample: ['ToLowerCase(attributes[\"thread.name\"]) == \"http\"', \
                      'sample.value == 7']}";
    let (mut filter, metrics) = processor(conditions);
    let error = filter.process(usual(), &mut Outbox::default()).unwrap_err();
    assert_eq!(error.chain(), "profiles::sample::0: expected a text, found nil");
    assert_eq!(metrics.total(metric_names::CONDITION_ERRORS), 1);
    for mode in ["ignore", "silent"] {
        let left = shown(filtered(&format!("error_mode: {mode}, {conditions}"), usual()));
        assert_eq!(left, ["shop samples main;gc GC worker 5", "shop cpu main;gc GC worker 5"]);
    }
    let keep = "error_mode: silent, keep_samples: ['ToLowerCase(attributes[\"thread.name\"]) == \
                \"http\"']";
    assert_eq!(shown(filtered(keep, usual())).len(), 5);
}

/// Scenario: conditions only about resources, and a batch that is still bytes.
/// Guarantees: it goes on as the same bytes if it loses nothing; if it does, what is left is right.
#[test]
fn bytes_stay_bytes() {
    let wire = usual().to_otlp();
    let config = |service: &str| {
        format!("profile_conditions: ['resource.attributes[\"service.name\"] == \"{service}\"']")
    };
    let left = filtered(&config("nobody"), Batch::from_wire(wire.clone())).unwrap();
    assert_eq!(left.wire(), Some(&wire));
    assert_eq!(processor(&config("nobody")).0.wants(), Access::Resources);
    let left = filtered(&config("shop"), Batch::from_wire(wire.clone()));
    assert_eq!(shown(left), ["load-test cpu main;fire http 11"]);
    assert!(filtered("profile_conditions: ['true']", Batch::from_wire(wire)).is_none());
    let broken = Batch::from_wire(b"no request".as_slice().into());
    assert!(processor(&config("x")).0.process(broken, &mut Outbox::default()).is_err());
}

/// Scenario: a configuration with a mistake of each kind.
/// Guarantees: each at its place, with what is wrong and what could stand there.
#[test]
fn mistakes_are_told() {
    for (wrong, at, says) in [
        (
            "profile_conditions: ['attributes[\"a\"] == 1']",
            "profile_conditions::0",
            "write `resource.attributes`",
        ),
        ("profiles: {resource: ['sample.value > 1']}", "profiles::resource::0", "too deep"),
        (
            "keep_profiles: ['x']",
            "keep_profiles::0",
            "`x` is not known here; use resource.attributes",
        ),
        ("drop_frames: ['resource.attributes[\"a\"] == nil']", "drop_frames::0", "not of a frame"),
        (
            "profile_conditions: [{context: sample, conditions: ['true', 'a b']}]",
            "profile_conditions::0::conditions::1",
            "`a` is not known",
        ),
        ("redact: [{pattern: a}]", "redact::0", "needs `in`"),
        ("redact: [{in: [function], pattern: '('}]", "redact::0::pattern", "regular expression"),
        ("redact: [{in: [function], pattern: a, key: b}]", "redact::0::key", "only attributes"),
        ("error_mode: loud", "error_mode", "loud"),
    ] {
        let section = Section::from_yaml(&format!("{{{wrong}}}")).unwrap();
        let errors = section.read_valid::<Config>().unwrap_err();
        assert_eq!(errors[0].path, at, "{errors:?}");
        assert!(errors[0].message.contains(says), "{errors:?}");
        assert_eq!(errors[0].line, 1);
    }
    let text = "\
profile_conditions:
  - resource.attributes[\"a\"] = 1
  - 'scope.name == nil and sample.valu > 1'
keep_frames: [\"frame.line == 1x\"]
profiles:
  sample:
    - |
      true or
      false
    - >-
      sample.value >
      true true
";
    let errors = Section::from_yaml(text).unwrap().read_valid::<Config>().unwrap_err();
    let places: Vec<(usize, usize)> =
        errors.iter().map(|error| (error.line, error.column)).collect();
    // Of what is folded it is not known where its characters stood, but where it begins.
    assert_eq!(places, [(2, 30), (3, 28), (11, 7), (4, 30)], "{errors:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: batches of many samples that share stacks, threads and functions, through conditions of
    /// every kind together.
    /// Guarantees: what stays, and as what, is what would stay if each sample were alone: nothing that
    /// is remembered for one is taken for another.
    #[test]
    fn samples_do_not_disturb_each_other(
        samples in prop::collection::vec((
            prop::sample::select(vec!["main", "main serve", "main serve parse+read", "main gc", "a+b c", ""]),
            prop::sample::select(vec!["", "http", "GC worker", "main"]),
            0_i64..4,
        ), 1..30),
        services in prop::collection::vec(prop::sample::select(vec!["shop", "other"]), 1..4),
        conditions in prop::collection::vec(prop::sample::select(vec![
            r#"sample.attributes["thread.name"] == "http""#,
            r#"sample.attributes["thread.name"] == nil and resource.attributes["service.name"] == "shop""#,
            r#"not AnyFrame(HasPrefix(frame.file, "src/") and frame.function.name != "gc")"#,
            r#"LeafFrame(frame.function.name == "read") or RootFrame(frame.function.name == "a")"#,
            r#"sample.value > 1 and sample.depth < 2"#,
            r#"resource.attributes["service.name"] == sample.attributes["thread.name"]"#,
            r#"AnyFrame(frame.function.name == frame.file or mapping.filename == nil)"#,
        ]), 1..4),
        frames in prop::sample::select(vec![
            "", ", hide_frames: ['frame.function.name == \"serve\"']",
            ", drop_frames: ['frame.function.name == \"read\"', 'IsMatch(frame.file, \"gc\")']",
        ]),
    ) {
        let quoted: Vec<String> = conditions.iter().map(|text| format!("'{text}'")).collect();
        let config = format!("error_mode: silent, profile_conditions: [{}]{frames}", quoted.join(", "));
        let mut builder = Builder::default();
        let mut alone = Vec::new();
        for service in services {
            builder.resource(service, &[CPU], &samples);
            for sample in &samples {
                let mut one = Builder::default();
                one.resource(service, &[CPU], &[*sample]);
                alone.extend(shown(filtered(&config, one.batch())));
            }
        }
        let whole = builder.batch();
        prop_assert_eq!(shown(filtered(&config, whole.clone())), alone.clone());
        let wire = Batch::from_wire(whole.to_otlp());
        prop_assert_eq!(shown(filtered(&config, wire)), alone);
    }
}
