//! The tables of one window: what was added up, with the stacks, mappings and processes that it refers
//! to.

use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::{HashMap, HashSet};
use profpipe_engine::modules::{JIT, KERNEL, VDSO};
use profpipe_engine::overhead::checkpoint;
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, BUILD_ID_HTLHASH, EVENT_MISSING, EVENT_PARTIAL, FRAME_TYPE,
    IO_OPERATION, PROCESS_PID, SAMPLES_LOST, STACK_STATE, THREAD_ID, THREAD_NAME, WAIT,
};
use profpipe_profile::{
    AttributeIx, Function, Line, LocationIx, LocationRef, MappingIx, MappingRef, Profile, Profiles,
    Resource, ResourceProfiles, SampleRef, ScopeProfiles, StackIx, StringIx, Value,
};

use super::threads::ThreadNames;
use super::types::{Measure, SampleType};
use super::{Aggregation, Key, Row, Sum};
use crate::perf::linux::handoff::{
    FileFacts, Frame, KERNEL_ROW, Label, NAMED_ROW, NO_THREAD, RowIx, Source,
};
use crate::perf::linux::runtimes::function::FunctionKey;
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
    /// Each sample type with a profile that has no samples.
    types: Vec<(SampleType, Profile)>,
    lost: u64,
    /// The window by the monotonic clock, and by that of the day.
    start: u64,
    began: u64,
    length: u64,
    /// Room for the times of a row, and for its values of both measures.
    times: Vec<u64>,
    values: [Vec<i64>; 2],
    attributes: Vec<AttributeIx>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(from: &'a Aggregation, start: u64, end: u64, lost: u64) -> Self {
        let mut profiles = Profiles::new();
        let frame_type = profiles.dictionary.strings.intern(FRAME_TYPE);
        let attributes = &mut profiles.dictionary.attributes;
        let kernel = attributes.intern(frame_type, "kernel".into(), StringIx::NONE);
        let native = attributes.intern(frame_type, "native".into(), StringIx::NONE);
        let (began, length) = (to_unix(start), end.saturating_sub(start));
        let shared = Profile { time_unix_nano: began, duration_nano: length, ..Profile::default() };
        let types = from.types.profiles(&mut profiles.dictionary.strings, &shared);
        Self {
            from,
            rows: HashMap::new(),
            locations: HashMap::default(),
            stacks: HashMap::new(),
            used: HashSet::new(),
            kernel,
            native,
            types,
            profiles,
            lost,
            start,
            began,
            length,
            times: Vec::new(),
            values: [Vec::new(), Vec::new()],
            attributes: Vec::new(),
        }
    }

    /// Writes the sums of one process.
    pub(crate) fn process(&mut self, sums: &[(Key, Sum)]) {
        checkpoint();
        let from = self.from;
        let Some((first, _)) = sums.first() else { return };
        let Some(process) = from.processes.get(&first.process) else { return };
        let mut profiles = self.types.clone();
        for of_event in sums.chunk_by(|(a, _), (b, _)| a.event == b.event) {
            let Some((Key { event, .. }, _)) = of_event.first() else { continue };
            let mut of_event_profiles: Vec<_> =
                profiles.iter_mut().filter(|(of, _)| of.events.contains(event)).collect();
            for (_, profile) in &mut of_event_profiles {
                profile.samples.reserve(of_event.len());
            }
            for of_thread in of_event.chunk_by(|(a, _), (b, _)| (a.tid, a.name) == (b.tid, b.name))
            {
                self.thread(of_thread, &process.threads, &mut of_event_profiles);
            }
        }
        let profiles = profiles.into_iter().map(|(_, profile)| profile);
        // What did not happen is not said of every process; time on CPUs is, as it always was.
        let profiles = profiles.filter(|profile| !profile.samples.is_empty()).collect();
        self.push(process.resource.clone(), profiles);
    }

    /// Writes the sums of one thread and event.
    fn thread(
        &mut self,
        sums: &[(Key, Sum)],
        threads: &HashMap<u32, ThreadNames>,
        profiles: &mut [&mut (SampleType, Profile)],
    ) {
        let Some((first, _)) = sums.first() else { return };
        let name = threads.get(&first.tid).map_or("", |names| names.name(first.name));
        let thread = (first.tid != NO_THREAD).then(|| {
            [
                self.attribute(THREAD_NAME, name.into()),
                self.attribute(THREAD_ID, i64::from(first.tid).into()),
            ]
        });
        for (key, sum) in sums {
            let stack = self.stack(key.stack);
            let state = key.unwound.state().map(|name| self.attribute(STACK_STATE, name.into()));
            let label = key.label.map(|label| match label {
                Label::Wait(wait) => self.attribute(WAIT, wait.name().into()),
                Label::Blocks(operation) => self.attribute(IO_OPERATION, operation.name().into()),
            });
            self.attributes.clear();
            self.attributes.extend(thread.iter().flatten().copied().chain(state).chain(label));
            self.push_values(sum);
            let mut events = Vec::new();
            let sample = SampleRef {
                stack,
                attributes: &self.attributes,
                timestamps_unix_nano: &self.times,
                ..SampleRef::default()
            };
            let [counts, weights] = &self.values;
            for (of, profile) in &mut *profiles {
                let values = match of.measure {
                    Measure::Samples => counts,
                    Measure::Weight => weights,
                    Measure::Events => {
                        events.clear();
                        events.extend(in_parts(sum.events, counts.len()));
                        &events
                    }
                };
                profile.samples.push(SampleRef { values, ..sample });
            }
        }
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
        let (began, length) = (self.began, self.length);
        for (time, of_sample) in &sum.times {
            // A sample may have come a little before or after the window that it was counted in.
            let since = time.saturating_sub(self.start).min(length.saturating_sub(1));
            self.times.push(began.saturating_add(since));
            counts.push(1);
            weights.push(weight(*of_sample));
        }
    }

    fn push(&mut self, resource: Resource, mut profiles: Vec<Profile>) {
        // Losses are those of the host: the ring does not say whose samples it had no room for.
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let lost = self.attribute(SAMPLES_LOST, i64::try_from(lost).unwrap_or(i64::MAX).into());
            profiles.iter_mut().for_each(|profile| profile.attributes.push(lost));
        }
        if !self.from.missing.is_empty() {
            let missing = self.attribute(EVENT_MISSING, self.from.missing.as_str().into());
            profiles.iter_mut().for_each(|profile| profile.attributes.push(missing));
        }
        if let Some(partial) = &self.from.partial {
            let partial = self.attribute(EVENT_PARTIAL, (&**partial).into());
            profiles.iter_mut().for_each(|profile| profile.attributes.push(partial));
        }
        let scope = own_scope(self.from.types.default_type());
        let scopes = vec![ScopeProfiles { scope, profiles, ..Default::default() }];
        self.profiles.resources.push(ResourceProfiles { resource, scopes, ..Default::default() });
    }

    pub(crate) fn finish(mut self) -> (Profiles, HashSet<RowIx>) {
        if self.lost > 0 {
            // Everything was lost: say so on a profile of the host.
            let mut resource = Resource::default();
            resource.set(profpipe_profile::attribute_names::HOST_NAME, &*self.from.host);
            let profiles = self.types.iter().map(|(_, profile)| profile.clone()).collect();
            self.push(resource, profiles);
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
        let managed = self.from.rows.get(&frame.row).map(|row| &row.facts.source);
        if let Some(Source::Managed { key, kind }) = managed {
            let location = self.managed_location(key, kind, frame.address);
            self.locations.insert(frame, location);
            return location;
        }
        if frame.row == NAMED_ROW {
            let location = self.named(frame.address as u32);
            self.locations.insert(frame, location);
            return location;
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

    /// A function of the kernel that is known by its name, or what stands for one.
    fn named(&mut self, number: u32) -> LocationIx {
        let from = self.from;
        let name = from.names.get(&number).map_or("", |name| name);
        let is_kernel = !name.starts_with('[');
        let mapping = if is_kernel { self.mapping(KERNEL_ROW) } else { MappingIx::NONE };
        let dictionary = &mut self.profiles.dictionary;
        let name = dictionary.strings.intern(name);
        let function = dictionary.functions.intern(Function { name, ..Function::default() });
        let lines = [Line { function, ..Line::default() }];
        let attributes = [self.kernel];
        dictionary.locations.intern(LocationRef {
            mapping,
            address: 0,
            lines: &lines,
            attributes: if is_kernel { &attributes } else { &[] },
        })
    }

    /// A place in a managed function. Equal ones of different processes are one: only the name, the
    /// file and the lines tell them apart. Without a name it is a frame of its kind, no more.
    fn managed_location(&mut self, key: &FunctionKey, kind: &str, position: u64) -> LocationIx {
        let kind = self.attribute(FRAME_TYPE, kind.into());
        let functions = self.from.functions.as_ref();
        let found = functions.and_then(|(functions, _)| functions.get(key));
        let Some(found) = found else {
            if let Some((_, counters)) = functions {
                counters.unnamed.add(1);
            }
            let unknown = LocationRef { attributes: &[kind], ..LocationRef::default() };
            return self.profiles.dictionary.locations.intern(unknown);
        };
        let dictionary = &mut self.profiles.dictionary;
        let name = dictionary.strings.intern(&found.name);
        let function = dictionary.functions.intern(Function {
            name,
            system_name: name,
            filename: dictionary.strings.intern(&found.file),
            start_line: found.first_line.into(),
        });
        let line = found.line(u32::try_from(position).unwrap_or(u32::MAX));
        let lines = [Line { function, line: line.into(), column: 0 }];
        let place = LocationRef { lines: &lines, attributes: &[kind], ..LocationRef::default() };
        dictionary.locations.intern(place)
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
            // Has no mapping: see `managed_location`.
            Source::Managed { .. } => return MappingIx::NONE,
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

/// A number in so many parts that are about as large, and add up to it.
fn in_parts(number: u64, parts: usize) -> impl Iterator<Item = i64> {
    let count = parts.max(1) as u64;
    let part = move |at: u64| number / count + u64::from(at < number % count);
    (0..count).map(move |at| i64::try_from(part(at)).unwrap_or(i64::MAX))
}

/// A time of the monotonic clock as time of the day.
fn to_unix(monotonic: u64) -> u64 {
    let elapsed_and_day = || {
        let before = thread::now();
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (before, day.as_nanos() as u64, thread::now())
    };
    to_unix_by(monotonic, (0..CLOCK_READS).map(|_| elapsed_and_day()))
}

/// How often both clocks are read.
const CLOCK_READS: usize = 5;

/// The same from readings of the time of the day, with the monotonic clock before and after: that with
/// the least in between is the one that nothing has interrupted.
fn to_unix_by(monotonic: u64, readings: impl Iterator<Item = (u64, u64, u64)>) -> u64 {
    let best = readings.min_by_key(|(before, _, after)| after.saturating_sub(*before));
    let (before, day, after) = best.unwrap_or_default();
    let elapsed = before.midpoint(after).saturating_sub(monotonic);
    day.saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the thread is interrupted for milliseconds between the clocks, before or after the time
    /// of the day is read, in all readings but one.
    /// Guarantees: the times of a window are not off by that.
    #[test]
    fn interrupted_between_the_clocks() {
        let day = |monotonic: u64| 1_000_000_000_000 + monotonic;
        let readings = [
            (5_000_000, day(5_000_100), 9_000_000),
            (10_000_000, day(14_000_000), 14_000_100),
            (20_000_000, day(20_000_050), 20_000_100),
            (30_000_000, day(30_000_100), 37_000_000),
        ];
        assert_eq!(to_unix_by(1_000_000, readings.into_iter()), day(1_000_000));
    }
}
