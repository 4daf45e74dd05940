//! What HotSpot says of its own structures: the tables that it exports for debuggers.
//!
//! They lie in its data with pointers into it, so they are read from the process. Their own columns are
//! described by variables beside them. All of it is bounded and checked as any other data.

use hashbrown::HashMap;

use crate::perf::linux::runtimes::memory::{MAX_PIECES, Memory, half, read_word, word};

/// The most rows of a table.
const MAX_ROWS: usize = 4096;
/// The longest row.
const MAX_STRIDE: u64 = 128;
/// The longest name; longer ones are not of interest.
const NAME: usize = 96;

/// A member of a structure, or a variable of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// The type, as HotSpot writes it.
    pub(crate) kind: String,
    /// The offset in the structure, or the address of the variable.
    pub(crate) place: u64,
    pub(crate) is_static: bool,
}

/// The tables of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// By structure and member, with a dot between.
    pub(crate) fields: HashMap<String, Field>,
    /// The sizes of types.
    pub(crate) types: HashMap<String, u64>,
    pub(crate) constants: HashMap<String, u32>,
}

/// The names of a table's variables: where it is, how far apart its rows are, and its columns.
struct Names {
    table: &'static str,
    stride: &'static str,
    columns: &'static [&'static str],
}

const FIELDS: Names = Names {
    table: "gHotSpotVMStructs",
    stride: "gHotSpotVMStructEntryArrayStride",
    columns: &[
        "gHotSpotVMStructEntryTypeNameOffset",
        "gHotSpotVMStructEntryFieldNameOffset",
        "gHotSpotVMStructEntryTypeStringOffset",
        "gHotSpotVMStructEntryIsStaticOffset",
        "gHotSpotVMStructEntryOffsetOffset",
        "gHotSpotVMStructEntryAddressOffset",
    ],
};
const TYPES: Names = Names {
    table: "gHotSpotVMTypes",
    stride: "gHotSpotVMTypeEntryArrayStride",
    columns: &["gHotSpotVMTypeEntryTypeNameOffset", "gHotSpotVMTypeEntrySizeOffset"],
};
const CONSTANTS: Names = Names {
    table: "gHotSpotVMIntConstants",
    stride: "gHotSpotVMIntConstantEntryArrayStride",
    columns: &["gHotSpotVMIntConstantEntryNameOffset", "gHotSpotVMIntConstantEntryValueOffset"],
};

/// The variable whose presence makes a file HotSpot.
pub(crate) const MARK: &str = FIELDS.table;

/// Every variable that is needed.
pub(crate) fn variables() -> impl Iterator<Item = &'static str> {
    [&FIELDS, &TYPES, &CONSTANTS].into_iter().flat_map(|names| {
        [names.table, names.stride].into_iter().chain(names.columns.iter().copied())
    })
}

impl Tables {
    /// Reads the tables, whose variables are where `at` says; none if they are not there (yet) or not what
    /// they should be.
    pub(crate) fn read(at: &dyn Fn(&str) -> Option<u64>, memory: &mut dyn Memory) -> Option<Self> {
        let mut tables = Self::default();
        let fields = rows(&FIELDS, at, memory)?;
        let owners = texts(&fields, 0, memory);
        let names = texts(&fields, 1, memory);
        let kinds = texts(&fields, 2, memory);
        for (((row, owner), name), kind) in fields.iter().zip(owners).zip(names).zip(kinds) {
            let (Some(owner), Some(name)) = (owner, name) else { continue };
            let is_static = row.half(3) != 0;
            let place = row.word(if is_static { 5 } else { 4 });
            let field = Field { kind: kind.unwrap_or_default(), place, is_static };
            tables.fields.insert(format!("{owner}.{name}"), field);
        }
        let types = rows(&TYPES, at, memory)?;
        for (row, name) in types.iter().zip(texts(&types, 0, memory)) {
            tables.types.extend(name.map(|name| (name, row.word(1))));
        }
        let constants = rows(&CONSTANTS, at, memory)?;
        for (row, name) in constants.iter().zip(texts(&constants, 0, memory)) {
            tables.constants.extend(name.map(|name| (name, row.half(1))));
        }
        Some(tables)
    }
}

/// A row, and where its columns are.
struct Row {
    bytes: Vec<u8>,
    columns: Vec<u32>,
}

impl Row {
    fn word(&self, column: usize) -> u64 {
        self.columns.get(column).map_or(0, |at| word(&self.bytes, *at))
    }

    fn half(&self, column: usize) -> u32 {
        self.columns.get(column).map_or(0, |at| half(&self.bytes, *at))
    }
}

/// The rows of a table, up to the one without a name.
fn rows(
    names: &Names,
    at: &dyn Fn(&str) -> Option<u64>,
    memory: &mut dyn Memory,
) -> Option<Vec<Row>> {
    let start = read_word(memory, at(names.table)?)?;
    let stride = read_word(memory, at(names.stride)?)?;
    let mut columns = Vec::new();
    for column in names.columns {
        let column = read_word(memory, at(column)?)?;
        // A row holds all of every column.
        columns.push(u32::try_from(column).ok().filter(|it| u64::from(*it) + 8 <= stride)?);
    }
    if start == 0 || stride > MAX_STRIDE {
        return None;
    }
    let mut rows = Vec::new();
    let mut bytes = [0; MAX_STRIDE as usize];
    while rows.len() < MAX_ROWS {
        let address = start.checked_add(rows.len() as u64 * stride)?;
        let bytes = bytes.get_mut(..stride as usize)?;
        if !memory.read(address, bytes) {
            return None;
        }
        let row = Row { bytes: bytes.to_vec(), columns: columns.clone() };
        if row.word(0) == 0 {
            return Some(rows);
        }
        rows.push(row);
    }
    None
}

/// The text that a column of each row points to; none where it cannot be read.
fn texts(rows: &[Row], column: usize, memory: &mut dyn Memory) -> Vec<Option<String>> {
    let mut texts = Vec::with_capacity(rows.len());
    let mut bytes = [0; MAX_PIECES * NAME];
    while texts.len() < rows.len() {
        let some = rows.get(texts.len()..).unwrap_or_default();
        let addresses: Vec<u64> =
            some.iter().take(MAX_PIECES).map(|row| row.word(column)).collect();
        let read = memory.read_pieces(&addresses, NAME, &mut bytes);
        texts.extend(bytes.chunks_exact(NAME).take(read).map(text));
        if read < addresses.len() {
            // That is no text, or it is at the very end of what is mapped.
            texts.push(None);
        }
    }
    texts
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(bytes.get(..end)?).ok().map(str::to_owned)
}
