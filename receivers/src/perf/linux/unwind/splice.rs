//! Managed and native frames in one order, as a person thinks of calls.
//!
//! An interpreter runs its frames in a native loop. Each native frame of the loop stands for the
//! managed frames up to the one at which it was entered, so that counting entries tells which managed
//! frames are between which native ones. The loop itself, and what else of the runtime calls and is
//! called, is left out; frames of native libraries stay where they are.

use std::ops::Range;

use super::step::Spot;
use crate::perf::linux::handoff::Frame;
use crate::perf::linux::images::image::ImageIx;
use crate::perf::linux::processes::process::Code;

/// A managed frame, as it will be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplicedFrame {
    /// What is shown; none for a frame that only ends a group.
    pub(crate) frame: Option<Frame>,
    /// The native loop was entered here.
    pub(crate) ends_loop: bool,
}

/// Which native frames are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folded {
    /// All of the file that the runtime is in.
    Image,
    /// The loop alone: the file holds other code, too.
    Loops,
    /// None.
    Nothing,
}

/// A managed stack, leaf first, and what is needed to tell its native frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ManagedStack<'a> {
    pub(crate) frames: &'a [SplicedFrame],
    pub(crate) image: ImageIx,
    pub(crate) loops: &'a [Range<u64>],
    pub(crate) folded: Folded,
    /// There are more frames.
    pub(crate) truncated: bool,
}

/// A frame of the whole stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The native frame at this place of the walk.
    Native(usize),
    Managed(Frame),
}

/// Puts a managed stack between the native frames of a walk, which reaches its root or not. False if
/// they do not fit together; then all managed frames are together.
pub(super) fn splice(
    walk: &[Spot],
    is_whole: bool,
    managed: &ManagedStack<'_>,
    pieces: &mut Vec<Piece>,
) -> bool {
    let is_loop = |spot: &Spot| managed.loops.iter().any(|range| range.contains(&spot.within()));
    let is_in_image = |spot: &Spot| matches!(spot.code, Some(Code::Image { image, .. }) if image == managed.image);
    let places: Vec<Place> = walk
        .iter()
        .map(|spot| match (is_loop(spot), is_in_image(spot)) {
            (true, _) => Place::Loop,
            (false, true) => Place::Runtime,
            (false, false) => Place::Other,
        })
        .collect();
    merge(&places, is_whole, managed, pieces)
}

/// Where a native frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Loop,
    /// In the same file as the loop.
    Runtime,
    Other,
}

/// The same by what the native frames are.
pub(super) fn merge(
    walk: &[Place],
    is_whole: bool,
    managed: &ManagedStack<'_>,
    pieces: &mut Vec<Piece>,
) -> bool {
    pieces.clear();
    let loops = walk.iter().filter(|place| **place == Place::Loop).count();
    let groups = managed.frames.chunk_by(|frame, _| !frame.ends_loop).count();
    let first = walk.iter().position(|place| *place == Place::Loop);
    let before = walk.get(..first.unwrap_or(walk.len())).unwrap_or_default();
    // The loop is being entered or left: it has no frame of its own yet, or no more.
    let is_at_edge = !before.contains(&Place::Other);
    let (skipped, fits) = match loops.checked_sub(groups) {
        Some(0) => (0, true),
        Some(1) if is_at_edge && !managed.truncated => (1, true),
        Some(_) => (0, managed.truncated),
        // Not all native frames are known.
        None => (0, !is_whole),
    };
    let mut groups = managed.frames.chunk_by(|frame, _| !frame.ends_loop);
    let mut seen = 0;
    for (at, place) in walk.iter().enumerate() {
        if *place == Place::Loop {
            seen += 1;
            if fits && seen > skipped {
                pieces.extend(managed_pieces(groups.next().unwrap_or_default()));
            } else if !fits && seen == loops {
                pieces.extend(managed_pieces(managed.frames));
            }
        }
        let is_left_out = match managed.folded {
            Folded::Image => *place != Place::Other,
            Folded::Loops => *place == Place::Loop,
            Folded::Nothing => false,
        };
        if !is_left_out {
            pieces.push(Piece::Native(at));
        }
    }
    if fits {
        groups.for_each(|group| pieces.extend(managed_pieces(group)));
    } else if loops == 0 {
        pieces.extend(managed_pieces(managed.frames));
    }
    fits
}

fn managed_pieces(frames: &[SplicedFrame]) -> impl Iterator<Item = Piece> {
    frames.iter().filter_map(|frame| frame.frame.map(Piece::Managed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Managed frames by letters: a capital is the last of its loop, `.` ends one and is not shown.
    fn managed(letters: &str) -> Vec<SplicedFrame> {
        let frame = |letter: char| SplicedFrame {
            frame: (letter != '.').then_some(Frame { row: 1, address: letter as u64 }),
            ends_loop: letter == '.' || letter.is_ascii_uppercase(),
        };
        letters.chars().map(frame).collect()
    }

    /// The whole stack by letters: native frames are `l` for the loop, `r` for the runtime, `n` others.
    fn spliced(native: &str, frames: &str, is_whole: bool, folded: Folded) -> (String, bool) {
        let frames = managed(frames);
        let walk: Vec<_> = native
            .chars()
            .map(|letter| match letter {
                'l' => Place::Loop,
                'r' => Place::Runtime,
                _ => Place::Other,
            })
            .collect();
        let stack =
            ManagedStack { frames: &frames, image: 0, loops: &[], folded, truncated: false };
        let mut pieces = Vec::new();
        let fits = merge(&walk, is_whole, &stack, &mut pieces);
        let text = pieces.iter().map(|piece| match piece {
            Piece::Native(at) => native.chars().nth(*at).unwrap(),
            Piece::Managed(frame) => char::from_u32(frame.address as u32).unwrap(),
        });
        (text.collect(), fits)
    }

    /// Scenario: native extensions above, between and below the loops of an interpreter.
    /// Guarantees: managed frames stand where their loop stood, the runtime's own are left out unless
    /// they are wanted.
    #[test]
    fn frames_in_order() {
        let image = |native, frames| spliced(native, frames, true, Folded::Image);
        assert_eq!(image("nlrnlrn", "aBcD"), ("naBncDn".into(), true));
        assert_eq!(image("rlrlrrn", "AbcD"), ("AbcDn".into(), true));
        assert_eq!(image("lrln", "ab.c."), ("abcn".into(), true));
        assert_eq!(spliced("rlrn", "aB", true, Folded::Nothing), ("raBlrn".into(), true));
        assert_eq!(spliced("rlrn", "aB", true, Folded::Loops), ("raBrn".into(), true));
    }

    /// Scenario: the loop is just entered or left; the native stack is cut; nothing fits.
    /// Guarantees: at the edge the loop has no frame; what is below the cut comes after it; and what
    /// does not fit says so and keeps every managed frame.
    #[test]
    fn frames_that_do_not_fit() {
        let image = |native, frames, is_whole| spliced(native, frames, is_whole, Folded::Image);
        assert_eq!(image("lrln", "aB", true), ("aBn".into(), true));
        assert_eq!(image("rlrln", "aB", true), ("aBn".into(), true));
        assert_eq!(image("nlrln", "aB", true), ("naBn".into(), false));
        assert_eq!(image("nlr", "aBcD", false), ("naBcD".into(), true));
        assert_eq!(image("nlr", "aBcD", true), ("naBcD".into(), false));
        assert_eq!(image("n", "aBcD", true), ("naBcD".into(), false));
        assert_eq!(image("lnlnln", "aB", true), ("nnaBn".into(), false));
    }
}
