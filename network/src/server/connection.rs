//! One connection: its protocol, its requests, and how long it may do nothing.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::serve::{Shared, serve};
use super::tarpit::Peer;
use crate::settings::server::ServerSettings;

/// What an HTTP/2 connection may hold in data that no handler has asked for yet.
const WINDOW_BYTES: u32 = 256 << 10;
/// The most of a header, of either protocol.
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 100;
/// How long a connection may take to end after it was asked to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the next request is waited for when the server stops: one that is on its way already
/// shall not run into a closed connection. Its answer then says that it is the last.
pub(super) const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(300);

/// The way HTTP is spoken.
pub(super) fn protocol(settings: &ServerSettings) -> Builder<TokioExecutor> {
    let or = |time: Duration, default| if time.is_zero() { default } else { time };
    let pings = &settings.keepalive.server_parameters;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_headers(MAX_HEADERS)
        // A reader below takes care of it, and distinguishes a slow header from a quiet connection.
        .header_read_timeout(None)
        // A client may say that it sends nothing more, and still wait for its answer.
        .half_close(true)
        .keep_alive(settings.keep_alive)
        .max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_pending_accept_reset_streams(20)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(or(pings.time.0, Duration::from_secs(2 * 60 * 60)))
        .keep_alive_timeout(or(pings.timeout.0, Duration::from_secs(20)));
    builder
}

/// Tells connections to end, with the last instant for what they are at.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// Waits until connections are to end; `None` without a last instant.
pub(super) async fn stopped(stop: &mut Stop) -> Option<Instant> {
    stop.wait_for(Option::is_some).await.ok().and_then(|until| *until)
}

/// Held by everything that may still send something on.
pub(super) type Alive = mpsc::Sender<Infallible>;

/// Serves a connection until it ends, is quiet for too long, or is asked to stop.
pub(super) async fn connection<IO>(
    io: IO,
    peer: Peer,
    builder: &Builder<TokioExecutor>,
    shared: Arc<Shared>,
    mut stop: Stop,
    alive: Alive,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let times = Times::of(&shared.settings);
    let watched = Watched { io, activity: Arc::clone(&activity) };
    let peer = Arc::new(peer);
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |request| {
            let at_work = activity.begin();
            let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
            // Taken at once: over HTTP/2 it may run later than the connection gives its own back.
            let alive = shared.sending.upgrade();
            let version = request.version();
            async move {
                let mut response = serve(shared, &peer, request, alive).await;
                if let Ok(response) = &mut response
                    && version < http::Version::HTTP_2
                    && at_work.0.parting.load(Ordering::Acquire)
                {
                    let close = http::HeaderValue::from_static("close");
                    response.headers_mut().insert(http::header::CONNECTION, close);
                }
                drop(at_work);
                response
            }
        }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(watched), service));
    // The last instant, once it is to end.
    let mut last: Option<Instant> = None;
    // Given back when the last request that may be taken has begun.
    let mut alive = Some(alive);
    loop {
        let next = last.unwrap_or_else(|| times.look_again(&activity));
        tokio::select! {
            // How it ended does not matter: clients close connections as they like.
            _ = serving.as_mut() => return,
            // The server being gone means the same as being asked to stop.
            until = stopped(&mut stop), if last.is_none() => {
                let until = until.unwrap_or_else(|| Instant::now() + CLOSE_TIMEOUT);
                activity.parting.store(true, Ordering::Release);
                // HTTP/2 has a way to say which requests are still taken.
                if activity.is_http2.load(Ordering::Acquire) {
                    serving.as_mut().graceful_shutdown();
                }
                let begun = async {
                    if activity.requests.load(Ordering::Acquire) == 0 {
                        activity.begun.notified().await;
                    }
                };
                tokio::select! {
                    _ = serving.as_mut() => return,
                    () = begun => {}
                    () = sleep_until(until.min(Instant::now() + LAST_REQUEST_TIMEOUT)) => {}
                }
                last = Some(until);
                drop(alive.take());
                if !activity.will_part() {
                    serving.as_mut().graceful_shutdown();
                }
            }
            () = sleep_until(next) => match (last, times.verdict(&activity)) {
                (Some(_), _) | (None, Verdict::Cut) => return,
                (None, Verdict::Stay) => {}
                (None, Verdict::Part(time)) => {
                    last = Some(Instant::now() + time);
                    activity.parting.store(true, Ordering::Release);
                    if !activity.will_part() {
                        serving.as_mut().graceful_shutdown();
                    }
                }
            },
        }
    }
}

