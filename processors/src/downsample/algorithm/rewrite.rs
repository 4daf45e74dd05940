//! Writing families back: the profiles of each become one of each sample type.

use profpipe_profile::attribute_names::{
    SAMPLES_LOST, SAMPLING_CALIBRATED, SAMPLING_KEPT, SAMPLING_METHOD, SAMPLING_ROWS_IN,
    SAMPLING_SEED, SAMPLING_TAU, SAMPLING_TOTAL_IN,
};
use profpipe_profile::extend_interval;
use profpipe_profile::{
    AttributeIx, Dictionary, Profile, Profiles, SampleRef, Samples, StringIx, Value,
};

use super::family::{AMOUNTS, Family, Outcome};
use super::random::Random;
use super::systematic;

/// Writes a family back. Returns which places of the scope are empty now, or nothing if the family
/// stays as it is: nothing was sampled, and nothing is twice.
pub(super) fn rewrite(profiles: &mut Profiles, family: &Family, seed: u64) -> Option<Vec<usize>> {
    let Profiles { dictionary, resources } = profiles;
    let (resource, scope) = family.place;
    let scope = resources.get_mut(resource)?.scopes.get_mut(scope)?;
    let before: usize =
        family.members.iter().map(|(member, _)| scope.profiles[*member].samples.len()).sum();
    let present = (0..family.types.len()).map(|kind| {
        (0..family.rows.len()).filter(|row| family.value(*row, kind).is_some()).count()
    });
    let sampled = family.groups.iter().any(|group| group.outcome.is_some());
    let shrinks = family.members.len() > family.types.len() || present.sum::<usize>() < before;
    if family.refusal.is_some() || (!sampled && !shrinks) {
        return None;
    }
    let old: Vec<Profile> = family
        .members
        .iter()
        .map(|(member, _)| std::mem::take(&mut scope.profiles[*member]))
        .collect();
    let mut emptied: Vec<usize> = family.members.iter().map(|(member, _)| *member).collect();
    for group in &family.groups {
        for kind in &group.types {
            let mut of_type = family.members.iter().zip(&old).filter(|((_, at), _)| at == kind);
            let Some(((place, _), first)) = of_type.next() else { continue };
            let mut profile = Profile { samples: Samples::default(), ..first.clone() };
            let mut amounts = Amounts::of(dictionary, first);
            for (_, other) in of_type {
                extend_interval(&mut profile, other);
                profile.profile_id = [0; 16];
                let dropped = &mut profile.dropped_attributes_count;
                *dropped = other.dropped_attributes_count.max(*dropped);
                amounts.add(Amounts::of(dictionary, other));
            }
            let chosen = chosen(family, *kind, group.primary, group.outcome.as_ref(), seed);
            let kept = write(family, *kind, &old, &chosen, &mut profile.samples);
            if let Some(outcome) = &group.outcome {
                profile.original_payload = bytes::Bytes::new();
                profile.original_payload_format.clear();
                amounts.sampled(outcome, tau(family, *kind, group.primary, outcome), kept, seed);
            }
            let key = |row: &AttributeIx| dictionary.strings.get(dictionary.attributes.key(*row));
            let is_amount: Vec<bool> =
                profile.attributes.iter().map(|row| AMOUNTS.contains(&key(row))).collect();
            let mut is_amount = is_amount.into_iter();
            profile.attributes.retain(|_| !is_amount.next().unwrap_or(false));
            amounts.put(dictionary, &mut profile.attributes);
            scope.profiles[*place] = profile;
            emptied.retain(|member| member != place);
        }
    }
    Some(emptied)
}

