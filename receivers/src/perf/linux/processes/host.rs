//! The host that the sampler runs on: `/proc`, and the files that processes map.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::probe_page::ProbePage;
use super::process::{Code, Host, NewMapping, Processes};
use crate::perf::linux::handoff::{
    FileFacts, Frame, KERNEL_ROW, NO_ROW, RowFacts, RowIx, Source, shrink,
};
use crate::perf::linux::images::bytes::Bytes;
use crate::perf::linux::images::image::{FileKey, ImageIx};
use crate::perf::linux::images::loader::{FileMapping, Loader};
use crate::perf::linux::images::table::Images;
use crate::perf::linux::records::record::FileId;
use crate::perf::linux::runtimes::function::FunctionKey;
use profpipe_host::hex;
use profpipe_host::proc::{self, Stat};

/// The most mapping rows; beyond, new files are not told apart from unknown memory.
const MAX_ROWS: usize = 1 << 16;
/// New files and rows after which those that are not needed are looked for early.
const MANY_IMAGES: usize = 256;
/// See there.
const MANY_ROWS: usize = 4096;
/// The most rows of functions of managed programs, which come one by one.
const MAX_MANAGED_ROWS: usize = 1 << 15;
/// How many sweeps such a row is kept without being seen.
const MANAGED_SWEEPS: u64 = 2;
/// The longest `/proc/PID/maps` that is read.
const MAX_MAPS: u64 = 16 << 20;

/// The pseudo file of code that the kernel maps into every 32-bit process.
const VDSO_32: &str = "[vdso32]";

/// `/proc`, the images and the mapping rows.
pub(crate) struct ThisHost {
    pub(crate) images: Images,
    rows: HashMap<RowKey, RowIx>,
    last_row: RowIx,
    /// Rows that were not sent yet.
    waiting: Vec<(RowIx, Box<RowFacts>)>,
    /// The images and the rows that the last sweep left.
    swept: (usize, usize),
    sweeps: u64,
    /// The rows of managed functions, with the sweep before which they were last seen.
    managed: HashMap<RowIx, u64>,
    page: u64,
    hasty: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum RowKey {
    /// A segment of an image under a path.
    Image(ImageIx, u64, Arc<str>),
    /// A file that could not be opened.
    File(Arc<str>, u64),
    /// By the number of the process, not its pid.
    Jit(u32),
    /// A function of a managed program.
    Managed(FunctionKey),
}

impl ThisHost {
    /// Knows nothing yet; files will be read by `loader`.
    pub(crate) fn new(loader: Loader) -> Self {
        let page = rustix::param::page_size() as u64;
        let mut host = Self {
            images: Images::new(loader),
            rows: HashMap::new(),
            last_row: KERNEL_ROW,
            waiting: Vec::new(),
            swept: (0, 0),
            sweeps: 0,
            managed: HashMap::new(),
            page,
            hasty: false,
        };
        let kernel =
            RowFacts { source: Source::Kernel, memory_start: 0, memory_limit: 0, file_offset: 0 };
        host.waiting.push((KERNEL_ROW, Box::new(kernel)));
        host
    }
}

impl ThisHost {
    /// The number of rows that were not sent yet.
    pub(crate) fn rows_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the rows that were not sent yet.
    pub(crate) fn take_rows(&mut self) -> impl Iterator<Item = (RowIx, Box<RowFacts>)> {
        std::mem::take(&mut self.waiting).into_iter()
    }

    /// The row of code that a process wrote itself.
    pub(crate) fn jit_row(&mut self, process: u32, pid: u32) -> RowIx {
        self.row(RowKey::Jit(process), || RowFacts {
            source: Source::Jit { pid },
            memory_start: 0,
            memory_limit: 0,
            file_offset: 0,
        })
    }

    /// A frame of a managed program: which function, and where in it.
    pub(crate) fn managed_frame(
        &mut self,
        key: FunctionKey,
        kind: &'static str,
        position: u32,
    ) -> Frame {
        let is_known = self.rows.contains_key(&RowKey::Managed(key));
        if !is_known && self.managed.len() >= MAX_MANAGED_ROWS {
            return Frame { row: NO_ROW, address: 0 };
        }
        let row = self.row(RowKey::Managed(key), || RowFacts {
            source: Source::Managed { key, kind },
            memory_start: 0,
            memory_limit: 0,
            file_offset: 0,
        });
        self.managed.insert(row, self.sweeps);
        Frame { row, address: position.into() }
    }

