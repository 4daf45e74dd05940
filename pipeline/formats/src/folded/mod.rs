//! Collapsed stacks, a line each: `root;caller;leaf 12`.
//!
//! Read: the last field of a line, after a space or tab, is the count; what is before it is the
//! stack, the root first, separated by semicolons. Names may hold spaces; what is not UTF-8 in them is
//! replaced. Empty lines are skipped, line ends may be those of Windows, a byte order mark is no part of
//! a name. The profile read has the sample type `samples` in `count` and functions without files or
//! addresses.
//!
//! [`decode`] takes a text as a whole or not at all, for senders that are answered. [`decode_file`]
//! reads what tools and hands write into files: comments (`#` or `//` and a space), counts with
//! fractions, UTF-16; it skips other lines and says how many.
//!
//! Written: one line for each different stack, sorted. Since the format has no escapes, a semicolon in
//! a name becomes a colon, a line break or tab a space, another control character U+FFFD, and the
//! space after a `#` or `//` at the start of a line an underscore; a sample without a stack is
//! `[no stack]`.

mod lines;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use self::lines::{Lines, comment_mark};
use crate::report::{CollapsedStacks, ReportError, collapse};
use profpipe_profile::Profiles;

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

/// What [`decode_file`] did not take as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deviations {
    /// Lines that are neither stacks nor comments: they were skipped.
    pub skipped: usize,
    /// The first of them, and what is wrong with it.
    pub first_skipped: Option<(usize, String)>,
    /// Counts with fractions. Each was rounded so that their sum is right.
    pub fractions: usize,
}

/// Reads collapsed stacks.
///
/// # Errors
/// If a line has no count that is a whole number.
pub fn decode(text: &[u8]) -> Result<Profiles, DecodeError> {
    let mut lines = Lines::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = if at == 0 { line.trim_start_matches('\u{feff}') } else { &line }.trim();
        if !line.is_empty() {
            lines.read(line).map_err(|problem| DecodeError { line: at + 1, problem })?;
        }
    }
    Ok(lines.finish())
}

/// Reads collapsed stacks from a file, whatever wrote it.
///
/// # Errors
/// If it has lines, but none of them is a stack.
pub fn decode_file(text: &[u8]) -> Result<(Profiles, Deviations), DecodeError> {
    let text = match text {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(from_utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(from_utf16(rest, u16::from_be_bytes)),
        text => Cow::Borrowed(text),
    };
    let mut lines = Lines::new();
    let mut deviations = Deviations::default();
    let mut taken = 0_usize;
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = if at == 0 { line.trim_start_matches('\u{feff}') } else { &line }.trim();
        if line.is_empty() || is_comment(line) {
            continue;
        }
        match lines.read_loose(line) {
            Ok(has_fraction) => {
                taken += 1;
                deviations.fractions += usize::from(has_fraction);
            }
            Err(problem) => {
                deviations.skipped += 1;
                deviations.first_skipped.get_or_insert((at + 1, problem));
            }
        }
    }
    match deviations.first_skipped {
        Some((line, problem)) if taken == 0 => Err(DecodeError { line, problem }),
        _ => Ok((lines.finish(), deviations)),
    }
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    let text: String =
        char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.into_bytes()
}

/// Whether a line is a comment: `#` or `//`, alone or before a space.
fn is_comment(line: &str) -> bool {
    comment_mark(line)
        .and_then(|mark| line.get(mark.len()..))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
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
            let plain = |char: char| match char {
                ';' => ':',
                '\n' | '\r' | '\t' => ' ',
                // A mark at the start of the text would be taken for no part of it.
                '\u{feff}' => '\u{fffd}',
                char if char.is_control() => '\u{fffd}',
                char => char,
            };
            line.extend(name.chars().map(plain));
        }
        let sum = lines.entry(without_comment(line)).or_default();
        *sum = sum.saturating_add(cost);
    }
    let mut output = String::new();
    for (line, cost) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(output, "{line} {cost}");
    }
    output
}

/// A line that is not taken for a comment.
fn without_comment(line: String) -> String {
    let start = line.trim_start();
    let Some(mark) = comment_mark(start) else { return line };
    match start.get(mark.len()..).unwrap_or_default() {
        "" => format!("{mark}_"),
        rest if rest.starts_with(char::is_whitespace) => format!("{mark}_{}", rest.trim_start()),
        _ => line,
    }
}
