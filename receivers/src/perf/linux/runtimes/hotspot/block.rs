//! A block of code as it was read: what kind of code it is, how large its frames are, and which functions
//! its instructions are of.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::HotSpot;
use super::edges::Edges;
use super::layout::{MAX_STRUCTURE, Place};
use super::scopes::{MAX_PCS, MAX_SCOPES, PC, Scopes};
use crate::perf::linux::runtimes::memory::Memory;

/// The largest block.
const MAX_BLOCK: u64 = 64 << 20;
/// The most code of a function that is looked through for its ends.
const MAX_CODE: u64 = 1 << 20;
/// The largest frame.
const MAX_FRAME: i64 = 1 << 20;
/// The longest name of a kind of code that matters.
const NAME: usize = 16;

/// A block of code.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) address: u64,
    pub(crate) code: Range<u64>,
    pub(crate) kind: Kind,
    /// What tells it from another at the same place.
    identity: u64,
    /// When it was last seen to be the same, by the monotonic clock.
    verified: AtomicU64,
    /// It was needed since.
    used: AtomicBool,
}

/// A kind of code.
#[derive(Debug)]
pub(crate) enum Kind {
    Interpreter,
    Compiled(Box<Compiled>),
    /// Frames of one size, in bytes, which are complete from an offset on.
    Framed {
        size: u64,
        complete: u32,
    },
    /// No frame but the return address.
    Frameless,
    /// Many pieces of code, each of its own kind.
    Stubs,
}

/// A compiled function.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The bytes of a frame, with the return address.
    pub(crate) frame: u64,
    pub(crate) edges: Edges,
    /// Where frames return to whose code may not be run any more, and how far above the stack pointer they
    /// have where they would have returned to.
    pub(crate) deopt: [u64; 2],
    pub(crate) original_pc: u64,
    pub(crate) scopes: Scopes,
    /// The functions that its scopes name, and the one that was compiled; with their cookies.
    pub(crate) methods: Box<[Option<(u64, u64)>]>,
    pub(crate) method: Option<(u64, u64)>,
}

impl Block {
    /// A block that was read at this time.
    pub(crate) fn new(
        address: u64,
        code: Range<u64>,
        kind: Kind,
        identity: u64,
        time: u64,
    ) -> Self {
        Self { address, code, kind, identity, verified: time.into(), used: false.into() }
    }

    /// Notes that it is needed; whether it is known to be the same after this time.
    pub(crate) fn is_same_after(&self, time: u64) -> bool {
        self.used.store(true, Ordering::Relaxed);
        self.verified.load(Ordering::Relaxed) >= time
    }

    /// Whether it was needed since this was asked last.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Notes that it is the same at this time; false if it is not.
    pub(crate) fn verify(&self, identity: Option<u64>, time: u64) -> bool {
        let is_same = identity == Some(self.identity);
        if is_same {
            self.verified.store(time, Ordering::Relaxed);
        }
        is_same
    }

    /// The bytes that it takes, about.
    pub(crate) fn size(&self) -> usize {
        match &self.kind {
            Kind::Compiled(compiled) => {
                size_of::<Self>()
                    + size_of::<Compiled>()
                    + compiled.scopes.size()
                    + size_of_val(&*compiled.methods)
            }
            _ => size_of::<Self>(),
        }
    }
}

impl HotSpot {
    /// How much is read of a block, with what stands before it, to know what it is.
    pub(super) fn head_length(&self) -> usize {
        let length = self.layout.compiled.length.max(self.layout.block.length);
        (self.layout.heap.header + u64::from(length)).min(2 * MAX_STRUCTURE) as usize
    }

    /// Where that begins.
    pub(super) fn head_start(&self, address: u64) -> u64 {
        address.wrapping_sub(self.layout.heap.header)
    }

