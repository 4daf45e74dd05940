#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Outbox, Processor, ProcessorConfig, Setup};
use profpipe_pipeline::config::Section;
use profpipe_pipeline::engine::Services;
use profpipe_pipeline::profile::{
    Dictionary, Function, Line, LocationIx, LocationRef, MappingRef, Profile, Profiles,
    ResourceProfiles, SampleRef, ScopeProfiles, StackIx, StringIx, Value, ValueType,
};
use profpipe_pipeline::telemetry::Metrics;

use super::Config;

/// A processor of this configuration, with the counters that it keeps.
fn processor(text: &str) -> (Box<dyn Processor>, Arc<Metrics>) {
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
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
