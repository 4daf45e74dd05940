//! A batch as one table: a row for each sample, a column for each sample type.
//!
//! The model has a profile for each sample type and pprof has a value for each type in every
//! sample, so the profiles that were measured together have to be put side by side again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::RandomState;

use crate::pprof::attributes::{file_order, files_order};
use crate::pprof::default_type::{declared, default_type};
use crate::pprof::{DEFAULT_LIMIT, EncodeError, VALUE_BYTES};
use profpipe_profile::{
    AttributeIx, Dictionary, LinkIx, Profile, Profiles, SampleRef, ScopeProfiles, StackIx,
    ValueType,
};

/// The most values that a file may have: so many that [`crate::pprof::decode`] still reads it.
const MAX_CELLS: usize = DEFAULT_LIMIT / VALUE_BYTES;

/// What kind of thing is counted, in which unit, and the how many-eth such column it is.
type ColumnKey<'a> = (&'a str, &'a str, usize);

/// What tells samples apart.
type RowKey<'a> = (StackIx, &'a [AttributeIx], LinkIx);

/// One sample without its values.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// The position of the resource in the batch.
    pub(super) resource: usize,
    pub(super) stack: StackIx,
    pub(super) attributes: &'a [AttributeIx],
    pub(super) link: LinkIx,
}

/// Profiles of one scope that were measured together.
#[derive(Debug)]
pub(super) struct Group<'a> {
    resource: usize,
    pub(super) members: Vec<&'a Profile>,
    columns: Vec<usize>,
}

