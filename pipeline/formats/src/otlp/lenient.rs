//! Taking requests from strangers: what is good in them goes on, what is not is counted.
//!
//! An index that leads nowhere spoils the profiles that come to it and no others. In the tables it
//! becomes 0, which means "none", so that what is left can be used without checks; rows that hold
//! such an index, and rows that point to them, are remembered, and so are the profiles found that
//! need one.

use bytes::Bytes;

use super::budget::Room;
use super::decode::{self, Decoded, out_of_range};
use super::error::DecodeError;
use super::inspect::validate_passthrough;
use super::payload::Payload;
use super::summary;
use super::wire::Read;
use profpipe_profile::{Dictionary, Index, Lists, OutOfRange, Profile, Profiles};

/// What of a request was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Profiles: the unit in which OTLP counts.
    pub profiles: usize,
    /// Their samples.
    pub samples: usize,
    /// Why, in one line; empty if nothing was.
    pub message: String,
}

/// Reads a request like [`super::decode`], but leaves out profiles that point outside of the tables.
///
/// # Errors
/// If the bytes are not a request, or are of a dialect that cannot be read.
pub fn decode_lenient(request: &[u8]) -> Result<(Profiles, Rejected), DecodeError> {
    let mut lenient = Lenient::default();
    let decoded = decode::read(request, Some(&mut lenient), None)?;
    Ok((decoded.profiles, lenient.rejected))
}

/// A payload of a request, and what was rejected of it.
///
/// The payload is the very bytes, found good in a pass that builds nothing and takes no memory. It is
/// tables if something has to be changed: profiles left out, references from attributes into the
/// string table resolved, missing rows 0 added.
///
/// # Errors
/// As [`decode_lenient`].
pub fn admit(request: Bytes) -> Result<(Payload, Rejected), DecodeError> {
    match admit_clean(request) {
        Ok(payload) => Ok((payload, Rejected::default())),
        Err(request) => admit_unclean(request, None),
    }
}

/// As [`admit`], for requests that need no change; gives the others back. Takes no memory.
///
/// # Errors
/// The request, if it has to be decoded: by [`admit_within`].
pub fn admit_clean(request: Bytes) -> Result<Payload, Bytes> {
    match validate_passthrough(&request) {
        Some(samples) => Ok(Payload::from_wire(request).counted(samples as u64)),
        None => Err(request),
    }
}

/// As [`admit`], for requests that are not clean, within memory that is shared with others: `room`
/// is asked for bytes, a mebibyte or more at a time, before they are taken.
///
/// # Errors
/// As [`decode_lenient`], and [`DecodeError::NoRoom`] after `room` said no.
pub fn admit_within(
    request: Bytes,
    mut room: impl FnMut(usize) -> bool,
) -> Result<(Payload, Rejected), DecodeError> {
    admit_unclean(request, Some(&mut room))
}

fn admit_unclean(
    request: Bytes,
    room: Option<Room<'_>>,
) -> Result<(Payload, Rejected), DecodeError> {
    let mut lenient = Lenient::default();
    let Decoded { profiles, resolved, complete } =
        decode::read(&request, Some(&mut lenient), room)?;
    let changed = lenient.changed;
    let rejected = lenient.rejected;
    let samples = profiles.sample_count();
    let untouched = !resolved && !changed && (complete || samples == 0);
    let payload = match untouched {
        true => Payload::from_wire(request).counted(samples as u64),
        false => Payload::from(profiles),
    };
    Ok((payload, rejected))
}

/// What is wrong with a request that is read nevertheless.
#[derive(Debug, Default)]
pub(super) struct Lenient {
    pub(super) rejected: Rejected,
    /// Something was left out or made 0, if only what no profile needs.
    changed: bool,
    /// Rows of the tables that cannot be used; empty if all can.
    attributes: Vec<bool>,
    stacks: Vec<bool>,
    /// What the first of them is wrong about.
    cause: String,
}

fn is_set(rows: &[bool], row: impl Index) -> bool {
    rows.get(row.at()).copied().unwrap_or(false)
}

/// Makes indices past the end of a table 0; `wrong` hears their positions, and those of indices of
/// `broken` rows.
fn mend<I: Index>(items: &mut [I], rows: usize, broken: &[bool], mut wrong: impl FnMut(usize)) {
    for (at, item) in items.iter_mut().enumerate() {
        if item.at() >= rows {
            *item = I::new(0);
            wrong(at);
        } else if is_set(broken, *item) {
            wrong(at);
        }
    }
}

