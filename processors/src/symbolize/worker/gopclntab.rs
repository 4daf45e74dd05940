//! Go's own table of functions and lines (`.gopclntab`), which every Go binary has, stripped or
//! not: the runtime prints stack traces from it.
//!
//! [`Header`] knows the layouts. A function's values (file, line, inlining) are sequences of
//! (difference of value, difference of address) in varints. Inlined calls are a tree
//! outside the table, at the address `gofunc` that the runtime's module data holds (1.20 and
//! later). Every offset is checked: a broken table has fewer names, never wrong memory.

use std::ops::Range;

use profpipe_host::gopclntab::{Header, Version, number_at, signed, varint};

use super::super::protocol::MAX_FRAMES;
use super::names::one;

/// Steps of one sequence before it is given up.
const MAX_STEPS: usize = 1 << 20;
/// Which of a function's values is the position in the inline tree.
const PCDATA_INLINE_INDEX: u32 = 2;
/// Which of a function's data is the inline tree.
const FUNCDATA_INLINE_TREE: u32 = 3;
/// The size of an entry of the inline tree.
const INLINED_CALL: usize = 16;

/// What the binary around the table knows.
pub(super) trait Image<'a> {
    /// The address of `runtime.text`, where the header does not have it.
    fn text_start(&self) -> Option<u64>;
    /// The bytes at `gofunc` up to the end of their section.
    fn inline_trees(&self) -> Option<&'a [u8]>;
}

/// The table of one binary.
#[derive(Debug)]
pub(super) struct GoTable<'a> {
    header: Header,
    data: &'a [u8],
    text_start: u64,
    trees: Option<&'a [u8]>,
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GoFrame<'a> {
    /// The function.
    pub(super) name: &'a [u8],
    /// The source file; empty if unknown.
    pub(super) file: &'a [u8],
    /// The line, 0 if unknown.
    pub(super) line: u32,
    /// The line where the function starts, 0 if unknown.
    pub(super) start_line: u32,
}

/// The numbers in a function's record.
struct Record<'a> {
    entry: u64,
    name: u32,
    file_values: u32,
    line_values: u32,
    unit: u32,
    start_line: u32,
    pcdata: &'a [u8],
    funcdata: &'a [u8],
}

impl<'a> GoTable<'a> {
    /// Reads the header of a table.
    pub(super) fn parse(data: &'a [u8], image: &impl Image<'a>) -> Option<Self> {
        let header = Header::parse(data)?;
        let text_start = header.text_start.or_else(|| image.text_start())?;
        let trees = if header.version == Version::Go120 { image.inline_trees() } else { None };
        Some(Self { header, data, text_start, trees })
    }

