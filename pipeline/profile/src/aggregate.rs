//! Merging batches so that profiles of the same kind become one, and equal samples one row.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::attribute_names::SAMPLES_LOST;
use super::merge::Merger;
use super::{
    AttributeIx, Dictionary, LinkIx, Profile, Profiles, SampleRef, Samples, StackIx, Value,
    ValueType,
};

/// The batches in one, with profiles of the same kind united.
///
/// Within a resource and a scope, profiles become one if sample type, period type, period and
/// attributes are equal. Its interval is the one that spans theirs. Samples of equal stack,
/// attributes (in any order) and link become one, with the sum of their values; a sum that would
/// not fit 64 bits begins another row. Samples with timestamps keep every one, in the order in which
/// they come, with its value; they do not become one with samples without.
///
/// What cannot be united keeps a profile apart: an original payload. An id does not outlive
/// uniting, since it names one of the profiles only. Counts of lost samples
/// (`profpipe.samples.lost`) are summed, whatever they are in each.
///
/// The order is that of first appearance, so that profiles with the same rows, such as those that
/// were one pprof profile with several types, have the same rows afterwards. Time is linear.
pub fn aggregate(batches: impl IntoIterator<Item = Profiles>) -> Profiles {
    let mut merger = Merger::new();
    for batch in batches {
        merger.add(batch);
    }
    let mut merged = merger.finish();
    let lost = merged.dictionary.strings.find(SAMPLES_LOST);
    let Profiles { dictionary, resources } = &mut merged;
    for scope in resources.iter_mut().flat_map(|resource| &mut resource.scopes) {
        let mut united: Vec<Union> = Vec::new();
        let mut kinds: HashMap<Kind, usize, RandomState> = HashMap::default();
        for mut profile in std::mem::take(&mut scope.profiles) {
            let mut lost_samples = 0_i64;
            let mut counted = None;
            profile.attributes.retain(|row| {
                let is_count = Some(dictionary.attributes.key(*row)) == lost;
                match dictionary.attributes.value(*row) {
                    Value::Int(count) if is_count => {
                        lost_samples = lost_samples.saturating_add(*count);
                        counted = Some(*row);
                        false
                    }
                    _ => true,
                }
            });
            let mut next = Union { profile, rows: Equal::default(), lost: lost_samples, counted };
            if !next.profile.original_payload.is_empty() {
                united.push(next);
                continue;
            }
            let kind = Kind::of(&next.profile);
            match kinds.get(&kind) {
                Some(at) => united[*at].unite(next),
                None => {
                    let samples = std::mem::take(&mut next.profile.samples);
                    next.add(&samples);
                    kinds.insert(kind, united.len());
                    united.push(next);
                }
            }
        }
        scope.profiles = united.into_iter().map(|union| union.finish(dictionary)).collect();
    }
    merged
}

/// What must be equal for profiles to become one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    sample_type: ValueType,
    period_type: ValueType,
    period: i64,
    attributes: Vec<AttributeIx>,
    format: String,
}

impl Kind {
    fn of(profile: &Profile) -> Self {
        let mut attributes = profile.attributes.clone();
        attributes.sort_unstable();
        Self {
            sample_type: profile.sample_type,
            period_type: profile.period_type,
            period: profile.period,
            attributes,
            format: profile.original_payload_format.clone(),
        }
    }
}

/// Several profiles on the way to become one.
struct Union {
    profile: Profile,
    rows: Equal,
    /// Lost samples so far, and an attribute row that counted some.
    lost: i64,
    counted: Option<AttributeIx>,
}

impl Union {
    fn unite(&mut self, other: Self) {
        let profile = &mut self.profile;
        extend_interval(profile, &other.profile);
        profile.profile_id = [0; 16];
        let dropped = &mut profile.dropped_attributes_count;
        *dropped = other.profile.dropped_attributes_count.max(*dropped);
        self.lost = self.lost.saturating_add(other.lost);
        self.counted = self.counted.or(other.counted);
        self.add(&other.profile.samples);
    }

    fn add(&mut self, samples: &Samples) {
        for sample in samples.iter() {
            self.rows.add(&mut self.profile.samples, sample);
        }
    }

    fn finish(mut self, dictionary: &mut Dictionary) -> Profile {
        if let Some(row) = self.counted {
            let (key, unit) = (dictionary.attributes.key(row), dictionary.attributes.unit(row));
            let row = dictionary.attributes.intern(key, Value::Int(self.lost), unit);
            self.profile.attributes.push(row);
        }
        self.rows.finish(&mut self.profile.samples);
        self.profile
    }
}