/// The whole batch.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    /// The kind and the unit of each column.
    pub(super) columns: Vec<(&'a str, &'a str)>,
    pub(super) rows: Vec<Row<'a>>,
    /// The values of the rows, one row after the other.
    pub(super) cells: Vec<i64>,
    pub(super) groups: Vec<Group<'a>>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(profiles: &'a Profiles) -> Result<Self, EncodeError> {
        let mut table = Self::default();
        let mut columns = HashMap::default();
        for (resource, of_resource) in profiles.resources.iter().enumerate() {
            for scope in &of_resource.scopes {
                table.add_groups(&profiles.dictionary, resource, scope, &mut columns);
            }
        }
        table.show_default(profiles);
        for group in std::mem::take(&mut table.groups) {
            table.add_rows(&group)?;
            table.groups.push(group);
        }
        Ok(table)
    }

    /// Makes the default type of the batch what pprof shows: the last column, unless the file is
    /// going to name a type that there is.
    fn show_default(&mut self, profiles: &Profiles) {
        let declared = declared(profiles);
        let is_named = self.columns.iter().any(|(kind, _)| *kind == declared);
        if is_named && !declared.is_empty() {
            return;
        }
        let strings = &profiles.dictionary.strings;
        let shown = default_type(profiles).and_then(|shown| {
            let shown = (strings.get(shown.kind), strings.get(shown.unit));
            self.columns.iter().rposition(|column| *column == shown)
        });
        let Some(last) = self.columns.len().checked_sub(1) else { return };
        let Some(shown) = shown.filter(|shown| *shown != last) else { return };
        self.columns.swap(shown, last);
        for column in self.groups.iter_mut().flat_map(|group| &mut group.columns) {
            *column = match *column {
                at if at == shown => last,
                at if at == last => shown,
                at => at,
            };
        }
    }

    /// The values of the row `at`.
    pub(super) fn values(&self, at: usize) -> &[i64] {
        let types = self.columns.len();
        self.cells.get(at * types..(at + 1) * types).unwrap_or_default()
    }

    fn add_groups(
        &mut self,
        dictionary: &'a Dictionary,
        resource: usize,
        scope: &'a ScopeProfiles,
        columns: &mut HashMap<ColumnKey<'a>, usize, RandomState>,
    ) {
        let text = |kind: ValueType| {
            (dictionary.strings.get(kind.kind), dictionary.strings.get(kind.unit))
        };
        let order = file_order(scope);
        // Only a pprof file may count the same thing twice on purpose.
        let is_file = order.is_some();
        let is_typeless = order.as_ref().is_some_and(Vec::is_empty);
        let order = match order {
            Some(order) if !is_typeless => order,
            _ => files_order(scope)
                .filter(|order| !order.is_empty())
                .unwrap_or_else(|| (0..scope.profiles.len()).collect()),
        };
        let first = self.groups.len();
        let mut groups: HashMap<_, usize, RandomState> = HashMap::default();
        let mut repeats: HashMap<_, usize, RandomState> = HashMap::default();
        for profile in order.into_iter().filter_map(|at| scope.profiles.get(at)) {
            let key = (
                profile.time_unix_nano,
                profile.duration_nano,
                text(profile.period_type),
                profile.period,
            );
            let at = *groups.entry(key).or_insert_with(|| {
                let members = Vec::new();
                self.groups.push(Group { resource, members, columns: Vec::new() });
                self.groups.len() - first - 1
            });
            let Some(group) = self.groups.get_mut(first + at) else { continue };
            group.members.push(profile);
            if is_typeless {
                continue;
            }
            let (kind, unit) = text(profile.sample_type);
            let repeat = repeats.entry((kind, unit)).or_insert(0);
            let nth = if is_file { *repeat } else { 0 };
            *repeat += 1;
            let new = self.columns.len();
            let column = *columns.entry((kind, unit, nth)).or_insert(new);
            if column == new {
                self.columns.push((kind, unit));
            }
            group.columns.push(column);
        }
    }

    fn add_rows(&mut self, group: &Group<'a>) -> Result<(), EncodeError> {
        if group.is_aligned() {
            let first = self.rows.len();
            for sample in group.members.first().iter().flat_map(|profile| profile.samples.iter()) {
                self.add_row(group.resource, key(sample))?;
            }
            for (profile, column) in group.members.iter().zip(&group.columns) {
                for (at, sample) in profile.samples.iter().enumerate() {
                    self.add(first + at, *column, sample.weight());
                }
            }
            return Ok(());
        }
        let mut rows: HashMap<RowKey<'a>, usize, RandomState> = HashMap::default();
        for (profile, column) in group.members.iter().zip(&group.columns) {
            for sample in profile.samples.iter() {
                let row = match rows.entry(key(sample)) {
                    Entry::Occupied(row) => *row.get(),
                    Entry::Vacant(row) => *row.insert(self.add_row(group.resource, key(sample))?),
                };
                self.add(row, *column, sample.weight());
            }
        }
        Ok(())
    }

    /// A row of zeros. Its position.
    fn add_row(
        &mut self,
        resource: usize,
        (stack, attributes, link): RowKey<'a>,
    ) -> Result<usize, EncodeError> {
        let cells = self.cells.len() + self.columns.len();
        if cells > MAX_CELLS {
            return Err(EncodeError::TooManyValues { limit: MAX_CELLS });
        }
        self.rows.push(Row { resource, stack, attributes, link });
        self.cells.resize(cells, 0);
        Ok(self.rows.len() - 1)
    }

    fn add(&mut self, row: usize, column: usize, weight: i64) {
        if let Some(cell) = self.cells.get_mut(row * self.columns.len() + column) {
            *cell = cell.saturating_add(weight);
        }
    }
}

fn key(sample: SampleRef<'_>) -> RowKey<'_> {
    (sample.stack, sample.attributes, sample.link)
}

impl Group<'_> {
    /// True if every profile has the same rows in the same order, as the profiles of a file have.
    fn is_aligned(&self) -> bool {
        let Some((first, others)) = self.members.split_first() else { return true };
        others.iter().all(|other| {
            other.samples.len() == first.samples.len()
                && first.samples.iter().zip(other.samples.iter()).all(|(a, b)| key(a) == key(b))
        })
    }
}
