//! The thread that offers files: one at a time, none while there is no time for names.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use profpipe_engine::component::Setup;
use profpipe_engine::overhead::Overhead;
use profpipe_engine::telemetry::Metrics;
use profpipe_host::elf::inspect;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{OfferError, Offered, OfferedFile, Uploader};
use super::kernel::{KnownKernel, RunningKernel};
use super::{BYTES, FILES};
use crate::symbolize::{BuildId, CompanionFile, Finder};

/// Modules that wait for their turn at most; each is an open file.
const MAX_QUEUED: usize = 256;
/// Those that others were told to send, and that are offered again later, at most.
const MAX_LATER: usize = 256;
/// How often a module is offered again that another was told to send.
const MAX_OFFERS: u32 = 20;
/// How long a gateway that does not answer is left alone, the first time and at most.
const MIN_BACKOFF: Duration = Duration::from_secs(5);
/// See [`MIN_BACKOFF`].
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// How often it is looked whether there is time for names again.
const BUDGET_INTERVAL: Duration = Duration::from_secs(1);

/// A module that the gateway may lack.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) build_id: BuildId,
    /// Where it is, as its process sees it.
    pub(super) path: PathBuf,
    /// A process that has it mapped.
    pub(super) pid: u32,
    pub(super) file: Arc<File>,
}

/// What is sent, and how much of it.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) max_file_size: u64,
    pub(super) bytes_per_minute: u64,
    pub(super) debug_directories: Vec<PathBuf>,
    /// Whether the kernel's symbols are offered.
    pub(super) is_with_kernel: bool,
}

/// The way to the thread; dropped, it ends, whatever it is at.
#[derive(Debug)]
pub(super) struct Handle(Sender<Candidate>);

impl Handle {
    /// Starts the thread.
    ///
    /// # Errors
    /// If that cannot be done.
    pub(super) fn start(
        uploader: Uploader,
        pace: Pace,
        kernel: &Arc<KnownKernel>,
        setup: &Setup,
    ) -> io::Result<Self> {
        let (sender, queue) = channel(MAX_QUEUED);
        let finder = Finder::new(pace.debug_directories.clone());
        let allowance = pace.bytes_per_minute as f64;
        let run = OfferRun {
            uploader,
            pace,
            finder,
            kernel: Arc::clone(kernel),
            overhead: Arc::clone(&setup.services.overhead),
            metrics: Arc::clone(&setup.services.metrics),
            id: setup.id.clone(),
            ready: Vec::new(),
            later: VecDeque::new(),
            allowance,
            allowed_at: Instant::now(),
            backoff: Duration::ZERO,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // It is dropped with the sender that the processor has.
        let end = sender.clone().downgrade();
        std::thread::Builder::new().name("symbol-upload".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = run.run(queue) => {}
                    () = ended(end) => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self(sender))
    }

    /// Hands over a module; false if too many wait.
    pub(super) fn hand_over(&self, candidate: Candidate) -> bool {
        self.0.try_send(candidate).is_ok()
    }
}

/// Returns when the processor is gone.
async fn ended(sender: tokio::sync::mpsc::WeakSender<Candidate>) {
    while sender.strong_count() > 0 {
        sleep(BUDGET_INTERVAL / 5).await;
    }
}

struct OfferRun {
    uploader: Uploader,
    pace: Pace,
    finder: Finder,
    kernel: Arc<KnownKernel>,
    overhead: Arc<Overhead>,
    metrics: Arc<Metrics>,
    id: String,
    /// What is to be offered, with its size.
    ready: Vec<(u64, Candidate)>,
    /// What is offered again, when, and how often it was.
    later: VecDeque<(Instant, u32, Candidate)>,
    /// How many bytes may be sent now; what is below zero is waited for.
    allowance: f64,
    /// When that was so.
    allowed_at: Instant,
    backoff: Duration,
}

impl OfferRun {
    async fn run(mut self, mut queue: Receiver<Candidate>) {
        self.wait_for_budget().await;
        if self.pace.is_with_kernel {
            self.offer_kernel().await;
        }
        while let Some((offers, candidate)) = self.next(&mut queue).await {
            self.wait_for_budget().await;
            self.offer(offers, candidate).await;
        }
    }

    async fn wait_for_budget(&self) {
        while !self.overhead.allows_symbols() {
            sleep(BUDGET_INTERVAL).await;
        }
    }

    /// Finds out which kernel this is, and offers its symbols until the gateway has them or they are another's to send.
    async fn offer_kernel(&mut self) {
        let (kernel, symbols) = match RunningKernel::read() {
            Ok(read) => read,
            Err(error) => {
                tracing::info!("symbol_upload: no symbols of the kernel: {error}");
                return;
            }
        };
        let build_id = kernel.build_id.hex().to_owned();
        let kernel = self.kernel.get_or_init(|| kernel).clone();
        for _ in 0..MAX_OFFERS {
            match self.uploader.ask(&build_id, "kernel", false).await {
                Ok(Some(_)) => return self.count("declined"),
                Ok(None) => {}
                Err(error) => {
                    self.count("failed");
                    self.back_off(&error).await;
                    continue;
                }
            }
            let image = kernel.image(&symbols).and_then(|image| in_memory(&image).ok());
            let Some((file, length)) = image else { return };
            let name = "kernel".to_owned();
            let file = Arc::new(file);
            let offered = OfferedFile { file, length, build_id, name, has_code: false };
            match self.uploader.bring(&offered).await {
                Ok(()) => {
                    self.count("sent");
                    self.metrics.counter(BYTES, &self.id).add(length);
                    self.allowance -= length as f64;
                }
                Err(error) => {
                    self.count("failed");
                    tracing::warn!("symbol_upload: symbols of the kernel are not taken: {error}");
                }
            }
            return;
        }
    }

