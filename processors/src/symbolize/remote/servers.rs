//! Asks debuginfod servers for a file, one after the other.
//!
//! What a server sends is written to a file as it comes, counted, and used only if it is whole and
//! has the build id that was asked for. A server that does not answer is left alone for a while,
//! longer each time. Redirects are not followed.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use profpipe_host::elf::{Whole, inspect};
use profpipe_host::hex;
use profpipe_network::client::{Client, ClientError, Endpoint, Request, Stream};

use super::super::answer::Reason;
use super::super::build_id::BuildId;
use super::disk::{Disk, Temporary};
use super::{Counts, FileKind};

/// How long a server that does not answer is left alone, the first time and at most.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// See [`MIN_BACKOFF`].
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How large a file may be, for servers that unpack archives.
const MAX_SIZE_HEADER: &str = "x-debuginfod-maxsize";
/// How large the file is.
const SIZE_HEADER: &str = "x-debuginfod-size";

/// What is known about the servers.
#[derive(Debug, Clone)]
pub(in super::super) struct ServerSettings {
    /// Where they are, in the order in which they are asked.
    pub(in super::super) endpoints: Vec<Endpoint>,
    /// How long one file may take.
    pub(in super::super) timeout: Duration,
    /// How large one file may be.
    pub(in super::super) max_file_size: u64,
    /// How many files are fetched at a time.
    pub(in super::super) concurrency: usize,
}

/// The servers.
#[derive(Debug)]
pub(super) struct Servers {
    settings: ServerSettings,
    client: Client,
    /// For each, how it has been.
    backoffs: Mutex<Vec<ServerBackoff>>,
    counts: Counts,
}

/// How a server has been.
#[derive(Debug, Default, Clone, Copy)]
struct ServerBackoff {
    pause: Duration,
    until: Option<Instant>,
}

/// A file that is what it should be.
pub(super) struct Fetched<'d> {
    pub(super) file: Temporary<'d>,
    pub(super) found: Whole,
    pub(super) bytes: u64,
}

/// What one server said.
enum FetchOutcome<'d> {
    Complete(Box<Fetched<'d>>),
    /// Something else, after so many bytes.
    Failed(Reason, u64),
}

impl Servers {
    pub(super) fn new(settings: ServerSettings, client: Client, counts: Counts) -> Self {
        let backoffs = Mutex::new(vec![ServerBackoff::default(); settings.endpoints.len()]);
        Self { settings, client, backoffs, counts }
    }

