//! A batch under construction, for formats that have stacks of names and nothing else.

use profpipe_profile::{
    AttributeIx, Function, Line, LocationIx, LocationRef, Profile, Profiles, ResourceProfiles,
    SampleRef, ScopeProfiles, StringIx, Value, ValueType,
};

/// The most frames that all stacks have together: stacks of events are written out one by one, so that
/// their size can grow with the square of a file's.
const MAX_FRAMES: usize = 1 << 26;

/// The stacks have more frames than fit in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its stacks have too many frames")]
pub struct TooManyFrames;

/// One resource with one scope, in which profiles grow sample by sample.
pub(crate) struct Draft {
    profiles: Profiles,
    done: Vec<Profile>,
    profile: Profile,
    attributes: Vec<AttributeIx>,
    frames_left: usize,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Self {
            profiles: Profiles::new(),
            done: Vec::new(),
            profile: Profile::default(),
            attributes: Vec::new(),
            frames_left: MAX_FRAMES,
        }
    }

    /// A place in the source. Lines and columns count from 1; 0 is unknown.
    pub(crate) fn frame(&mut self, name: &str, file: &str, line: i64, column: i64) -> LocationIx {
        let dictionary = &mut self.profiles.dictionary;
        let name = dictionary.strings.intern(if name.is_empty() { "[unknown]" } else { name });
        let filename = dictionary.strings.intern(file);
        let function = Function { name, filename, ..Function::default() };
        let function = dictionary.functions.intern(function);
        let lines = [Line { function, line: line.max(0), column: column.max(0) }];
        dictionary.locations.intern(LocationRef { lines: &lines, ..LocationRef::default() })
    }

    /// Begins a profile, all of whose samples have this attribute.
    pub(crate) fn begin(&mut self, kind: &str, unit: &str, attribute: Option<(&str, &str)>) {
        self.end();
        let dictionary = &mut self.profiles.dictionary;
        let sample_type = ValueType {
            kind: dictionary.strings.intern(kind),
            unit: dictionary.strings.intern(unit),
        };
        self.profile = Profile { sample_type, ..Profile::default() };
        self.attributes = attribute
            .map(|(key, text)| {
                let key = dictionary.strings.intern(key);
                dictionary.attributes.intern(key, Value::from(text), StringIx::NONE)
            })
            .into_iter()
            .collect();
    }

    /// The profile that grows.
    pub(crate) fn profile(&mut self) -> &mut Profile {
        &mut self.profile
    }

    /// Adds a sample; the stack begins with the leaf.
    pub(crate) fn sample(&mut self, stack: &[LocationIx], value: i64) -> Result<(), TooManyFrames> {
        self.frames_left = self.frames_left.checked_sub(stack.len()).ok_or(TooManyFrames)?;
        let stack = self.profiles.dictionary.stacks.intern(stack);
        let attributes = &self.attributes;
        self.profile.samples.push(SampleRef {
            stack,
            attributes,
            values: &[value],
            ..SampleRef::default()
        });
        Ok(())
    }

    fn end(&mut self) {
        let profile = std::mem::take(&mut self.profile);
        if profile.sample_type != ValueType::default() {
            self.done.push(profile);
        }
    }

    pub(crate) fn finish(mut self) -> Profiles {
        self.end();
        let scopes = vec![ScopeProfiles { profiles: self.done, ..ScopeProfiles::default() }];
        self.profiles.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
        self.profiles
    }
}

/// Turns amounts with fractions into whole ones, whose sum stays right.
#[derive(Debug, Default)]
pub(crate) struct Rounding(f64);

impl Rounding {
    /// The whole amount to take.
    pub(crate) fn take(&mut self, amount: f64) -> i64 {
        let sum = self.0 + amount;
        let taken = sum.round();
        self.0 = if sum.is_finite() { sum - taken } else { 0.0 };
        // Saturates, and makes nothing of what is not a number.
        taken as i64
    }
}