    /// What is to be offered next, and how often it was: what is due again, then the smallest file, so that
    /// many have their names before a large one is sent. None once the processor is gone.
    async fn next(&mut self, queue: &mut Receiver<Candidate>) -> Option<(u32, Candidate)> {
        loop {
            let now = Instant::now();
            let due = self.later.iter().position(|(at, _, _)| *at <= now);
            if let Some((_, offers, candidate)) = due.and_then(|at| self.later.remove(at)) {
                return Some((offers, candidate));
            }
            while self.ready.len() < MAX_QUEUED
                && let Ok(candidate) = queue.try_recv()
            {
                self.add(candidate);
            }
            let sizes = self.ready.iter().enumerate();
            if let Some((at, _)) = sizes.min_by_key(|(_, (size, _))| *size) {
                return Some((0, self.ready.swap_remove(at).1));
            }
            let first = self.later.iter().map(|(at, _, _)| *at).min();
            tokio::select! {
                candidate = queue.recv() => self.add(candidate?),
                () = wake(first) => {}
            }
        }
    }

    fn add(&mut self, candidate: Candidate) {
        // What cannot be asked is found out when it is offered.
        let size = candidate.file.metadata().map_or(0, |meta| meta.len());
        self.ready.push((size, candidate));
    }

    /// Waits until bytes may be sent.
    async fn wait_for_allowance(&mut self) {
        let most = self.pace.bytes_per_minute as f64;
        loop {
            let now = Instant::now();
            let minutes = (now - self.allowed_at).as_secs_f64() / 60.0;
            self.allowance = (self.allowance + minutes * most).min(most);
            self.allowed_at = now;
            if self.allowance >= 0.0 {
                return;
            }
            sleep(Duration::from_secs_f64((-self.allowance / most * 60.0).clamp(0.1, 60.0))).await;
        }
    }

    /// Offers a module and, if it has no debug information, its debug file.
    async fn offer(&mut self, offers: u32, candidate: Candidate) {
        let Some(first) = self.file(&candidate, Arc::clone(&candidate.file)) else { return };
        let mut files = vec![first.0];
        if !first.1 {
            let wanted = CompanionFile::BuildId(candidate.build_id.clone());
            let found = self.finder.find(wanted, Some(candidate.pid)).into_iter().next();
            let debug = found.and_then(|file| self.file(&candidate, Arc::new(file.into())));
            files.extend(debug.map(|(file, _)| file));
        }
        let mut again = None;
        for file in &files {
            self.wait_for_allowance().await;
            match self.uploader.offer(file).await {
                Ok(Offered::Sent) => {
                    self.backoff = Duration::ZERO;
                    self.count("sent");
                    self.metrics.counter(BYTES, &self.id).add(file.length);
                    tracing::debug!("symbol_upload: sent {} ({})", file.name, file.build_id);
                    self.allowance -= file.length as f64;
                }
                Ok(Offered::Declined(_, after)) => {
                    self.backoff = Duration::ZERO;
                    self.count("declined");
                    again = again.or(after);
                }
                Err(error) if error.is_of_file => {
                    self.count("rejected");
                    tracing::warn!("symbol_upload: {} is not taken: {error}", file.name);
                }
                Err(error) => {
                    self.count("failed");
                    again = Some(Duration::ZERO);
                    self.back_off(&error).await;
                    break;
                }
            }
        }
        if let Some(after) = again
            && offers < MAX_OFFERS
            && self.later.len() < MAX_LATER
        {
            self.later.push_back((Instant::now() + after, offers + 1, candidate));
        }
    }

    /// Leaves the gateway alone for a while, longer each time.
    async fn back_off(&mut self, error: &OfferError) {
        if self.backoff.is_zero() {
            tracing::warn!("symbol_upload: no symbols go to the gateway for now: {error}");
        }
        self.backoff = (self.backoff * 2).clamp(MIN_BACKOFF, MAX_BACKOFF);
        sleep(error.retry_after.unwrap_or_default().max(self.backoff)).await;
    }

    /// What is offered of a file, and whether it has debug information.
    fn file(&self, candidate: &Candidate, file: Arc<File>) -> Option<(OfferedFile, bool)> {
        let length = file.metadata().ok()?.len();
        let found = inspect(&*file).ok()??;
        // The file was overwritten since it was mapped.
        let has_id = found.build_id.as_deref().and_then(BuildId::from_bytes);
        if has_id.as_ref() != Some(&candidate.build_id) {
            return None;
        }
        if length > self.pace.max_file_size {
            self.count("too large");
            return None;
        }
        let name = candidate.path.file_name().map(Path::new).unwrap_or(Path::new(""));
        let offered = OfferedFile {
            file,
            length,
            build_id: candidate.build_id.hex().to_owned(),
            name: name.display().to_string(),
            has_code: found.has_code,
        };
        Some((offered, found.has_debug_info))
    }

    fn count(&self, result: &str) {
        self.metrics.labelled(FILES, &self.id, &[("result", result)]).add(1);
    }
}

/// A file of these bytes that has no place on a disk.
fn in_memory(bytes: &[u8]) -> io::Result<(File, u64)> {
    #[cfg(target_os = "linux")]
    {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("kernel-symbols", flags)?);
        (&file).write_all(bytes)?;
        Ok((file, bytes.len() as u64))
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns at a time; never, if there is none.
async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
