//! The `inprocess` receiver: the embedding process profiles itself, where perf is not allowed.
//!
//! It stands on the `pprof` crate: a timer counts the process's CPU time and sends `SIGPROF`, whose
//! handler walks the stack with the system's unwinder. What follows from that:
//!
//! - There is one profiler in a process, and one handler of `SIGPROF`: a second receiver is refused.
//! - The kernel gives fewer samples than were asked for, and the handler drops those that meet
//!   another. So a sample does not stand for the period asked for but for its share of the CPU time
//!   that the process really used (`table`).
//! - The handler may not interrupt the unwinder or the loader, whose locks it may need: no sample is
//!   taken in the libraries that [`Config::skip_libraries`] names. Their time is shared out among
//!   the samples that there are.
//! - Reading a profile blocks the handler, so only addresses are read while sampling; names are
//!   looked up when the next window has begun.
//!
//! The crate's two other ways to walk a stack are worse here: the one along frame pointers leaves
//! out the function that was interrupted and sees nothing in code built without them, and the one
//! on `framehop` allocates memory in the handler and brings second versions of large crates.
//!
//! Everything that blocks runs on a thread of its own.

mod config;
mod table;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use profpipe_engine::Sender;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Factory, Lifecycle, Receiver, Setup, Stability};
use profpipe_engine::telemetry::{Counter, names};
use profpipe_profile::Profiles;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

pub use config::Config;
use table::Window;

/// How the component is registered.
pub const FACTORY: Factory = Factory::receiver::<Config>(
    "inprocess",
    Stability::Alpha,
    "profiles the process that profpipe is embedded in, by a timer signal",
)
.of_this_host();

struct InProcess {
    config: Config,
    id: String,
    samples: Counter,
    /// Running since the receiver was built.
    profiler: Profiler,
}

impl InProcess {
    fn start(config: Config, setup: &Setup) -> Result<Self, Error> {
        let profiler = Profiler::start(&config)?;
        let samples = setup.services.metrics.counter(names::SAMPLES, &setup.id);
        Ok(Self { config, id: setup.id.clone(), samples, profiler })
    }
}

#[async_trait]
impl Receiver for InProcess {
    async fn run(self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        let this = *self;
        let context = Arc::<str>::from(this.id.as_str());
        let (batches, mut finished) = mpsc::channel(1);
        let (stop, stopped) = sync_channel::<()>(0);
        let mut stop: Option<SyncSender<()>> = Some(stop);
        let windows = thread::Builder::new()
            .name("inprocess".into())
            .spawn(move || this.windows(&batches, |time| stopped.recv_timeout(time)))
            .map_err(|error| Error::with_source("no thread for the `inprocess` receiver", error))?;
        loop {
            let profiles = tokio::select! {
                _ = life.stopping(), if stop.is_some() => {
                    // Closing the channel is the message.
                    stop = None;
                    continue;
                }
                profiles = finished.recv() => profiles,
            };
            let Some(profiles) = profiles else { break };
            let mut batch = Batch::new(profiles).taken_here();
            batch.context.receiver = Arc::clone(&context);
            if out.send(batch).await.is_err() {
                return Ok(());
            }
        }
        // It has closed its channel, so this does not wait.
        windows.join().unwrap_or_else(|_| Err(Error::new("the `inprocess` receiver panicked")))
    }
}

impl InProcess {
    /// Takes one window after the other until told to stop.
    fn windows(
        self,
        batches: &mpsc::Sender<Profiles>,
        wait: impl Fn(Duration) -> Result<(), RecvTimeoutError>,
    ) -> Result<(), Error> {
        let Self { config, samples, mut profiler, .. } = self;
        let resource = table::own_process(config.service_name.as_deref());
        loop {
            let stopped = wait(config.interval.0) != Err(RecvTimeoutError::Timeout);
            let window = profiler.finish()?;
            let next = if stopped { None } else { Some(Profiler::start(&config)?) };
            samples.add(window.samples());
            // Nothing was running: there is nothing to tell.
            if window.samples() > 0 {
                let profiles = window.into_profiles(&resource);
                if batches.blocking_send(profiles).is_err() {
                    return Ok(());
                }
            }
            match next {
                Some(next) => profiler = next,
                None => return Ok(()),
            }
        }
    }
}

/// The process's one profiler while it runs.
struct Profiler {
    guard: ProfilerGuard<'static>,
    start: SystemTime,
    cpu_at_start: Duration,
}

impl Profiler {
    fn start(config: &Config) -> Result<Self, Error> {
        let guard = ProfilerGuardBuilder::default()
            .frequency(i32::try_from(config.frequency).unwrap_or(1).max(1))
            .blocklist(&config.skip_libraries)
            .build();
        let guard = guard.map_err(|error| match error {
            pprof::Error::Running => Error::new(
                "another profiler is running in this process, and there can be only one; stop it \
                 or list `inprocess` once",
            ),
            error => Error::with_source("cannot start the profiler of this process", error),
        })?;
        Ok(Self { guard, start: SystemTime::now(), cpu_at_start: process_cpu_time() })
    }

    /// Stops, and gives what was seen.
    fn finish(self) -> Result<Window, Error> {
        let report = self.guard.report().build_unresolved();
        let cpu = process_cpu_time().saturating_sub(self.cpu_at_start);
        drop(self.guard);
        let report = report.map_err(|error| {
            Error::with_source("cannot read the profile of this process", error)
        })?;
        let length = self.start.elapsed().unwrap_or(report.timing.duration);
        Ok(Window { report, start: self.start, length, cpu })
    }
}

/// The CPU time of all threads of this process.
fn process_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests;