/// Makes the interval of a profile the one that spans another's, too.
pub fn extend_interval(profile: &mut Profile, other: &Profile) {
    let end = |profile: &Profile| profile.time_unix_nano.saturating_add(profile.duration_nano);
    let (ours, theirs) = (profile.time_unix_nano, other.time_unix_nano);
    // A time of 0 is an unknown one.
    if theirs != 0 {
        let last = end(profile).max(end(other));
        let first = if ours == 0 { theirs } else { ours.min(theirs) };
        let length = if ours == 0 { end(other) } else { last } - first;
        profile.time_unix_nano = first;
        profile.duration_nano = length.max(profile.duration_nano);
    } else {
        profile.duration_nano = profile.duration_nano.max(other.duration_nano);
    }
}

/// Finds the row of an equal sample.
#[derive(Default)]
struct Equal {
    /// (hash, row) of every sample without timestamps.
    rows: HashTable<(u64, u32)>,
    /// (hash, position in `timed`) of every sample with timestamps.
    timed_rows: HashTable<(u64, u32)>,
    timed: Vec<Timed>,
    state: RandomState,
    sorted: Vec<AttributeIx>,
    other: Vec<AttributeIx>,
}

impl Equal {
    fn add(&mut self, samples: &mut Samples, sample: SampleRef<'_>) {
        sort_into(&mut self.sorted, sample.attributes);
        let hash = self.state.hash_one((sample.stack, sample.link, &self.sorted));
        if !sample.timestamps_unix_nano.is_empty() {
            self.add_timed(hash, sample);
            return;
        }
        let value = sample.values.iter().try_fold(0_i64, |sum, value| sum.checked_add(*value));
        let Some(value) = value else {
            samples.push(sample);
            return;
        };
        let (sorted, scratch) = (&self.sorted, &mut self.other);
        let found = self.rows.find_mut(hash, |(other, row)| {
            *other == hash && same(samples.get(*row as usize), sample, sorted, scratch)
        });
        if let Some((_, row)) = found {
            let place = samples.values.get_mut(*row as usize);
            if let [sum] = place
                && let Some(total) = sum.checked_add(value)
            {
                *sum = total;
                return;
            }
            // The next equal sample is added to the new row.
            *row = samples.len() as u32;
        } else {
            let row = samples.len() as u32;
            self.rows.insert_unique(hash, (hash, row), |(hash, _)| *hash);
        }
        samples.push(SampleRef { values: &[value], ..sample });
    }

    fn add_timed(&mut self, hash: u64, sample: SampleRef<'_>) {
        let (sorted, scratch, timed) = (&self.sorted, &mut self.other, &mut self.timed);
        let found = self.timed_rows.find(hash, |(other, at)| {
            *other == hash && same(timed[*at as usize].row(), sample, sorted, scratch)
        });
        match found {
            Some((_, at)) => timed[*at as usize].add(sample),
            None => {
                let at = timed.len() as u32;
                self.timed_rows.insert_unique(hash, (hash, at), |(hash, _)| *hash);
                let (stack, link) = (sample.stack, sample.link);
                let attributes = sample.attributes.to_vec();
                let mut row = Timed { stack, link, attributes, values: vec![], times: vec![] };
                row.add(sample);
                timed.push(row);
            }
        }
    }

    /// Adds the samples with timestamps behind the others.
    fn finish(self, samples: &mut Samples) {
        for row in &self.timed {
            let (values, timestamps_unix_nano) = (&row.values[..], &row.times[..]);
            samples.push(SampleRef { values, timestamps_unix_nano, ..row.row() });
        }
    }
}

/// A sample with timestamps that grows.
struct Timed {
    stack: StackIx,
    link: LinkIx,
    attributes: Vec<AttributeIx>,
    values: Vec<i64>,
    times: Vec<u64>,
}

impl Timed {
    /// Without its values and times.
    fn row(&self) -> SampleRef<'_> {
        let attributes = &self.attributes[..];
        SampleRef { stack: self.stack, link: self.link, attributes, ..SampleRef::default() }
    }

    fn add(&mut self, sample: SampleRef<'_>) {
        let times = sample.timestamps_unix_nano;
        self.times.extend_from_slice(times);
        // No values mean 1 for each timestamp.
        self.values.extend_from_slice(sample.values);
        self.values.resize(self.times.len(), 1);
    }
}

fn sort_into(into: &mut Vec<AttributeIx>, rows: &[AttributeIx]) {
    into.clear();
    into.extend_from_slice(rows);
    into.sort_unstable();
}

/// True if `kept` has the stack, the link and the attributes, which are `sorted`, of `sample`.
fn same(
    kept: SampleRef<'_>,
    sample: SampleRef<'_>,
    sorted: &[AttributeIx],
    scratch: &mut Vec<AttributeIx>,
) -> bool {
    let same_place: fn(SampleRef<'_>) -> (StackIx, LinkIx) = |sample| (sample.stack, sample.link);
    if same_place(kept) != same_place(sample) || kept.attributes.len() != sorted.len() {
        return false;
    }
    if kept.attributes == sample.attributes {
        return true;
    }
    sort_into(scratch, kept.attributes);
    scratch == sorted
}
