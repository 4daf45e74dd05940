//! Collapsed stacks, a line each: `root;caller;leaf 12`.
//!
//! Read: the last field of a line, after a space or tab, is the count; what is before it is the
//! stack, the root first, separated by semicolons. Names may hold spaces. Empty lines are skipped,
//! line ends may be those of Windows. The profile read has the sample type `samples` in `count` and
//! functions without files or addresses.
//!
//! Written: one line for each different stack, sorted. A semicolon in a name becomes a colon and a
//! line break a space, since the format has no escapes; a sample without a stack is `[no stack]`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::report::{CollapsedStacks, ReportError, collapse};
use profpipe_profile::{
    Function, Line, LinkIx, LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    Scope, ScopeProfiles, ValueType,
};

/// What stands for a sample without a stack.
const NO_STACK: &str = "[no stack]";

/// What stands for a frame without a name.
const UNKNOWN: &str = "[unknown]";

/// The longest piece of a line that an error repeats.
const MAX_QUOTE: usize = 40;

/// Why a text is not collapsed stacks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {problem}")]
pub struct DecodeError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads collapsed stacks.
///
/// # Errors
/// If a line has no count, or the text is not UTF-8.
pub fn decode(text: &[u8]) -> Result<Profiles, DecodeError> {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let sample_type = ValueType {
        kind: dictionary.strings.intern("samples"),
        unit: dictionary.strings.intern("count"),
    };
    let mut profile = Profile { sample_type, ..Profile::default() };
    let mut stack = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let error = |problem: String| DecodeError { line: at + 1, problem };
        let line = std::str::from_utf8(line).map_err(|_| error("it is not UTF-8 text".into()))?;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (frames, count) = line
            .rsplit_once([' ', '\t'])
            .ok_or_else(|| error(format!("`{}` is not `root;caller;leaf COUNT`", quote(line))))?;
        let count: i64 = count
            .parse()
            .map_err(|_| error(format!("the count `{}` is not a whole number", quote(count))))?;
        stack.clear();
        let frames = frames.trim_end();
        for frame in frames.split(';').rev().filter(|_| frames != NO_STACK) {
            let frame = if frame.is_empty() { UNKNOWN } else { frame };
            let name = dictionary.strings.intern(frame);
            let function = Function { name, ..Function::default() };
            let function = dictionary.functions.intern(function);
            let lines = [Line { function, ..Line::default() }];
            let location = LocationRef { lines: &lines, ..LocationRef::default() };
            stack.push(dictionary.locations.intern(location));
        }
        profile.samples.push(SampleRef {
            stack: dictionary.stacks.intern(&stack),
            attributes: &[],
            link: LinkIx::NONE,
            values: &[count],
            timestamps_unix_nano: &[],
        });
    }
    profiles.resources.push(ResourceProfiles {
        resource: Resource::default(),
        scopes: vec![ScopeProfiles {
            scope: Scope::default(),
            profiles: vec![profile],
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    });
    Ok(profiles)
}

/// The start of a text that may be long, or hold what does not belong on a terminal.
fn quote(text: &str) -> String {
    let start: String = text.chars().take(MAX_QUOTE).filter(|char| !char.is_control()).collect();
    if text.chars().nth(MAX_QUOTE).is_some() { start + "…" } else { start }
}

/// Writes the stacks of one sample type, chosen as [`crate::report::Choice`] does.
///
/// # Errors
/// If there is no such sample type.
pub fn encode(profiles: &Profiles, wanted: Option<&str>) -> Result<String, ReportError> {
    Ok(write(&collapse(profiles, wanted)?))
}

/// Writes stacks that are collapsed already.
pub fn write(collapsed: &CollapsedStacks) -> String {
    // Sorted again: without its separators a name may sort elsewhere, or be the name of another.
    let mut lines: BTreeMap<String, i64> = BTreeMap::new();
    for (stack, cost) in collapsed.iter() {
        let mut line = String::new();
        if stack.len() == 0 {
            line.push_str(NO_STACK);
        }
        for (at, name) in stack.enumerate() {
            if at > 0 {
                line.push(';');
            }
            let plain = |char| match char {
                ';' => ':',
                '\n' | '\r' => ' ',
                char => char,
            };
            line.extend(name.chars().map(plain));
        }
        let sum = lines.entry(line).or_default();
        *sum = sum.saturating_add(cost);
    }
    let mut output = String::new();
    for (line, cost) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(output, "{line} {cost}");
    }
    output
}
