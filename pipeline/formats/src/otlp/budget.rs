//! How much memory one request may unfold to.
//!
//! Columns grow by at most about ten bytes per byte of the wire, so they need no limit. What can
//! unfold further is counted here: a reference of a few bytes can stand for a text of megabytes,
//! and an empty message of two bytes for a structure of hundreds.
//!
//! Where requests share memory with others, all of it is asked for before it is taken, columns too:
//! they are counted ahead ([`super::sizing`]).

use super::wire::{FaultKind, Read, Reader};

/// Unfolded bytes that any request may have.
const FLOOR: usize = 16 << 20;
/// Unfolded bytes for each byte of the request. References in resources of a real host unfold to
/// about 12.
const FACTOR: usize = 16;

/// What is asked for at once, where somebody wants to be asked.
const STEP: usize = 1 << 20;
/// What an allocation takes beside its bytes, at most.
const HEADER: usize = 32;

/// Asked for bytes before they are taken; says whether there is room.
pub(super) type Room<'r> = &'r mut dyn FnMut(usize) -> bool;

/// The account of one request.
pub(super) struct Budget<'r> {
    left: usize,
    /// Who is to be asked, and what of the answer is left.
    room: Option<Room<'r>>,
    granted: usize,
    /// A reference into the string table was resolved.
    pub(super) resolved: bool,
}

impl<'r> Budget<'r> {
    /// For a request of `length` bytes.
    pub(super) fn new(length: usize, room: Option<Room<'r>>) -> Self {
        Self { left: Self::limit(length), room, granted: 0, resolved: false }
    }

    /// What a request of `length` bytes may unfold to.
    pub(super) fn limit(length: usize) -> usize {
        FLOOR.saturating_add(length.saturating_mul(FACTOR))
    }

    /// Whether somebody wants to hear of everything that is taken.
    pub(super) fn is_asked(&self) -> bool {
        self.room.is_some()
    }

    /// Asks for `bytes`, which are taken once this returns.
    pub(super) fn ask(&mut self, place: &[u8], bytes: usize) -> Read<()> {
        let Some(room) = &mut self.room else { return Ok(()) };
        if bytes > self.granted {
            let missing = bytes - self.granted;
            let step = missing.max(STEP);
            self.granted += match () {
                () if room(step) => step,
                () if step > missing && room(missing) => missing,
                () => return Err(Reader::new(place).fault(FaultKind::NoRoom)),
            };
        }
        self.granted -= bytes;
        Ok(())
    }

    /// Asks for a text or other bytes.
    pub(super) fn ask_text(&mut self, place: &[u8], length: usize) -> Read<()> {
        self.ask(place, length.saturating_add(HEADER))
    }

    /// Counts and asks for a text or other bytes.
    #[inline]
    pub(super) fn text(&mut self, place: &[u8], length: usize) -> Read<()> {
        self.limited(place, length)?;
        self.ask_text(place, length)
    }

    /// Counts and asks for an item of `size` bytes of a list that grows as it comes. The list makes
    /// room for one at first, and then for at most twice as many as there are.
    #[inline]
    pub(super) fn item(&mut self, place: &[u8], size: usize) -> Read<()> {
        self.limited(place, size)?;
        self.ask(place, 2 * size + HEADER)
    }

    /// Counts `bytes`, for what stands at `place`.
    #[inline]
    pub(super) fn limited(&mut self, place: &[u8], bytes: usize) -> Read<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Reader::new(place).fault(FaultKind::TooLarge)),
        }
    }
}
