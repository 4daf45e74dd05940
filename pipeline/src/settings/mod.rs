//! Value types that configurations share.

mod duration;
mod size;

pub use duration::Duration;
pub use size::ByteSize;
