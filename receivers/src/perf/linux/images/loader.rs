//! The loader thread: opens and reads the files of others, which may take long.
//!
//! A file may lie on a file system that is slow or hangs, and its tables may be large. The drain
//! thread asks here and waits, but only so long that the rings do not overflow; what comes later
//! serves later samples.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use profpipe_engine::overhead::{Overhead, Stage, Work};
use profpipe_engine::telemetry::Counter;

use super::cfi::{self, Kind};
use super::frame_table::{self, FrameTable, Search, Storage};
use super::go;
use super::image::{FileKey, Image, ImageIx};
use super::sections::Sections;
use profpipe_host::content::Content;
use profpipe_host::elf::{Identity, htlhash};
use profpipe_host::{hex, proc};

use crate::perf::linux::thread;

/// The most requests under way.
const MAX_REQUESTS: usize = 4096;

/// What the thread is asked for.
pub(crate) enum LoadRequest {
    /// Open the file that is mapped there, and read who it is.
    Open(FileKey, FileMapping),
    /// Read the unwinding tables of this image.
    Rules(ImageIx, Arc<dyn Content + Send + Sync>),
}

/// What comes back.
pub(crate) enum LoadResponse {
    Opened(FileKey, Option<Box<Image>>),
    Rules(ImageIx, Box<ReadTables>),
}

/// The unwinding tables of an image.
#[derive(Default)]
pub(crate) struct ReadTables {
    /// The sections that are held and may be used.
    pub(crate) sections: Sections,
    /// All of its call frame information.
    pub(crate) frames: Vec<FrameTable>,
    /// The functions of a Go program.
    pub(crate) go: Option<go::Functions>,
}

/// Where in the memory of which process a file is mapped.
#[derive(Debug, Clone)]
pub(crate) struct FileMapping {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) path: Box<str>,
}

/// The way to the thread, which ends when this is dropped.
pub(crate) struct Loader {
    requests: mpsc::SyncSender<LoadRequest>,
    responses: mpsc::Receiver<LoadResponse>,
    /// How long may be waited for responses in a second, and how much of it is left.
    wait_per_second: Duration,
    left: Duration,
    renewed: Instant,
}

impl Loader {
    /// Starts the thread. `wait_per_second` is how long [`Self::wait`] may take in a second, in all.
    pub(crate) fn start(
        wait_per_second: Duration,
        cpu: Counter,
        overhead: Arc<Overhead>,
    ) -> std::io::Result<Self> {
        let (requests, asked) = mpsc::sync_channel(MAX_REQUESTS);
        let (response, responses) = mpsc::channel();
        std::thread::Builder::new().name("perf-load".into()).spawn(move || {
            thread::prefer();
            for request in asked {
                let mut work = Work::in_turn(&overhead, Stage::Load);
                if response.send(reply(request, &mut work)).is_err() {
                    return;
                }
                drop(work);
                cpu.set(thread::thread_cpu_time());
            }
        })?;
        let renewed = Instant::now();
        Ok(Self { requests, responses, wait_per_second, left: wait_per_second, renewed })
    }

    /// Asks; false if too much is under way.
    pub(crate) fn ask(&self, request: LoadRequest) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// A response that is there.
    pub(crate) fn poll(&self) -> Option<LoadResponse> {
        self.responses.try_recv().ok()
    }

    /// The next response, if it comes within what is left of this second.
    pub(crate) fn wait(&mut self) -> Option<LoadResponse> {
        let began = Instant::now();
        if began - self.renewed > Duration::from_secs(1) {
            self.renewed = began;
            self.left = self.wait_per_second;
        }
        let response = self.responses.recv_timeout(self.left).ok();
        self.left = self.left.saturating_sub(began.elapsed());
        response
    }
}

fn reply(request: LoadRequest, work: &mut Work) -> LoadResponse {
    match request {
        LoadRequest::Open(key, place) => {
            let image = if key == FileKey::Vdso { vdso() } else { open(&key, &place) };
            LoadResponse::Opened(key, image.map(Box::new))
        }
        LoadRequest::Rules(image, content) => {
            let sections =
                Sections::read(&Slowly { content: &*content, work: RefCell::new(&mut *work) });
            work.breathe();
            LoadResponse::Rules(image, Box::new(tables(sections, content, work)))
        }
    }
}

/// How much is read at once.
const CHUNK: usize = 128 << 10;

/// A file that is read piece by piece, as there is budget for it.
struct Slowly<'a> {
    content: &'a (dyn Content + Send + Sync),
    work: RefCell<&'a mut Work>,
}

