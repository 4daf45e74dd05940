//! What a profile is: a batch of profiles over one dictionary, in the shape of the OTLP signal.
//!
//! Everything is a struct of arrays. A table holds rows of one kind in columns; a row is named by
//! a typed index ([`StringIx`], [`StackIx`] …) and row 0 of every dictionary table is the zero
//! value, which means "none". Indices are checked once, where data enters (a codec's `decode`), so
//! that everything after is plain indexing; a decoder must never build a [`Profiles`] that holds an
//! index out of range.
//!
//! Tables intern: `intern` returns the row that already holds a value, or appends one. The hash is
//! seeded, because the values come from the network.
//!
//! The vocabulary is that of `opentelemetry/proto/profiles/v1development/profiles.proto` (v1.11).

mod aggregate;
mod attributes;
mod check;
mod compact;
mod functions;
mod index;
mod interner;
mod links;
mod lists;
mod locations;
mod mappings;
mod memory;
mod merge;
mod pick;
mod reach;
mod remap;
mod resources;
mod samples;
mod split;
mod stacks;
mod strings;
mod table_sizes;
mod value;

pub mod attribute_names;

pub use aggregate::{aggregate, extend_interval};
pub use attributes::Attributes;
pub use check::OutOfRange;
pub use functions::{Function, Functions};
pub use index::{AttributeIx, FunctionIx, Index, LinkIx, LocationIx, MappingIx, StackIx, StringIx};
pub use links::{Link, Links};
pub use lists::Lists;
pub use locations::{Line, LocationRef, Locations};
pub use mappings::{MappingRef, Mappings};
pub use merge::{Merger, join, merge};
pub use resources::{KeyValue, Resource, ResourceProfiles, Scope, ScopeProfiles};
pub use samples::{Profile, SampleRef, Samples, ValueType};
pub use split::{RowLengths, split};
pub use stacks::Stacks;
pub use strings::Strings;
pub use value::Value;

/// One table of each kind, shared by every profile of a batch.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    /// Names, paths, units: every text that repeats.
    pub strings: Strings,
    /// Keys with a value and a unit, referenced by mappings, locations, profiles and samples.
    pub attributes: Attributes,
    /// Files (and pseudo files) mapped into processes.
    pub mappings: Mappings,
    /// Functions, by name and file.
    pub functions: Functions,
    /// Instruction addresses, with the source lines they stand for.
    pub locations: Locations,
    /// Call stacks, leaf first.
    pub stacks: Stacks,
    /// Links to trace spans.
    pub links: Links,
}

/// A batch of profiles: the content of one OTLP export request, or of one file.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    /// The tables that everything below points into.
    pub dictionary: Dictionary,
    /// Who was profiled, and the profiles of each.
    pub resources: Vec<ResourceProfiles>,
}

impl Profiles {
    /// An empty batch whose tables hold only their zero rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every profile of the batch with the resource and scope that it belongs to.
    pub fn iter(&self) -> impl Iterator<Item = (&Resource, &Scope, &Profile)> {
        self.resources.iter().flat_map(|resource| {
            resource.scopes.iter().flat_map(move |scope| {
                scope
                    .profiles
                    .iter()
                    .map(move |profile| (&resource.resource, &scope.scope, profile))
            })
        })
    }

    /// Every profile of the batch, for changing it.
    pub fn profiles_mut(&mut self) -> impl Iterator<Item = &mut Profile> {
        self.resources
            .iter_mut()
            .flat_map(|resource| &mut resource.scopes)
            .flat_map(|scope| &mut scope.profiles)
    }

    /// The number of samples (rows, not events) in the batch.
    pub fn sample_count(&self) -> usize {
        self.iter().map(|(_, _, profile)| profile.samples.len()).sum()
    }
}
