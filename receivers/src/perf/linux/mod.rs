//! The sampler for Linux.
//!
//! # Layout
//! - [`session`]: opens events ([`attr`], [`sys`]) and their rings ([`ring`]).
//! - [`drain`]: the thread that empties the rings: reads records ([`record`]) in the order of time
//!   ([`merge`]), keeps the table of processes ([`process`], asking [`host`] and its [`image`]s, read
//!   by [`elf`] and [`maps`], checked by [`cfi`]) and unwinds ([`unwind`], [`arch`]).
//! - [`loader`]: the thread that opens and reads images.
//! - [`aggregate`]: the thread that adds up what it is told ([`handoff`]) and writes profiles, with
//!   the attributes of [`resource`].
//! - [`ages`]: how old the windows are whose profiles have not left, for people and metrics.
//! - [`contexts`]: the thread that reads what SDKs publish about their process
//!   ([`process_context`]).
//! - [`mod@probe`]: what this host allows.
//!
//! `unsafe` is in [`ring`] and [`sys`] only.

mod ages;
mod aggregate;
mod arch;
mod attr;
mod calibrate;
mod cfi;
mod contexts;
mod drain;
mod elf;
mod exposure;
mod go;
mod govern;
mod handoff;
mod host;
mod image;
mod levers;
mod loader;
mod maps;
mod merge;
mod probe;
mod process;
mod process_context;
mod record;
mod resource;
mod ring;
mod session;
mod stacks;
mod sys;
mod unwind;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use async_trait::async_trait;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Lifecycle, Receiver, Setup};
use profpipe_engine::telemetry::names;
use profpipe_engine::{Sender, Services};
use ringbuf::HeapRb;
use ringbuf::traits::Split;
use tokio::sync::mpsc;

use super::{Config, Unwind};
use contexts::Contexts;
use govern::Governed;
pub(super) use probe::probe;
use session::Session;

/// The messages that fit between the two threads: minutes at 99 Hz.
const MESSAGES: usize = 1 << 16;
/// The batches that wait for the pipeline before samples are lost.
const BATCHES: usize = 2;

pub(super) fn build(config: Config, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
    sys::raise_file_limit();
    let limits = setup.services.overhead.limits();
    let session = Session::open(&config, limits.map(|limits| limits.cpu))?;
    for remark in &session.remarks {
        tracing::warn!(receiver = %setup.id, "{remark}");
    }
    if matches!(config.scope, super::Scope::Pid(_)) {
        // The process may run before the engine does.
        session.start()?;
    }
    Ok(Box::new(Perf { config, session, id: setup.id.clone(), services: setup.services.clone() }))
}

struct Perf {
    config: Config,
    session: Session,
    id: String,
    services: Services,
}

#[async_trait]
impl Receiver for Perf {
    async fn run(self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        let Self { config, session, id, services } = *self;
        session.start()?;
        let metric = |name| services.metrics.counter(name, &id);
        let counters = drain::Counters {
            samples: metric(names::SAMPLES),
            lost: metric(names::SAMPLES_LOST),
            complete: metric(names::STACKS_COMPLETE),
            truncated: metric(names::STACKS_TRUNCATED),
            broken: metric(names::STACKS_BROKEN),
            processes: metric(names::PROCESSES),
            drain_cpu: metric(DRAIN_CPU),
            ages: ages::Meters::new(&services.metrics, &id),
        };
        let (producer, consumer) = HeapRb::new(MESSAGES).split();
        let (batches, mut finished) = mpsc::channel(BATCHES);
        let aggregation = aggregate::Setup {
            messages: consumer,
            out: batches,
            modules: Arc::clone(&services.modules),
            frequency: config.frequency,
            service: config.service_name.clone(),
            contexts: config.process_context.then(|| {
                let counters = contexts::Counters::new(&services.metrics, &id);
                Contexts::start(
                    counters,
                    config.service_name.is_some(),
                    Arc::clone(&services.overhead),
                )
            }),
            cpu: metric(AGGREGATE_CPU),
            overhead: Arc::clone(&services.overhead),
        };
        let no_thread = |error| Error::with_source("no thread for the `perf` receiver", error);
        let aggregator = thread::Builder::new()
            .name("perf-aggregate".into())
            .spawn(move || aggregate::run(aggregation))
            .map_err(no_thread)?;
        let stop = Arc::new(AtomicBool::new(false));
        // Without one the thread notices a stop when it wakes up next.
        let waker = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok();
        let waker = waker.map(Arc::new);
        let end = Stop { flag: Arc::clone(&stop), waker: waker.clone() };
        let governed =
            session.governed.then(|| Governed::new(&config, &session, &services, &id)).flatten();
        let draining = drain::Setup {
            loader: loader::Loader::start(
                match governed {
                    // Meanwhile the side band could become a storm.
                    Some(_) => govern::PATIENCE,
                    None => session.slack() / 4,
                },
                metric(LOAD_CPU),
                Arc::clone(&services.overhead),
            )
            .map_err(no_thread)?,
            session,
            overhead: Arc::clone(&services.overhead),
            receiver: id.as_str().into(),
            interval: config.interval.0,
            use_rules: config.unwind != Unwind::FramePointers,
            counters,
            messages: producer,
            consumer: aggregator.thread().clone(),
            stop: Arc::clone(&stop),
            waker,
            governed,
        };
        let _drain = thread::Builder::new()
            .name("perf-drain".into())
            .spawn(move || drain::run(draining))
            .map_err(no_thread)?;
        let context = Arc::<str>::from(id);
        let mut told = false;
        loop {
            let profiles = tokio::select! {
                _ = life.stopping(), if !told => {
                    told = true;
                    end.now();
                    continue;
                }
                profiles = finished.recv() => profiles,
            };
            // Both threads are done when the channel closes.
            let Some((profiles, waiting)) = profiles else { return Ok(()) };
            let mut batch = Batch::new(profiles).taken_here();
            batch.context.receiver = Arc::clone(&context);
            batch.context.window = waiting.map(Arc::new);
            if out.send(batch).await.is_err() {
                end.now();
                return Ok(());
            }
        }
    }
}

/// Ends the drain thread.
struct Stop {
    flag: Arc<AtomicBool>,
    waker: Option<Arc<OwnedFd>>,
}

impl Stop {
    fn now(&self) {
        self.flag.store(true, Ordering::Release);
        if let Some(waker) = &self.waker {
            // A waker that is not written to is a thread that wakes up a little later.
            let _ = rustix::io::write(&**waker, &1_u64.to_ne_bytes());
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}

/// CPU time of the drain thread in nanoseconds.
const DRAIN_CPU: &str = "profpipe_perf_drain_cpu_nanoseconds";
/// CPU time of the loader thread in nanoseconds.
const LOAD_CPU: &str = "profpipe_perf_load_cpu_nanoseconds";
/// CPU time of the aggregation thread in nanoseconds.
const AGGREGATE_CPU: &str = "profpipe_perf_aggregate_cpu_nanoseconds";
