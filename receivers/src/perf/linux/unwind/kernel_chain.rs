//! The chain of return addresses that the kernel found along frame pointers.
//!
//! The kernel can read the whole stack, and follow it to another one, but what it finds where
//! code uses the frame pointer for something else is no caller, and may be the program's data. So
//! its addresses are taken one by one, as long as they are code of the process behind a call, and
//! it is known for each how surely the next one is its caller.

use super::stack::Stack;
use super::step::{FramePointer, Spot};
use crate::perf::linux::handoff::Unwound;
use crate::perf::linux::images::table::Images;
use crate::perf::linux::processes::process::Process;

/// What was taken of a chain.
pub(super) struct Followed {
    pub(super) spots: Vec<Spot>,
    /// How far it goes; none if it just ends.
    pub(super) unwound: Option<Unwound>,
    /// The tables of a file are being read.
    pub(super) waiting: bool,
}

/// Where in a chain the callers of a frame with this frame pointer begin: the kernel began with
/// `first` and went on to what it pointed at, which can be repeated as far as the stack was copied.
pub(super) fn position(
    chain: &[u64],
    first: u64,
    frame_pointer: u64,
    stack: &Stack<'_>,
) -> Option<usize> {
    let mut at = first;
    for position in 1..chain.len() {
        if at == frame_pointer {
            return Some(position);
        }
        // Only the last step may go to another stack, which was not copied.
        at = stack.read(at).ok().filter(|next| *next > at || *next == frame_pointer)?;
    }
    None
}

/// Follows a chain. It may be `guessed` that it begins with a caller; `past` says that it goes on
/// past frames that leave the frame pointer alone, whose callers it does not have.
pub(super) fn follow(
    chain: &[u64],
    mut guessed: bool,
    past: bool,
    most: usize,
    process: &Process,
    images: &mut Images,
) -> Followed {
    let mut followed = Followed { spots: Vec::new(), unwound: None, waiting: false };
    for address in chain {
        if followed.spots.len() >= most {
            followed.unwound = Some(Unwound::Truncated);
            break;
        }
        let interrupted = followed.spots.last().is_some_and(|last| last.is_injected(images));
        let found = match interrupted {
            true => Spot::find(*address, true, process, images),
            false => Spot::called(*address, process, images),
        };
        let Some(spot) = found else {
            followed.unwound = Some(Unwound::Broken);
            break;
        };
        let is_root = spot.is_root(images);
        let frame_pointer = spot.frame_pointer(images);
        followed.waiting |= spot.is_unready();
        followed.spots.push(spot);
        if is_root {
            followed.unwound = Some(if guessed { Unwound::Guessed } else { Unwound::Complete });
            break;
        }
        match frame_pointer {
            FramePointer::Sure => {}
            FramePointer::Unknown => guessed = true,
            FramePointer::Outer if past => guessed = true,
            // What it points at belongs to another frame, or to none.
            FramePointer::Outer | FramePointer::Not => break,
        }
    }
    followed
}
