//! The sampler for Linux.
//!
//! # Layout
//! Along the way of a sample:
//! - [`events`]: perf events, opened and adjusted.
//! - [`records`]: what they write into rings, in the order of time.
//! - [`processes`]: whose sample it is.
//! - [`images`]: the files whose code runs, with their unwinding tables, read by a thread.
//! - [`looks`]: threads that wait, which write no records.
//! - [`heap`]: the heaps of programs, which write records themselves.
//! - [`runtimes`]: the functions of interpreters and virtual machines, by their own names.
//! - [`unwind`]: from registers and a copy of the stack to frames.
//! - [`handoff`]: what is handed from the thread that unwinds to the one that adds up.
//! - [`aggregate`]: the thread that adds up and writes profiles.
//!
//! [`drain`] is the thread that takes a sample through the first seven; [`governed`] keeps all of it
//! within a budget; [`stopped`] unwinds without sampling. What threads ask of the kernel for themselves is in [`mod@thread`].

mod aggregate;
mod drain;
mod events;
mod governed;
mod handoff;
mod heap;
mod images;
mod looks;
mod processes;
mod records;
mod runtimes;
mod stopped;
mod thread;
mod unwind;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Lifecycle, Receiver, Setup};
use profpipe_engine::telemetry::names;
use profpipe_engine::{Sender, Services};
use ringbuf::HeapRb;
use ringbuf::traits::Split;
use tokio::sync::mpsc;

use super::{Config, Parked, Unwind};
use aggregate::types::SampleTypes;
pub(super) use events::probe::probe;
use events::session::Session;
use events::sys;
use governed::{ages, govern};
use images::loader;
use processes::contexts;
pub use stopped::{StoppedProcesses, StoppedStack};

/// The messages that fit between the two threads: minutes at 99 Hz.
const MAX_MESSAGES: usize = 1 << 16;
/// The batches that wait for the pipeline before samples are lost.
const MAX_BATCHES: usize = 2;

pub(super) fn build(config: Config, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
    sys::raise_file_limit();
    let limits = setup.services.overhead.limits();
    let mut session = Session::open(&config, limits.map(|limits| limits.cpu))?;
    let limit = looks::rights::limit(&session.looked_at());
    session.chosen.leave_out_looks(limit, &mut session.remarks)?;
    let heap = open_heap(&mut session, setup)?;
    for remark in &session.remarks {
        tracing::warn!(receiver = %setup.id, "{remark}");
    }
    if matches!(config.scope, super::Scope::Pid(_)) {
        // The process may run before the engine does.
        session.start()?;
    }
    let (id, services) = (setup.id.clone(), setup.services.clone());
    Ok(Box::new(Perf { config, session, heap, id, services }))
}

/// Listens for programs that have their heap sampled, if that is wanted.
fn open_heap(session: &mut Session, setup: &Setup) -> Result<Option<heap::Heap>, Error> {
    let Some(options) = session.chosen.heap.clone() else { return Ok(None) };
    let path = options.listen.clone().unwrap_or_default();
    let unfollowed = setup.services.metrics.counter(HEAP_UNFOLLOWED, &setup.id);
    match heap::Heap::listen(&path, options.interval(), unfollowed) {
        // A recording brings the library itself.
        Ok(heap) if options.at_end => Ok(Some(heap)),
        Ok(heap) => {
            match heap::write_beside(&path) {
                Ok(library) => tracing::info!(
                    receiver = %setup.id,
                    "programs are sampled that start with LD_PRELOAD={} PROFPIPE_HEAP={}",
                    library.display(),
                    path.display()
                ),
                Err(error) => session.remarks.push(format!(
                    "`heap`: the library that programs load cannot be written beside {}: {error}",
                    path.display()
                )),
            }
            Ok(Some(heap))
        }
        Err(error) => {
            let why = format!("cannot listen at {}: {error}", path.display());
            session.chosen.leave_out_heap(&why, &mut session.remarks)?;
            Ok(None)
        }
    }
}

struct Perf {
    config: Config,
    session: Session,
    heap: Option<heap::Heap>,
    id: String,
    services: Services,
}

