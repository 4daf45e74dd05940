//! Go's own table of functions and lines (`.gopclntab`), which every Go binary has, stripped or
//! not: the runtime prints stack traces from it.
//!
//! Four layouts, told apart by the magic number: Go 1.2, 1.16, 1.18, 1.20. The format is described
//! by Go's `debug/gosym` and `runtime/symtab.go`. A function's values (file, line, inlining) are
//! sequences of (difference of value, difference of address) in varints. Inlined calls are a tree
//! outside the table, at the address `gofunc` that the runtime's module data holds (1.20 and
//! later). Every offset is checked: a broken table has fewer names, never wrong memory.

use std::ops::Range;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Go12,
    Go116,
    Go118,
    Go120,
}

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
    version: Version,
    little: bool,
    quantum: u64,
    pointer: usize,
    functions: usize,
    text_start: u64,
    names: &'a [u8],
    units: &'a [u8],
    files: &'a [u8],
    values: &'a [u8],
    /// The rows (address, offset), and the functions that the offsets are of.
    rows: &'a [u8],
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
        let magic: [u8; 4] = data.get(..4)?.try_into().ok()?;
        let little = magic.last() == Some(&0xff);
        let number = if little { u32::from_le_bytes(magic) } else { u32::from_be_bytes(magic) };
        let version = match number {
            0xffff_fffb => Version::Go12,
            0xffff_fffa => Version::Go116,
            0xffff_fff0 => Version::Go118,
            0xffff_fff1 => Version::Go120,
            _ => return None,
        };
        let [0, 0, quantum @ (1 | 2 | 4), pointer @ (4 | 8)] = data.get(4..8)? else { return None };
        let pointer = usize::from(*pointer);
        let word = |at: usize| word(data, 8 + at * pointer, pointer, little);
        let tail = |at: usize| data.get(usize::try_from(word(at)?).ok()?..);
        let functions = usize::try_from(word(0)?).ok()?;
        let mut table = Self {
            version,
            little,
            quantum: u64::from(*quantum),
            pointer,
            functions,
            text_start: 0,
            names: data,
            units: &[],
            files: &[],
            values: data,
            rows: &[],
            trees: None,
        };
        match version {
            Version::Go12 => {
                table.rows = data.get(8 + pointer..)?;
                let end = functions.checked_mul(2)?.checked_add(1)?.checked_mul(pointer)?;
                let files = number_at(table.rows, end, little)?;
                table.files = data.get(files as usize..)?;
            }
            Version::Go116 => {
                table.names = tail(2)?;
                table.units = tail(3)?;
                table.files = tail(4)?;
                table.values = tail(5)?;
                table.rows = tail(6)?;
            }
            Version::Go118 | Version::Go120 => {
                // Since 1.26, and before relocation, the header does not say where the code is.
                table.text_start = match word(2)? {
                    0 => image.text_start()?,
                    start => start,
                };
                table.names = tail(3)?;
                table.units = tail(4)?;
                table.files = tail(5)?;
                table.values = tail(6)?;
                table.rows = tail(7)?;
            }
        }
        if version == Version::Go120 {
            table.trees = image.inline_trees();
        }
        Some(table)
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
                let name = text_at(self.names, record.name as usize)?;
                frames.push(GoFrame { name, file, line, start_line: record.start_line });
                // A value that is missing may be there at the next address.
                let whole = same.contains(&address) && same.end != u64::MAX;
                return Some((frames, if whole { same } else { one(address) }));
            };
            let number = |at| number_at(call, at, self.little);
            let name = text_at(self.names, number(4)? as usize)?;
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
        let (mut low, mut high) = (0, self.functions);
        if address < self.row(0)?.0 || address >= self.row(self.functions)?.0 {
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
        let base = if self.version == Version::Go12 { self.names } else { self.rows };
        let record = base.get(usize::try_from(offset).ok()?..)?;
        let first = if self.version >= Version::Go118 { 4 } else { self.pointer };
        // `entry` and then 32-bit fields: name, args, deferreturn, pcsp, pcfile, pcln, npcdata, …
        let field = |at: usize| number_at(record, first + (at - 1) * 4, self.little);
        let (unit, start_line, fixed) = match self.version {
            Version::Go12 => (0, 0, 8),
            Version::Go116 | Version::Go118 => (field(8)?, 0, 9),
            Version::Go120 => (field(8)?, field(9)?, 10),
        };
        let counts = first + (fixed - 1) * 4;
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
        let width = if self.version >= Version::Go118 { 4 } else { self.pointer };
        let start = at.checked_mul(2 * width)?;
        let address = word(self.rows, start, width, self.little)?;
        let offset = word(self.rows, start + width, width, self.little).unwrap_or(u64::MAX);
        Some((self.text_start.checked_add(address)?, offset))
    }

    /// The inline tree of a function, and where the positions in it are.
    fn inline_tree(&self, record: &Record<'a>) -> Option<(&'a [u8], u32)> {
        let data = number_at(record.funcdata, FUNCDATA_INLINE_TREE as usize * 4, self.little)?;
        let values = number_at(record.pcdata, PCDATA_INLINE_INDEX as usize * 4, self.little)?;
        if data == u32::MAX || values == 0 {
            return None;
        }
        Some((self.trees?.get(data as usize..)?, values))
    }

    fn file(&self, record: &Record<'_>, number: i64) -> Option<&'a [u8]> {
        let number = u32::try_from(number).ok()? as usize;
        if self.version == Version::Go12 {
            let offset = number_at(self.files, number.checked_mul(4)?, self.little)?;
            return text_at(self.names, offset as usize);
        }
        let at = (record.unit as usize).checked_add(number)?.checked_mul(4)?;
        let offset = number_at(self.units, at, self.little)?;
        if offset == u32::MAX { None } else { text_at(self.files, offset as usize) }
    }

    /// The value that a sequence has at an address, and the addresses for which it is that.
    fn value(&self, offset: u32, entry: u64, address: u64) -> Option<(i64, Range<u64>)> {
        let mut rest = self.values.get(offset as usize..)?;
        let (mut value, mut at) = (-1_i64, entry);
        for step in 0..MAX_STEPS {
            let difference = varint(&mut rest)?;
            if difference == 0 && step > 0 {
                return None;
            }
            // Zigzag: the sign is the lowest bit.
            let half = i64::from(difference >> 1);
            value += if difference & 1 == 0 { half } else { !half };
            let from = at;
            at = at.checked_add(u64::from(varint(&mut rest)?).checked_mul(self.quantum)?)?;
            if address < at {
                return Some((value, from..at));
            }
        }
        None
    }
}

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text_at(table: &[u8], at: usize) -> Option<&[u8]> {
    let tail = table.get(at..)?;
    let tail = tail.get(..tail.len().min(64 << 10))?;
    tail.split(|byte| *byte == 0).next()
}

fn number_at(data: &[u8], at: usize, little: bool) -> Option<u32> {
    word(data, at, 4, little).map(|word| word as u32)
}

/// A number of 4 or 8 bytes.
pub(super) fn word(data: &[u8], at: usize, width: usize, little: bool) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(width)?)?;
    Some(match (<[u8; 4]>::try_from(bytes), <[u8; 8]>::try_from(bytes)) {
        (Ok(bytes), _) if little => u32::from_le_bytes(bytes).into(),
        (Ok(bytes), _) => u32::from_be_bytes(bytes).into(),
        (_, Ok(bytes)) if little => u64::from_le_bytes(bytes),
        (_, Ok(bytes)) => u64::from_be_bytes(bytes),
        _ => return None,
    })
}
