//! What is known of addresses in files: the rules of the frame that is there and the code around.
//!
//! The same addresses come in stack after stack, so what was worked out is kept, in a table of
//! fixed size where a newer address replaces an older one.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::code::Code;
use super::frame_rules::FrameRules;
use super::image::ImageIx;

/// The most addresses remembered; about 300 bytes each.
const REMEMBERED: usize = 4096;

/// What is known of an address.
#[derive(Debug)]
pub(crate) struct Place {
    /// The rules of a frame that is there; none if no table covers it.
    pub(crate) rules: Option<FrameRules>,
    pub(crate) code: Code,
}

/// An address in a file, and whether an instruction there is meant, and not one that has returned to
/// there: then the rules are those of the call before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct At {
    pub(crate) image: ImageIx,
    pub(crate) address: u64,
    pub(crate) exact: bool,
}

impl At {
    /// The address of the instruction whose rules hold.
    pub(crate) fn instruction(&self) -> u64 {
        self.address.wrapping_sub(u64::from(!self.exact))
    }
}

/// An address with what is known of it.
type Known = (At, Arc<Place>);

/// Addresses that were looked at.
pub(super) struct Places {
    entries: Box<[Option<Known>]>,
    /// Who makes files cannot choose which addresses displace each other.
    hash: foldhash::fast::RandomState,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![None; REMEMBERED].into(),
            hash: foldhash::fast::RandomState::default(),
        }
    }

    fn slot(&self, at: At) -> usize {
        self.hash.hash_one(at) as usize % REMEMBERED
    }

    pub(super) fn get(&self, at: At) -> Option<&Arc<Place>> {
        match self.entries.get(self.slot(at))? {
            Some((known, place)) if *known == at => Some(place),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, at: At, place: Arc<Place>) {
        let slot = self.slot(at);
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = Some((at, place));
        }
    }

    /// Forgets what is known of a file.
    pub(super) fn forget(&mut self, image: ImageIx) {
        for entry in &mut self.entries {
            if entry.as_ref().is_some_and(|(at, _)| at.image == image) {
                *entry = None;
            }
        }
    }
}
