//! What a frame is, for balancing: a function by name, or a location that has none.
//!
//! A location may stand for several frames, which were inlined into each other. Such a list is a
//! *kind* of location. Only what is asked for is looked at: a batch's dictionary may be much larger.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use profpipe_profile::Lists;
use profpipe_profile::{Dictionary, Index, LocationIx, StackIx};

/// The kinds of the locations that some stacks use.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// Of each location: its kind, counted from 1; 0 if nobody has asked.
    of_location: Vec<u32>,
    /// Of each kind: its frames, the outermost first.
    frames: Lists<u32>,
    /// How many frames there are.
    pub(super) frame_count: usize,
}

impl Kinds {
    /// The kinds of all locations of these stacks.
    pub(super) fn of(dictionary: &Dictionary, stacks: impl Iterator<Item = StackIx>) -> Self {
        let mut kinds =
            Self { of_location: vec![0; dictionary.locations.len()], ..Self::default() };
        let mut frame_of_name = vec![u32::MAX; dictionary.strings.len()];
        let mut kind_of_frame: Vec<u32> = Vec::new();
        let mut kind_of_frames: HashMap<Vec<u32>, u32, RandomState> = HashMap::default();
        let mut seen = vec![false; dictionary.stacks.len()];
        for stack in stacks {
            if std::mem::replace(&mut seen[stack.at()], true) {
                continue;
            }
            for location in dictionary.stacks.get(stack) {
                if kinds.of_location[location.at()] != 0 {
                    continue;
                }
                let mut new_frame = || {
                    kind_of_frame.push(0);
                    kind_of_frame.len() as u32 - 1
                };
                let lines = dictionary.locations.get(*location).lines;
                let named = lines.iter().rev().map(|line| {
                    let name = dictionary.functions.get(line.function).name;
                    let frame = &mut frame_of_name[name.at()];
                    if *frame == u32::MAX {
                        *frame = new_frame();
                    }
                    *frame
                });
                let mut frames: Vec<u32> = named.collect();
                let nameless =
                    lines.iter().all(|line| dictionary.functions.get(line.function).name.is_none());
                if nameless {
                    frames = vec![new_frame()];
                }
                let next = kinds.frames.len() as u32 + 1;
                let kind = match frames.as_slice() {
                    [one] => &mut kind_of_frame[*one as usize],
                    _ => kind_of_frames.entry(frames.clone()).or_insert(0),
                };
                if *kind == 0 {
                    *kind = next;
                    kinds.frames.push(frames);
                }
                kinds.of_location[location.at()] = *kind;
            }
        }
        kinds.frame_count = kind_of_frame.len();
        kinds
    }

    /// The frames of a location of the stacks, the outermost first.
    pub(super) fn frames(&self, location: LocationIx) -> &[u32] {
        match self.of_location[location.at()] {
            0 => &[],
            kind => self.frames.get(kind as usize - 1),
        }
    }
}