/// How long things may take.
struct Times {
    header: Duration,
    idle: Duration,
    age: Duration,
    age_grace: Duration,
}

enum Verdict {
    Stay,
    /// Ends when its requests are answered, or after this time.
    Part(Duration),
    /// Ends at once.
    Cut,
}

impl Times {
    fn of(settings: &ServerSettings) -> Self {
        let parameters = &settings.keepalive.server_parameters;
        let grace = parameters.max_connection_age_grace.0;
        Self {
            header: settings.header_timeout,
            idle: settings.idle_timeout,
            age: parameters.max_connection_age.0,
            age_grace: if grace.is_zero() { Duration::from_secs(30) } else { grace },
        }
    }

    fn look_again(&self, activity: &Activity) -> Instant {
        // A header may begin right now.
        let soon = Instant::now() + self.header;
        let age = if self.age.is_zero() { soon } else { activity.start + self.age };
        match self.deadline(activity) {
            Some((deadline, _)) => deadline.min(soon).min(age),
            None => soon.min(age),
        }
        .max(Instant::now() + Duration::from_millis(5))
    }

    /// When a connection without a request ends, and whether at once.
    fn deadline(&self, activity: &Activity) -> Option<(Instant, bool)> {
        if activity.requests.load(Ordering::Acquire) > 0 {
            return None;
        }
        let quiet_since = activity.instant(&activity.quiet);
        if activity.is_http2.load(Ordering::Acquire) {
            return Some((quiet_since + self.idle, false));
        }
        match activity.header.load(Ordering::Acquire) {
            0 if activity.served.load(Ordering::Acquire) => Some((quiet_since + self.idle, false)),
            0 => Some((activity.start + self.header, true)),
            _ => Some((activity.instant(&activity.header) + self.header, true)),
        }
    }

    fn verdict(&self, activity: &Activity) -> Verdict {
        let now = Instant::now();
        match self.deadline(activity) {
            Some((deadline, true)) if now >= deadline => Verdict::Cut,
            Some((deadline, false)) if now >= deadline => Verdict::Part(CLOSE_TIMEOUT),
            _ if !self.age.is_zero() && now >= activity.start + self.age => {
                Verdict::Part(self.age_grace)
            }
            _ => Verdict::Stay,
        }
    }
}

/// What a connection is doing. Times are milliseconds since its start, and 1 more.
struct Activity {
    start: Instant,
    /// Requests that are not answered yet.
    requests: AtomicUsize,
    /// There was one.
    served: AtomicBool,
    is_http2: AtomicBool,
    /// Whether any byte has come.
    heard: AtomicBool,
    /// When the header began that is being read; 0 if none is.
    header: AtomicU64,
    /// When the last request ended.
    quiet: AtomicU64,
    /// Told about each request.
    begun: Notify,
    /// The next answer over HTTP/1.1 is the last, and says so. The library would only say it if it
    /// was asked to end before the answer was begun; an answer that is there at once is then
    /// followed by a closed connection without notice.
    parting: AtomicBool,
}

impl Activity {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            requests: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            header: AtomicU64::new(0),
            quiet: AtomicU64::new(1),
            begun: Notify::new(),
            parting: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    fn instant(&self, time: &AtomicU64) -> Instant {
        self.start + Duration::from_millis(time.load(Ordering::Acquire).saturating_sub(1))
    }

    fn begin(self: &Arc<Self>) -> AtWork {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.served.store(true, Ordering::Release);
        self.header.store(0, Ordering::Release);
        self.begun.notify_waiters();
        AtWork(Arc::clone(self))
    }

    /// Whether an answer will end it: one is at work, or bytes of a request have come, which
    /// would be thrown away if it was ended now.
    fn will_part(&self) -> bool {
        !self.is_http2.load(Ordering::Acquire)
            && (self.requests.load(Ordering::Acquire) > 0
                || self.header.load(Ordering::Acquire) > 0)
    }

    fn read(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.heard.swap(true, Ordering::AcqRel) && bytes.starts_with(b"PRI") {
            self.is_http2.store(true, Ordering::Release);
        }
        if self.requests.load(Ordering::Acquire) == 0 && self.header.load(Ordering::Acquire) == 0 {
            self.header.store(self.now(), Ordering::Release);
        }
    }
}

/// A request that is not answered yet.
struct AtWork(Arc<Activity>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.quiet.store(self.0.now(), Ordering::Release);
        self.0.header.store(0, Ordering::Release);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A socket that notes when something comes.
struct Watched<IO> {
    io: IO,
    activity: Arc<Activity>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = &polled {
            self.activity.read(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
