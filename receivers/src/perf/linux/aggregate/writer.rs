//! The tables of one window: what was added up, with the stacks, mappings and processes that it refers
//! to.

use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::{HashMap, HashSet};
use profpipe_engine::modules::{JIT, KERNEL, VDSO};
use profpipe_engine::overhead::checkpoint;
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, BUILD_ID_HTLHASH, FRAME_TYPE, PROCESS_PID, SAMPLES_LOST,
    STACK_STATE, THREAD_ID, THREAD_NAME,
};
use profpipe_profile::{
    AttributeIx, LocationIx, LocationRef, MappingIx, MappingRef, Profile, Profiles, Resource,
    ResourceProfiles, SampleRef, ScopeProfiles, StackIx, StringIx, Value, ValueType,
};

use super::{Aggregation, Key, Row, Sum};
use crate::perf::linux::handoff::{FileFacts, Frame, KERNEL_ROW, RowIx, Source};
use crate::perf::linux::thread;
use crate::scope::own_scope;

/// Writes the tables of one window.
pub(crate) struct Writer<'a> {
    from: &'a Aggregation,
    profiles: Profiles,
    rows: HashMap<RowIx, MappingIx>,
    locations: HashMap<Frame, LocationIx, foldhash::fast::RandomState>,
    stacks: HashMap<u32, StackIx>,
    used: HashSet<RowIx>,
    kernel: AttributeIx,
    native: AttributeIx,
    samples: Profile,
    cpu: Profile,
    lost: u64,
    /// The start of the window by the monotonic clock.
    start: u64,
    /// Room for the times of a row, and for the values of both profiles.
    times: Vec<u64>,
    values: [Vec<i64>; 2],
}

impl<'a> Writer<'a> {
    pub(crate) fn new(from: &'a Aggregation, start: u64, end: u64, lost: u64) -> Self {
        let mut profiles = Profiles::new();
        let frame_type = profiles.dictionary.strings.intern(FRAME_TYPE);
        let attributes = &mut profiles.dictionary.attributes;
        let kernel = attributes.intern(frame_type, "kernel".into(), StringIx::NONE);
        let native = attributes.intern(frame_type, "native".into(), StringIx::NONE);
        let strings = &mut profiles.dictionary.strings;
        let mut kind =
            |kind, unit| ValueType { kind: strings.intern(kind), unit: strings.intern(unit) };
        let cpu_time = kind("cpu", "nanoseconds");
        let template = Profile {
            time_unix_nano: to_unix(start),
            duration_nano: end.saturating_sub(start),
            period_type: cpu_time,
            period: 1_000_000_000 / i64::from(from.frequency.max(1)),
            ..Profile::default()
        };
        Self {
            from,
            rows: HashMap::new(),
            locations: HashMap::default(),
            stacks: HashMap::new(),
            used: HashSet::new(),
            kernel,
            native,
            samples: Profile { sample_type: kind("samples", "count"), ..template.clone() },
            cpu: Profile { sample_type: cpu_time, ..template },
            profiles,
            lost,
            start,
            times: Vec::new(),
            values: [Vec::new(), Vec::new()],
        }
    }

    /// Writes the sums of one process.
    pub(crate) fn process(&mut self, sums: &[(Key, Sum)]) {
        checkpoint();
        let from = self.from;
        let Some((first, _)) = sums.first() else { return };
        let Some(process) = from.processes.get(&first.process) else { return };
        let (mut samples, mut cpu) = (self.samples.clone(), self.cpu.clone());
        samples.samples.reserve(sums.len());
        cpu.samples.reserve(sums.len());
        for of_thread in sums.chunk_by(|(a, _), (b, _)| (a.tid, a.name) == (b.tid, b.name)) {
            let Some((first, _)) = of_thread.first() else { continue };
            let names = process.threads.get(&first.tid);
            let name = names.map_or("", |names| names.name(first.name));
            let thread_name = self.attribute(THREAD_NAME, name.into());
            let thread_id = self.attribute(THREAD_ID, i64::from(first.tid).into());
            for (key, sum) in of_thread {
                let stack = self.stack(key.stack);
                let state =
                    key.unwound.state().map(|name| self.attribute(STACK_STATE, name.into()));
                let attributes = [thread_name, thread_id, state.unwrap_or(AttributeIx::NONE)];
                let attributes = attributes.get(..2 + usize::from(state.is_some()));
                let sample = SampleRef {
                    stack,
                    attributes: attributes.unwrap_or_default(),
                    ..SampleRef::default()
                };
                self.push_values(sum);
                let [counts, weights] = &self.values;
                let sample = SampleRef { timestamps_unix_nano: &self.times, ..sample };
                samples.samples.push(SampleRef { values: counts, ..sample });
                cpu.samples.push(SampleRef { values: weights, ..sample });
            }
        }
        self.push(process.resource.clone(), samples, cpu);
    }

