//! What unwinding needs to know of a Go program.
//!
//! Go keeps frame pointers, but not in functions that need no stack, nor in the first instructions
//! of the others; there the return address is where the call put it, and the chain of frame
//! pointers leaves out the caller. The table that every Go binary has for its own stack traces
//! (`.gopclntab`, also in stripped ones) says where that is. From it comes a small one: for each
//! function where it begins and how many bytes of it run without a frame; and the functions in
//! which stacks end.
//!
//! Formats: Go's `internal/abi` and `runtime/symtab.go`, versions 1.16, 1.18 and 1.20.

use std::ops::Range;

/// The functions that a stack of Go ends in: of a goroutine, of a thread, of the stack that the
/// scheduler and stack growth run on, of signal handlers and of calls from C.
const ROOTS: [&str; 15] = [
    "runtime.goexit",
    "runtime.goexit.abi0",
    "runtime.mcall",
    "runtime.morestack",
    "runtime.morestack.abi0",
    "runtime.mstart",
    "runtime.mstart.abi0",
    "runtime.rt0_go",
    "runtime.rt0_go.abi0",
    "runtime.clone",
    "runtime.clone.abi0",
    "runtime.sigtramp",
    "runtime.sigtramp.abi0",
    "runtime.cgocallback",
    "runtime.cgocallback.abi0",
];

/// The most functions of a program.
const MAX_FUNCTIONS: usize = 1 << 21;

/// The functions of a Go program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Functions {
    /// The address that the rest is relative to.
    text: u64,
    /// Where each function begins and how long it runs without a frame; in order.
    frameless: Vec<(u32, u32)>,
    roots: Vec<Range<u32>>,
}

impl Functions {
    /// True if the function at an address has no frame there: the return address is at the stack
    /// pointer, or in the link register.
    pub(crate) fn is_frameless(&self, address: u64) -> bool {
        let Some(offset) = self.offset(address) else { return false };
        let at = self.frameless.partition_point(|(start, _)| *start <= offset);
        let function = at.checked_sub(1).and_then(|at| self.frameless.get(at));
        function.is_some_and(|(start, length)| offset - start < *length)
    }

    /// True if stacks end in the function at an address.
    pub(crate) fn is_root(&self, address: u64) -> bool {
        let offset = self.offset(address);
        offset.is_some_and(|offset| self.roots.iter().any(|root| root.contains(&offset)))
    }

    /// The bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.frameless.len() * size_of::<(u32, u32)>()
    }

    /// True if nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.frameless.is_empty()
    }

    fn offset(&self, address: u64) -> Option<u32> {
        u32::try_from(address.checked_sub(self.text)?).ok()
    }

    /// Reads a `.gopclntab` of a program whose code begins at `text`.
    pub(crate) fn read(table: &[u8], text: u64) -> Option<Self> {
        let header = Header::read(table, text)?;
        let roots = root_names(table.get(header.names..header.names_end)?);
        let mut functions = Self { text: header.text, ..Self::default() };
        functions.frameless.reserve(header.count);
        for number in 0..header.count {
            let Some((start, data)) = header.function(table, number) else { continue };
            let Some(end) = header.start(table, number + 1) else { continue };
            let Some(function) = table.get(header.functions.checked_add(data)?..) else { continue };
            // After the entry point: name, arguments, defer return, table of stack depths.
            let fields = function.get(header.entry_size..).unwrap_or_default();
            let (Some(name), Some(depths)) = (u32_at(fields, 0), u32_at(fields, 12)) else {
                continue;
            };
            if roots.contains(&name) {
                functions.roots.push(start..end);
            }
            let depths = table.get(header.depths.checked_add(depths as usize)?..);
            let length = end.saturating_sub(start);
            let frameless = depths.and_then(|depths| without_frame(depths, header.quantum));
            functions.frameless.push((start, frameless.unwrap_or(0).min(length)));
        }
        functions.frameless.sort_unstable();
        Some(functions)
    }
}

/// The length of a function's code before its frame is set up, by its table of stack depths.
fn without_frame(depths: &[u8], quantum: u32) -> Option<u32> {
    let mut bytes = depths.iter();
    let mut number = || {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = *bytes.next()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    // The depth starts at -1 and changes by a zigzag number; 0 at first means no frame.
    let change = number()?;
    let change = (change >> 1).cast_signed() ^ -(change & 1).cast_signed();
    if change != 1 {
        return Some(0);
    }
    number()?.checked_mul(quantum)
}

/// The offsets of the root functions' names in the table of names.
fn root_names(names: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    let mut at = 0;
    for name in names.split(|byte| *byte == 0) {
        if name.starts_with(b"runtime.") && ROOTS.iter().any(|root| root.as_bytes() == name) {
            found.extend(u32::try_from(at));
        }
        at += name.len() + 1;
    }
    found
}

struct Header {
    count: usize,
    quantum: u32,
    text: u64,
    /// Offsets in the table.
    names: usize,
    names_end: usize,
    depths: usize,
    functions: usize,
    /// The size of an address in the list of functions, and in the data of one.
    entry_size: usize,
}

impl Header {
    fn read(table: &[u8], text: u64) -> Option<Self> {
        let magic = u32_at(table, 0)?;
        let (quantum, pointer) = (*table.get(6)?, *table.get(7)?);
        if pointer != 8 || !matches!(quantum, 1 | 4) {
            return None;
        }
        let word = |at: usize| u64_at(table, 8 + 8 * at);
        let offset = |at: usize| word(at).and_then(|word| usize::try_from(word).ok());
        let count = offset(0)?;
        if count > MAX_FUNCTIONS {
            return None;
        }
        // Since 1.18 the start of the text comes third, and addresses are relative to it.
        let (shift, entry_size) = match magic {
            0xffff_fffa => (0, 8),
            0xffff_fff0 | 0xffff_fff1 => (1, 4),
            _ => return None,
        };
        let stated = if shift == 1 { word(2)? } else { 0 };
        Some(Self {
            count,
            quantum: u32::from(quantum),
            // Position-independent programs, and all since 1.26, do not say.
            text: if stated == 0 { text } else { stated },
            names: offset(2 + shift)?,
            names_end: offset(3 + shift)?,
            depths: offset(5 + shift)?,
            functions: offset(6 + shift)?,
            entry_size,
        })
    }

    /// The start of a function, relative to the text; of the one after the last: the end.
    fn start(&self, table: &[u8], number: usize) -> Option<u32> {
        let at = self.functions.checked_add(number.checked_mul(2 * self.entry_size)?)?;
        if self.entry_size == 4 {
            return u32_at(table, at);
        }
        u32::try_from(u64_at(table, at)?.checked_sub(self.text)?).ok()
    }

    /// The start of a function and the offset of its data.
    fn function(&self, table: &[u8], number: usize) -> Option<(u32, usize)> {
        let at = self.functions.checked_add(number.checked_mul(2 * self.entry_size)?)?;
        let data = if self.entry_size == 4 {
            u64::from(u32_at(table, at.checked_add(4)?)?)
        } else {
            u64_at(table, at.checked_add(8)?)?
        };
        Some((self.start(table, number)?, usize::try_from(data).ok()?))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}
