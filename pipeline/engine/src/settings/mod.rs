//! Value types that configurations share.

mod address;
mod duration;
mod percent;
mod secret;
mod size;

pub use address::{ShownAddress, shown_text};
pub use duration::Duration;
pub use percent::Percent;
pub use secret::Secret;
pub use size::ByteSize;
