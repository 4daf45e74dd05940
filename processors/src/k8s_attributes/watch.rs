//! Keeping up with the objects of one kind: a list, then a watch from where the list was made.
//!
//! As the API wants it: pages by `continue`, from the version of the list a watch with bookmarks; a
//! watch that ends goes on from the last version; `410 Gone` means a new list. Everything that fails
//! is tried again after a while that grows, with a random part. Nothing that the server sends is
//! kept whole but one page or one event, each of bounded size.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use profpipe_engine::component::Error;
use profpipe_engine::telemetry::Counter;
use profpipe_network::client::{Stream, printable, retry_after};

use super::access::Access;
use super::objects::{Event, Kind, Page, Raw};
use super::rules::ExtractRules;
use super::store::Store;

/// Objects of a page.
const PAGE: usize = 500;
/// The largest page, and the largest event. An object of more than 1.5 MiB does not fit into etcd.
const MAX_PAGE: usize = 64 << 20;
const MAX_EVENT: usize = 4 << 20;
/// Pages of a list.
const MAX_PAGES: usize = 1000;
/// How long a page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long things take; tests are in a hurry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The first pause after a failure; it doubles.
    pub(super) first: Duration,
    /// The longest.
    pub(super) longest: Duration,
    /// How long the server may keep a watch open.
    pub(super) watch: Duration,
    /// How much longer than that nothing may come.
    pub(super) silence: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            watch: Duration::from_secs(300),
            silence: Duration::from_secs(30),
        }
    }
}

/// What the watches of all kinds share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) access: Access,
    pub(super) wanted: ExtractRules,
    pub(super) store: Mutex<Store>,
    /// Changes with every change of the store.
    pub(super) changes: Counter,
    pub(super) events: Counter,
    pub(super) lists: Counter,
    pub(super) failures: Counter,
    pub(super) pods: Counter,
    pub(super) pace: Pace,
    pub(super) id: String,
}

impl Shared {
    pub(super) fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The objects of one kind, and which of them.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) shared: Arc<Shared>,
    pub(super) kind: Kind,
    /// The path, up to the question mark.
    pub(super) path: String,
    /// What the query begins with, such as `fieldSelector=…&`.
    pub(super) selectors: String,
    /// The first list may be an old one, as long as it is cheap: of one node.
    pub(super) from_cache: bool,
    /// Says what was refused for want of room once.
    pub(super) has_complained: bool,
}

/// Why asking did not go on.
#[derive(Debug)]
enum Failure {
    /// What the server knows no more, or tells so that it cannot be read: list anew.
    Gone,
    /// It ended at once.
    Short,
    /// Try again, at the earliest after this.
    Again(Error, Option<Duration>),
    /// Not allowed, or no such thing: try again, but nobody should wait for it.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Again(error, None)
    }
}

impl Watcher {
    /// Runs for ever.
    pub(super) async fn run(mut self) {
        let mut pause = Pause::new(self.shared.pace);
        let mut version: Option<String> = None;
        loop {
            let began = Instant::now();
            let outcome = match version.clone() {
                None => self.list().await.map(|listed| version = Some(listed)),
                Some(from) => match self.watch(from, &mut version).await {
                    // That is how it should be; one that ends at once is no better than an error.
                    Ok(()) if began.elapsed() < pause.pace.first * 10 => Err(Failure::Short),
                    other => other,
                },
            };
            if outcome.is_err() && began.elapsed() >= pause.pace.first * 10 {
                pause.reset();
            }
            match outcome {
                Ok(()) => {}
                Err(Failure::Short) => pause.wait(None).await,
                Err(Failure::Gone) => {
                    version = None;
                    pause.wait(None).await;
                }
                Err(Failure::Again(error, after)) => {
                    self.tell(&error);
                    pause.wait(after).await;
                }
                Err(Failure::Refused(error)) => {
                    self.tell(&error);
                    self.shared.store().set_failing(self.kind, true);
                    self.shared.changes.add(1);
                    pause.wait(Some(pause.pace.longest / 2)).await;
                }
            }
        }
    }

