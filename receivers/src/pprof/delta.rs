//! From values counted since a process started to values counted since the last scrape.
//!
//! Go's `allocs`, `block` and `mutex` profiles count from the start of the process. Each row's last
//! value is kept by a hash of what the row is, so that nothing of an old profile stays in memory but
//! numbers. A process that started anew counts from zero again: its values are the difference.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::RandomState;
use profpipe_profile::{Dictionary, Profile, Profiles, SampleRef, Samples};

/// The sample types that count from the start of the process.
const CUMULATIVE: [&str; 4] = ["alloc_objects", "alloc_space", "contentions", "delay"];

/// The most rows that are remembered for a target.
const MAX_ROWS: usize = 1 << 20;

/// What was counted up to the last scrape of a target.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    /// Two hashes together are wide enough that rows never meet.
    hashers: (RandomState, RandomState),
    /// By sample type; none before the first scrape.
    last: Option<HashMap<String, Column>>,
    last_time: u64,
}

/// The last values of one sample type.
#[derive(Debug, Default)]
struct Column {
    rows: HashMap<(u64, u64), i64>,
    total: i64,
}

/// What became of a profile.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is the first of its target: there is nothing to compare with.
    First,
    /// The values are now those since the last scrape.
    Since,
    /// The process has started anew: the values are those since its start.
    Restarted,
}

impl Baseline {
    /// Makes cumulative values of a scrape those since the last one. After [`Change::First`] they
    /// are zero.
    pub(super) fn subtract(&mut self, profiles: &mut Profiles, now: u64) -> Change {
        let columns = self.columns(profiles);
        let change = match &self.last {
            None => Change::First,
            Some(last) if restarted(last, &columns) => Change::Restarted,
            Some(_) => Change::Since,
        };
        let mut last = match change {
            Change::Since => self.last.take().unwrap_or_default(),
            _ => HashMap::new(),
        };
        let (hashers, dictionary) = (&self.hashers, &profiles.dictionary);
        let scopes = profiles.resources.iter_mut().flat_map(|resource| &mut resource.scopes);
        for profile in scopes.flat_map(|scope| &mut scope.profiles) {
            let kind = dictionary.strings.get(profile.sample_type.kind).to_owned();
            if change != Change::First && self.last_time > 0 && profile.duration_nano == 0 {
                profile.duration_nano = now.saturating_sub(self.last_time);
                profile.time_unix_nano = self.last_time;
            }
            if !CUMULATIVE.contains(&kind.as_str()) || change == Change::Restarted {
                continue;
            }
            let rows = last.remove(&kind).map(|column| column.rows).unwrap_or_default();
            replace(profile, rows, change == Change::First, |row| hash(hashers, dictionary, row));
        }
        self.last = Some(columns);
        self.last_time = now;
        change
    }

    /// The values of a scrape, by what each row is.
    fn columns(&self, profiles: &Profiles) -> HashMap<String, Column> {
        let mut columns: HashMap<String, Column> = HashMap::new();
        let mut rows = 0_usize;
        for (_, _, profile) in profiles.iter() {
            let kind = profiles.dictionary.strings.get(profile.sample_type.kind);
            if !CUMULATIVE.contains(&kind) {
                continue;
            }
            let column = columns.entry(kind.to_owned()).or_default();
            for row in profile.samples.iter() {
                let weight = row.weight();
                column.total = column.total.saturating_add(weight);
                rows += 1;
                if rows <= MAX_ROWS {
                    let key = hash(&self.hashers, &profiles.dictionary, row);
                    let value = column.rows.entry(key).or_default();
                    *value = value.saturating_add(weight);
                }
            }
        }
        columns
    }
}

/// True if a sum went down: a process never forgets what it has counted.
fn restarted(last: &HashMap<String, Column>, now: &HashMap<String, Column>) -> bool {
    last.iter().any(|(kind, before)| now.get(kind).is_none_or(|now| now.total < before.total))
}

/// Takes the last values off a profile's values. Where a row counts less than before, by rounding
/// in its producer, it is zero.
fn replace(
    profile: &mut Profile,
    mut last: HashMap<(u64, u64), i64>,
    to_zero: bool,
    key: impl Fn(SampleRef<'_>) -> (u64, u64),
) {
    let old = std::mem::take(&mut profile.samples);
    let mut new = Samples::default();
    new.reserve(old.len());
    for row in old.iter() {
        let weight = row.weight();
        let value = if to_zero {
            0
        } else {
            let before = last.entry(key(row)).or_default();
            let taken = (*before).min(weight).max(0);
            *before -= taken;
            weight.saturating_sub(taken)
        };
        new.push(SampleRef { values: &[value], timestamps_unix_nano: &[], ..row });
    }
    profile.samples = new;
}

/// What a row is: its frames and labels, whatever numbers they have in this profile.
fn hash(
    hashers: &(RandomState, RandomState),
    dictionary: &Dictionary,
    row: SampleRef<'_>,
) -> (u64, u64) {
    let one = |state: &RandomState| {
        let mut hasher = state.build_hasher();
        for location in dictionary.stacks.get(row.stack) {
            let location = dictionary.locations.get(*location);
            location.address.hash(&mut hasher);
            for line in location.lines {
                let function = dictionary.functions.get(line.function);
                dictionary.strings.get(function.name).hash(&mut hasher);
                dictionary.strings.get(function.filename).hash(&mut hasher);
                line.line.hash(&mut hasher);
            }
            u8::MAX.hash(&mut hasher);
        }
        for attribute in row.attributes {
            let attributes = &dictionary.attributes;
            dictionary.strings.get(attributes.key(*attribute)).hash(&mut hasher);
            format!("{:?}", attributes.value(*attribute)).hash(&mut hasher);
        }
        hasher.finish()
    };
    (one(&hashers.0), one(&hashers.1))
}
