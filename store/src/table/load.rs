//! Making a table of files.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use foldhash::fast::RandomState;
use profpipe_formats::pyroscope::type_id;
use profpipe_formats::report::{Choice, Frame, Frames, Pruner};
use profpipe_profile::attribute_names::{SAMPLES_LOST, SAMPLING_TAU};
use profpipe_profile::{
    Dictionary, Index, LocationIx, Profile, Profiles, SampleRef, ScopeProfiles, StackIx, Value,
    join,
};

use super::labels::Labels;
use super::paths::Paths;
use super::{FileInfo, Function, InputFile, Interval, ProfileType, Rows, Sampling, Table, TypeId};
use crate::error::QueryError;
use crate::hash;

/// The most rows: more samples, or times of samples, than fit a few gigabytes.
const MAX_ROWS: usize = 1 << 26;
/// The most functions that one stack may have, inlined ones included.
const MAX_DEPTH: usize = 1 << 16;

impl Table {
    /// Makes the table of files, in their order.
    ///
    /// # Errors
    /// If it would be too large.
    pub fn new(files: Vec<InputFile>) -> Result<Self, QueryError> {
        let has_many = files.len() > 1;
        let mut infos = Vec::with_capacity(files.len());
        let mut batches = Vec::with_capacity(files.len());
        // By resource: its file, and the time of profiles that have none.
        let mut of_resources: Vec<(u32, u64)> = Vec::new();
        for (number, file) in files.into_iter().enumerate() {
            let count = file.profiles.resources.len();
            of_resources.extend(std::iter::repeat_n((number as u32, file.modified_nanos), count));
            infos.push(FileInfo { name: file.name, bytes: file.bytes });
            batches.push(file.profiles);
        }
        let profiles =
            if batches.len() == 1 { batches.pop().unwrap_or_default() } else { join(batches) };
        let mut loader = Loader::new(&profiles);
        for (position, resource) in profiles.resources.iter().enumerate() {
            let (file, modified) = of_resources.get(position).copied().unwrap_or_default();
            let name = infos.get(file as usize).filter(|_| has_many).map(|it| it.name.as_str());
            let attributes = &resource.resource.attributes;
            let base = loader.labels.add_resource(position, attributes, (file, name));
            for scope in &resource.scopes {
                for profile in &scope.profiles {
                    loader.add(scope, profile, base, modified)?;
                }
            }
        }
        let default = Choice::new(&profiles, None).ok();
        let default = default.and_then(|choice| {
            let first = choice.profiles.first()?.profile;
            loader.by_id.get(&type_id(&profiles.dictionary, first)).copied()
        });
        let Loader { frames, paths, labels, types, rows, intervals, .. } = loader;
        let (mut paths, mut labels) = (paths, labels);
        paths.finish();
        labels.finish();
        let functions = functions(frames);
        let is_unnamed = |path: usize| {
            let of_path = paths.get(path as u32).iter();
            of_path.copied().any(|at| functions.get(at as usize).is_some_and(|it| it.is_unnamed))
        };
        let unnamed_paths = (0..paths.len()).map(is_unnamed).collect();
        Ok(Self {
            default_type: default,
            unnamed_paths,
            functions,
            paths,
            labels,
            types,
            rows,
            intervals,
            files: infos,
            order: [OnceLock::new(), OnceLock::new()],
            profiles,
        })
    }
}

/// Functions by number, and behind them one for each library.
fn functions(frames: Frames<'_>) -> Vec<Function> {
    let mut files = Vec::new();
    let mut at = 0;
    while files.len() < frames.len() {
        files.push((frames.file(at).to_owned(), frames.is_unnamed(at)));
        at += 1;
    }
    let mut functions: Vec<Function> = Vec::with_capacity(files.len());
    let mut namesakes: HashMap<String, u32, RandomState> = HashMap::default();
    let mut libraries: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, (Frame { name, module }, (file, is_unnamed))) in
        frames.into_frames().into_iter().zip(files).enumerate()
    {
        if let Some(library) = library(&module, &file) {
            libraries.entry(library.to_owned()).or_default().push(number);
        }
        let hash = hash::function(&name, &module);
        let namesake = *namesakes.entry(name.clone()).or_insert(number as u32);
        functions.push(Function { name, module, file, hash, is_unnamed, library: None, namesake });
    }
    for (module, members) in libraries {
        let (number, name) = (functions.len() as u32, format!("[{module}]"));
        for member in members {
            if let Some(function) = functions.get_mut(member) {
                function.library = Some(number);
            }
        }
        functions.push(Function {
            hash: hash::function(&name, &module),
            name,
            file: String::new(),
            is_unnamed: false,
            library: Some(number),
            namesake: number,
            module,
        });
    }
    functions
}

