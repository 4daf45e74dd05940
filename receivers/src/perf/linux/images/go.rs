//! What unwinding needs to know of a Go program.
//!
//! Go keeps frame pointers, but not in functions that need no stack, nor in the first instructions
//! of the others; there the return address is where the call put it, and the chain of frame
//! pointers leaves out the caller. The table that every Go binary has for its own stack traces
//! (`.gopclntab`, also in stripped ones) says where that is. From it comes a small one: for each
//! function where it begins and how many bytes of it run without a frame; and the functions in
//! which stacks end.
//!
//! The layouts of 1.16, 1.18 and 1.20 are read; [`Header`] knows where things are in them.

use std::ops::Range;

use profpipe_host::gopclntab::{Header, Version, signed, varint};

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
        let header = Header::parse(table)?;
        let is_usable = header.version >= Version::Go116 && header.little && header.pointer == 8;
        if !is_usable || header.functions > MAX_FUNCTIONS {
            return None;
        }
        let roots = root_names(table.get(header.names..header.units)?);
        // Until 1.16 rows hold addresses, since then what is relative to the text, which position
        // independent programs, and all since 1.26, do not say.
        let is_relative = header.version >= Version::Go118;
        let text = if is_relative { header.text_start.unwrap_or(text) } else { text };
        let start = |address: u64| {
            let base = if is_relative { 0 } else { text };
            u32::try_from(address.checked_sub(base)?).ok()
        };
        let mut functions = Self { text, ..Self::default() };
        functions.frameless.reserve(header.functions);
        let mut next = header.row(table, 0);
        for number in 1..=header.functions {
            let row = std::mem::replace(&mut next, header.row(table, number));
            let (Some((address, record)), Some((end, _))) = (row, next) else { continue };
            let (Some(start), Some(end)) = (start(address), start(end)) else { continue };
            let Some(record) = header.record(table, record) else { continue };
            let (Some(name), Some(depths)) = (header.field(record, 1), header.field(record, 4))
            else {
                continue;
            };
            if roots.contains(&name) {
                functions.roots.push(start..end);
            }
            let depths = table.get(header.values.checked_add(depths as usize)?..);
            let length = end.saturating_sub(start);
            let frameless = depths.and_then(|depths| without_frame(depths, header.quantum.into()));
            functions.frameless.push((start, frameless.unwrap_or(0).min(length)));
        }
        functions.frameless.sort_unstable();
        Some(functions)
    }
}

/// The length of a function's code before its frame is set up, by its table of stack depths.
fn without_frame(mut depths: &[u8], quantum: u32) -> Option<u32> {
    // The depth starts at -1; 0 at first means no frame.
    if signed(varint(&mut depths)?) != 1 {
        return Some(0);
    }
    varint(&mut depths)?.checked_mul(quantum)
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
