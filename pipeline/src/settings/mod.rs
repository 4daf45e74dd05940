//! Value types that configurations share.

mod duration;
mod secret;
mod size;

pub use duration::Duration;
pub use secret::Secret;
pub use size::ByteSize;
