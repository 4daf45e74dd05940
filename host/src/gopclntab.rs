//! The header of Go's own table of functions and lines (`.gopclntab`), which every Go binary has,
//! stripped or not: the runtime prints stack traces from it.
//!
//! Four layouts, told apart by the magic number: Go 1.2, 1.16, 1.18, 1.20; described by Go's
//! `debug/gosym` and `runtime/symtab.go`. Here are the header, the rows of functions and the numbers
//! that its values are written in; what a sampler or a symbolizer makes of a function is theirs.
//! Every offset is checked: a broken table has fewer functions, never wrong memory.

/// A layout of the table, by the version of Go that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Go 1.2 to 1.15.
    Go12,
    /// Go 1.16 and 1.17.
    Go116,
    /// Go 1.18 and 1.19.
    Go118,
    /// Go 1.20 and later.
    Go120,
}

/// The header of a table. Offsets are in the table, and not beyond its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The layout.
    pub version: Version,
    /// Numbers are little-endian.
    pub little: bool,
    /// The unit of differences of addresses: the size of an instruction, at least.
    pub quantum: u8,
    /// The size of an address in bytes: 4 or 8.
    pub pointer: usize,
    /// How many functions there are.
    pub functions: usize,
    /// The address that functions are relative to, where the header says it: since 1.18, but not in
    /// programs that are position independent, nor since 1.26. 0 before 1.18.
    pub text_start: Option<u64>,
    /// The names of functions.
    pub names: usize,
    /// The file numbers of compilation units.
    pub units: usize,
    /// The names of files.
    pub files: usize,
    /// The values of functions: file, line, depth of the stack.
    pub values: usize,
    /// The rows of functions, and the records that rows point at.
    pub rows: usize,
}

impl Header {
    /// Reads the header of a table.
    pub fn parse(table: &[u8]) -> Option<Self> {
        let magic: [u8; 4] = table.get(..4)?.try_into().ok()?;
        let little = magic.last() == Some(&0xff);
        let number = if little { u32::from_le_bytes(magic) } else { u32::from_be_bytes(magic) };
        let version = match number {
            0xffff_fffb => Version::Go12,
            0xffff_fffa => Version::Go116,
            0xffff_fff0 => Version::Go118,
            0xffff_fff1 => Version::Go120,
            _ => return None,
        };
        let [0, 0, quantum @ (1 | 2 | 4), pointer @ (4 | 8)] = table.get(4..8)? else {
            return None;
        };
        let pointer = usize::from(*pointer);
        let word = |at: usize| word(table, 8 + at * pointer, pointer, little);
        let offset =
            |at: usize| usize::try_from(word(at)?).ok().filter(|offset| *offset <= table.len());
        let functions = usize::try_from(word(0)?).ok()?;
        let mut header = Self {
            version,
            little,
            quantum: *quantum,
            pointer,
            functions,
            text_start: Some(0),
            names: 0,
            units: 0,
            files: 0,
            values: 0,
            rows: 0,
        };
        match version {
            Version::Go12 => {
                header.rows = 8 + pointer;
                let end = functions.checked_mul(2)?.checked_add(1)?.checked_mul(pointer)?;
                let files = number_at(table, end.checked_add(header.rows)?, little)? as usize;
                header.files = Some(files).filter(|files| *files <= table.len())?;
            }
            Version::Go116 | Version::Go118 | Version::Go120 => {
                let first = if version == Version::Go116 { 2 } else { 3 };
                if version != Version::Go116 {
                    header.text_start = Some(word(2)?).filter(|start| *start != 0);
                }
                header.names = offset(first)?;
                header.units = offset(first + 1)?;
                header.files = offset(first + 2)?;
                header.values = offset(first + 3)?;
                header.rows = offset(first + 4)?;
            }
        }
        Some(header)
    }

    /// The size of an address in a row, and of the entry point in a function's record.
    pub fn width(&self) -> usize {
        if self.version >= Version::Go118 { 4 } else { self.pointer }
    }

    /// Row `at` of the table: where a function starts, relative to the text, and the offset of its
    /// record. The row after the last function has the end of the code, and `u64::MAX` for a record.
    pub fn row(&self, table: &[u8], at: usize) -> Option<(u64, u64)> {
        let width = self.width();
        let start = self.rows.checked_add(at.checked_mul(2 * width)?)?;
        let address = word(table, start, width, self.little)?;
        let record = word(table, start.checked_add(width)?, width, self.little);
        Some((address, record.unwrap_or(u64::MAX)))
    }

    /// The record of a function from its offset in a row on.
    pub fn record<'a>(&self, table: &'a [u8], offset: u64) -> Option<&'a [u8]> {
        let base = if self.version == Version::Go12 { 0 } else { self.rows };
        table.get(base.checked_add(usize::try_from(offset).ok()?)?..)
    }

    /// Field `at` of a record, from 1 on: name, size of arguments, deferred return, depths of the
    /// stack, files, lines, number of program counter tables and so on.
    pub fn field(&self, record: &[u8], at: usize) -> Option<u32> {
        number_at(record, self.width() + at.checked_sub(1)? * 4, self.little)
    }
}

/// The next number of 7 bits a byte, lowest first. A value of a function is a sequence of pairs of
/// them: the [`signed`] difference of the value, and how many quanta it holds.
pub fn varint(rest: &mut &[u8]) -> Option<u32> {
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

/// The number with the sign in the lowest bit.
pub fn signed(number: u32) -> i64 {
    let half = i64::from(number >> 1);
    if number & 1 == 0 { half } else { !half }
}

/// The 32-bit number at an offset.
pub fn number_at(data: &[u8], at: usize, little: bool) -> Option<u32> {
    word(data, at, 4, little).map(|word| word as u32)
}

/// The number of 4 or 8 bytes at an offset.
pub fn word(data: &[u8], at: usize, width: usize, little: bool) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(width)?)?;
    Some(match (<[u8; 4]>::try_from(bytes), <[u8; 8]>::try_from(bytes)) {
        (Ok(bytes), _) if little => u32::from_le_bytes(bytes).into(),
        (Ok(bytes), _) => u32::from_be_bytes(bytes).into(),
        (_, Ok(bytes)) if little => u64::from_le_bytes(bytes),
        (_, Ok(bytes)) => u64::from_be_bytes(bytes),
        _ => return None,
    })
}
