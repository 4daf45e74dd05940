//! The frame pointer of a thread that was found waiting: the kernel tells where it is and where its stack
//! is, and no other register.
//!
//! It is needed at the first function that finds its caller by it. What that function does at its beginning
//! tells how large its frame is, and a return address there confirms it. Where it cannot be told, the
//! next return address above that belongs to a call of this very function is taken, and the stack is marked
//! as guessed.

use super::registers::RegisterSet;
use super::step::{Spot, Surroundings};
use crate::perf::linux::images::code::Before;
use crate::perf::linux::images::frame_rules::FrameRules;
use crate::perf::linux::records::arch;

/// How far above the stack pointer a frame may end, in bytes, to be found by its call.
const SEARCHED: u64 = 16 << 10;

/// A frame pointer that was found.
pub(super) struct Recovered {
    pub(super) registers: RegisterSet,
    /// It is that of a call like this one, and perhaps an older one.
    pub(super) is_guess: bool,
}

impl Surroundings<'_> {
    /// The registers of a frame with its frame pointer; none if it is not missing, not needed, or not found.
    pub(super) fn recover_frame_pointer(
        &mut self,
        spot: &Spot,
        rules: &FrameRules,
        registers: &RegisterSet,
    ) -> Option<Recovered> {
        if registers.frame_pointer().is_some() || !rules.keeps_frame_pointer() {
            return None;
        }
        let (image, _, address) = spot.in_image()?;
        let sp = registers.stack_pointer();
        let with = |frame_pointer, is_guess| {
            let mut registers = *registers;
            registers.set(arch::FRAME_POINTER, frame_pointer);
            Some(Recovered { registers, is_guess })
        };
        if let Some(size) = self.images.frame_size(image, rules.function, address) {
            let frame_pointer = sp.wrapping_add(size);
            let next = self.stack.read(frame_pointer.wrapping_add(8)).ok();
            if next.is_some_and(|next| self.caller(next).is_some()) {
                return with(frame_pointer, false);
            }
        }
        let mut at = sp;
        while at < sp.saturating_add(SEARCHED) {
            let Ok(word) = self.stack.read(at) else { break };
            if self.calls(word, spot, rules.function) {
                return with(at.wrapping_sub(8), true);
            }
            at += 8;
        }
        None
    }

    /// Whether a word is where a call of a function in the file of `spot` returns to.
    fn calls(&mut self, word: u64, spot: &Spot, function: u64) -> bool {
        let Some(caller) = self.caller(word) else { return false };
        let same_file = match (caller.in_image(), spot.in_image()) {
            (Some((a, ..)), Some((b, ..))) => a == b,
            _ => false,
        };
        let before = caller.place.as_ref().map(|place| place.code.before);
        same_file && before == Some(Before::CallOf(function))
    }
}
