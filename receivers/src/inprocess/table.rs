//! From what the `pprof` crate collected to the tables of a batch.

use std::time::{Duration, SystemTime};

use pprof::{Frames, Symbol, UnresolvedReport};
use profpipe_profile::attribute_names::{
    FRAME_TYPE, HOST_NAME, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_PID,
    SERVICE_NAME, THREAD_NAME,
};
use profpipe_profile::{
    AttributeIx, Dictionary, Function, Line, LocationIx, LocationRef, Profile, Profiles, Resource,
    ResourceProfiles, SampleRef, Samples, ScopeProfiles, StringIx, ValueType,
};

use crate::scope::own_scope;

/// The handler's own frames are among so many at the leaf.
const MAX_HANDLER_FRAMES: usize = 8;

/// What was seen in one window.
pub(super) struct Window {
    pub(super) report: UnresolvedReport,
    pub(super) start: SystemTime,
    pub(super) length: Duration,
    /// The CPU time that the process used.
    pub(super) cpu: Duration,
}

impl Window {
    /// How many samples were taken.
    pub(super) fn samples(&self) -> u64 {
        self.report.data.values().fold(0, |sum, count| sum + u64::try_from(*count).unwrap_or(0))
    }

    /// Looks names up and builds the batch.
    pub(super) fn into_profiles(self, resource: &Resource) -> Profiles {
        let total = self.samples();
        let cpu = u64::try_from(self.cpu.as_nanos()).unwrap_or(u64::MAX);
        let mut profiles = Profiles::new();
        let tables = &mut profiles.dictionary;
        let mut type_of = |kind: &str, unit: &str| ValueType {
            kind: tables.strings.intern(kind),
            unit: tables.strings.intern(unit),
        };
        let (count_type, cpu_type) = (type_of("samples", "count"), type_of("cpu", "nanoseconds"));
        let (mut counts, mut times) = (Samples::default(), Samples::default());
        let mut shares = Shares { total, cpu, seen: 0, given: 0 };
        for (unresolved, count) in self.report.data {
            let count = u64::try_from(count).unwrap_or(0);
            let frames = Frames::from(unresolved);
            let program = frames.frames.get(handler_frames(&frames)..).unwrap_or_default();
            let locations: Vec<_> =
                program.iter().filter_map(|frame| location(tables, frame)).collect();
            let stack = tables.stacks.intern(&locations);
            let key = tables.strings.intern(THREAD_NAME);
            let thread =
                tables.attributes.intern(key, frames.thread_name.as_str().into(), StringIx::NONE);
            let attributes: &[AttributeIx] =
                if frames.thread_name.is_empty() { &[] } else { &[thread] };
            let sample = SampleRef { stack, attributes, ..SampleRef::default() };
            let time = shares.next(count);
            counts.push(SampleRef { values: &[saturate(count)], ..sample });
            times.push(SampleRef { values: &[saturate(time)], ..sample });
        }
        let start = self.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let profile = |sample_type, samples| Profile {
            sample_type,
            samples,
            time_unix_nano: u64::try_from(start.as_nanos()).unwrap_or(0),
            duration_nano: u64::try_from(self.length.as_nanos()).unwrap_or(0),
            period_type: cpu_type,
            // What a sample really stands for, not what was asked for.
            period: saturate(cpu / total.max(1)),
            ..Profile::default()
        };
        let united = vec![profile(count_type, counts), profile(cpu_type, times)];
        let scope = own_scope("cpu");
        let scope = ScopeProfiles { scope, profiles: united, ..ScopeProfiles::default() };
        profiles.resources.push(ResourceProfiles {
            resource: resource.clone(),
            scopes: vec![scope],
            ..ResourceProfiles::default()
        });
        profiles
    }
}

/// Divides CPU time among samples in proportion to their counts; the parts add up to the whole.
pub(super) struct Shares {
    pub(super) total: u64,
    pub(super) cpu: u64,
    pub(super) seen: u64,
    pub(super) given: u64,
}

impl Shares {
    /// The time for the next `count` samples.
    pub(super) fn next(&mut self, count: u64) -> u64 {
        self.seen = self.seen.saturating_add(count).min(self.total);
        let due = u128::from(self.cpu) * u128::from(self.seen) / u128::from(self.total.max(1));
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let time = due.saturating_sub(self.given);
        self.given = due;
        time
    }
}

fn saturate(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many frames at the leaf belong to the handler of the signal and not to the program.
fn handler_frames(frames: &Frames) -> usize {
    let is_handler = |frame: &Vec<Symbol>| {
        let name = |symbol: &Symbol| {
            let name = symbol.name();
            name.contains("pprof::profiler::") || name.contains("pprof::backtrace::")
        };
        frame.iter().any(name)
    };
    let near_leaf = frames.frames.iter().take(MAX_HANDLER_FRAMES);
    let last = near_leaf.enumerate().filter(|(_, frame)| is_handler(frame)).map(|(at, _)| at + 1);
    last.max().unwrap_or(0)
}

/// The location of a frame: its functions, the innermost inlined one first.
fn location(tables: &mut Dictionary, symbols: &[Symbol]) -> Option<LocationIx> {
    let mut lines = Vec::with_capacity(symbols.len());
    for symbol in symbols.iter().filter(|symbol| symbol.name.is_some()) {
        let name = tables.strings.intern(&symbol.name());
        let system_name = tables.strings.intern(&symbol.sys_name());
        let filename = match &symbol.filename {
            Some(path) => tables.strings.intern(&path.to_string_lossy()),
            None => StringIx::NONE,
        };
        let function = Function { name, system_name, filename, start_line: 0 };
        let function = tables.functions.intern(function);
        lines.push(Line { function, line: i64::from(symbol.lineno()), column: 0 });
    }
    // The address is that of the function: a name for a frame that has none.
    let address = symbols.iter().find_map(|symbol| symbol.addr).map_or(0, |addr| addr as u64);
    if lines.is_empty() && address == 0 {
        return None;
    }
    let key = tables.strings.intern(FRAME_TYPE);
    let native = tables.attributes.intern(key, "native".into(), StringIx::NONE);
    let location =
        LocationRef { address, lines: &lines, attributes: &[native], ..LocationRef::default() };
    Some(tables.locations.intern(location))
}

/// The resource of this process.
pub(super) fn own_process(service: Option<&str>) -> Resource {
    let mut resource = Resource::default();
    let path = std::env::current_exe().ok();
    let name = path.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    let name = name.as_deref().unwrap_or("unknown");
    resource.set(SERVICE_NAME, service.unwrap_or(name));
    resource.set(PROCESS_PID, i64::from(std::process::id()));
    resource.set(PROCESS_EXECUTABLE_NAME, name);
    if let Some(path) = &path {
        resource.set(PROCESS_EXECUTABLE_PATH, path.to_string_lossy().into_owned());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !host.is_empty() {
        resource.set(HOST_NAME, host);
    }
    resource
}