    /// The name at an offset among the names.
    fn name(&self, offset: u32) -> Option<&'a [u8]> {
        text_at(self.data.get(self.header.names..)?, offset as usize)
    }

    /// The frames at an address, innermost first, and the range around it with the same frames;
    /// none if it is in no Go function.
    pub(super) fn frames(&self, address: u64) -> Option<(Vec<GoFrame<'a>>, Range<u64>)> {
        let record = self.record(address)?;
        let tree = self.inline_tree(&record);
        let mut frames = Vec::new();
        let mut at = address;
        // Where the values of the address itself hold; those of the calls follow from them.
        let mut same = record.entry..u64::MAX;
        while frames.len() < MAX_FRAMES {
            let mut note = |(value, range): (i64, Range<u64>)| {
                if at == address {
                    same = same.start.max(range.start)..same.end.min(range.end);
                }
                value
            };
            let file = self.value(record.file_values, record.entry, at).map(&mut note);
            let file = file.and_then(|number| self.file(&record, number)).unwrap_or_default();
            let line = self.value(record.line_values, record.entry, at).map(&mut note);
            let line = u32::try_from(line.unwrap_or_default()).unwrap_or_default();
            let inlined = tree.and_then(|(tree, index)| {
                let index = self.value(index, record.entry, at).map(&mut note)?;
                let index = usize::try_from(index).ok()?;
                tree.get(index.checked_mul(INLINED_CALL)?..)?.get(..INLINED_CALL)
            });
            let Some(call) = inlined else {
                let name = self.name(record.name)?;
                frames.push(GoFrame { name, file, line, start_line: record.start_line });
                // A value that is missing may be there at the next address.
                let whole = same.contains(&address) && same.end != u64::MAX;
                return Some((frames, if whole { same } else { one(address) }));
            };
            let number = |at| number_at(call, at, self.header.little);
            let name = self.name(number(4)?)?;
            frames.push(GoFrame { name, file, line, start_line: number(12)? });
            let parent = record.entry.checked_add(number(8)?.into())?;
            if parent == at {
                break;
            }
            at = parent;
        }
        None
    }

    /// The record of the function that an address is in.
    fn record(&self, address: u64) -> Option<Record<'a>> {
        let (mut low, mut high) = (0, self.header.functions);
        if address < self.row(0)?.0 || address >= self.row(self.header.functions)?.0 {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.row(middle)?.0 <= address {
                low = middle;
            } else {
                high = middle;
            }
        }
        let (entry, offset) = self.row(low)?;
        let record = self.header.record(self.data, offset)?;
        let field = |at: usize| self.header.field(record, at);
        let (unit, start_line, fixed) = match self.header.version {
            Version::Go12 => (0, 0, 8),
            Version::Go116 | Version::Go118 => (field(8)?, 0, 9),
            Version::Go120 => (field(8)?, field(9)?, 10),
        };
        let counts = self.header.width() + (fixed - 1) * 4;
        let funcdata_count = usize::from(*record.get(counts + 3)?);
        let pcdata = record.get(counts + 4..)?;
        let pcdata_size = (field(7)? as usize).checked_mul(4)?;
        let (pcdata, funcdata) = pcdata.split_at_checked(pcdata_size)?;
        Some(Record {
            entry,
            name: field(1)?,
            file_values: field(5)?,
            line_values: field(6)?,
            unit,
            start_line,
            pcdata,
            funcdata: funcdata.get(..funcdata_count * 4).unwrap_or_default(),
        })
    }

    /// Row `at`: the address where a function starts, and the offset of its record. The row after
    /// the last function has the end of the code, and no record.
    fn row(&self, at: usize) -> Option<(u64, u64)> {
        let (address, record) = self.header.row(self.data, at)?;
        Some((self.text_start.checked_add(address)?, record))
    }

    /// The inline tree of a function, and where the positions in it are.
    fn inline_tree(&self, record: &Record<'a>) -> Option<(&'a [u8], u32)> {
        let data =
            number_at(record.funcdata, FUNCDATA_INLINE_TREE as usize * 4, self.header.little)?;
        let values =
            number_at(record.pcdata, PCDATA_INLINE_INDEX as usize * 4, self.header.little)?;
        if data == u32::MAX || values == 0 {
            return None;
        }
        Some((self.trees?.get(data as usize..)?, values))
    }

    fn file(&self, record: &Record<'_>, number: i64) -> Option<&'a [u8]> {
        let number = u32::try_from(number).ok()? as usize;
        let (units, files) = (self.header.units, self.header.files);
        if self.header.version == Version::Go12 {
            let at = files.checked_add(number.checked_mul(4)?)?;
            return self.name(number_at(self.data, at, self.header.little)?);
        }
        let at = (record.unit as usize).checked_add(number)?.checked_mul(4)?;
        let offset = number_at(self.data, units.checked_add(at)?, self.header.little)?;
        if offset == u32::MAX { None } else { text_at(self.data.get(files..)?, offset as usize) }
    }

    /// The value that a sequence has at an address, and the addresses for which it is that.
    fn value(&self, offset: u32, entry: u64, address: u64) -> Option<(i64, Range<u64>)> {
        let mut rest = self.data.get(self.header.values..)?.get(offset as usize..)?;
        let (mut value, mut at) = (-1_i64, entry);
        for step in 0..MAX_STEPS {
            let difference = varint(&mut rest)?;
            if difference == 0 && step > 0 {
                return None;
            }
            value += signed(difference);
            let from = at;
            at = at.checked_add(
                u64::from(varint(&mut rest)?).checked_mul(u64::from(self.header.quantum))?,
            )?;
            if address < at {
                return Some((value, from..at));
            }
        }
        None
    }
}

fn text_at(table: &[u8], at: usize) -> Option<&[u8]> {
    let tail = table.get(at..)?;
    let tail = tail.get(..tail.len().min(64 << 10))?;
    tail.split(|byte| *byte == 0).next()
}
