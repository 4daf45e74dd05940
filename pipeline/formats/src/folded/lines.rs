//! Lines of collapsed stacks to a profile.

use super::{NO_STACK, UNKNOWN, quote};
use crate::draft::Rounding;
use profpipe_profile::{
    Function, Line, LinkIx, LocationIx, LocationRef, Profile, Profiles, ResourceProfiles,
    SampleRef, ScopeProfiles, ValueType,
};

/// What starts a comment.
const COMMENT_MARKS: [&str; 2] = ["#", "//"];

/// The mark of a comment that a line starts with.
pub(super) fn comment_mark(line: &str) -> Option<&'static str> {
    COMMENT_MARKS.into_iter().find(|mark| line.starts_with(mark))
}

/// A profile that grows line by line.
pub(super) struct Lines {
    profiles: Profiles,
    profile: Profile,
    stack: Vec<LocationIx>,
    /// Of counts with fractions.
    rounding: Rounding,
}

impl Lines {
    pub(super) fn new() -> Self {
        let mut profiles = Profiles::new();
        let strings = &mut profiles.dictionary.strings;
        let sample_type =
            ValueType { kind: strings.intern("samples"), unit: strings.intern("count") };
        let profile = Profile { sample_type, ..Profile::default() };
        Self { profiles, profile, stack: Vec::new(), rounding: Rounding::default() }
    }

    /// Takes a line without spaces around it, whose count is a whole number; else says what is wrong.
    pub(super) fn read(&mut self, line: &str) -> Result<(), String> {
        let (frames, count) = split(line)?;
        let whole = count.parse();
        let count =
            whole.map_err(|_| format!("the count `{}` is not a whole number", quote(count)))?;
        self.add(frames, count);
        Ok(())
    }

    /// As [`Self::read`], but the count may have a fraction; says whether it has.
    pub(super) fn read_loose(&mut self, line: &str) -> Result<bool, String> {
        let (frames, count) = split(line)?;
        if let Ok(whole) = count.parse() {
            self.add(frames, whole);
            return Ok(false);
        }
        let of_number = |char: char| char.is_ascii_digit() || matches!(char, '.' | '-' | '+');
        let number: f64 = Some(count)
            .filter(|count| count.chars().all(of_number))
            .and_then(|count| count.parse().ok())
            // Larger ones have no fractions, and are none of ours.
            .filter(|number: &f64| number.abs() < 2_f64.powi(53))
            .ok_or_else(|| format!("the count `{}` is not a number", quote(count)))?;
        let taken = self.rounding.take(number);
        self.add(frames, taken);
        Ok(true)
    }

    fn add(&mut self, frames: &str, count: i64) {
        let dictionary = &mut self.profiles.dictionary;
        self.stack.clear();
        for frame in frames.split(';').rev().filter(|_| frames != NO_STACK) {
            let frame = if frame.is_empty() { UNKNOWN } else { frame };
            let name = dictionary.strings.intern(frame);
            let function = Function { name, ..Function::default() };
            let function = dictionary.functions.intern(function);
            let lines = [Line { function, ..Line::default() }];
            let location = LocationRef { lines: &lines, ..LocationRef::default() };
            self.stack.push(dictionary.locations.intern(location));
        }
        self.profile.samples.push(SampleRef {
            stack: dictionary.stacks.intern(&self.stack),
            attributes: &[],
            link: LinkIx::NONE,
            values: &[count],
            timestamps_unix_nano: &[],
        });
    }

    pub(super) fn finish(mut self) -> Profiles {
        let profiles = vec![self.profile];
        let scopes = vec![ScopeProfiles { profiles, ..ScopeProfiles::default() }];
        self.profiles.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
        self.profiles
    }
}

/// The stack and the count of a line.
fn split(line: &str) -> Result<(&str, &str), String> {
    let (frames, count) = line
        .rsplit_once([' ', '\t'])
        .ok_or_else(|| format!("`{}` is not `root;caller;leaf COUNT`", quote(line)))?;
    Ok((frames.trim_end(), count))
}