    /// Forgets images and rows that no process needs any more; returns the rows.
    pub(crate) fn sweep(&mut self, processes: &Processes) -> Vec<RowIx> {
        let mut mapped = HashSet::new();
        let mut alive = HashSet::new();
        let mut rows = HashSet::new();
        for process in processes.iter() {
            alive.insert(process.id);
            mapped.extend(process.images());
            rows.extend(process.rows());
        }
        let images = self.images.sweep(&mapped);
        let mut forgotten = Vec::new();
        self.sweeps += 1;
        let (used, oldest) = (&self.managed, self.sweeps.saturating_sub(MANAGED_SWEEPS));
        self.rows.retain(|key, row| {
            let keep = match key {
                RowKey::Image(image, ..) => images.contains_key(image),
                RowKey::File(..) => rows.contains(row),
                RowKey::Jit(process) => alive.contains(process),
                RowKey::Managed(key) => {
                    alive.contains(&key.process) && used.get(row).is_some_and(|it| *it >= oldest)
                }
            };
            if !keep {
                forgotten.push(*row);
            }
            keep
        });
        shrink(&mut self.rows);
        for row in &forgotten {
            self.managed.remove(row);
        }
        shrink(&mut self.managed);
        self.swept = (self.images.len(), self.rows.len());
        // What was never sent need not be taken back.
        let gone: HashSet<RowIx> = forgotten.iter().copied().collect();
        let unsent: HashSet<RowIx> = self.waiting.iter().map(|(row, _)| *row).collect();
        self.waiting.retain(|(row, _)| !gone.contains(row));
        forgotten.retain(|row| !unsent.contains(row));
        forgotten
    }

    /// Whether so much is new since the last sweep that the next should not wait.
    pub(crate) fn has_grown(&self) -> bool {
        let (images, rows) = self.swept;
        self.images.len() > images + MANY_IMAGES || self.rows.len() > rows + MANY_ROWS
    }

    /// How many rows there are.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    fn row(&mut self, key: RowKey, facts: impl FnOnce() -> RowFacts) -> RowIx {
        if let Some(row) = self.rows.get(&key) {
            return *row;
        }
        if self.rows.len() >= MAX_ROWS {
            return NO_ROW;
        }
        self.last_row += 1;
        self.rows.insert(key, self.last_row);
        self.waiting.push((self.last_row, Box::new(facts())));
        self.last_row
    }

    fn image_code(&mut self, image: ImageIx, new: &NewMapping<'_>) -> Code {
        let page = self.page;
        let found = self.images.get(image).map(|image| image.identity.segment_at(new.offset, page));
        let Some(Some(segment)) = found else { return self.file_code(new, Some(image)) };
        let shift = segment.offset & (page - 1);
        let svma = new.offset.wrapping_sub(segment.offset).wrapping_add(segment.address);
        let path: Arc<str> = new.path.into();
        let images = &self.images;
        let facts = || {
            let memory_start = segment.address.wrapping_sub(shift);
            let end = segment.address.saturating_add(segment.length);
            RowFacts {
                source: source(images, image, new.pid, &path),
                memory_start,
                memory_limit: end.checked_next_multiple_of(page).unwrap_or(end),
                file_offset: segment.offset.wrapping_sub(shift),
            }
        };
        let key = RowKey::Image(image, segment.offset, Arc::clone(&path));
        // `row` borrows all of the host, so the facts are made first where they are needed.
        let facts = if self.rows.contains_key(&key) { None } else { Some(facts()) };
        let row = self.row(key, || facts.unwrap_or_else(unknown));
        Code::Image { image, bias: new.start.wrapping_sub(svma), row }
    }

