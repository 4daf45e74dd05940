//! A file that code comes from, with the rules that unwind it.
//!
//! An image has its own unwinder and rule cache, in the address space of the file: a rule learnt in
//! one process serves all, and a process is no more than a list of mappings. How long rules are kept
//! is left to the table of images.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use framehop::{CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module};
use framehop::{Unwinder as _, UnwinderNative};
use gimli::UnwindContext;

use super::bytes::Bytes;
use super::cfi::Kind;
use super::code::{self, AROUND, Code};
use super::frame_rules::FrameRules;
use super::frame_table::FrameTable;
use super::go;
use super::loader::ReadTables;
use super::sections::Sections;
use profpipe_host::content::Content as _;
use profpipe_host::elf::{Identity, Segment};

/// The length of a file and when it was written to; equal as long as nobody writes to it.
pub(super) fn stamp(file: &File) -> Option<(u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().ok()?;
    Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// What the cache and the scratch memory of an unwinder take beside its tables: 33,088 bytes by
/// `mallinfo2`, and a little for what describes the module. Small programs have tables of hundreds of
/// bytes.
pub(crate) const UNWINDER_BYTES: usize = 34 << 10;

/// The bytes at the beginning of a function that tell how large its frame is.
const MAX_PROLOGUE: usize = 64;
/// How much code is looked at to find out whether it is one function.
const MAX_FUNCTION: u64 = 4096;

/// The number of an image.
pub(crate) type ImageIx = u32;

/// What identifies a file to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FileKey {
    /// Its build id.
    Build(Box<[u8]>),
    /// Its device and number there.
    Inode { major: u32, minor: u32, inode: u64 },
    /// The vdso.
    Vdso,
}

/// A file that code comes from.
pub(crate) struct Image {
    /// What the file says of itself.
    pub(crate) identity: Identity,
    /// The hash that identifies it.
    pub(crate) htlhash: Option<String>,
    /// The file, open for reading.
    pub(crate) file: Option<Arc<File>>,
    /// The length of the file and when it was written to, when it was read.
    pub(super) stamp: Option<(u64, i64, i64)>,
    /// The content, if it is not a file.
    pub(crate) memory: Option<Bytes>,
    pub(super) rules: Rules,
    /// The bytes that the rules take.
    pub(super) bytes: usize,
    /// When the rules were last asked for, in such calls.
    pub(super) used: u64,
    /// The sweep before which it was last asked for.
    pub(super) asked: u64,
}

/// The rules of an image, as far as they are there.
pub(super) enum Rules {
    /// Not read since they were last needed.
    Absent,
    /// Asked for.
    Coming,
    /// The file has none.
    None,
    Ready(Box<Tables>),
}

/// What there is to unwind an image with.
pub(crate) struct Tables {
    /// Its own unwinder, if its tables are held.
    pub(crate) unwinder: Option<Unwinder>,
    /// Its call frame information, the first that covers an address counts.
    pub(super) frames: Vec<FrameTable>,
    /// The functions of a Go program.
    pub(crate) go: Option<go::Functions>,
}

impl Tables {
    /// The rules of the frame at an instruction; none if no table covers it.
    pub(super) fn rules(
        &self,
        address: u64,
        buffer: &mut Vec<u8>,
        context: &mut UnwindContext<usize>,
    ) -> Option<FrameRules> {
        self.frames.iter().find_map(|table| {
            let entry = table.entry(address, buffer)?;
            let is_framehops = self.unwinder.is_some() && entry.kind == Kind::EhFrame;
            FrameRules::read(&entry, address, is_framehops, context)
        })
    }
}

/// Unwinding rules with a cache.
pub(crate) struct Unwinder {
    pub(crate) rules: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
    pub(crate) cache: CacheNative<MayAllocateDuringUnwind>,
}

impl Image {
    pub(crate) fn new(identity: Identity, htlhash: Option<String>) -> Self {
        Self {
            identity,
            htlhash,
            file: None,
            stamp: None,
            memory: None,
            rules: Rules::Absent,
            bytes: 0,
            used: 0,
            asked: 0,
        }
    }

    /// Whether somebody has written to the file since it was read: it is another program then.
    pub(super) fn has_changed(&self) -> bool {
        self.file.as_ref().is_some_and(|file| stamp(file) != self.stamp)
    }