impl Content for Slowly<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut done = 0;
        for chunk in buffer.chunks_mut(CHUNK) {
            if done > 0 {
                self.work.borrow_mut().breathe();
            }
            let read = self.content.read_at(chunk, offset + done as u64)?;
            done += read;
            if read < chunk.len() {
                break;
            }
        }
        Ok(done)
    }

    fn length(&self) -> std::io::Result<u64> {
        self.content.length()
    }
}

/// Makes tables of the sections that may be used; the others are left out.
fn tables(
    mut sections: Sections,
    content: Arc<dyn Content + Send + Sync>,
    work: &mut Work,
) -> ReadTables {
    let mut frames = Vec::new();
    // The rules that the C parts of a Go program have do not cover its own code, and it has none.
    let go = sections.gopclntab.take().and_then(|table| {
        let text = sections.go_text.or(sections.text.as_ref().map(|range| range.start));
        go::Functions::read(&table, text.unwrap_or(0)).filter(|functions| !functions.is_empty())
    });
    work.breathe();
    if let Some((range, rules)) = &sections.eh_frame {
        let checked = cfi::check(rules, Kind::EhFrame, &mut || work.breathe());
        let linked = sections.eh_frame_hdr.take().filter(|(header, search)| {
            let search = (header.start, &**search);
            checked.as_ref().is_some_and(|entries| cfi::check_search(search, range.start, entries))
        });
        let search = match (&checked, &linked) {
            (None, _) => None,
            (_, Some((range, bytes))) => Some(Search::Linked(range.start, bytes.clone())),
            (_, None) => {
                frame_table::search(rules, range.start, Kind::EhFrame, &mut || work.breathe())
            }
        };
        sections.eh_frame_hdr = linked;
        frames.extend(search.map(|search| FrameTable {
            kind: Kind::EhFrame,
            address: range.start,
            storage: Storage::Held(rules.clone()),
            search,
        }));
        if frames.is_empty() {
            (sections.eh_frame, sections.eh_frame_hdr) = (None, None);
        }
    } else if let Some((range, offset)) = sections.large_eh_frame.take()
        && let Some((header, bytes)) = sections.eh_frame_hdr.take()
    {
        frames.push(FrameTable {
            kind: Kind::EhFrame,
            address: range.start,
            storage: Storage::File(content, offset, range.end.saturating_sub(range.start)),
            search: Search::Linked(header.start, bytes),
        });
    }
    if let Some(rules) = sections.debug_frame.take()
        && cfi::check(&rules, Kind::DebugFrame, &mut || work.breathe()).is_some()
        && let Some(search) =
            frame_table::search(&rules, 0, Kind::DebugFrame, &mut || work.breathe())
    {
        let (kind, storage) = (Kind::DebugFrame, Storage::Held(rules));
        frames.push(FrameTable { kind, address: 0, storage, search });
    }
    ReadTables { sections, frames, go }
}

/// Opens a mapped file and makes sure that it is the one that the kernel named.
fn open(key: &FileKey, place: &FileMapping) -> Option<Image> {
    let FileMapping { pid, start, end, path } = place;
    // Exact even if the file was deleted or replaced, or lies in another mount namespace; needs a
    // capability. The executable can be had so without. Then through the process's own root; then,
    // for a process that is gone, ours.
    let executable = format!("/proc/{pid}/exe");
    let is_executable = std::fs::read_link(&executable).is_ok_and(|link| {
        let link = link.to_string_lossy();
        link.strip_suffix(" (deleted)").unwrap_or(&link) == &**path
    });
    let candidates = [
        format!("/proc/{pid}/map_files/{start:x}-{end:x}"),
        if is_executable { executable } else { String::new() },
        format!("/proc/{pid}/root{path}"),
        path.to_string(),
    ];
    for (at, candidate) in candidates.iter().enumerate() {
        let Ok(file) = open_regular(candidate) else { continue };
        let image = read(file);
        let exact = at == 0;
        let same = match key {
            FileKey::Build(id) => image.identity.build_id.as_deref() == Some(&*hex(id)),
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

fn read(file: File) -> Image {
    // Before it is read: what is written to it meanwhile shows.
    let stamp = super::image::stamp(&file);
    let hash = htlhash(&file);
    // Not ELF: code may be mapped from any file.
    let identity = Identity::read(&file).unwrap_or_default();
    let mut image = Image::new(identity, hash);
    image.file = Some(Arc::new(file));
    image.stamp = stamp;
    image
}

/// The vdso of this process, which every 64-bit process of the host shares.
fn vdso() -> Option<Image> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = proc::executable(&maps).find(|line| line.path == "[vdso]")?;
    let length = usize::try_from(line.end - line.start).ok().filter(|length| *length < 1 << 20)?;
    let mut bytes = vec![0; length];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, line.start).ok()?;
    let mut image = Image::new(Identity::read(&bytes[..])?, None);
    image.memory = Some(bytes.into());
    Some(image)
}
