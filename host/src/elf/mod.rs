//! What an ELF file is, as far as that can be said without a symbol: its headers, segments,
//! sections and build ids.
//!
//! [`Headers`] reads the tables, with the `object` crate over positioned reads; [`Identity`] says
//! who a mapped file is, [`inspect`] whether a file that was sent is complete. Both classes and both
//! byte orders are understood. A table is read up to a bound that the caller sets, notes up to 64 KiB
//! each: what a hostile file claims costs no more than that.

mod hash;
mod headers;
mod identity;
mod notes;
mod whole;

pub use hash::htlhash;
pub use headers::{Headers, Section, Segment};
pub use identity::{Identity, MAX_HEADERS};
pub use notes::MAX_NOTES;
pub use whole::{Whole, inspect};

#[cfg(test)]
mod tests;
