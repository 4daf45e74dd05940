//! What unwinding needs to know of a Go program.
//!
//! Go writes no call frame information into its programs, but every one has the table of its own
//! stack traces (`.gopclntab`, also stripped ones), which says for each instruction how far the
//! return address lies above the stack pointer. From it comes a small table of these depths, and
//! the few functions of the runtime in which stacks end or go on elsewhere.
//!
//! The layouts of 1.16, 1.18 and 1.20 are read; [`Header`] knows where things are in them.

use std::ops::Range;

use profpipe_host::gopclntab::{Header, Version, signed, varint};

/// The functions where a stack of Go is not simply one frame after the other, by name.
const SPECIAL: [(&str, GoFrame); 14] = [
    // A goroutine, a thread and a program begin here.
    ("runtime.goexit", GoFrame::Root),
    ("runtime.mstart", GoFrame::Start),
    ("runtime.rt0_go", GoFrame::Root),
    ("runtime.clone", GoFrame::Root),
    // Their callee runs on the stack of the thread; the frame pointer stays that of the goroutine.
    ("runtime.systemstack", GoFrame::Switch),
    ("runtime.asmcgocall", GoFrame::Switch),
    // Nothing here leads back to the goroutine.
    ("runtime.mcall", GoFrame::Leave),
    ("runtime.morestack", GoFrame::Leave),
    // Stands in the stack of a goroutine for one of those that switch: nobody has called it.
    ("runtime.systemstack_switch", GoFrame::Placeholder),
    // They were put on the stack as if the interrupted instruction had called them.
    ("runtime.asyncPreempt", GoFrame::Injected),
    ("runtime.sigpanic", GoFrame::Injected),
    ("runtime.sigpanic0", GoFrame::Injected),
    // It keeps the registers of the interrupted code where they are.
    ("runtime.sigtramp", GoFrame::NoFramePointer),
    ("runtime.cgoSigtramp", GoFrame::NoFramePointer),
];

/// The most functions of a program.
const MAX_FUNCTIONS: usize = 1 << 21;
/// The most changes of depth in a program: 16 MiB.
const MAX_DEPTHS: usize = 1 << 21;

/// How a stack goes on from a frame of Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoFrame {
    /// The return address lies above the frame, whose depth is known.
    Ordinary,
    /// Stacks end here.
    Root,
    /// A thread begins here; what started it may still be seen.
    Start,
    /// The frame pointer leads to the caller, which is on another stack.
    Switch,
    /// The caller is on another stack, and nothing leads there.
    Leave,
    /// As `Ordinary`, but no call leads here.
    Placeholder,
    /// As `Ordinary`, but it has interrupted its caller instead of being called.
    Injected,
    /// As `Ordinary`, but it keeps no frame pointer.
    NoFramePointer,
}

/// The functions of a Go program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Functions {
    /// The address that the rest is relative to.
    text: u64,
    /// From where on the stack pointer is how many bytes below the return address; in order.
    depths: Vec<(u32, u32)>,
    /// Where the last function ends.
    end: u32,
    special: Vec<(Range<u32>, GoFrame)>,
}

impl Functions {
    /// How many bytes the return address lies above the stack pointer when the instruction at an
    /// address runs; none if no function of Go is there.
    pub(crate) fn depth(&self, address: u64) -> Option<u32> {
        let offset = self.offset(address).filter(|offset| *offset < self.end)?;
        let at = self.depths.partition_point(|(start, _)| *start <= offset);
        self.depths.get(at.checked_sub(1)?).map(|(_, depth)| *depth)
    }

    /// How stacks go on from the function at an address.
    pub(crate) fn frame(&self, address: u64) -> GoFrame {
        let Some(offset) = self.offset(address) else { return GoFrame::Ordinary };
        let found = self.special.iter().find(|(range, _)| range.contains(&offset));
        found.map_or(GoFrame::Ordinary, |(_, frame)| *frame)
    }

    /// The bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.depths.capacity() * size_of::<(u32, u32)>()
    }

    /// True if nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.depths.is_empty()
    }

    fn offset(&self, address: u64) -> Option<u32> {
        u32::try_from(address.checked_sub(self.text)?).ok()
    }

    /// Reads a `.gopclntab` of a program whose code of Go begins at `text`, unless the table itself
    /// says where.
    pub(crate) fn read(table: &[u8], text: u64) -> Option<Self> {
        let header = Header::parse(table)?;
        let is_usable = header.version >= Version::Go116 && header.little && header.pointer == 8;
        if !is_usable || header.functions > MAX_FUNCTIONS {
            return None;
        }
        let special = special_names(table.get(header.names..header.units)?);
        // Until 1.16 rows hold addresses, since then what is relative to the text, which position
        // independent programs, and all since 1.26, do not say.
        let is_relative = header.version >= Version::Go118;
        let text = if is_relative { header.text_start.unwrap_or(text) } else { text };
        let start = |address: u64| {
            let base = if is_relative { 0 } else { text };
            u32::try_from(address.checked_sub(base)?).ok()
        };
        let mut functions = Self { text, ..Self::default() };
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
            // Rows are in the order of addresses; what is not is malformed.
            if start < functions.end || end <= start {
                continue;
            }
            if let Some((_, frame)) = special.iter().find(|(special, _)| *special == name) {
                functions.special.push((start..end, *frame));
            }
            let depths = table.get(header.values.checked_add(depths as usize)?..);
            functions.add_depths(start, end, depths.unwrap_or_default(), header.quantum.into());
            functions.end = end;
            if functions.depths.len() > MAX_DEPTHS {
                return None;
            }
        }
        functions.depths.shrink_to_fit();
        Some(functions)
    }

    /// Adds the depths of a function, pairs of a difference of the depth, from -1 on, and how far
    /// it goes.
    fn add_depths(&mut self, start: u32, end: u32, mut pairs: &[u8], quantum: u32) {
        let (mut at, mut depth) = (start, -1_i64);
        let mut last = None;
        while at < end {
            let (Some(difference), Some(length)) = (varint(&mut pairs), varint(&mut pairs)) else {
                break;
            };
            if difference == 0 && at != start {
                break;
            }
            depth += signed(difference);
            let known = u32::try_from(depth).unwrap_or(0);
            if last != Some(known) {
                self.depths.push((at, known));
                last = Some(known);
            }
            at = at.saturating_add(length.saturating_mul(quantum).max(1));
        }
        if last.is_none() {
            self.depths.push((start, 0));
        }
    }
}

/// The offsets of the special functions' names in the table of names.
fn special_names(names: &[u8]) -> Vec<(u32, GoFrame)> {
    let mut found = Vec::new();
    let mut at = 0;
    for name in names.split(|byte| *byte == 0) {
        if name.starts_with(b"runtime.") {
            // What is written in assembly has the name of its calling convention, too.
            let bare = name.strip_suffix(b".abi0").unwrap_or(name);
            let special = SPECIAL.iter().find(|(special, _)| special.as_bytes() == bare);
            if let (Some((_, frame)), Ok(at)) = (special, u32::try_from(at)) {
                found.push((at, *frame));
            }
        }
        at += name.len() + 1;
    }
    found
}
