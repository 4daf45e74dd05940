//! What people ask of a profile: which functions cost most, and the stacks of a flame graph.
//!
//! Pure functions over [`Profiles`](profpipe_profile::Profiles); nothing is printed here. One sample
//! type is reported at a time, over all resources and scopes together; its units of one dimension are
//! made one. Where values are below zero, as in a difference, shares are of the sum of absolute values.
//! Frames are shown as
//! google/pprof shows them: inlined functions are frames, and what a profile's
//! `pprof.profile.drop_frames` names is left out.

mod absolute;
mod choice;
mod frames;
mod listing;
mod only;
mod prune;
mod stacks;
mod text;
mod top;
mod units;
mod weights;

#[cfg(test)]
mod tests;

pub use choice::{Choice, ChosenProfile, LeftOut, sample_types};
pub use frames::{Frame, Frames};
pub use listing::{InstructionCost, Listing, PlaceCost, Routine, list};
pub use only::{retain_samples_with, weights_by_attribute};
pub use prune::Pruner;
pub use stacks::{CollapsedStacks, collapse, collapse_all, collapse_by_process};
pub use top::{Column, FunctionCost, StackCounts, Top, top};
pub use units::{amount, percent};

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportError {
    /// There are no profiles.
    #[error("there is no profile in it")]
    Empty,
    /// There is no such sample type.
    #[error("there is no sample type `{wanted}` in it; it has {known}")]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// The types that there are.
        known: String,
    },
    /// There are more sample types than wanted.
    #[error("it has more than {limit} sample types")]
    TooManyTypes {
        /// How many are allowed.
        limit: usize,
    },
    /// The stacks have more frames than fit in memory.
    #[error("its stacks have too many frames")]
    TooLarge,
}
