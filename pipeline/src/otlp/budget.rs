//! How much memory one request may unfold to.
//!
//! Columns grow by at most about ten bytes per byte of the wire, so they need no account. What can
//! unfold further is counted here: a reference of a few bytes can stand for a text of megabytes,
//! and an empty message of two bytes for a structure of hundreds.

use super::wire::{FaultKind, Read, Reader};

/// Unfolded bytes that any request may have.
const FLOOR: usize = 16 << 20;
/// Unfolded bytes for each byte of the request. References in resources of a real host unfold to
/// about 12.
const FACTOR: usize = 16;

/// The account of one request.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    /// A reference into the string table was resolved.
    pub(super) resolved: bool,
}

impl Budget {
    /// For a request of `length` bytes.
    pub(super) fn new(length: usize) -> Self {
        Self { left: Self::limit(length), resolved: false }
    }

    /// What a request of `length` bytes may unfold to.
    pub(super) fn limit(length: usize) -> usize {
        FLOOR.saturating_add(length.saturating_mul(FACTOR))
    }

    /// Takes `bytes` from the account, for what stands at `place`.
    #[inline]
    pub(super) fn charge(&mut self, place: &[u8], bytes: usize) -> Read<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Reader::new(place).fault(FaultKind::TooLarge)),
        }
    }
}
