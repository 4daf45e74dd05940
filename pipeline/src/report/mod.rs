//! What people ask of a profile: which functions cost most, and the stacks of a flame graph.
//!
//! Pure functions over [`Profiles`]; nothing is printed here. One sample type is reported at a
//! time, over all resources and scopes together. Frames are shown as google/pprof shows them:
//! inlined functions are frames, and what a profile's `pprof.profile.drop_frames` names is left
//! out.

mod choice;
mod frames;
mod prune;
mod stacks;
mod top;

pub use choice::{Choice, ChoiceError};
pub use stacks::{CollapsedStacks, collapse};
pub use top::{Column, FunctionCost, StackCounts, Top, top};
