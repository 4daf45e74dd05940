//! Which rows of a dictionary something refers to, directly or through other rows.

use super::{
    AttributeIx, Dictionary, FunctionIx, Index, LocationIx, MappingIx, Profile, SampleRef, StackIx,
    StringIx, ValueType,
};

/// Rows of one table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    /// All of so many.
    All(usize),
    /// These, ascending.
    Some(&'a [u32]),
}

/// The reached rows of one table. Row 0 is always there and never listed.
#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    reached: Vec<bool>,
    rows: Vec<u32>,
}

impl Table {
    fn new(rows: usize) -> Self {
        let mut reached = vec![false; rows];
        if let Some(first) = reached.first_mut() {
            *first = true;
        }
        Self { reached, rows: Vec::new() }
    }

    /// Lists a row. True if it was not listed.
    #[inline(always)]
    fn insert(&mut self, row: usize) -> bool {
        let reached = &mut self.reached[row];
        if *reached {
            return false;
        }
        *reached = true;
        self.rows.push(row as u32);
        true
    }

    /// The rows in the order in which they were reached, until [`Reached::sort`].
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Forgets all but the first `keep` rows.
    fn truncate(&mut self, keep: usize) {
        for row in self.rows.drain(keep..) {
            self.reached[row as usize] = false;
        }
    }
}

/// The reached rows of every table, or all rows.
#[derive(Debug, Default, Clone)]
pub(super) struct Reached {
    all: bool,
    pub(super) strings: Table,
    pub(super) attributes: Table,
    pub(super) mappings: Table,
    pub(super) functions: Table,
    pub(super) locations: Table,
    pub(super) links: Table,
    pub(super) stacks: Table,
}

/// How many rows of each table were reached at some time.
pub(super) type Mark = [usize; 7];

macro_rules! tables {
    ($($table:ident)*) => {
        /// The rows of each table, ascending. [`Reached::sort`] must have been called.
        impl Reached {$(
            pub(super) fn $table(&self, from: &Dictionary) -> Rows<'_> {
                if self.all { Rows::All(from.$table.len()) } else { Rows::Some(&self.$table.rows) }
            }
        )*}
    };
}

tables! { strings attributes mappings functions locations links stacks }

impl Reached {
    /// All rows.
    pub(super) fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// No row of `from`.
    pub(super) fn none(from: &Dictionary) -> Self {
        Self {
            all: false,
            strings: Table::new(from.strings.len()),
            attributes: Table::new(from.attributes.len()),
            mappings: Table::new(from.mappings.len()),
            functions: Table::new(from.functions.len()),
            locations: Table::new(from.locations.len()),
            links: Table::new(from.links.len()),
            stacks: Table::new(from.stacks.len()),
        }
    }

    fn tables(&mut self) -> [&mut Table; 7] {
        [
            &mut self.strings,
            &mut self.attributes,
            &mut self.mappings,
            &mut self.functions,
            &mut self.locations,
            &mut self.links,
            &mut self.stacks,
        ]
    }

    /// What is reached now.
    pub(super) fn mark(&mut self) -> Mark {
        self.tables().map(|table| table.rows.len())
    }

    /// Forgets what was reached since `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        for (table, keep) in self.tables().into_iter().zip(mark) {
            table.truncate(keep);
        }
    }

    /// Puts the rows in ascending order.
    pub(super) fn sort(&mut self) {
        for table in self.tables() {
            table.rows.sort_unstable();
        }
    }

    /// Reaches what a profile refers to, without its samples and with these of its attributes.
    pub(super) fn profile(
        &mut self,
        from: &Dictionary,
        profile: &Profile,
        attributes: impl Iterator<Item = AttributeIx>,
    ) {
        for ValueType { kind, unit } in [profile.sample_type, profile.period_type] {
            self.string(kind);
            self.string(unit);
        }
        for row in attributes {
            self.attribute(from, row);
        }
    }

    /// Reaches what a sample refers to.
    pub(super) fn sample(&mut self, from: &Dictionary, sample: SampleRef<'_>) {
        self.links.insert(sample.link.at());
        self.attributes_of(from, sample.attributes);
        self.stack(from, sample.stack);
    }

    fn string(&mut self, row: StringIx) {
        self.strings.insert(row.at());
    }

    fn attributes_of(&mut self, from: &Dictionary, rows: &[AttributeIx]) {
        for row in rows {
            self.attribute(from, *row);
        }
    }

    fn attribute(&mut self, from: &Dictionary, row: AttributeIx) {
        if self.attributes.insert(row.at()) {
            self.string(from.attributes.key(row));
            self.string(from.attributes.unit(row));
        }
    }

    fn stack(&mut self, from: &Dictionary, row: StackIx) {
        if self.stacks.insert(row.at()) {
            for location in from.stacks.get(row) {
                self.location(from, *location);
            }
        }
    }

    fn location(&mut self, from: &Dictionary, row: LocationIx) {
        if !self.locations.insert(row.at()) {
            return;
        }
        let location = from.locations.get(row);
        self.mapping(from, location.mapping);
        for line in location.lines {
            self.function(from, line.function);
        }
        self.attributes_of(from, location.attributes);
    }

    fn mapping(&mut self, from: &Dictionary, row: MappingIx) {
        if self.mappings.insert(row.at()) {
            let mapping = from.mappings.get(row);
            self.string(mapping.filename);
            self.attributes_of(from, mapping.attributes);
        }
    }

    fn function(&mut self, from: &Dictionary, row: FunctionIx) {
        if self.functions.insert(row.at()) {
            let function = from.functions.get(row);
            self.string(function.name);
            self.string(function.system_name);
            self.string(function.filename);
        }
    }
}