    fn tell(&self, error: &Error) {
        self.shared.failures.add(1);
        let (id, noun) = (&self.shared.id, self.kind.plural());
        tracing::warn!("processors::{id}: {noun} of the Kubernetes API: {}", error.chain());
    }

    /// From the same version on the server would tell the same again; what it tells is in a list.
    fn unreadable(&self, error: &Error) -> Failure {
        self.tell(error);
        Failure::Gone
    }

    /// Asks for everything; returns the version from which to watch.
    async fn list(&mut self) -> Result<String, Failure> {
        self.shared.lists.add(1);
        self.shared.store().begin_list(self.kind);
        let mut next = String::new();
        let mut version = String::new();
        for _ in 0..MAX_PAGES {
            let mut path = format!("{}?{}limit={PAGE}", self.path, self.selectors);
            if std::mem::take(&mut self.from_cache) {
                path.push_str("&resourceVersion=0");
            }
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", escaped(&next)));
            }
            let stream = self.open(&path, "List").await?;
            let body = tokio::time::timeout(PAGE_TIMEOUT, whole(stream)).await;
            let body = body.map_err(|_| Error::new("a list took longer than a minute"))??;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|cause| Error::with_source("the response is not a list", cause))?;
            for object in page.items {
                self.put(object);
            }
            // Later pages repeat it; those of old servers may not have it.
            if !page.metadata.version.is_empty() {
                version = page.metadata.version;
            }
            next = page.metadata.next;
            if next.is_empty() {
                break;
            }
        }
        let mut store = self.shared.store();
        store.end_list(self.kind, Instant::now());
        self.changed(&store);
        Ok(version)
    }

    fn changed(&self, store: &Store) {
        if self.kind == Kind::Pod {
            self.shared.pods.set(store.count(Kind::Pod) as u64);
        }
        self.shared.changes.add(1);
    }

    fn put(&mut self, object: Raw) {
        let wanted = &self.shared.wanted;
        if self.kind == Kind::Pod && wanted.excludes(object.name()) {
            return;
        }
        let object = object.keep(self.kind, wanted);
        if !self.shared.store().put(self.kind, object) && !self.has_complained {
            self.has_complained = true;
            let (id, noun) = (&self.shared.id, self.kind.plural());
            tracing::warn!(
                "processors::{id}: the cluster has more {noun} than can be kept; set `filter`"
            );
        }
    }

    /// Follows changes from a version on; `version` is how far it came.
    async fn watch(&mut self, from: String, version: &mut Option<String>) -> Result<(), Failure> {
        let pace = self.shared.pace;
        // Not all agents of a cluster at once.
        let seconds = (pace.watch.as_secs_f64() * (1.0 + random())).round().max(1.0);
        let path = format!(
            "{}?{}watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}",
            self.path,
            self.selectors,
            escaped(&from)
        );
        let mut stream = self.open(&path, "").await?;
        let mut lines = Lines::default();
        let silence = Duration::from_secs_f64(seconds) + pace.silence;
        loop {
            let piece = tokio::time::timeout(silence, stream.piece()).await;
            let piece = piece.map_err(|_| Error::new("nothing came for too long"))?;
            let Some(piece) = piece.map_err(|error| error.into_cause())? else {
                return Ok(());
            };
            lines.push(&piece);
            while let Some(line) = lines.next().map_err(|error| self.unreadable(&error))? {
                if let Some(now) = self.event(&line)? {
                    *version = Some(now);
                }
            }
        }
    }

    /// Takes one event; returns the version that it brings.
    fn event(&mut self, line: &[u8]) -> Result<Option<String>, Failure> {
        let event: Event = serde_json::from_slice(line).map_err(|cause| {
            self.unreadable(&Error::with_source("an event cannot be read", cause))
        })?;
        let Event { kind, object } = event;
        let version = Some(object.metadata.resource_version.clone());
        let version = version.filter(|version| !version.is_empty());
        match kind.as_str() {
            "ADDED" | "MODIFIED" => {
                self.put(object);
                let store = self.shared.store();
                self.changed(&store);
            }
            "DELETED" => {
                let object = object.keep(self.kind, &self.shared.wanted);
                let mut store = self.shared.store();
                store.remove(self.kind, &object.uid, Instant::now());
                self.changed(&store);
            }
            "BOOKMARK" => {}
            "ERROR" => {
                return Err(match object.code {
                    Some(410) => Failure::Gone,
                    code => {
                        let text = printable(object.message.unwrap_or_default().as_bytes());
                        let code = code.unwrap_or_default();
                        Error::new(format!("the watch ended with {code}: {text}")).into()
                    }
                });
            }
            // What newer servers may send.
            _ => return Ok(None),
        }
        self.shared.events.add(1);
        Ok(version)
    }

    /// Asks; anything but success is a failure.
    async fn open(&self, path: &str, list: &str) -> Result<Stream, Failure> {
        // Of all but pods the metadata are enough, which servers send alone if asked.
        let accept = match (self.kind, list) {
            (Kind::Pod, _) => "application/json",
            (_, "List") => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"
            }
            _ => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json",
        };
        let stream = self.shared.access.get(path, accept).await?;
        if stream.status.is_success() {
            return Ok(stream);
        }
        let noun = self.kind.plural();
        let hint = match stream.status {
            StatusCode::GONE => return Err(Failure::Gone),
            StatusCode::UNAUTHORIZED => "; the token is not accepted".to_owned(),
            StatusCode::FORBIDDEN => {
                format!("; the service account needs to `get`, `list` and `watch` {noun}")
            }
            _ => String::new(),
        };
        let status = stream.status;
        let after = retry_after(&stream.headers, std::time::SystemTime::now());
        let error = Error::new(format!("it answered {status}{hint}"));
        Err(match status {
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Failure::Refused(error),
            _ => Failure::Again(error, after),
        })
    }
}