    /// Takes the tables that were read; none if there are none.
    pub(super) fn set_rules(&mut self, read: ReadTables) {
        let ReadTables { sections, frames, go } = read;
        self.bytes = frames.iter().map(FrameTable::bytes).sum::<usize>()
            + go.as_ref().map_or(0, go::Functions::bytes);
        if frames.is_empty() && go.is_none() {
            self.rules = Rules::None;
            return;
        }
        let unwinder = sections.eh_frame.is_some().then(|| {
            self.bytes += UNWINDER_BYTES;
            self.unwinder(sections)
        });
        self.rules = Rules::Ready(Box::new(Tables { unwinder, frames, go }));
    }

    fn unwinder(&self, sections: Sections) -> Unwinder {
        let ends = self.identity.segments.iter();
        let end = ends.map(|segment| segment.address.saturating_add(segment.length)).max();
        let base = self.identity.base;
        let info = ExplicitModuleSectionInfo {
            base_svma: base,
            text_svma: sections.text,
            got_svma: sections.got,
            eh_frame_svma: sections.eh_frame.as_ref().map(|(range, _)| range.clone()),
            eh_frame: sections.eh_frame.map(|(_, bytes)| bytes),
            eh_frame_hdr_svma: sections.eh_frame_hdr.as_ref().map(|(range, _)| range.clone()),
            eh_frame_hdr: sections.eh_frame_hdr.map(|(_, bytes)| bytes),
            ..Default::default()
        };
        // Addresses are looked up as the file states them, so the module lies where it says.
        let module = Module::new(String::new(), base..end.unwrap_or(base), base, info);
        let mut rules = UnwinderNative::new();
        rules.add_module(module);
        Unwinder { rules, cache: CacheNative::new() }
    }

    /// What stands in the file at an address, before and from there on.
    pub(super) fn code(&self, address: u64) -> Code {
        let mut bytes = [0; 2 * AROUND];
        let from = address.wrapping_sub(AROUND as u64);
        let got = self.read_code(from, &mut bytes);
        let (before, after) = bytes.split_at(AROUND);
        if got == bytes.len() {
            return Code::read(before, after, address);
        }
        // At an end of the code.
        let mut bytes = [0; AROUND];
        let got = self.read_code(from, &mut bytes);
        let before = if got == bytes.len() { &bytes[..] } else { &[] };
        let mut bytes = [0; AROUND];
        let got = self.read_code(address, &mut bytes);
        Code::read(before, bytes.get(..got).unwrap_or_default(), address)
    }

    /// Whether the code from the start of a range keeps a frame pointer up to its end, with no other
    /// function in between as far as can be told.
    pub(super) fn keeps_frame_pointer(&self, code: Range<u64>) -> bool {
        let length = code.end.saturating_sub(code.start);
        if length > MAX_FUNCTION {
            return false;
        }
        let mut bytes = vec![0; length as usize];
        self.read_code(code.start, &mut bytes) == bytes.len() && code::keeps_frame_pointer(&bytes)
    }

    /// How far the stack pointer is below the saved frame pointer at an address of a function.
    pub(super) fn frame_size(&self, function: u64, address: u64) -> Option<u64> {
        let length = address.checked_sub(function)?;
        let mut bytes = [0; MAX_PROLOGUE];
        let most = usize::try_from(length).map_or(MAX_PROLOGUE, |length| length.min(MAX_PROLOGUE));
        let bytes = bytes.get_mut(..most)?;
        (self.read_code(function, bytes) == most).then(|| code::frame_size(bytes)).flatten()
    }

    /// Whether an address is in the code of the file.
    pub(super) fn has_code(&self, address: u64) -> bool {
        self.segment(address).is_some()
    }

    fn segment(&self, address: u64) -> Option<&Segment> {
        let mut segments = self.identity.segments.iter();
        segments.find(|it| address >= it.address && address - it.address < it.length)
    }

    /// Reads code; how many bytes there were.
    fn read_code(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(segment) = self.segment(address) else { return 0 };
        let at = address - segment.address;
        let most = (segment.length - at).min(buffer.len() as u64) as usize;
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let offset = segment.offset.saturating_add(at);
        match (&self.file, &self.memory) {
            (Some(file), _) => file.read_at(buffer, offset).unwrap_or(0),
            (None, Some(memory)) => memory.read_at(buffer, offset).unwrap_or(0),
            (None, None) => 0,
        }
    }
}