    /// A mapped file whose addresses are offsets in it.
    fn file_code(&mut self, new: &NewMapping<'_>, image: Option<ImageIx>) -> Code {
        let path: Arc<str> = new.path.into();
        let source = match image {
            Some(image) => source(&self.images, image, new.pid, &path),
            None => Source::File(FileFacts {
                path: Arc::clone(&path),
                pid: new.pid,
                file: None,
                build_id: match new.file {
                    FileId::Build(id) => Some(hex(id)),
                    FileId::Inode { .. } => None,
                },
                go_build_id: None,
                htlhash: None,
            }),
        };
        let length = new.end - new.start;
        let row = self.row(RowKey::File(path, new.offset), || RowFacts {
            source,
            memory_start: new.offset,
            memory_limit: new.offset.saturating_add(length),
            file_offset: new.offset,
        });
        Code::File { bias: new.start.wrapping_sub(new.offset), row }
    }
}

fn unknown() -> RowFacts {
    RowFacts { source: Source::Kernel, memory_start: 0, memory_limit: 0, file_offset: 0 }
}

fn source(images: &Images, image: ImageIx, pid: u32, path: &Arc<str>) -> Source {
    let Some(image) = images.get(image) else { return Source::Vdso(None) };
    if let Some(memory) = &image.memory {
        return Source::Vdso(Some(memory_of(memory)));
    }
    Source::File(FileFacts {
        path: Arc::clone(path),
        pid,
        file: image.file.clone(),
        build_id: image.identity.build_id.clone(),
        go_build_id: image.identity.go_build_id.clone(),
        htlhash: image.htlhash.clone(),
    })
}

fn memory_of(bytes: &Bytes) -> Arc<[u8]> {
    Arc::from(&**bytes)
}

impl Host for ThisHost {
    fn maps(&mut self, pid: u32) -> Option<String> {
        proc::text(pid, "maps", MAX_MAPS)
    }

    fn stat(&mut self, pid: u32) -> Option<Stat> {
        Stat::read(pid)
    }

    fn executable(&mut self, pid: u32) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(path.to_string_lossy().into_owned())
    }

    fn thread_name(&mut self, pid: u32, tid: u32) -> Option<String> {
        let name = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
    }

    fn was_hasty(&mut self) -> bool {
        std::mem::take(&mut self.hasty)
    }

    fn is_settled(&mut self) -> bool {
        self.images.is_settled()
    }

    fn code(&mut self, new: &NewMapping<'_>) -> Code {
        if new.path == "[vdso]" && new.end <= 1 << 32 {
            // That of a 32-bit process, which is another than ours; no 64-bit one has it there.
            return self.file_code(&NewMapping { path: VDSO_32, ..*new }, None);
        }
        if new.path == "[vdso]" {
            let (start, end) = (new.start, new.end);
            let place = FileMapping { pid: new.pid, start, end, path: new.path.into() };
            let image = self.images.find(&FileKey::Vdso, place);
            self.hasty |= image.is_none() && self.images.is_coming(&FileKey::Vdso);
            return match image {
                Some(image) => self.image_code(image, new),
                None => Code::Jit,
            };
        }
        if let Some(page) = ProbePage::of_name(new.path) {
            return Code::Probe(page, new.start);
        }
        // Memory without a file behind it: code that the process wrote itself.
        let anonymous = matches!(new.file, FileId::Inode { inode: 0, .. });
        let path = new.path.strip_suffix(" (deleted)").unwrap_or(new.path);
        let own = ["//anon", "/dev/zero", "/SYSV", "/anon_hugepage", "anon_inode:"];
        if anonymous || !path.starts_with('/') || own.iter().any(|own| path.starts_with(own)) {
            return Code::Jit;
        }
        let key = match new.file {
            FileId::Build(id) => FileKey::Build(id.into()),
            FileId::Inode { major, minor, inode } => FileKey::Inode { major, minor, inode },
        };
        let new = NewMapping { path, ..*new };
        let (start, end) = (new.start, new.end);
        let place = FileMapping { pid: new.pid, start, end, path: path.into() };
        let image = self.images.find(&key, place);
        self.hasty |= image.is_none() && self.images.is_coming(&key);
        if path.starts_with("/memfd:") {
            // A program may be executed from such memory, but mostly it holds compiled code.
            let program = image.and_then(|image| self.images.get(image));
            if program.is_none_or(|program| program.identity.segments.is_empty()) {
                return Code::Jit;
            }
        }
        match image {
            Some(image) => self.image_code(image, &new),
            None => self.file_code(&new, None),
        }
    }
}