/// The rows that stay and their values for a type.
fn chosen(
    family: &Family,
    kind: usize,
    primary: usize,
    outcome: Option<&Outcome>,
    seed: u64,
) -> Vec<(u32, u64)> {
    let Some(outcome) = outcome else {
        let rows = 0..family.rows.len();
        return rows
            .filter_map(|row| family.value(row, kind).map(|value| (row as u32, value)))
            .collect();
    };
    if kind == primary {
        return outcome.kept.clone();
    }
    // What it was worth of the primary type is what it is worth of this one.
    let values: Vec<f64> = outcome
        .kept
        .iter()
        .map(|(row, now)| {
            let of = |kind| family.value(*row as usize, kind).unwrap_or(0);
            if of(primary) == *now {
                of(kind) as f64
            } else {
                of(kind) as f64 * (*now as f64 / of(primary) as f64)
            }
        })
        .collect();
    let (sum, total) = (values.iter().sum::<f64>(), family.total(kind));
    // Proportional types: the difference is a rounding error.
    let exact = (sum - total as f64).abs() <= 0.75_f64.max(1e-9 * sum);
    let random = &mut Random::new(seed, kind as u64 + 1);
    let rounded = systematic::round(&values, exact.then_some(total), random);
    outcome.kept.iter().zip(rounded).map(|((row, _), value)| (*row, value)).collect()
}

/// The threshold in the unit of a type: variances of its sums are at most it times the sum.
fn tau(family: &Family, kind: usize, primary: usize, outcome: &Outcome) -> f64 {
    if kind == primary {
        return outcome.tau;
    }
    let worth = (0..family.rows.len()).filter_map(|row| {
        let by = family.value(row, primary).filter(|by| *by > 0 && (*by as f64) < outcome.tau)?;
        Some(family.value(row, kind)? as f64 / by as f64)
    });
    outcome.tau * worth.fold(0.0, f64::max)
}

/// Writes these rows. Returns how many there are.
fn write(
    family: &Family,
    kind: usize,
    old: &[Profile],
    chosen: &[(u32, u64)],
    into: &mut Samples,
) -> usize {
    let mut sources: Vec<Vec<SampleRef<'_>>> = Vec::new();
    if family.has_timestamps {
        sources.resize_with(family.rows.len(), Vec::new);
        let members = family.members.iter().zip(old).zip(&family.row_of);
        for ((_, profile), rows) in members.filter(|(((_, at), _), _)| *at == kind) {
            for (sample, row) in profile.samples.iter().zip(rows) {
                sources[*row as usize].push(sample);
            }
        }
    }
    into.reserve(chosen.len());
    for (row, value) in chosen {
        let known = family.rows[*row as usize];
        let at = family.members.iter().position(|(member, _)| *member == known.member as usize);
        let Some(member) = at.and_then(|at| old.get(at)) else { continue };
        let sample = member.samples.get(known.sample as usize);
        let same = family.value(*row as usize, kind) == Some(*value);
        let timed = sources
            .get(*row as usize)
            .filter(|of| same && of.iter().any(|sample| !sample.timestamps_unix_nano.is_empty()));
        match timed {
            None => {
                let value = i64::try_from(*value).unwrap_or(i64::MAX);
                into.push(SampleRef { values: &[value], timestamps_unix_nano: &[], ..sample });
            }
            Some(of) => push_all(into, sample, of),
        }
    }
    chosen.len()
}

/// Writes samples as one, their events with their times; what has no time as another.
fn push_all(into: &mut Samples, like: SampleRef<'_>, of: &[SampleRef<'_>]) {
    let (mut values, mut times, mut timeless) = (Vec::new(), Vec::new(), 0);
    let plain = of.iter().all(|sample| sample.values.is_empty());
    for sample in of {
        if sample.timestamps_unix_nano.is_empty() {
            timeless += sample.weight();
            continue;
        }
        times.extend_from_slice(sample.timestamps_unix_nano);
        if sample.values.is_empty() && !plain {
            values.extend(sample.timestamps_unix_nano.iter().map(|_| 1));
        }
        values.extend_from_slice(sample.values);
    }
    into.push(SampleRef { values: &values, timestamps_unix_nano: &times, ..like });
    if timeless > 0 {
        into.push(SampleRef { values: &[timeless], timestamps_unix_nano: &[], ..like });
    }
}

/// What attributes say of the amount of a profile.
#[derive(Debug)]
struct Amounts {
    lost: Option<(StringIx, i64)>,
    method: Option<String>,
    tau: Option<f64>,
    kept: Option<i64>,
    rows_in: Option<i64>,
    total_in: Option<i64>,
    seed: Option<i64>,
    calibrated: bool,
    /// What there is really.
    rows: i64,
    total: i64,
}