    /// Asks the servers for a file, and writes it to the disk.
    ///
    /// # Errors
    /// Why none of them has it, and how many bytes came all the same.
    pub(super) async fn fetch<'d>(
        &self,
        build_id: &BuildId,
        kind: FileKind,
        disk: &'d Disk,
    ) -> Result<Fetched<'d>, (Reason, u64)> {
        // What is sure before what may change: a server that is away may have the file.
        let mut reason = Reason::NotFound;
        let mut bytes = 0;
        for (at, endpoint) in self.settings.endpoints.iter().enumerate() {
            if !self.is_awake(at) {
                reason = worse(reason, Reason::Unavailable);
                continue;
            }
            let path = format!("/buildid/{build_id}/{}", kind.name());
            let asked = self.ask(at, endpoint, &path, build_id, disk);
            match asked.await {
                FetchOutcome::Complete(mut fetched) => {
                    fetched.bytes += bytes;
                    return Ok(*fetched);
                }
                FetchOutcome::Failed(why, came) => {
                    bytes += came;
                    reason = worse(reason, why);
                }
            }
        }
        Err((reason, bytes))
    }

    async fn ask<'d>(
        &self,
        at: usize,
        endpoint: &Endpoint,
        path: &str,
        build_id: &BuildId,
        disk: &'d Disk,
    ) -> FetchOutcome<'d> {
        let log = |what: &dyn std::fmt::Display| {
            tracing::debug!("symbolize: {endpoint}{path}: {what}");
        };
        let Ok(uri) = endpoint.uri(path) else { return FetchOutcome::Failed(Reason::NotFound, 0) };
        let mut request = Request::get(uri);
        request.timeout = Some(self.settings.timeout);
        request.headers.insert(MAX_SIZE_HEADER, HeaderValue::from(self.settings.max_file_size));
        let deadline = tokio::time::Instant::now() + self.settings.timeout;
        let mut stream = match self.client.open(request).await {
            Ok(stream) => stream,
            Err(error) => {
                self.note_trouble(at, endpoint, &error);
                return FetchOutcome::Failed(Reason::Unavailable, 0);
            }
        };
        match stream.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => {
                self.note_answer(at);
                return FetchOutcome::Failed(Reason::NotFound, 0);
            }
            // The file is larger than we asked for.
            StatusCode::NOT_ACCEPTABLE | StatusCode::PAYLOAD_TOO_LARGE => {
                self.note_answer(at);
                return FetchOutcome::Failed(Reason::Limit, 0);
            }
            status => {
                self.note_trouble(at, endpoint, &format!("it answered {status}"));
                return FetchOutcome::Failed(Reason::Unavailable, 0);
            }
        }
        self.note_answer(at);
        let stated =
            stream.headers.get(SIZE_HEADER).and_then(|size| size.to_str().ok()?.parse().ok());
        let stated: Option<u64> = stated.or(stream.length());
        if stated.is_some_and(|size| size > self.settings.max_file_size) {
            log(&"is larger than max_file_size");
            return FetchOutcome::Failed(Reason::Limit, 0);
        }
        let mut temporary = match disk.create() {
            Ok(temporary) => temporary,
            Err(error) => {
                tracing::warn!("symbolize: cannot write into the cache directory: {error}");
                return FetchOutcome::Failed(Reason::Unavailable, 0);
            }
        };
        let mut bytes = 0;
        let copying = self.copy(&mut stream, &mut temporary, &mut bytes);
        let copied = tokio::time::timeout_at(deadline, copying).await;
        self.counts.received(bytes);
        match copied.unwrap_or_else(|_| Err((Reason::Unavailable, "took too long".into()))) {
            Ok(()) if stated.is_some_and(|stated| stated != bytes) => {
                log(&"is not as long as the server says");
                return FetchOutcome::Failed(Reason::Unreadable, bytes);
            }
            Ok(()) => {}
            Err((reason, problem)) => {
                log(&problem);
                return FetchOutcome::Failed(reason, bytes);
            }
        }
        match inspect(&temporary.file) {
            Ok(Some(found)) if found.build_id.as_deref().is_some_and(|id| build_id.is(id)) => {
                FetchOutcome::Complete(Box::new(Fetched { file: temporary, found, bytes }))
            }
            Ok(Some(found)) => {
                let has = found.build_id.map_or_else(|| "none".to_owned(), |id| hex(&id));
                tracing::warn!("symbolize: {endpoint}{path} has another build id: {has}");
                FetchOutcome::Failed(Reason::WrongBuildId, bytes)
            }
            Ok(None) => {
                tracing::warn!("symbolize: {endpoint}{path} is not a whole ELF file");
                FetchOutcome::Failed(Reason::Unreadable, bytes)
            }
            Err(error) => {
                tracing::warn!("symbolize: cannot read in the cache directory: {error}");
                FetchOutcome::Failed(Reason::Unavailable, bytes)
            }
        }
    }

    async fn copy(
        &self,
        stream: &mut Stream,
        to: &mut Temporary<'_>,
        bytes: &mut u64,
    ) -> Result<(), (Reason, String)> {
        let broken = |error: ClientError| (Reason::Unavailable, error.to_string());
        while let Some(piece) = stream.piece().await.map_err(broken)? {
            *bytes += piece.len() as u64;
            if *bytes > self.settings.max_file_size {
                return Err((Reason::Limit, "is larger than max_file_size".to_owned()));
            }
            to.file.write_all(&piece).map_err(|error| {
                tracing::warn!("symbolize: cannot write into the cache directory: {error}");
                (Reason::Unavailable, error.to_string())
            })?;
        }
        Ok(())
    }

    /// True if a server is not being left alone.
    fn is_awake(&self, at: usize) -> bool {
        let backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        backoffs
            .get(at)
            .and_then(|backoff| backoff.until)
            .is_none_or(|until| until <= Instant::now())
    }

    fn note_answer(&self, at: usize) {
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backoff) = backoffs.get_mut(at) {
            *backoff = ServerBackoff::default();
        }
    }

    fn note_trouble(&self, at: usize, endpoint: &Endpoint, what: &dyn std::fmt::Display) {
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(backoff) = backoffs.get_mut(at) else { return };
        let now = Instant::now();
        // Of several requests that fail at once the first counts.
        if backoff.until.is_some_and(|until| until > now) {
            return;
        }
        backoff.pause = (backoff.pause * 2).clamp(MIN_BACKOFF, MAX_BACKOFF);
        backoff.until = Some(now + backoff.pause);
        if backoff.pause == MIN_BACKOFF {
            tracing::warn!("symbolize: no debug files from {endpoint} for now: {what}");
        }
    }
}

/// Of two reasons the one that says more about a file that no server sent.
fn worse(one: Reason, other: Reason) -> Reason {
    let rank = |reason| match reason {
        Reason::NotFound => 0,
        Reason::Limit => 1,
        Reason::Unreadable => 2,
        Reason::WrongBuildId => 3,
        // It may be there another time.
        _ => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}