#[async_trait]
impl Receiver for Perf {
    async fn run(self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        let Self { config, session, heap, id, services } = *self;
        session.start()?;
        let metric = |name| services.metrics.counter(name, &id);
        let counters = drain::Counters {
            samples: metric(names::SAMPLES),
            lost: metric(names::SAMPLES_LOST),
            complete: metric(names::STACKS_COMPLETE),
            guessed: metric(names::STACKS_GUESSED),
            truncated: metric(names::STACKS_TRUNCATED),
            switched: metric(names::STACKS_SWITCHED),
            broken: metric(names::STACKS_BROKEN),
            processes: metric(names::PROCESSES),
            hidden: metric(super::HIDDEN_PROCESSES),
            detached: metric(CALLS_DETACHED),
            drain_cpu: metric(DRAIN_CPU),
            ages: ages::Meters::new(&services.metrics, &id),
        };
        let (producer, consumer) = HeapRb::new(MAX_MESSAGES).split();
        let (batches, mut finished) = mpsc::channel(MAX_BATCHES);
        let available = |name: &str, is_there: bool| {
            let gauge = services.metrics.labelled(super::EVENT_AVAILABLE, &id, &[("event", name)]);
            gauge.set(u64::from(is_there));
        };
        for event in &config.events {
            let identity = event.identity();
            available(&identity, !session.chosen.missing.contains(&identity));
        }
        let managed = config.runtimes.enabled.then(|| {
            let internals = config.runtimes.internals;
            runtimes::join::Managed::start(&services.metrics, &id, &services.overhead, internals)
        });
        let managed = managed.flatten();
        let aggregation = aggregate::Setup {
            functions: managed.as_ref().map(runtimes::join::Managed::names),
            messages: consumer,
            out: batches,
            modules: Arc::clone(&services.modules),
            types: SampleTypes::new(&session.chosen, config.frequency),
            missing: session.chosen.missing.join(", "),
            timestamps: config.timestamps,
            service: config.service_name.clone(),
            contexts: config.process_context.then(|| {
                let counters = contexts::Counters::new(&services.metrics, &id);
                contexts::Contexts::start(
                    counters,
                    config.service_name.is_some(),
                    Arc::clone(&services.overhead),
                )
            }),
            cpu: metric(AGGREGATE_CPU),
            overhead: Arc::clone(&services.overhead),
        };
        let no_thread = |error| Error::with_source("no thread for the `perf` receiver", error);
        let aggregator = std::thread::Builder::new()
            .name("perf-aggregate".into())
            .spawn(move || aggregate::run(aggregation))
            .map_err(no_thread)?;
        let stop = Arc::new(AtomicBool::new(false));
        // Without one the thread notices a stop when it wakes up next.
        let waker = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok();
        let waker = waker.map(Arc::new);
        let end = Stop { flag: Arc::clone(&stop), waker: waker.clone() };
        let governed = session
            .is_governed()
            .then(|| govern::Governed::new(&config, &session, &services, &id))
            .flatten();
        let looks = session.chosen.off_cpu.map(|options| {
            let available = [("event", if session.chosen.wall { "wall" } else { "off_cpu" })];
            looks::Setup {
                target: session.looked_at(),
                rate: options.rate.unwrap_or(looks::DEFAULT_RATE),
                share: session.chosen.looks_share(),
                parked: options.parked.unwrap_or(Parked::Sum),
                stack: config.stack_size.0 as usize,
                overhead: Arc::clone(&services.overhead),
                waker: waker.clone(),
                attached: managed.as_ref().map(runtimes::join::Managed::attached),
                counters: looks::Counters {
                    looks: metric(LOOKS),
                    torn: metric(LOOKS_TORN),
                    lost: metric(LOOKS_LOST),
                    delay: metric(LOOK_DELAY),
                    available: services.metrics.labelled(super::EVENT_AVAILABLE, &id, &available),
                },
            }
        });
        let draining = drain::Setup {
            loader: loader::Loader::start(
                match governed {
                    // Meanwhile the side band could become a storm.
                    Some(_) => govern::LOADER_TIMEOUT,
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
            looks,
            heap,
            managed,
        };
        let _drain = std::thread::Builder::new()
            .name("perf-drain".into())
            .spawn(move || drain::run(draining))
            .map_err(no_thread)?;
        let context = Arc::<str>::from(id);
        let mut is_stopping = false;
        loop {
            let profiles = tokio::select! {
                _ = life.stopping(), if !is_stopping => {
                    is_stopping = true;
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

/// Looks at waiting threads; of these, at threads that went on meanwhile, and that nobody had the time
/// to unwind.
const LOOKS: &str = "profpipe_perf_looks_total";
const LOOKS_TORN: &str = "profpipe_perf_looks_torn_total";
const LOOKS_LOST: &str = "profpipe_perf_looks_lost_total";
/// Sampled blocks that could not be followed until they are freed.
const HEAP_UNFOLLOWED: &str = "profpipe_perf_heap_unfollowed_total";
/// How often a function's calls were counted no longer, because there were too many.
const CALLS_DETACHED: &str = "profpipe_perf_calls_detached_total";
/// How late looks are in the mean, in nanoseconds.
const LOOK_DELAY: &str = "profpipe_perf_look_delay_nanoseconds";
/// CPU time of the drain thread in nanoseconds.
const DRAIN_CPU: &str = "profpipe_perf_drain_cpu_nanoseconds";
/// CPU time of the loader thread in nanoseconds.
const LOAD_CPU: &str = "profpipe_perf_load_cpu_nanoseconds";
/// CPU time of the aggregation thread in nanoseconds.
const AGGREGATE_CPU: &str = "profpipe_perf_aggregate_cpu_nanoseconds";
