//! Profiles that belong together: of the same kind but for their sample type, with samples united.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use profpipe_profile::attribute_names::{
    PPROF_DEFAULT_SAMPLE_TYPE, PPROF_SAMPLE_TYPE_ORDER, PROFILE_CUMULATIVE, SAMPLES_LOST,
    SAMPLING_CALIBRATED, SAMPLING_KEPT, SAMPLING_METHOD, SAMPLING_ROWS_IN, SAMPLING_SEED,
    SAMPLING_TAU, SAMPLING_TOTAL_IN,
};
use profpipe_profile::{
    AttributeIx, Dictionary, LinkIx, Profile, SampleRef, ScopeProfiles, StackIx, Value, ValueType,
};

use super::Refusal;

/// Attributes of a profile that say how much there is in it, not what it is.
pub(super) const AMOUNTS: [&str; 8] = [
    SAMPLES_LOST,
    SAMPLING_METHOD,
    SAMPLING_TAU,
    SAMPLING_KEPT,
    SAMPLING_ROWS_IN,
    SAMPLING_TOTAL_IN,
    SAMPLING_SEED,
    SAMPLING_CALIBRATED,
];

/// What must be equal for profiles to belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FamilyKey {
    period_type: ValueType,
    period: i64,
    attributes: Vec<AttributeIx>,
    /// Where profiles of different intervals must stay apart.
    interval: Option<(u64, u64)>,
    payload: String,
}

impl FamilyKey {
    pub(super) fn of(dictionary: &Dictionary, profile: &Profile, unite: bool) -> Self {
        let key = |row: &AttributeIx| dictionary.strings.get(dictionary.attributes.key(*row));
        let mut attributes = profile.attributes.clone();
        attributes.retain(|row| !AMOUNTS.contains(&key(row)));
        attributes.sort_unstable();
        // What counts from the start of a process must never be added up.
        let cumulative = attributes.iter().any(|row| {
            key(row) == PROFILE_CUMULATIVE
                && *dictionary.attributes.value(*row) != Value::Bool(false)
        });
        let interval = (profile.time_unix_nano, profile.duration_nano);
        Self {
            period_type: profile.period_type,
            period: profile.period,
            attributes,
            interval: (cumulative || !unite).then_some(interval),
            payload: profile.original_payload_format.clone(),
        }
    }
}

/// What samples of a family have in common that are one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) stack: StackIx,
    pub(super) link: LinkIx,
    /// Where its attributes are: a profile of the scope and a sample of it.
    pub(super) member: u32,
    pub(super) sample: u32,
}

/// Sample types whose samples are the same, so that one choice is made for all.
#[derive(Debug)]
pub(super) struct Group {
    /// Positions among the types of the family.
    pub(super) types: Vec<usize>,
    /// The one that the choice is made by.
    pub(super) primary: usize,
    /// What was chosen, if it was sampled.
    pub(super) outcome: Option<Outcome>,
}

/// What was chosen.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Rows in depth-first order, and what each stands for now.
    pub(super) kept: Vec<(u32, u64)>,
    pub(super) tau: f64,
    pub(super) method: &'static str,
    pub(super) calibrated: bool,
}

/// No sample of this type.
const ABSENT: u64 = u64::MAX;

/// Profiles that belong together.
#[derive(Debug)]
pub(super) struct Family {
    /// The resource and the scope.
    pub(super) place: (usize, usize),
    /// The name of the scope.
    pub(super) scope: String,
    pub(super) key: FamilyKey,
    /// The profiles, as positions in the scope, and the position of each one's type.
    pub(super) members: Vec<(usize, usize)>,
    pub(super) types: Vec<ValueType>,
    pub(super) rows: Vec<Row>,
    /// By row, then type.
    values: Vec<u64>,
    /// The row of each sample of each member.
    pub(super) row_of: Vec<Vec<u32>>,
    /// Whether some samples have timestamps.
    pub(super) has_timestamps: bool,
    pub(super) groups: Vec<Group>,
    /// Why none of it is sampled.
    pub(super) refusal: Option<Refusal>,
}

impl Family {
    /// Of these profiles of a scope, of which there is at least one.
    pub(super) fn new(
        dictionary: &Dictionary,
        scope: &ScopeProfiles,
        place: (usize, usize),
        members: Vec<usize>,
    ) -> Self {
        let mut types: Vec<ValueType> = Vec::new();
        let members: Vec<(usize, usize)> = members
            .into_iter()
            .map(|member| {
                let sample_type = scope.profiles[member].sample_type;
                let known = types.iter().position(|known| *known == sample_type);
                let at = known.unwrap_or_else(|| {
                    types.push(sample_type);
                    types.len() - 1
                });
                (member, at)
            })
            .collect();
        let first = members.first().map_or(0, |(member, _)| *member);
        let mut family = Self {
            place,
            scope: scope.scope.name.clone(),
            key: FamilyKey::of(dictionary, &scope.profiles[first], true),
            members,
            types,
            rows: Vec::new(),
            values: Vec::new(),
            row_of: Vec::new(),
            has_timestamps: false,
            groups: Vec::new(),
            refusal: None,
        };
        family.refusal = family.unite(scope).err();
        if family.refusal.is_none() {
            family.group(dictionary, scope);
        }
        family
    }

