//! The files that code comes from, each once, whoever maps it.
//!
//! An image has its own unwinder and rule cache, in the address space of the file: a rule learnt in
//! one process serves all, and a process is no more than a list of mappings. The tables of rules
//! are what takes memory; those unused for longest are dropped when they exceed a budget and read
//! again when needed.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use framehop::{CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module};
use framehop::{Unwinder as _, UnwinderNative};
use hashbrown::{HashMap, HashSet};

use super::cfi;
use super::elf::{self, Bytes, Elf, Sections};

/// The bytes of unwinding tables held in memory.
const BUDGET: usize = 24 << 20;
/// The most files known at a time.
const MAX_IMAGES: usize = 8192;

/// The number of an image.
pub(super) type ImageIx = u32;

/// What identifies a file to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum FileKey {
    /// Its build id.
    Build(Box<[u8]>),
    /// Its device and number there.
    Inode { major: u32, minor: u32, inode: u64 },
    /// The vdso.
    Vdso,
}

/// Where in the memory of which process a file is mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) path: &'a str,
}

/// A file that code comes from.
pub(super) struct Image {
    /// What the file says of itself.
    pub(super) elf: Elf,
    /// The hash that identifies it.
    pub(super) htlhash: Option<String>,
    /// The file, open for reading.
    pub(super) file: Option<Arc<File>>,
    /// The content, if it is not a file.
    pub(super) memory: Option<Arc<[u8]>>,
    /// The file is the dynamic loader, whose start-up code has no unwinding rules.
    pub(super) loader: bool,
    rules: Rules,
    bytes: usize,
    used: u64,
    /// The sweep before which it was last asked for.
    asked: u64,
}

enum Rules {
    /// Not read since they were last needed.
    Absent,
    /// The file has none.
    None,
    Ready(Box<Unwinder>),
}

/// Unwinding rules with a cache.
pub(super) struct Unwinder {
    pub(super) rules: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
    pub(super) cache: CacheNative<MayAllocateDuringUnwind>,
}

/// Every known image.
#[derive(Default)]
pub(super) struct Images {
    /// Numbers are not used again, so that an old mapping never shows another file.
    images: HashMap<ImageIx, Image>,
    last: ImageIx,
    by_key: HashMap<FileKey, ImageIx>,
    bytes: usize,
    clock: u64,
    sweeps: u64,
}

impl Images {
    /// The image of a mapped file; opens and reads it if it is new. None if it cannot be opened or
    /// is not a file of code.
    pub(super) fn find(&mut self, key: &FileKey, place: Place<'_>) -> Option<ImageIx> {
        if let Some(known) = self.by_key.get(key) {
            if let Some(image) = self.images.get_mut(known) {
                image.asked = self.sweeps;
            }
            return Some(*known);
        }
        if self.images.len() >= MAX_IMAGES {
            return None;
        }
        let image = match key {
            FileKey::Vdso => vdso(),
            key => open(key, place),
        };
        // A file that is gone already may be opened through another process later.
        let mut image = image?;
        image.asked = self.sweeps;
        let gnu = image.elf.build_id.clone();
        let number = image
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map(|metadata| inode_key(&metadata));
        let at = self.last;
        self.last = self.last.wrapping_add(1);
        self.images.insert(at, image);
        self.by_key.insert(key.clone(), at);
        // The same file is known by build id in one record and by number in another.
        let build = gnu.and_then(|hex| unhex(&hex)).map(FileKey::Build);
        for alias in build.into_iter().chain(number) {
            self.by_key.entry(alias).or_insert(at);
        }
        Some(at)
    }

    /// An image.
    pub(super) fn get(&self, at: ImageIx) -> Option<&Image> {
        self.images.get(&at)
    }

    /// The unwinder of an image, read again if it was dropped.
    pub(super) fn unwinder(&mut self, at: ImageIx) -> Option<&mut Unwinder> {
        self.clock += 1;
        let clock = self.clock;
        let image = self.images.get_mut(&at)?;
        image.used = clock;
        if matches!(image.rules, Rules::Absent) {
            image.read_rules();
            self.bytes += image.bytes;
            if self.bytes > BUDGET {
                self.evict(at);
            }
        }
        match &mut self.images.get_mut(&at)?.rules {
            Rules::Ready(unwinder) => Some(unwinder),
            _ => None,
        }
    }

    /// Forgets images that no process maps and nobody has asked for since the last sweep; says
    /// which are left.
    pub(super) fn sweep(&mut self, mapped: &HashSet<ImageIx>) -> &HashMap<ImageIx, Image> {
        self.sweeps += 1;
        let sweeps = self.sweeps;
        self.images.retain(|at, image| mapped.contains(at) || image.asked + 1 >= sweeps);
        self.by_key.retain(|_, at| self.images.contains_key(at));
        self.bytes = self.images.values().map(|image| image.bytes).sum();
        &self.images
    }

    /// Makes an image one without rules: those it has are not to be used.
    pub(super) fn distrust(&mut self, at: ImageIx) {
        if let Some(image) = self.images.get_mut(&at) {
            self.bytes -= image.bytes;
            image.bytes = 0;
            image.rules = Rules::None;
        }
    }