/// The whole of an answer.
async fn whole(mut stream: Stream) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = stream.piece().await.map_err(|error| error.into_cause())? {
        if body.len() + piece.len() > MAX_PAGE {
            return Err(Error::new(format!("a list is larger than {MAX_PAGE} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
struct Lines {
    rest: BytesMut,
    /// Bytes of `rest` that hold no line end.
    seen: usize,
}

impl Lines {
    fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole line.
    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let end =
                self.rest.get(self.seen..).unwrap_or_default().iter().position(|b| *b == b'\n');
            let Some(end) = end else {
                self.seen = self.rest.len();
                if self.rest.len() > MAX_EVENT {
                    return Err(Error::new(format!("an event is larger than {MAX_EVENT} bytes")));
                }
                return Ok(None);
            };
            let line = self.rest.split_to(self.seen + end).freeze();
            self.rest.advance(1);
            self.seen = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

/// Pauses that grow.
#[derive(Debug)]
struct Pause {
    pace: Pace,
    failures: u32,
}

impl Pause {
    fn new(pace: Pace) -> Self {
        Self { pace, failures: 0 }
    }

    fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits, at least as long as the server says, as far as that makes sense.
    async fn wait(&mut self, after: Option<Duration>) {
        let grown = self.pace.first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let pause = grown.min(self.pace.longest);
        // Between a half and the whole of it.
        let pause = pause.mul_f64(0.5 + random() / 2.0);
        let after = after.unwrap_or_default().min(self.pace.longest);
        tokio::time::sleep(pause.max(after)).await;
    }
}

/// Between 0 and 1.
fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Each state has other keys.
    let word = RandomState::new().hash_one(0_u8);
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

/// A text as part of a query.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