    fn unite(&mut self, scope: &ScopeProfiles) -> Result<(), Refusal> {
        let mut known: HashTable<(u64, u32)> = HashTable::new();
        let state = RandomState::default();
        let (mut sorted, mut scratch) = (Vec::new(), Vec::new());
        for (member, kind) in &self.members {
            let samples = &scope.profiles[*member].samples;
            let mut row_of = Vec::with_capacity(samples.len());
            known.reserve(samples.len().saturating_sub(known.len()), |(hash, _)| *hash);
            for (at, sample) in samples.iter().enumerate() {
                sort_into(&mut sorted, sample.attributes);
                let hash = state.hash_one((sample.stack, sample.link, &sorted));
                let found = known.find(hash, |(other, row)| {
                    let row = self.rows[*row as usize];
                    let attributes = || {
                        let member = &scope.profiles[row.member as usize];
                        member.samples.get(row.sample as usize).attributes
                    };
                    *other == hash
                        && (row.stack, row.link) == (sample.stack, sample.link)
                        && (attributes() == sample.attributes || {
                            sort_into(&mut scratch, attributes());
                            scratch == sorted
                        })
                });
                let row = found.map(|(_, row)| *row).unwrap_or_else(|| {
                    let row = self.rows.len() as u32;
                    let (member, sample_at) = (*member as u32, at as u32);
                    let SampleRef { stack, link, .. } = sample;
                    self.rows.push(Row { stack, link, member, sample: sample_at });
                    self.values.extend(self.types.iter().map(|_| ABSENT));
                    known.insert_unique(hash, (hash, row), |(hash, _)| *hash);
                    row
                });
                row_of.push(row);
                self.has_timestamps |= !sample.timestamps_unix_nano.is_empty();
                let value = weight(sample)?;
                let place = &mut self.values[row as usize * self.types.len() + kind];
                let before = if *place == ABSENT { 0 } else { *place };
                let sum = before.checked_add(value).filter(|sum| *sum <= i64::MAX as u64);
                *place = sum.ok_or(Refusal::Overflow)?;
            }
            self.row_of.push(row_of);
        }
        Ok(())
    }

    /// Puts types together whose samples other than 0 are in the same rows.
    fn group(&mut self, dictionary: &Dictionary, scope: &ScopeProfiles) {
        let default = scope.scope.attributes.iter().find_map(|attribute| {
            let wanted = attribute.key == PPROF_DEFAULT_SAMPLE_TYPE;
            wanted.then(|| attribute.value.as_str()).flatten()
        });
        let is_of_file =
            scope.scope.attributes.iter().any(|one| one.key == PPROF_SAMPLE_TYPE_ORDER);
        let is_default =
            |at: &usize| self.types.get(*at).map(|of| dictionary.strings.get(of.kind)) == default;
        let has = |row: usize, at: usize| self.value(row, at).is_some_and(|value| value > 0);
        let alike = |a: usize, b: usize| (0..self.rows.len()).all(|row| has(row, a) == has(row, b));
        let mut groups: Vec<Group> = Vec::new();
        for at in 0..self.types.len() {
            match groups.iter_mut().find(|group| alike(group.primary, at)) {
                Some(group) => {
                    group.types.push(at);
                    // What pprof shows: the named one, or the last, which of a file comes first.
                    if !is_default(&group.primary) && (is_default(&at) || !is_of_file) {
                        group.primary = at;
                    }
                }
                None => groups.push(Group { types: vec![at], primary: at, outcome: None }),
            }
        }
        self.groups = groups;
    }

    /// The value of a row for a type, if it has one.
    pub(super) fn value(&self, row: usize, kind: usize) -> Option<u64> {
        let value = self.values.get(row * self.types.len() + kind).copied();
        value.filter(|value| *value != ABSENT)
    }

    /// The sum of a type's values.
    pub(super) fn total(&self, kind: usize) -> u128 {
        let values = (0..self.rows.len()).filter_map(|row| self.value(row, kind));
        values.map(u128::from).sum()
    }

    /// How many rows of a group may be kept or dropped.
    pub(super) fn rows_of(&self, group: &Group) -> usize {
        let values = (0..self.rows.len()).filter_map(|row| self.value(row, group.primary));
        values.filter(|value| *value > 0).count()
    }
}

/// The sum of a sample's values.
fn weight(sample: SampleRef<'_>) -> Result<u64, Refusal> {
    if sample.values.is_empty() {
        return Ok(sample.timestamps_unix_nano.len() as u64);
    }
    sample.values.iter().try_fold(0_u64, |sum, value| {
        let value = u64::try_from(*value).map_err(|_| Refusal::Negative)?;
        sum.checked_add(value).ok_or(Refusal::Overflow)
    })
}

fn sort_into(into: &mut Vec<AttributeIx>, rows: &[AttributeIx]) {
    into.clear();
    into.extend_from_slice(rows);
    into.sort_unstable();
}
