//! How large the tables of a dictionary are, for making room in another one.

use super::Dictionary;

/// Rows of each table, and the items or bytes of those whose rows are lists.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TableSizes([usize; 9]);

impl TableSizes {
    /// Of all tables.
    pub(super) fn of(tables: &Dictionary) -> Self {
        Self([
            tables.strings.len(),
            tables.strings.bytes(),
            tables.attributes.len(),
            tables.mappings.len(),
            tables.functions.len(),
            tables.locations.len(),
            tables.links.len(),
            tables.stacks.len(),
            tables.stacks.locations.items().len(),
        ])
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, usize::saturating_add)
    }

    /// What is left of this without the other.
    pub(super) fn minus(self, other: Self) -> Self {
        self.with(other, usize::saturating_sub)
    }

    /// As much of this as `part` is of `whole`; all of it at most.
    pub(super) fn share(self, part: Self, whole: Self) -> Self {
        let share = part.with(whole, |part, whole| {
            // In 1/1024: products of sizes stay far below 64 bits.
            (part.saturating_mul(1024) / whole.max(1)).min(1024)
        });
        self.with(share, |size, share| size.saturating_mul(share) / 1024)
    }

    fn with(self, other: Self, combine: impl Fn(usize, usize) -> usize) -> Self {
        let mut combined = self;
        for (size, other) in combined.0.iter_mut().zip(other.0) {
            *size = combine(*size, other);
        }
        combined
    }

    /// Makes room for so many more rows, in the columns and in the hash indices.
    pub(super) fn reserve(self, tables: &mut Dictionary) {
        let [strings, bytes, attributes, mappings, functions, locations, links, stacks, frames] =
            self.0;
        tables.strings.reserve(strings, bytes);
        tables.strings.reserve_index(strings);
        tables.attributes.reserve(attributes);
        tables.attributes.reserve_index(attributes);
        tables.mappings.reserve(mappings);
        tables.mappings.reserve_index(mappings);
        tables.functions.reserve(functions);
        tables.functions.reserve_index(functions);
        tables.locations.reserve(locations);
        tables.locations.reserve_index(locations);
        tables.links.reserve(links);
        tables.links.reserve_index(links);
        tables.stacks.reserve(stacks, frames);
        tables.stacks.reserve_index(stacks);
    }
}
