//! Names, files, lines and inlined functions from DWARF.

use std::ops::Range;

use addr2line::{Context, LookupContinuation as _, LookupResult};
use gimli::{EndianSlice, RunTimeEndian};

use super::names::one;
use super::split::Splits;

/// How DWARF is read: slices of mapped files and of inflated sections.
pub(super) type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// One frame as DWARF has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DwarfFrame<'a> {
    /// The function's linkage name, or its plain name.
    pub(super) name: Option<&'a [u8]>,
    /// The source file.
    pub(super) file: &'a str,
    /// The line, 0 if unknown.
    pub(super) line: u32,
    /// The column, 0 if unknown.
    pub(super) column: u32,
    /// The compiler said that this is Go.
    pub(super) is_go: bool,
}

/// The frames at an address, innermost first; none where DWARF knows nothing.
///
/// An address in broken debug information has no frames: its symbol may still have a name. So it is
/// where functions are in another file that is not here.
pub(super) fn frames<'c, 'a>(
    context: &'c Context<Reader<'a>>,
    splits: &mut Splits<'a>,
    address: u64,
    limit: usize,
) -> Vec<DwarfFrame<'c>> {
    let mut found = Vec::new();
    let mut lookup = context.find_frames(address);
    let frames = loop {
        match lookup {
            LookupResult::Output(frames) => break frames,
            LookupResult::Load { load, continuation } => match splits.load(&load) {
                Some(split) => lookup = continuation.resume(Some(split)),
                // Not resumed: the context would not ask again when the file is here.
                None => return found,
            },
        }
    };
    let Ok(mut frames) = frames else { return found };
    while let Ok(Some(frame)) = frames.next() {
        let mut row = DwarfFrame::default();
        if let Some(function) = frame.function {
            row.is_go = function.language == Some(gimli::DW_LANG_Go);
            row.name = Some(function.name.slice());
        }
        if let Some(location) = frame.location {
            row.file = location.file.unwrap_or_default();
            row.line = location.line.unwrap_or_default();
            row.column = location.column.unwrap_or_default();
        }
        found.push(row);
        if found.len() >= limit {
            break;
        }
    }
    found
}

/// The range around an address with these frames, as far as that is cheap to know: the row of the
/// line table. Inlined functions begin and end with rows; where one does not, the frames at both
/// ends of the row show that.
pub(super) fn same_frames<'a>(
    context: &Context<Reader<'a>>,
    splits: &mut Splits<'a>,
    address: u64,
    frames: &[DwarfFrame<'_>],
    limit: usize,
) -> Range<u64> {
    let rows = context.find_location_range(address, address.saturating_add(1));
    let mut rows = rows.into_iter().flatten();
    let row = rows.next().map(|(start, size, _)| start..start.saturating_add(size));
    let mut same = |at| at == address || self::frames(context, splits, at, limit) == frames;
    row.filter(|row| row.contains(&address) && same(row.start) && same(row.end - 1))
        .unwrap_or_else(|| one(address))
}