/// The library that a function is in: the shared object, the kernel, or where package managers of
/// languages put what is not one's own.
fn library<'a>(module: &'a str, file: &'a str) -> Option<&'a str> {
    if module.ends_with(".so") || module.contains(".so.") || module.starts_with('[') {
        return Some(module.trim_start_matches('[').trim_end_matches(']'));
    }
    const PLACES: [&str; 8] = [
        "/site-packages/",
        "/dist-packages/",
        "/node_modules/",
        "/pkg/mod/",
        "/.cargo/registry/src/",
        "/rustc/",
        "/usr/lib/",
        "/gems/",
    ];
    PLACES.into_iter().find_map(|place| {
        let start = file.find(place)? + place.len();
        let rest = file.get(start..)?;
        // The registry of a package manager of Rust stands between.
        let rest = if place.contains("registry") { rest.split_once('/')?.1 } else { rest };
        rest.split('/').next().filter(|name| !name.is_empty())
    })
}

struct Loader<'a> {
    dictionary: &'a Dictionary,
    frames: Frames<'a>,
    paths: Paths,
    labels: Labels,
    types: Vec<ProfileType>,
    rows: Vec<Rows>,
    by_id: HashMap<String, usize, RandomState>,
    intervals: Vec<Interval>,
    /// By what a profile leaves out: the number of the path of each stack, and 1 more.
    pruned: HashMap<(&'a str, &'a str), (Pruner<'a>, Vec<u32>), RandomState>,
    row_count: usize,
    buffer: Vec<u32>,
}

impl<'a> Loader<'a> {
    fn new(profiles: &'a Profiles) -> Self {
        Self {
            dictionary: &profiles.dictionary,
            frames: Frames::new(&profiles.dictionary),
            paths: Paths::default(),
            labels: Labels::default(),
            types: Vec::new(),
            rows: Vec::new(),
            by_id: HashMap::default(),
            intervals: Vec::new(),
            pruned: HashMap::default(),
            row_count: 0,
            buffer: Vec::new(),
        }
    }

    fn add(
        &mut self,
        scope: &'a ScopeProfiles,
        profile: &'a Profile,
        base: u32,
        modified: u64,
    ) -> Result<(), QueryError> {
        let number = self.intervals.len() as u32;
        let start = match profile.time_unix_nano {
            0 => modified,
            time => time,
        };
        let mut interval = Interval {
            start: i64::try_from(start).unwrap_or(0),
            duration: i64::try_from(profile.duration_nano).unwrap_or(0),
            is_timed: false,
            lost: self.lost(profile),
        };
        let at = self.type_of(profile);
        let counting = counting(self.dictionary, scope, profile);
        let patterns = Pruner::patterns(self.dictionary, profile);
        for (row, sample) in profile.samples.iter().enumerate() {
            let labels = self.labels.intern(self.dictionary, base, sample.attributes);
            let path = self.path(patterns, sample.stack)?;
            let count = counting.map(|of| of.samples.get(row).weight());
            interval.is_timed |= !sample.timestamps_unix_nano.is_empty();
            let Some(rows) = self.rows.get_mut(at) else { continue };
            for (time, weight, count) in parts(&sample, interval.start, count) {
                if weight == 0 {
                    continue;
                }
                self.row_count += 1;
                if self.row_count > MAX_ROWS {
                    let message = format!("there are more than {MAX_ROWS} samples");
                    return Err(QueryError::TooLarge(message));
                }
                rows.labels.push(labels);
                rows.paths.push(path);
                rows.times.push(time);
                rows.weights.push(weight);
                rows.counts.push(u32::try_from(count).unwrap_or(u32::MAX));
                rows.profiles.push(number);
                rows.samples.push(row as u32);
                if let Some(of_type) = self.types.get_mut(at) {
                    of_type.total = of_type.total.saturating_add(weight);
                    of_type.samples = of_type.samples.saturating_add(count);
                    of_type.extend(time, time);
                }
            }
        }
        if let Some(of_type) = self.types.get_mut(at) {
            of_type.lost = of_type.lost.saturating_add(interval.lost);
            of_type.extend(interval.start, interval.start.saturating_add(interval.duration));
        }
        self.intervals.push(interval);
        Ok(())
    }

    /// The type of a profile, added if it is new.
    fn type_of(&mut self, profile: &Profile) -> usize {
        let id = type_id(self.dictionary, profile);
        let new = self.types.len();
        let at = *self.by_id.entry(id.clone()).or_insert(new);
        if at == new {
            let id = TypeId(id);
            self.types.push(ProfileType {
                sampling: sampling(self.dictionary, profile, &id),
                id,
                total: 0,
                samples: 0,
                lost: 0,
                time: None,
            });
            self.rows.push(Rows::default());
        }
        at
    }