/// As [`mend`], for a column of lists; marks their rows.
fn mend_lists<I: Index>(lists: &mut Lists<I>, rows: usize, broken: &[bool], into: &mut [bool]) {
    for (row, place) in into.iter_mut().enumerate().take(lists.len()) {
        mend(lists.get_mut(row), rows, broken, |_| *place = true);
    }
}

impl Lenient {
    /// Makes a dictionary usable, and remembers what was not.
    pub(super) fn mend(
        &mut self,
        dictionary: &mut Dictionary,
        unresolved: Vec<usize>,
        fault: Option<OutOfRange>,
    ) {
        self.changed = true;
        self.cause = match fault {
            Some(fault) => out_of_range(fault).to_string(),
            None => "an attribute refers to a string that the table does not have".to_owned(),
        };
        let strings = dictionary.strings.len();
        let mut attributes = vec![false; dictionary.attributes.len()];
        let mut mappings = vec![false; dictionary.mappings.len()];
        let mut functions = vec![false; dictionary.functions.len()];
        let mut locations = vec![false; dictionary.locations.len()];
        let mut stacks = vec![false; dictionary.stacks.len()];
        let set = |rows: &mut Vec<bool>, row: usize| {
            // Row 0 is "none", whatever was written there.
            if let Some(place) = rows.get_mut(row).filter(|_| row > 0) {
                *place = true;
            }
        };

        for row in unresolved {
            set(&mut attributes, row);
        }
        let table = &mut dictionary.attributes;
        mend(&mut table.keys, strings, &[], |row| set(&mut attributes, row));
        mend(&mut table.units, strings, &[], |row| set(&mut attributes, row));

        let table = &mut dictionary.mappings;
        mend(&mut table.filenames, strings, &[], |row| set(&mut mappings, row));
        mend_lists(&mut table.attributes, attributes.len(), &attributes, &mut mappings);

        for (row, function) in dictionary.functions.rows.iter_mut().enumerate() {
            for text in [&mut function.name, &mut function.system_name, &mut function.filename] {
                mend(std::slice::from_mut(text), strings, &[], |_| set(&mut functions, row));
            }
        }

        let table = &mut dictionary.locations;
        mend(&mut table.mappings, mappings.len(), &mappings, |row| set(&mut locations, row));
        mend_lists(&mut table.attributes, attributes.len(), &attributes, &mut locations);
        for row in 0..table.lines.len() {
            for line in table.lines.get_mut(row) {
                let function = std::slice::from_mut(&mut line.function);
                mend(function, functions.len(), &functions, |_| set(&mut locations, row));
            }
        }
        mend_lists(&mut dictionary.stacks.locations, locations.len(), &locations, &mut stacks);
        self.attributes = attributes;
        self.stacks = stacks;
    }

    /// Why a profile cannot be used, though all its indices are rows.
    pub(super) fn fault_of(&self, profile: &Profile) -> Option<String> {
        if self.stacks.is_empty() {
            return None;
        }
        let samples = &profile.samples;
        let bad = profile.attributes.iter().any(|row| is_set(&self.attributes, *row))
            || samples.attributes.items().iter().any(|row| is_set(&self.attributes, *row))
            || samples.stacks.iter().any(|row| is_set(&self.stacks, *row));
        bad.then(|| self.cause.clone())
    }

    /// Counts a profile that is left out.
    pub(super) fn reject(&mut self, samples: usize, cause: String) {
        self.count(1, samples, cause);
    }

    /// Counts all profiles of a `ResourceProfiles` that is left out.
    pub(super) fn reject_all(&mut self, resource: &[u8], cause: String) -> Read<()> {
        let counted = summary::of_resource(resource)?;
        self.count(counted.profiles, counted.samples, cause);
        Ok(())
    }

    fn count(&mut self, profiles: usize, samples: usize, cause: String) {
        self.changed = true;
        // What is wrong with the first is usually wrong with all.
        if self.rejected.profiles == 0 && profiles > 0 {
            self.rejected.message = cause;
        }
        self.rejected.profiles += profiles;
        self.rejected.samples += samples;
    }
}
