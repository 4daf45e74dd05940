//! Files of modules that are not on this host, by build id: from a cache on disk, from debuginfod
//! servers.
//!
//! A thread of its own with a small runtime does the waiting; `Remote::ask` returns at once and
//! the answer comes through a function. A file is fetched once however many ask for it, so many at
//! a time, and no tenant can have more fetched than its allowance.
//!
//! # Layout
//! - `config`: what users type.
//! - `library`: one file: the cache, else one fetch for all who want it.
//! - `servers`: asks the servers in turn.
//! - `disk`: the cache. `tenants`, `slots`: who may have how much, and when.

pub mod config;
mod disk;
mod library;
mod servers;
mod slots;
mod tenants;
#[cfg(test)]
pub(super) mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

use profpipe_engine::telemetry::{Metrics, names};
use profpipe_network::client::Client;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::answer::Reason;
use super::build_id::BuildId;

pub(super) use self::disk::DiskSettings;
use self::library::Library;
pub(super) use self::servers::ServerSettings;
pub(super) use self::tenants::Allowance;

/// Which of a module's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FileKind {
    /// What runs.
    Executable,
    /// Its debug information.
    Debuginfo,
}

impl FileKind {
    const ALL: [Self; 2] = [Self::Executable, Self::Debuginfo];

    /// The last part of its URL.
    fn name(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Debuginfo => "debuginfo",
        }
    }
}

/// A request for the files of a module.
#[derive(Debug, Clone)]
pub(super) struct FileRequest {
    /// Which module.
    pub(super) build_id: BuildId,
    /// The executable is wanted.
    pub(super) executable: bool,
    /// The debug information is wanted, unless the executable has it.
    pub(super) debuginfo: bool,
    /// For whom.
    pub(super) tenant: Arc<str>,
}

/// The files of a module, or why they are not there.
#[derive(Debug, Clone)]
pub(super) struct Provision {
    /// What runs.
    pub(super) executable: Result<Arc<File>, Reason>,
    /// Its debug information, if it was wanted and the executable has none.
    pub(super) debuginfo: Result<Arc<File>, Reason>,
}

/// What there is if something went wrong here.
const NOTHING: Provision =
    Provision { executable: Err(Reason::Unavailable), debuginfo: Err(Reason::Unavailable) };

impl Provision {
    /// Why there is nothing, or not everything: what may be different soon before what is lasting.
    pub(super) fn reason(&self) -> Reason {
        let reasons = [&self.executable, &self.debuginfo].map(|file| file.as_ref().err().copied());
        let mut reasons = reasons.into_iter().flatten();
        reasons
            .clone()
            .find(|reason| *reason != Reason::NotFound)
            .or(reasons.next())
            .unwrap_or(Reason::NotFound)
    }

    /// True if something is missing that may be there another time.
    pub(super) fn is_partial(&self) -> bool {
        let missing = |file: &Result<Arc<File>, Reason>| {
            file.as_ref().is_err_and(|reason| *reason != Reason::NotFound)
        };
        missing(&self.executable) || missing(&self.debuginfo)
    }
}

/// How files are found.
pub(super) struct Settings {
    /// The servers.
    pub(super) servers: ServerSettings,
    /// What asks them.
    pub(super) client: Client,
    /// The cache.
    pub(super) disk: DiskSettings,
    /// What each tenant may have fetched.
    pub(super) allowance: Allowance,
}

/// The way to the thread that finds files. Dropped, it ends.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    file_requests: UnboundedSender<(u64, FileRequest)>,
}

impl Remote {
    /// Starts the thread. Each answer goes to `answer`, with the number of the request.
    ///
    /// # Errors
    /// If the cache cannot be used or no thread be started.
    pub(super) fn start(
        settings: Settings,
        (metrics, id): (&Arc<Metrics>, &str),
        answer: impl Fn(u64, Provision) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let counts = Counts { metrics: Arc::clone(metrics), id: id.to_owned() };
        let library = Arc::new(Library::open(settings, counts)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()?;
        let (file_requests, queue) = unbounded_channel();
        let answer = Arc::new(answer);
        std::thread::Builder::new().name("debuginfod".into()).spawn(move || {
            runtime.block_on(serve(library, queue, answer));
            // What is under way is given up, and cleans up behind itself.
            runtime.shutdown_background();
        })?;
        Ok(Self { file_requests })
    }

    /// Asks for files; the answer has this number.
    pub(super) fn ask(&self, number: u64, request: FileRequest) {
        // Without the thread no answer comes, and batches go on when their time is up.
        let _ = self.file_requests.send((number, request));
    }
}

async fn serve(
    library: Arc<Library>,
    mut queue: UnboundedReceiver<(u64, FileRequest)>,
    answer: Arc<impl Fn(u64, Provision) + Send + Sync + 'static>,
) {
    while let Some((number, request)) = queue.recv().await {
        let (library, answer) = (Arc::clone(&library), Arc::clone(&answer));
        // A task of its own: whatever becomes of it, who asks gets an answer.
        let provided = tokio::spawn(async move { library.provide(request).await });
        tokio::spawn(async move { answer(number, provided.await.unwrap_or(NOTHING)) });
    }
}

/// What is counted.
#[derive(Debug, Clone)]
struct Counts {
    metrics: Arc<Metrics>,
    id: String,
}

impl Counts {
    /// A file was asked of the servers; how that ended.
    fn fetched(&self, result: &str) {
        self.metrics.labelled(names::DEBUGINFOD_FILES, &self.id, &[("result", result)]).add(1);
    }

    /// Bytes came.
    fn received(&self, bytes: u64) {
        self.metrics.counter(names::DEBUGINFOD_BYTES, &self.id).add(bytes);
    }

    /// The cache was asked.
    fn looked_up(&self, result: &str) {
        self.metrics.labelled(names::SYMBOL_CACHE_LOOKUPS, &self.id, &[("result", result)]).add(1);
    }

    /// What is in the cache.
    fn kept(&self, bytes: u64) {
        self.metrics.counter(names::SYMBOL_CACHE_BYTES, &self.id).set(bytes);
    }
}
