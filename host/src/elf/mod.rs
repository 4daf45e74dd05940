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
pub use notes::{MAX_NOTES, build_id_of_notes};
pub use whole::{Whole, inspect};

/// Whether a text is a GNU build id in hex: what is shorter than 4 bytes says nothing, and no linker makes
/// more than 32. Ids come from senders and end up in paths and addresses: nothing but hex digits gets past.
pub fn is_build_id(hex: &str) -> bool {
    (8..=128).contains(&hex.len())
        && hex.len().is_multiple_of(2)
        && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
