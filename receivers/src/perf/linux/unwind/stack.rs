//! The copy of a stack.

use super::evaluate::Fault;

/// The bytes of a stack from the stack pointer up, as far as they were copied. Only words that are
/// asked for leave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stack<'a> {
    bottom: u64,
    bytes: &'a [u8],
}

impl<'a> Stack<'a> {
    /// A stack whose pointer is at `bottom`.
    pub(crate) fn new(bottom: u64, bytes: &'a [u8]) -> Self {
        Self { bottom, bytes }
    }

    /// The word at an address.
    pub(crate) fn read(&self, address: u64) -> Result<u64, Fault> {
        let at = usize::try_from(address.wrapping_sub(self.bottom)).ok();
        let word = at.and_then(|at| self.bytes.get(at..)?.first_chunk::<8>());
        word.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Fault::Unreadable(address))
    }

    /// How far above the end of the copy an address is; none if it is not above.
    pub(super) fn beyond(&self, address: u64) -> Option<u64> {
        let end = self.bottom.checked_add(self.bytes.len() as u64)?;
        // A word that begins in the copy may end behind it.
        Some(address.checked_add(7)?.checked_sub(end)?.saturating_sub(7))
    }
}
