//! What the exporters `otlp_http` and `otlp_grpc` share: requests of a size that the other side takes,
//! and what its answers mean.
//!
//! A batch that is still the bytes of a request, and small enough, is sent as it came. A larger one is
//! cut into parts, each a request of its own with a dictionary of its own, and is delivered when all
//! of them are. What was accepted of a batch that was not delivered as a whole is remembered, so that
//! the next attempt goes on where this one ended (`progress`).

mod answer;
mod parts;
mod progress;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Exporter, Failure, Setup};
use profpipe_engine::telemetry::Counter;

pub(crate) use answer::PartialSuccess;
pub use parts::Encoding;
use parts::Parts;
use progress::{Attempt, Progress};

/// The name of the header with the version of the profiles signal, and the version that is
/// sent: proto 1.10 and 1.11.
pub(crate) const VERSION_HEADER: (&str, &str) = ("otlp-profiles-development-version", "1");
/// The smallest limit of a request that a server can bring us to.
const SMALLEST: usize = 16 << 10;
/// How often what a server refuses is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Sends one request.
#[async_trait]
pub(crate) trait Transport: Send + Sync + 'static {
    /// Where it sends to.
    fn destination(&self) -> String;
    /// How requests are written.
    fn encoding(&self) -> Encoding;

    /// Sends a request, once.
    async fn send(&self, request: Bytes) -> Result<PartialSuccess, Failure>;
}

/// An exporter over a transport; forks share everything.
pub(crate) struct Otlp<T>(Arc<Shared<T>>);

struct Shared<T> {
    id: String,
    transport: T,
    /// The most bytes of a request, uncompressed: configured, or what the server turned out to take.
    max_request: AtomicUsize,
    progress: Arc<Progress>,
    rejected: Counter,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    last: Option<Instant>,
    suppressed: u64,
}

impl<T: Transport> Otlp<T> {
    pub(crate) fn new(transport: T, max_request: u64, setup: &Setup) -> Self {
        Self(Arc::new(Shared {
            // What one server has, another does not.
            progress: setup
                .services
                .carried
                .of_same(&format!("exporters::{}", setup.id), &transport.destination()),
            id: setup.id.clone(),
            transport,
            max_request: AtomicUsize::new(usize::try_from(max_request).unwrap_or(usize::MAX)),
            rejected: setup
                .services
                .metrics
                .counter(crate::metric_names::PROFILES_REJECTED, &setup.id),
            log: Mutex::default(),
        }))
    }
}

#[async_trait]
impl<T: Transport> Exporter for Otlp<T> {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let shared = &*self.0;
        let encoding = shared.transport.encoding();
        let limit = shared.max_request.load(Ordering::Relaxed);
        match parts::of(batch, encoding, limit, &shared.progress).await? {
            Parts::Many(parts, attempt) => shared.send_all(parts, attempt).await,
            Parts::One(request) => {
                let size = request.len();
                let cause = match shared.send(request).await {
                    Err(Failure::TooLarge { cause }) => cause,
                    sent => return sent,
                };
                let Some(half) = shared.learn(size, &cause) else {
                    return Err(Failure::Reject { cause });
                };
                match parts::of(batch, encoding, half, &shared.progress).await? {
                    Parts::Many(parts, attempt) => shared.send_all(parts, attempt).await,
                    Parts::One(request) => shared.send(request).await,
                }
            }
        }
    }

    fn fork(&self) -> Option<Box<dyn Exporter>> {
        Some(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl<T: Transport> Shared<T> {
    async fn send(&self, request: Bytes) -> Result<(), Failure> {
        let answer = self.transport.send(request).await?;
        self.rejected.add(answer.rejected_profiles);
        if answer.rejected_profiles > 0 || !answer.message.is_empty() {
            self.log_rejected(&answer);
        }
        Ok(())
    }

    /// Sends every part that is not there yet. One that is refused does not keep the others back.
    async fn send_all(&self, parts: Vec<Bytes>, mut attempt: Attempt) -> Result<(), Failure> {
        let count = parts.len();
        let mut left = parts;
        left.reverse();
        let (mut refused, mut why) = (0, None);
        while let Some(part) = left.pop() {
            if attempt.has(&part) {
                continue;
            }
            let cause = match self.send(part.clone()).await {
                Ok(()) => {
                    attempt.accepted(&part);
                    continue;
                }
                Err(Failure::TooLarge { cause }) => {
                    if let Some(half) = self.learn(part.len(), &cause) {
                        let pieces = parts::cut(part, self.transport.encoding(), half).await?;
                        if pieces.len() > 1 {
                            left.extend(pieces.into_iter().rev());
                            continue;
                        }
                    }
                    cause
                }
                Err(Failure::Reject { cause }) => cause,
                Err(later) => return Err(later),
            };
            refused += 1;
            why.get_or_insert(cause);
        }
        attempt.done();
        match why {
            None => Ok(()),
            Some(cause) => {
                let of = format!("{refused} parts of a batch sent in {count} were refused");
                Err(Failure::Reject { cause: Error::with_source(of, cause) })
            }
        }
    }

    /// A request of this size was too large for the server. Returns the size to try next, which also
    /// is the limit from now on; `None` if it cannot be much smaller.
    fn learn(&self, size: usize, cause: &Error) -> Option<usize> {
        let half = size / 2;
        if half < SMALLEST {
            return None;
        }
        let before = self.max_request.fetch_min(half, Ordering::Relaxed);
        if half < before {
            tracing::warn!(
                "exporters::{}: a request of {size} bytes was too large for the server; sending at \
                 most {half} from now on, set `max_request_size` to what it takes: {}",
                self.id,
                cause.chain(),
            );
        }
        Some(half)
    }

    fn log_rejected(&self, answer: &PartialSuccess) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if log.last.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            log.suppressed += 1;
            return;
        }
        log.last = Some(now);
        let more = match std::mem::take(&mut log.suppressed) {
            0 => String::new(),
            suppressed => format!(" (and {suppressed} answers like this before)"),
        };
        let (id, message) = (&self.id, &answer.message);
        match answer.rejected_profiles {
            0 => tracing::warn!("exporters::{id}: the server warns: {message}{more}"),
            count => {
                tracing::warn!(
                    "exporters::{id}: the server rejected {count} profiles: {message}{more}"
                );
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod server;
#[cfg(test)]
mod tests;