impl Amounts {
    fn of(dictionary: &Dictionary, profile: &Profile) -> Self {
        let find = |name: &str| {
            profile
                .attributes
                .iter()
                .copied()
                .find(|row| dictionary.strings.get(dictionary.attributes.key(*row)) == name)
        };
        let value = |name| find(name).map(|row| dictionary.attributes.value(row));
        let int = |name| value(name).and_then(Value::as_int);
        let weights = profile.samples.iter().map(|sample| sample.weight());
        Self {
            lost: find(SAMPLES_LOST).and_then(|row| {
                let count = dictionary.attributes.value(row).as_int()?;
                Some((dictionary.attributes.unit(row), count))
            }),
            method: value(SAMPLING_METHOD).and_then(Value::as_str).map(str::to_owned),
            tau: value(SAMPLING_TAU).and_then(|tau| match tau {
                Value::Double(tau) => Some(*tau),
                Value::Int(tau) => Some(*tau as f64),
                _ => None,
            }),
            kept: int(SAMPLING_KEPT),
            rows_in: int(SAMPLING_ROWS_IN),
            total_in: int(SAMPLING_TOTAL_IN),
            seed: int(SAMPLING_SEED),
            calibrated: value(SAMPLING_CALIBRATED).and_then(Value::as_bool).unwrap_or(false),
            rows: profile.samples.len() as i64,
            total: weights.fold(0, i64::saturating_add),
        }
    }

    /// Of two profiles that become one.
    fn add(&mut self, other: Self) {
        let sum = |ours: Option<i64>, theirs: Option<i64>, (our, their): (i64, i64)| {
            (ours.is_some() || theirs.is_some())
                .then(|| ours.unwrap_or(our).saturating_add(theirs.unwrap_or(their)))
        };
        self.lost = match (self.lost, other.lost) {
            (Some((unit, ours)), Some((_, theirs))) => Some((unit, ours.saturating_add(theirs))),
            (ours, theirs) => ours.or(theirs),
        };
        self.method = self.method.take().or(other.method);
        self.tau = self.tau.into_iter().chain(other.tau).reduce(f64::max);
        self.kept = sum(self.kept, other.kept, (self.rows, other.rows));
        self.rows_in = sum(self.rows_in, other.rows_in, (self.rows, other.rows));
        self.total_in = sum(self.total_in, other.total_in, (self.total, other.total));
        self.seed = self.seed.or(other.seed);
        self.calibrated |= other.calibrated;
        self.rows = self.rows.saturating_add(other.rows);
        self.total = self.total.saturating_add(other.total);
    }

    /// After a draw of `outcome`.
    fn sampled(&mut self, outcome: &Outcome, tau: f64, kept: usize, seed: u64) {
        self.method = Some(outcome.method.to_owned());
        self.tau = self.tau.into_iter().chain([tau]).reduce(f64::max);
        self.kept = Some(kept as i64);
        self.rows_in = self.rows_in.or(Some(self.rows));
        self.total_in = self.total_in.or(Some(self.total));
        self.seed = Some(seed as i64);
        self.calibrated |= outcome.calibrated;
    }

    fn put(self, dictionary: &mut Dictionary, attributes: &mut Vec<AttributeIx>) {
        let calibrated = self.method.is_some().then_some(self.calibrated);
        let values = [
            (SAMPLES_LOST, self.lost.map(|(_, count)| Value::Int(count))),
            (SAMPLING_METHOD, self.method.map(Value::String)),
            (SAMPLING_TAU, self.tau.map(Value::Double)),
            (SAMPLING_KEPT, self.kept.map(Value::Int)),
            (SAMPLING_ROWS_IN, self.rows_in.map(Value::Int)),
            (SAMPLING_TOTAL_IN, self.total_in.map(Value::Int)),
            (SAMPLING_SEED, self.seed.map(Value::Int)),
            (SAMPLING_CALIBRATED, calibrated.map(Value::Bool)),
        ];
        let lost_unit = self.lost.map(|(unit, _)| unit);
        for (name, value) in values {
            let Some(value) = value else { continue };
            let key = dictionary.strings.intern(name);
            let unit = if name == SAMPLES_LOST { lost_unit } else { None };
            attributes.push(dictionary.attributes.intern(key, value, unit.unwrap_or_default()));
        }
    }
}