    /// Drops the tables used longest ago until the rest fits, but not those of `keep`.
    fn evict(&mut self, keep: ImageIx) {
        while self.bytes > BUDGET {
            let oldest = self
                .images
                .iter_mut()
                .filter(|(at, image)| image.bytes > 0 && **at != keep)
                .min_by_key(|(_, image)| image.used);
            let Some((_, image)) = oldest else { return };
            self.bytes -= image.bytes;
            image.bytes = 0;
            image.rules = Rules::Absent;
        }
    }
}

impl Image {
    fn new(elf: Elf, htlhash: Option<String>) -> Self {
        Self {
            elf,
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

    fn set_rules(&mut self, sections: Sections) {
        self.bytes = sections.bytes();
        if self.bytes == 0 {
            self.rules = Rules::None;
            return;
        }
        let ends = self.elf.segments.iter();
        let end = ends.map(|segment| segment.address.saturating_add(segment.length)).max();
        let base = self.elf.base;
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

    fn read_rules(&mut self) {
        let sections = match (&self.file, &self.memory) {
            // Go writes no rules for its own code but keeps frame pointers everywhere.
            _ if self.elf.go || self.elf.segments.is_empty() => Sections::default(),
            (Some(file), _) => Elf::read_rules(&**file),
            (None, Some(memory)) => Elf::read_rules(&**memory),
            (None, None) => Sections::default(),
        };
        self.set_rules(trusted(sections));
    }
}

/// Leaves out the sections that may not be used.
fn trusted(mut sections: Sections) -> Sections {
    if let Some((range, rules)) = &sections.eh_frame {
        let frames = cfi::check(rules, cfi::Kind::EhFrame);
        let search = sections.eh_frame_hdr.as_ref().map(|(range, bytes)| (range.start, &**bytes));
        match (frames, search) {
            // Without the search table one is made from the entries themselves.
            (Some(frames), Some(search)) if !cfi::check_search(search, range.start, &frames) => {
                sections.eh_frame_hdr = None;
            }
            (Some(_), _) => {}
            (None, _) => (sections.eh_frame, sections.eh_frame_hdr) = (None, None),
        }
    }
    if let Some(rules) = &sections.debug_frame
        && cfi::check(rules, cfi::Kind::DebugFrame).is_none()
    {
        sections.debug_frame = None;
    }
    sections
}

/// Opens the file mapped at `place` and makes sure that it is the one that the kernel named.
fn open(key: &FileKey, place: Place<'_>) -> Option<Image> {
    let Place { pid, start, end, path } = place;
    // Exact even if the file was deleted or replaced, or lies in another mount namespace; needs a
    // capability. Then through the process's own root; then, for a process that is gone, ours.
    let candidates = [
        format!("/proc/{pid}/map_files/{start:x}-{end:x}"),
        format!("/proc/{pid}/root{path}"),
        path.to_owned(),
    ];
    for (at, candidate) in candidates.iter().enumerate() {
        let Ok(file) = open_regular(candidate) else { continue };
        let Some(image) = read(file, path) else { continue };
        let exact = at == 0;
        let same = match key {
            FileKey::Build(id) => image.elf.build_id.as_deref() == Some(&*elf::hex(id)),
            FileKey::Inode { inode, .. } => {
                // The device may differ for one file, on overlay and btrfs.
                let metadata = image.file.as_ref().and_then(|file| file.metadata().ok());
                exact || metadata.is_some_and(|metadata| metadata.ino() == *inode)
            }
            FileKey::Vdso => false,
        };
        if same {
            return Some(image);
        }
    }
    None
}

fn open_regular(path: &str) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    // A FIFO or a terminal of somebody else must not hold us up or become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = options.read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::ErrorKind::InvalidInput.into()) }
}

fn read(file: File, path: &str) -> Option<Image> {
    let hash = elf::htlhash(&file);
    // Not ELF: code may be mapped from any file.
    let elf = Elf::read(&file).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut image = Image::new(elf, hash);
    image.loader = name.starts_with("ld-") || name.starts_with("ld.so") || name == "ld64.so.2";
    image.file = Some(Arc::new(file));
    Some(image)
}

/// The vdso of this process, which every 64-bit process of the host shares.
fn vdso() -> Option<Image> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = super::maps::executable(&maps).find(|line| line.path == "[vdso]")?;
    let length = usize::try_from(line.end - line.start).ok().filter(|length| *length < 1 << 20)?;
    let mut bytes = vec![0; length];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, line.start).ok()?;
    let memory: Arc<[u8]> = bytes.into();
    let mut image = Image::new(Elf::read(&*memory)?, None);
    image.memory = Some(memory);
    Some(image)
}

fn inode_key(metadata: &std::fs::Metadata) -> FileKey {
    let device = metadata.dev();
    FileKey::Inode {
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        inode: metadata.ino(),
    }
}

fn unhex(text: &str) -> Option<Box<[u8]>> {
    let digits = text.as_bytes().as_chunks::<2>().0.iter();
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