    /// The weights of a profile's lost samples.
    fn lost(&self, profile: &Profile) -> i64 {
        let lost =
            find(self.dictionary, profile, SAMPLES_LOST).and_then(Value::as_int).unwrap_or(0);
        let is_of_clock = profile.period_type.kind == profile.sample_type.kind;
        lost.saturating_mul(if is_of_clock { profile.period.max(1) } else { 1 })
    }

    /// The path of a stack.
    fn path(&mut self, patterns: (&'a str, &'a str), stack: StackIx) -> Result<u32, QueryError> {
        let dictionary = self.dictionary;
        let (pruner, known) = self.pruned.entry(patterns).or_insert_with(|| {
            (Pruner::new(dictionary, patterns), vec![0; dictionary.stacks.len()])
        });
        let slot = known.get_mut(stack.at());
        if let Some(path) = slot.as_ref().and_then(|slot| slot.checked_sub(1)) {
            return Ok(path);
        }
        self.buffer.clear();
        let locations: &[LocationIx] = dictionary.stacks.get(stack);
        for (location, dropped) in pruner.prune(locations) {
            self.buffer.extend(self.frames.of(location).iter().skip(dropped));
            if self.buffer.len() > MAX_DEPTH {
                let message = format!("a stack has more than {MAX_DEPTH} frames");
                return Err(QueryError::TooLarge(message));
            }
        }
        self.buffer.reverse();
        let path = self.paths.intern(&self.buffer)?;
        if let Some(slot) = slot {
            *slot = path + 1;
        }
        Ok(path)
    }
}

impl ProfileType {
    fn extend(&mut self, first: i64, last: i64) {
        if first == 0 {
            return;
        }
        self.time = Some(match self.time {
            None => (first, last),
            Some((start, end)) => (start.min(first), end.max(last)),
        });
    }
}

/// A sample as rows: its times with what belongs to each, and of how many samples.
fn parts(
    sample: &SampleRef<'_>,
    start: i64,
    count: Option<i64>,
) -> impl Iterator<Item = (i64, i64, i64)> {
    let (times, values) = (sample.timestamps_unix_nano, sample.values);
    let whole = sample.weight();
    let rows = times.len().max(1);
    let each = whole / rows as i64;
    // What does not divide goes to the first ones, so that the sum stays.
    let rest = whole - each * rows as i64;
    let own_count = values.iter().filter(|value| **value != 0).count().max(1) as i64;
    let is_paired = values.len() == times.len();
    (0..rows).map(move |row| {
        let time = times.get(row).and_then(|time| i64::try_from(*time).ok()).unwrap_or(start);
        let weight = match values.get(row).filter(|_| is_paired) {
            Some(value) => *value,
            None if values.is_empty() => 1,
            None => each + if (row as i64) < rest.abs() { rest.signum() } else { 0 },
        };
        let count = match times.len() {
            0 => count.unwrap_or(own_count),
            _ => 1,
        };
        (time, weight, count)
    })
}

/// The profile of a scope that says how many samples each row of another one is of.
fn counting<'a>(
    dictionary: &Dictionary,
    scope: &'a ScopeProfiles,
    profile: &Profile,
) -> Option<&'a Profile> {
    let text = |at| dictionary.strings.get(at);
    scope.profiles.iter().find(|other| {
        let is_count =
            (text(other.sample_type.kind), text(other.sample_type.unit)) == ("samples", "count");
        let clock = text(other.period_type.kind);
        let is_of_clock = clock.is_empty()
            || clock == text(profile.sample_type.kind)
            || profile.sample_type == other.sample_type;
        is_count
            && is_of_clock
            && other.time_unix_nano == profile.time_unix_nano
            && other.samples.stacks == profile.samples.stacks
    })
}

/// How the weights of a profile came about.
fn sampling(dictionary: &Dictionary, profile: &Profile, id: &TypeId) -> Sampling {
    let [_, kind, unit, clock, clock_unit] = id.parts();
    let tau = match find(dictionary, profile, SAMPLING_TAU) {
        Some(Value::Double(tau)) if tau.is_finite() => *tau as i64,
        _ => 0,
    };
    let period = match (kind, unit) {
        ("samples", "count") if !clock.is_empty() => 1,
        _ if profile.period > 0 && unit == clock_unit && kind.ends_with(clock) => profile.period,
        _ => 0,
    };
    match period.saturating_add(tau.max(0)) {
        0 => Sampling::Exact,
        each => Sampling::Each(each),
    }
}

fn find<'a>(dictionary: &'a Dictionary, profile: &Profile, name: &str) -> Option<&'a Value> {
    let mut rows = profile.attributes.iter();
    let row = rows.find(|row| dictionary.strings.get(dictionary.attributes.key(**row)) == name)?;
    Some(dictionary.attributes.value(*row))
}
