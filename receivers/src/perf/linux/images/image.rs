//! A file that code comes from, with the rules that unwind it.
//!
//! An image has its own unwinder and rule cache, in the address space of the file: a rule learnt in
//! one process serves all, and a process is no more than a list of mappings. How long rules are kept
//! is left to the table of images.

use std::fs::File;
use std::sync::Arc;

use framehop::{CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module};
use framehop::{Unwinder as _, UnwinderNative};

use super::bytes::Bytes;
use super::go;
use super::rules::Sections;
use profpipe_host::elf::Identity;

/// What the cache and the scratch memory of an unwinder take beside its tables: 33,088 bytes by
/// `mallinfo2`, and a little for what describes the module. Small programs have tables of hundreds of
/// bytes.
pub(crate) const UNWINDER_BYTES: usize = 34 << 10;

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
    /// The content, if it is not a file.
    pub(crate) memory: Option<Bytes>,
    /// The file is the dynamic loader, whose start-up code has no unwinding rules.
    pub(crate) loader: bool,
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
    Ready(Box<Unwinder>),
    /// The program is one of Go, which keeps frame pointers.
    Go(Box<go::Functions>),
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
            memory: None,
            loader: false,
            rules: Rules::Absent,
            bytes: 0,
            used: 0,
            asked: 0,
        }
    }

    /// Takes the rules that were read; none if there are none.
    pub(super) fn set_rules(&mut self, sections: Sections) {
        self.bytes = sections.bytes();
        if self.bytes == 0 {
            self.rules = Rules::None;
            return;
        }
        self.bytes += UNWINDER_BYTES;
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
            debug_frame: sections.debug_frame,
            ..Default::default()
        };
        // Addresses are looked up as the file states them, so the module lies where it says.
        let module = Module::new(String::new(), base..end.unwrap_or(base), base, info);
        let mut rules = UnwinderNative::new();
        rules.add_module(module);
        self.rules = Rules::Ready(Box::new(Unwinder { rules, cache: CacheNative::new() }));
    }
}