    /// Fills the values of a row, and its times if they are kept.
    fn push_values(&mut self, sum: &Sum) {
        let weight = |weight: u64| i64::try_from(weight).unwrap_or(i64::MAX);
        let [counts, weights] = &mut self.values;
        counts.clear();
        weights.clear();
        self.times.clear();
        if sum.times.is_empty() {
            counts.push(sum.samples);
            weights.push(weight(sum.weight));
            return;
        }
        let (began, length) = (self.cpu.time_unix_nano, self.cpu.duration_nano);
        for (time, of_sample) in &sum.times {
            // A sample may have come a little before or after the window that it was counted in.
            let since = time.saturating_sub(self.start).min(length.saturating_sub(1));
            self.times.push(began.saturating_add(since));
            counts.push(1);
            weights.push(weight(*of_sample));
        }
    }

    fn push(&mut self, resource: Resource, mut samples: Profile, mut cpu: Profile) {
        // Losses are those of the host: the ring does not say whose samples it had no room for.
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let lost = self.attribute(SAMPLES_LOST, i64::try_from(lost).unwrap_or(i64::MAX).into());
            samples.attributes.push(lost);
            cpu.attributes.push(lost);
        }
        let scope = own_scope();
        let scopes =
            vec![ScopeProfiles { scope, profiles: vec![samples, cpu], ..Default::default() }];
        self.profiles.resources.push(ResourceProfiles { resource, scopes, ..Default::default() });
    }

    pub(crate) fn finish(mut self) -> (Profiles, HashSet<RowIx>) {
        if self.lost > 0 {
            // Everything was lost: say so on a profile of the host.
            let mut resource = Resource::default();
            resource.set(profpipe_profile::attribute_names::HOST_NAME, &*self.from.host);
            let (samples, cpu) = (self.samples.clone(), self.cpu.clone());
            self.push(resource, samples, cpu);
        }
        (self.profiles, self.used)
    }

    fn attribute(&mut self, key: &str, value: Value) -> AttributeIx {
        let dictionary = &mut self.profiles.dictionary;
        let key = dictionary.strings.intern(key);
        dictionary.attributes.intern(key, value, StringIx::NONE)
    }

    fn stack(&mut self, number: u32) -> StackIx {
        if let Some(stack) = self.stacks.get(&number) {
            return *stack;
        }
        let from = self.from;
        let frames = from.stacks.get(&number).map_or(&[][..], |frames| frames);
        let locations: Vec<_> = frames.iter().map(|frame| self.location(*frame)).collect();
        let stack = self.profiles.dictionary.stacks.intern(&locations);
        self.stacks.insert(number, stack);
        stack
    }

    fn location(&mut self, frame: Frame) -> LocationIx {
        if let Some(location) = self.locations.get(&frame) {
            return *location;
        }
        let mapping = self.mapping(frame.row);
        let kind = if frame.row == KERNEL_ROW { self.kernel } else { self.native };
        let location = self.profiles.dictionary.locations.intern(LocationRef {
            mapping,
            address: frame.address,
            lines: &[],
            attributes: &[kind],
        });
        self.locations.insert(frame, location);
        location
    }

    fn mapping(&mut self, row: RowIx) -> MappingIx {
        if let Some(mapping) = self.rows.get(&row) {
            return *mapping;
        }
        let from = self.from;
        let Some(Row { facts, .. }) = from.rows.get(&row) else { return MappingIx::NONE };
        self.used.insert(row);
        let mut attributes = Vec::new();
        let filename = match &facts.source {
            Source::Kernel => KERNEL,
            Source::Vdso(_) => VDSO,
            Source::Jit { pid } => {
                attributes.push(self.attribute(PROCESS_PID, i64::from(*pid).into()));
                JIT
            }
            Source::File(FileFacts { path, build_id, go_build_id, htlhash, .. }) => {
                let ids = [
                    (BUILD_ID_GNU, build_id),
                    (BUILD_ID_GO, go_build_id),
                    (BUILD_ID_HTLHASH, htlhash),
                ];
                for (key, id) in ids {
                    if let Some(id) = id {
                        attributes.push(self.attribute(key, id.as_str().into()));
                    }
                }
                path
            }
        };
        let filename = self.profiles.dictionary.strings.intern(filename);
        let mapping = self.profiles.dictionary.mappings.intern(MappingRef {
            memory_start: facts.memory_start,
            memory_limit: facts.memory_limit,
            file_offset: facts.file_offset,
            filename,
            attributes: &attributes,
        });
        self.rows.insert(row, mapping);
        mapping
    }
}

/// A time of the monotonic clock as time of the day.
fn to_unix(monotonic: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let elapsed = thread::now().saturating_sub(monotonic);
    now.saturating_sub(elapsed)
}
