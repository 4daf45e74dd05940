//! Moving rows from one dictionary into another: the one place where tables are re-indexed.
//!
//! Every table is gone through exactly once, in the order in which they depend on each other, so
//! that a row's own indices are known when it is looked up. The cost is one hash per row.

use super::reach::{Reached, Rows};
use super::{
    AttributeIx, Dictionary, Function, FunctionIx, Index, Line, LinkIx, LocationIx, LocationRef,
    MappingIx, MappingRef, Profile, SampleRef, Samples, StackIx, StringIx, ValueType,
};

/// Where the rows of one dictionary are in another, by table.
///
/// A row that was not moved has no defined place; nobody may ask for it.
#[derive(Debug, Default)]
pub(super) struct Remap {
    strings: Vec<StringIx>,
    attributes: Vec<AttributeIx>,
    mappings: Vec<MappingIx>,
    functions: Vec<FunctionIx>,
    locations: Vec<LocationIx>,
    links: Vec<LinkIx>,
    stacks: Vec<StackIx>,
}

impl Remap {
    /// For the rows of `from`, none of which is moved yet.
    pub(super) fn new(from: &Dictionary) -> Self {
        Self {
            strings: vec![StringIx::NONE; from.strings.len()],
            attributes: vec![AttributeIx::NONE; from.attributes.len()],
            mappings: vec![MappingIx::NONE; from.mappings.len()],
            functions: vec![FunctionIx::NONE; from.functions.len()],
            locations: vec![LocationIx::NONE; from.locations.len()],
            links: vec![LinkIx::NONE; from.links.len()],
            stacks: vec![StackIx::NONE; from.stacks.len()],
        }
    }

    /// Where a value type is.
    pub(super) fn value_type(&self, of: ValueType) -> ValueType {
        ValueType { kind: self.strings[of.kind.at()], unit: self.strings[of.unit.at()] }
    }

    /// Where an attribute is.
    pub(super) fn attribute(&self, row: AttributeIx) -> AttributeIx {
        self.attributes[row.at()]
    }

    /// Re-indexes a profile in place.
    pub(super) fn profile(&self, profile: &mut Profile) {
        profile.sample_type = self.value_type(profile.sample_type);
        profile.period_type = self.value_type(profile.period_type);
        self.attributes_in(&mut profile.attributes);
        let samples = &mut profile.samples;
        for row in &mut samples.stacks {
            *row = self.stacks[row.at()];
        }
        for row in &mut samples.links {
            *row = self.links[row.at()];
        }
        self.attributes_in(samples.attributes.items_mut());
    }

    /// Appends a re-indexed copy of a sample. `scratch` is for the function's use.
    pub(super) fn sample(
        &self,
        sample: SampleRef<'_>,
        into: &mut Samples,
        scratch: &mut Vec<AttributeIx>,
    ) {
        scratch.clear();
        scratch.extend(sample.attributes.iter().map(|row| self.attributes[row.at()]));
        into.push(SampleRef {
            stack: self.stacks[sample.stack.at()],
            link: self.links[sample.link.at()],
            attributes: scratch,
            ..sample
        });
    }

    fn attributes_in(&self, rows: &mut [AttributeIx]) {
        for row in rows {
            *row = self.attributes[row.at()];
        }
    }

    /// Moves rows from `from` into `into`, which gets those that it does not have. Of rows that
    /// are moved, whatever they refer to must be moved, too.
    pub(super) fn absorb(&mut self, into: &mut Dictionary, from: &Dictionary, rows: &Reached) {
        let mut attributes = Vec::new();
        rows.strings(from).each(|row| {
            self.strings[row] = into.strings.intern(from.strings.get(StringIx::new(row as u32)));
        });
        rows.attributes(from).each(|row| {
            let table = &from.attributes;
            self.attributes[row] = into.attributes.intern_ref(
                self.strings[table.keys[row].at()],
                &table.values[row],
                self.strings[table.units[row].at()],
            );
        });
        rows.mappings(from).each(|row| {
            let mapping = from.mappings.get(MappingIx::new(row as u32));
            self.translate(mapping.attributes, &mut attributes);
            self.mappings[row] = into.mappings.intern(MappingRef {
                filename: self.strings[mapping.filename.at()],
                attributes: &attributes,
                ..mapping
            });
        });
        rows.functions(from).each(|row| {
            let function = from.functions.rows()[row];
            self.functions[row] = into.functions.intern(Function {
                name: self.strings[function.name.at()],
                system_name: self.strings[function.system_name.at()],
                filename: self.strings[function.filename.at()],
                start_line: function.start_line,
            });
        });
        let mut lines = Vec::new();
        rows.locations(from).each(|row| {
            let location = from.locations.get(LocationIx::new(row as u32));
            self.translate(location.attributes, &mut attributes);
            lines.clear();
            lines.extend(
                location
                    .lines
                    .iter()
                    .map(|line| Line { function: self.functions[line.function.at()], ..*line }),
            );
            self.locations[row] = into.locations.intern(LocationRef {
                mapping: self.mappings[location.mapping.at()],
                address: location.address,
                lines: &lines,
                attributes: &attributes,
            });
        });
        rows.links(from).each(|row| {
            self.links[row] = into.links.intern(from.links.rows()[row]);
        });
        let mut stack = Vec::new();
        rows.stacks(from).each(|row| {
            stack.clear();
            let locations = from.stacks.get(StackIx::new(row as u32));
            stack.extend(locations.iter().map(|location| self.locations[location.at()]));
            self.stacks[row] = into.stacks.intern(&stack);
        });
    }

    fn translate(&self, rows: &[AttributeIx], into: &mut Vec<AttributeIx>) {
        into.clear();
        into.extend(rows.iter().map(|row| self.attributes[row.at()]));
    }
}

impl Rows<'_> {
    /// Every row that is to be moved, ascending; row 0 is where it is.
    #[inline(always)]
    fn each(self, mut visit: impl FnMut(usize)) {
        match self {
            Self::All(rows) => (1..rows).for_each(visit),
            Self::Some(rows) => rows.iter().for_each(|row| visit(*row as usize)),
        }
    }
}
