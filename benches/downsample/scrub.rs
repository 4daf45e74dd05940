//! Makes test data of a recording:
//! `cargo bench --bench downsample -- --scrub recording.otlp compile.otlp.gz compile`, and then
//! `gunzip compile.otlp.gz && xz -9e compile.otlp`.
//!
//! A recording tells much of the machine and the people on it. What stays: function names (in which
//! a path becomes its last part), the base names of mapped files for code that has no name, weights.
//! What goes: resources and their attributes, host, users, processes, threads, paths of programs and
//! sources, addresses of named code, build ids, times. Samples that are then the same become one.
//! Stacks are written in the order of their paths, which compresses best.

use std::collections::BTreeMap;
use std::path::Path;

use profpipe_formats::otlp;
use profpipe_profile::{
    Function, Index, Line, LocationRef, MappingRef, Profile, Profiles, Resource, ResourceProfiles,
    SampleRef, ScopeProfiles,
};

/// The last part of every path in a text.
fn base_names(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        if word.contains("::") || !word.contains('/') {
            return word;
        }
        word.rsplit('/').next().unwrap_or(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

pub(crate) fn scrub(input: &Path, output: &Path, name: &str) {
    let recording = otlp::decode(&std::fs::read(input).unwrap()).unwrap();
    let from = &recording.dictionary;
    let mut clean = Profiles::new();
    let to = &mut clean.dictionary;
    let mut sums: BTreeMap<Vec<u32>, i64> = BTreeMap::new();
    let is_cpu = |profile: &&Profile| from.strings.get(profile.sample_type.kind) == "cpu";
    for profile in recording.iter().map(|(_, _, profile)| profile).filter(is_cpu) {
        for sample in profile.samples.iter() {
            let path = from.stacks.get(sample.stack).iter().rev().map(|location| {
                let location = from.locations.get(*location);
                let lines: Vec<Line> = location
                    .lines
                    .iter()
                    .map(|line| {
                        let name = from.functions.get(line.function).name;
                        let name = to.strings.intern(&base_names(from.strings.get(name)));
                        let function =
                            to.functions.intern(Function { name, ..Function::default() });
                        Line { function, ..Line::default() }
                    })
                    .collect();
                if !lines.is_empty() {
                    let location = LocationRef { lines: &lines, ..LocationRef::default() };
                    return to.locations.intern(location).raw();
                }
                let file = from.strings.get(from.mappings.get(location.mapping).filename);
                let filename = to.strings.intern(file.rsplit('/').next().unwrap_or(file));
                let mapping = to.mappings.intern(MappingRef { filename, ..MappingRef::default() });
                let address = location.address;
                to.locations
                    .intern(LocationRef { mapping, address, ..LocationRef::default() })
                    .raw()
            });
            *sums.entry(path.collect()).or_default() += sample.weight();
        }
    }
    let mut profile = Profile { period: 1_001_001, ..Profile::default() };
    profile.sample_type.kind = to.strings.intern("cpu");
    profile.sample_type.unit = to.strings.intern("nanoseconds");
    profile.period_type = profile.sample_type;
    for (path, weight) in sums {
        let locations: Vec<_> =
            path.iter().rev().map(|location| to.locations.check(*location).unwrap()).collect();
        let stack = to.stacks.intern(&locations);
        profile.samples.push(SampleRef { stack, values: &[weight], ..SampleRef::default() });
    }
    let mut resource = Resource::default();
    resource.set("service.name", name);
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    clean.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    let packed = crate::packed(&clean);
    println!("{}: {} stacks, {} bytes", output.display(), clean.sample_count(), packed.len());
    std::fs::write(output, packed).unwrap();
}