    /// The first bytes of a block, with what stands before it.
    fn read_head(&self, address: u64, memory: &mut dyn Memory) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.head_length()];
        memory.read(self.head_start(address), &mut bytes).then_some(bytes)
    }

    /// The same without what stands before.
    fn without_header<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.layout.heap.header as usize..).unwrap_or_default()
    }

    /// What tells a block from another at the same place, by its first bytes; none if it is not in use. What is
    /// freed keeps its bytes until something else is there, perhaps in the middle of them.
    pub(super) fn identity(&self, bytes: &[u8]) -> Option<u64> {
        let (block, compiled) = (&self.layout.block, &self.layout.compiled);
        if self.layout.heap.used.get(bytes) == 0 {
            return None;
        }
        let mut identity = self.layout.heap.length.get(bytes);
        let head = self.without_header(bytes);
        let common = [block.name, block.size, block.frame_size, block.frame_complete];
        // What comes after the common part is code where this is not a compiled method; that does not change.
        for member in common.iter().chain(&[compiled.compile_id, compiled.method]) {
            identity =
                (identity.rotate_left(23) ^ member.get(head)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        Some(identity)
    }

    /// Whether a block is compiled code that is still being made: it is not run yet.
    pub(super) fn is_unfinished(&self, address: u64, memory: &mut dyn Memory) -> bool {
        let Some(bytes) = self.read_head(address, memory) else { return false };
        let head = self.without_header(&bytes);
        let mut name = [0; NAME];
        memory.read(self.layout.block.name.get(head), &mut name)
            && is_compiled(&name)
            && self.layout.compiled.state.signed(head) < 0
    }

    /// Reads the block at an address; none if it is none, or another when all is read.
    pub(super) fn read_block(
        &self,
        address: u64,
        time: u64,
        memory: &mut dyn Memory,
    ) -> Option<Block> {
        let layout = &self.layout.block;
        let bytes = self.read_head(address, memory)?;
        let identity = self.identity(&bytes)?;
        let head = self.without_header(&bytes);
        let size = layout.size.get(head);
        let (start, end) = (layout.code.of(address, head), layout.code_end.of(address, head));
        let whole = address..address.checked_add(size)?;
        let is_sane = size <= MAX_BLOCK
            && whole.start <= start
            && start < end
            && end <= whole.end
            && self.has_code(start)
            && self.has_code(end - 1);
        let mut name = [0; NAME];
        if !is_sane || !memory.read(layout.name.get(head), &mut name) {
            return None;
        }
        let frame = layout.frame_size.signed(head);
        let complete = u32::try_from(layout.frame_complete.signed(head)).unwrap_or(0);
        if is_compiled(&name) && self.layout.compiled.state.signed(head) < 0 {
            return None;
        }
        let kind = if is_compiled(&name) {
            let frame = u64::try_from(frame).ok().filter(|_| frame <= MAX_FRAME)?.checked_mul(8)?;
            let code = start..end;
            Kind::Compiled(Box::new(self.read_compiled(
                address,
                head,
                code,
                (frame, complete),
                memory,
            )?))
        } else if name.starts_with(b"Interpreter\0") {
            Kind::Interpreter
        } else if name.starts_with(b"vtable") || name.starts_with(b"I2C") {
            Kind::Frameless
        } else if (1..=MAX_FRAME).contains(&frame) {
            Kind::Framed { size: 8 * frame.cast_unsigned(), complete }
        } else if frame < 0 {
            Kind::Frameless
        } else {
            Kind::Stubs
        };
        let again = self.read_head(address, memory)?;
        (self.identity(&again) == Some(identity))
            .then(|| Block::new(address, start..end, kind, identity, time))
    }

    fn read_compiled(
        &self,
        address: u64,
        head: &[u8],
        code: Range<u64>,
        (frame, complete): (u64, u32),
        memory: &mut dyn Memory,
    ) -> Option<Compiled> {
        let layout = &self.layout.compiled;
        let of = |place: Place| place.of(address, head);
        let pcs = between(of(layout.pcs), of(layout.pcs_end), (MAX_PCS * PC) as u64, memory)?;
        let scopes = between(of(layout.scopes), of(layout.scopes_end), MAX_SCOPES, memory)?;
        let scopes = Scopes::read(&pcs, &scopes, self.layout.excludes_zero);
        let mut words = vec![0; 8 * scopes.methods() as usize];
        if !words.is_empty() && !memory.read(of(layout.metadata), &mut words) {
            return None;
        }
        let mut with_cookie = |address| Some((address, self.read_method(address, memory)?.cookie));
        let words = words.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        // Other things than functions are in that list, too.
        let methods = words.map(&mut with_cookie).collect();
        let method = with_cookie(layout.method.get(head));
        let length = (code.end - code.start).min(MAX_CODE);
        let mut bytes = vec![0; length as usize];
        if !memory.read(code.start, &mut bytes) {
            return None;
        }
        Some(Compiled {
            frame,
            edges: Edges::of(&bytes, complete),
            deopt: [of(layout.deopt), layout.deopt_other.map_or(0, of)],
            original_pc: u64::try_from(layout.original_pc.signed(head)).unwrap_or(0),
            scopes,
            methods,
            method,
        })
    }
}

fn is_compiled(name: &[u8]) -> bool {
    name.starts_with(b"nmethod\0") || name.starts_with(b"native nmethod\0")
}

/// The bytes between two addresses; none if they are too many, or cannot be read.
fn between(start: u64, end: u64, most: u64, memory: &mut dyn Memory) -> Option<Vec<u8>> {
    let length = end.checked_sub(start).filter(|length| *length <= most)?;
    let mut bytes = vec![0; length as usize];
    (bytes.is_empty() || memory.read(start, &mut bytes)).then_some(bytes)
}
