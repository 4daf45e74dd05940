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

use super::image::{FileKey, Image, ImageIx};
use super::rules::Sections;
use super::{cfi, go};
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
    /// Read the unwinding tables of this image. True if it is a Go program.
    Rules(ImageIx, Arc<dyn Content + Send + Sync>, bool),
}

/// What comes back.
pub(crate) enum LoadResponse {
    Opened(FileKey, Option<Box<Image>>),
    Rules(ImageIx, Sections),
    Go(ImageIx, Box<go::Functions>),
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
        LoadRequest::Rules(image, content, false) => {
            let sections =
                Sections::read(&Slowly { content: &*content, work: RefCell::new(&mut *work) });
            work.breathe();
            LoadResponse::Rules(image, trusted(sections, work))
        }
        // Go writes no rules for its own code, and the rules that the C parts of a program have
        // do not cover it.
        LoadRequest::Rules(image, content, true) => {
            let sections =
                Sections::read(&Slowly { content: &*content, work: RefCell::new(&mut *work) });
            work.breathe();
            let text = sections.text.map_or(0, |range| range.start);
            let table = sections.gopclntab.as_deref();
            let functions = table.and_then(|table| go::Functions::read(table, text));
            LoadResponse::Go(image, Box::new(functions.unwrap_or_default()))
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

/// Leaves out the sections that may not be used.
fn trusted(mut sections: Sections, work: &mut Work) -> Sections {
    if let Some((range, rules)) = &sections.eh_frame {
        let frames = cfi::check(rules, cfi::Kind::EhFrame, &mut || work.breathe());
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
        && cfi::check(rules, cfi::Kind::DebugFrame, &mut || work.breathe()).is_none()
    {
        sections.debug_frame = None;
    }
    sections
}

/// Opens a mapped file and makes sure that it is the one that the kernel named.
fn open(key: &FileKey, place: &FileMapping) -> Option<Image> {
    let FileMapping { pid, start, end, path } = place;
    // Exact even if the file was deleted or replaced, or lies in another mount namespace; needs a
    // capability. Then through the process's own root; then, for a process that is gone, ours.
    let candidates = [
        format!("/proc/{pid}/map_files/{start:x}-{end:x}"),
        format!("/proc/{pid}/root{path}"),
        path.to_string(),
    ];
    for (at, candidate) in candidates.iter().enumerate() {
        let Ok(file) = open_regular(candidate) else { continue };
        let Some(image) = read(file, path) else { continue };
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

fn read(file: File, path: &str) -> Option<Image> {
    let hash = htlhash(&file);
    // Not ELF: code may be mapped from any file.
    let identity = Identity::read(&file).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut image = Image::new(identity, hash);
    image.loader = name.starts_with("ld-") || name.starts_with("ld.so") || name == "ld64.so.2";
    image.file = Some(Arc::new(file));
    Some(image)
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
