//! Leaving frames out of stacks. Values stay, with the frames that are left.
//!
//! `drop` takes a frame and all that it calls, exactly as pprof's `drop_frames`: unless the frames
//! from the root down to it all match, because then nothing would be left. `hide` takes the frame
//! alone. `keep` names exceptions to both.

use std::collections::HashMap;

use profpipe_profile::{Dictionary, Index, Line, LocationIx, LocationRef, Profiles, StackIx};

use super::condition::{Condition, FrameMemory};
use super::config::ErrorMode;
use super::language::Outcome;

/// Conditions of frames.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) drop: Vec<Condition>,
    pub(super) hide: Vec<Condition>,
    pub(super) keep: Vec<Condition>,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Hidden,
    /// With all that it calls.
    Dropped,
}

impl Rules {
    pub(super) fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.hide.is_empty()
    }

    /// Rewrites the stacks of a batch; returns how many frames of its tables were left out.
    ///
    /// # Errors
    /// If a condition has no answer and the batch is to be rejected for that.
    pub(super) fn apply(&self, profiles: &mut Profiles) -> Result<u64, String> {
        if self.is_empty() {
            return Ok(0);
        }
        let fates = self.fates(&profiles.dictionary)?;
        let left_out = fates.iter().flatten().filter(|fate| **fate != Fate::Stays).count();
        if left_out == 0 {
            return Ok(0);
        }
        let mut changed: HashMap<StackIx, StackIx> = HashMap::new();
        let Profiles { dictionary, resources } = profiles;
        let scopes = resources.iter_mut().flat_map(|resource| &mut resource.scopes);
        for profile in scopes.flat_map(|scope| &mut scope.profiles) {
            let mut is_changed = false;
            for stack in profile.samples.stacks_mut() {
                let new = *changed
                    .entry(*stack)
                    .or_insert_with_key(|stack| rewritten(dictionary, &fates, *stack));
                is_changed |= new != *stack;
                *stack = new;
            }
            if is_changed {
                // It tells of frames that are gone.
                profile.original_payload = Default::default();
                profile.original_payload_format.clear();
            }
        }
        Ok(left_out as u64)
    }

    /// What becomes of each line of each location; a location without lines has one fate too.
    fn fates(&self, dictionary: &Dictionary) -> Result<Vec<Vec<Fate>>, String> {
        let mut drop = Asking::of(&self.drop, dictionary);
        let mut hide = Asking::of(&self.hide, dictionary);
        let mut keep = Asking::of(&self.keep, dictionary);
        let mut fates = Vec::with_capacity(dictionary.locations.len());
        for (at, location) in dictionary.locations.iter().enumerate() {
            let row = LocationIx::new(at as u32);
            let mut fate = |line: Option<Line>| -> Result<Fate, String> {
                let found = if row.is_none() {
                    Fate::Stays
                } else if drop.any(dictionary, row, line)? {
                    Fate::Dropped
                } else if hide.any(dictionary, row, line)? {
                    Fate::Hidden
                } else {
                    Fate::Stays
                };
                let stays = found == Fate::Stays || keep.any(dictionary, row, line)?;
                Ok(if stays { Fate::Stays } else { found })
            };
            fates.push(if location.lines.is_empty() {
                vec![fate(None)?]
            } else {
                let all: Result<_, _> =
                    location.lines.iter().map(|line| fate(Some(*line))).collect();
                all?
            });
        }
        Ok(fates)
    }
}

/// A list of conditions at work.
struct Asking<'c>(Vec<(&'c Condition, FrameMemory<'c>)>);

impl<'c> Asking<'c> {
    fn of(list: &'c [Condition], dictionary: &Dictionary) -> Self {
        let asked = list
            .iter()
            .map(|condition| (condition, FrameMemory::new(&condition.expression, dictionary)));
        Self(asked.collect())
    }

    fn any(
        &mut self,
        dictionary: &Dictionary,
        location: LocationIx,
        line: Option<Line>,
    ) -> Result<bool, String> {
        for (condition, memory) in &mut self.0 {
            match memory.ask(dictionary, location, line) {
                Outcome::True => return Ok(true),
                Outcome::Fault if condition.place.mode == ErrorMode::Propagate => {
                    let fault = memory.fault(dictionary, location, line);
                    let message = fault.map(|fault| fault.0).unwrap_or_default();
                    return Err(format!("{}: {message}", condition.place.at));
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The row of the stack that is left of one.
fn rewritten(dictionary: &mut Dictionary, fates: &[Vec<Fate>], stack: StackIx) -> StackIx {
    let locations = dictionary.stacks.get(stack);
    let of = |location: &LocationIx| fates.get(location.at()).map_or(&[][..], Vec::as_slice);
    if locations.iter().flat_map(of).all(|fate| *fate == Fate::Stays) {
        return stack;
    }
    let locations = locations.to_vec();
    let mut new: Vec<LocationIx> = Vec::with_capacity(locations.len());
    let mut has_found_other = false;
    // From the root, whose line is the last of the last location, to the leaf.
    'stack: for location in locations.iter().rev() {
        let fates = of(location);
        // Positions of the lines that stay, outermost first.
        let mut staying = Vec::with_capacity(fates.len());
        for (line, fate) in fates.iter().enumerate().rev() {
            match fate {
                Fate::Dropped if has_found_other => {
                    new.extend(with_lines(dictionary, *location, fates.len(), &staying));
                    break 'stack;
                }
                Fate::Hidden => {}
                // Nothing else was found yet: there would be nothing left.
                Fate::Dropped => staying.push(line),
                Fate::Stays => {
                    has_found_other = true;
                    staying.push(line);
                }
            }
        }
        new.extend(with_lines(dictionary, *location, fates.len(), &staying));
    }
    new.reverse();
    dictionary.stacks.intern(&new)
}

/// The location with only these of its lines, outermost first; none if none is left.
fn with_lines(
    dictionary: &mut Dictionary,
    row: LocationIx,
    all: usize,
    staying: &[usize],
) -> Option<LocationIx> {
    if staying.is_empty() {
        return None;
    }
    if staying.len() == all {
        return Some(row);
    }
    let location = dictionary.locations.get(row);
    let lines: Vec<Line> =
        staying.iter().rev().filter_map(|at| location.lines.get(*at).copied()).collect();
    let attributes = location.attributes.to_vec();
    let LocationRef { mapping, address, .. } = location;
    let changed = LocationRef { mapping, address, lines: &lines, attributes: &attributes };
    Some(dictionary.locations.intern(changed))
}
