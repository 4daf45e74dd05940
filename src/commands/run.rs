//! `profpipe run`: a pipeline until somebody stops it.
//!
//! SIGHUP, and with `--watch` a file that changed, replace the whole pipeline. The new one is built
//! while the old one runs; what cannot be built changes nothing. Then the old one's receivers end and
//! the new one starts, on the same sockets and durable queues, while the old one delivers what it
//! still holds in the background. So no sender is refused, and nothing is lost.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use profpipe::pipeline::engine::Prepared;
use profpipe::{
    Builder, Engine, EngineError, Environment, Kind, Plan, RunningEngine, Services, WorkerCommand,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::validate;
use crate::account;
use crate::cli;
use crate::leaving::Departures;
use crate::memory;
use crate::mistake::Mistake;
use crate::status::{Screen, Status};
use crate::telemetry::{self, Endpoints, Log};

/// The built-in agent.
const AGENT: &str = include_str!("../../config-examples/agent.yaml");

/// How often `--watch` looks at the files.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// How long after a signal the same signal counts as the same wish.
const ECHO: Duration = Duration::from_millis(500);

/// How long flushing may take after Ctrl-C. Users wait at most five seconds; some of them are for
/// noticing the signal and leaving.
const GRACE: Duration = Duration::from_millis(4500);

/// How long queues on disk may take to note how far they are.
const CLOSE: Duration = Duration::from_millis(400);

pub(crate) fn run(arguments: cli::Run) -> anyhow::Result<ExitCode> {
    if arguments.watch && arguments.config.is_empty() {
        return Err(
            Mistake("--watch needs --config: the built-in agent never changes".into()).into()
        );
    }
    let plan = match builder(&arguments).plan() {
        Ok(plan) => plan,
        Err(errors) => return Ok(validate::report(&errors)),
    };
    memory::give_back_large_buffers();
    let screen = Screen::new();
    let mut log = telemetry::log_to(&screen, &plan.telemetry)?;
    warn_about(&plan);
    if arguments.config.is_empty() && plan.components().any(|(_, _, name)| name == "governor") {
        let cpu = plan.setting(Kind::Processor, "governor", "cpu").unwrap_or_default();
        tracing::info!(
            "profiling costs at most {cpu} of one core; for more samples `--set \
             processors::governor::cpu=5%`, for all whatever they cost `--set \
             service::pipelines::profiles::processors=[symbolize]`"
        );
    }
    let services = services();
    let status = Status::new(screen, Arc::clone(&services.metrics), destination(&plan));
    // Processors and the sampler have threads of their own: two workers carry the rest.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(run_until_stopped(&arguments, &services, plan, status, &mut log));
    // A component that hangs must not keep the program alive.
    runtime.shutdown_background();
    result
}

fn builder(arguments: &cli::Run) -> Builder {
    if !arguments.config.is_empty() {
        return validate::builder(&arguments.config, &arguments.set);
    }
    let builder = Engine::builder().config_named("built-in agent", AGENT);
    let builder = builder.environment(Environment::of_process());
    arguments.set.iter().fold(builder, |builder, set| builder.set(set))
}

fn warn_about(plan: &Plan) {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
}

/// Why a pipeline stops.
enum Cause {
    /// A receiver failed, or all have ended.
    Ended(Result<(), EngineError>),
    /// The user wants it to.
    Signal,
    /// There is another configuration to run.
    Reload(Box<Plan>),
}

async fn run_until_stopped(
    arguments: &cli::Run,
    services: &Services,
    mut plan: Plan,
    mut status: Status,
    log: &mut Log,
) -> anyhow::Result<ExitCode> {
    let mut stops = Stops::new()?;
    // Where a file may not grow, a write is to fail, not to end the program.
    let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let mut reloads = Reloads::new(arguments)?;
    let mut endpoints = Endpoints::new(services);
    endpoints.serve(&plan.telemetry)?;
    let mut engine = prepare(arguments, services, &plan)?.start()?;
    services.listeners.release_unused();
    let mut leaving = Departures::default();
    loop {
        let ids: Vec<&str> = plan.pipelines.iter().map(|pipeline| &*pipeline.id).collect();
        tracing::info!("running {}; Ctrl-C stops", ids.join(", "));
        let cause = tokio::select! {
            ended = engine.wait() => Cause::Ended(ended),
            () = stops.next() => Cause::Signal,
            plan = reloads.next(arguments) => Cause::Reload(Box::new(plan)),
            () = status.run() => Cause::Signal,
        };
        let ended = match cause {
            Cause::Reload(next) => {
                let next = *next;
                match replace(arguments, services, engine, (&plan, &next), &mut leaving).await? {
                    (running, true) => {
                        engine = running;
                        if let Err(error) = endpoints.serve(&next.telemetry) {
                            tracing::error!("service::telemetry::metrics: {}", error.chain());
                        }
                        log.follow(&next.telemetry);
                        plan = next;
                        status.redirect(destination(&plan));
                    }
                    (running, false) => engine = running,
                }
                continue;
            }
            Cause::Signal => Ok(()),
            Cause::Ended(ended) => ended,
        };
        let all = async {
            let (stopped, ()) = tokio::join!(engine.stop(GRACE), leaving.all_gone(GRACE));
            stopped
        };
        let stopped = tokio::select! {
            stopped = all => stopped,
            () = stops.again() => {
                status.finish();
                anyhow::bail!("stopped at once by a second signal; what was not written is lost");
            }
        };
        let queues = services.queues.destinations();
        account::say(&services.metrics, &services.queues, |_| true);
        status.leaves(&queues);
        // Notes how far each destination has come, so that the next start sends nothing twice.
        let _ = tokio::time::timeout(CLOSE, services.queues.close()).await;
        status.finish();
        ended.and(stopped)?;
        return Ok(ExitCode::SUCCESS);
    }
}

fn prepare(
    arguments: &cli::Run,
    services: &Services,
    plan: &Plan,
) -> Result<Prepared, EngineError> {
    builder(arguments).services(services.clone()).prepare_plan(plan)
}

/// Lets another configuration take over, if it can be built here. Returns the engine that runs
/// then, and whether it is the new one.
async fn replace(
    arguments: &cli::Run,
    services: &Services,
    engine: RunningEngine,
    (old, new): (&Plan, &Plan),
    leaving: &mut Departures,
) -> anyhow::Result<(RunningEngine, bool)> {
    let begun = Instant::now();
    // Two samplers at a time are more than a kernel may grant: there the old one goes first.
    let mut prepared = None;
    if !old.samples_this_host() {
        match prepare(arguments, services, new) {
            Ok(built) => prepared = Some(built),
            Err(error) => {
                services.listeners.release_new();
                tracing::error!("cannot run the new configuration, going on with the old: {error}");
                return Ok((engine, false));
            }
        }
    }
    leaving.room().await;
    let left = engine.hand_over(GRACE).await;
    let started = match prepared {
        Some(prepared) => prepared.start(),
        None => prepare(arguments, services, new).and_then(Prepared::start),
    };
    leaving.runs(if started.is_ok() { new } else { old });
    leaving.leave(left, old, services);
    match started {
        Ok(engine) => {
            services.listeners.release_unused();
            let took = begun.elapsed().as_millis();
            tracing::info!("the new configuration runs, after {took} ms");
            Ok((engine, true))
        }
        Err(error) => {
            services.listeners.release_new();
            tracing::error!("cannot run the new configuration, going on with the old: {error}");
            let engine = prepare(arguments, services, old)?.start()?;
            services.listeners.release_unused();
            Ok((engine, false))
        }
    }
}

/// Where the files of a plan go, for people.
fn destination(plan: &Plan) -> Option<String> {
    let files =
        plan.components().filter(|(kind, _, name)| *kind == Kind::Exporter && *name == "file");
    let paths: Vec<String> =
        files.filter_map(|(kind, id, _)| plan.setting(kind, id, "path")).collect();
    (!paths.is_empty()).then(|| paths.join(", "))
}

/// Where what is found out once is kept for later processes of this user: where the service manager, the
/// desktop or custom says.
pub(super) fn cache_directory() -> Option<PathBuf> {
    let from = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    from("CACHE_DIRECTORY").or_else(|| {
        let base = from("XDG_CACHE_HOME");
        let of_root = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/cache"));
        let base = base.or_else(of_root).or_else(|| Some(from("HOME")?.join(".cache")));
        Some(base?.join("profpipe"))
    })
}

/// What a command offers to components.
pub(super) fn services() -> Services {
    Services { worker: worker(), cache: cache_directory(), ..Services::default() }
}

/// How this program starts itself as the symbolizer's worker.
fn worker() -> Option<WorkerCommand> {
    let program = std::env::current_exe().ok()?;
    Some(WorkerCommand { program, arguments: vec!["symbolizer-worker".into()] })
}

/// Ctrl-C, the polite signal of service managers, and a terminal that goes away.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
    /// Where there is no terminal, this signal means to reload.
    hangup: Option<Signal>,
}

impl Stops {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: on_terminal().then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
        }
    }
}

impl Stops {
    /// Waits for another signal than the one that came just now: some programs that send one send
    /// it twice, to the process and to its group.
    async fn again(&mut self) {
        let echoes = async {
            loop {
                self.next().await;
            }
        };
        // It never resolves: what it reads until the time is up is what should be ignored.
        let _ = tokio::time::timeout(ECHO, echoes).await;
        self.next().await;
    }
}

fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Reasons to read the configuration again: SIGHUP without a terminal, and with `--watch` a file that changed.
struct Reloads {
    hangup: Option<Signal>,
    /// What the files looked like when last read; none where nobody watches.
    seen: Option<Vec<Stamp>>,
}

/// When a file was changed last, and its length; none if it is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Reloads {
    fn new(arguments: &cli::Run) -> std::io::Result<Self> {
        let seen = arguments.watch.then(|| stamps(arguments));
        let hangup = (!on_terminal()).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self { hangup, seen })
    }

    /// Waits for a configuration that is new and without mistakes. A wrong one is told about and
    /// changes nothing.
    async fn next(&mut self, arguments: &cli::Run) -> Plan {
        loop {
            tokio::select! {
                () = hung_up(&mut self.hangup) => {}
                () = changed(&mut self.seen, arguments) => {}
            }
            match builder(arguments).plan() {
                Ok(plan) => {
                    tracing::info!("reloading");
                    warn_about(&plan);
                    return plan;
                }
                Err(errors) => {
                    for error in &errors.0 {
                        tracing::error!("{error}");
                    }
                    tracing::error!("the new configuration is not used");
                }
            }
        }
    }
}

/// Resolves when a file looks different from what was seen, and has looked so twice: an editor may
/// still be writing.
async fn changed(seen: &mut Option<Vec<Stamp>>, arguments: &cli::Run) {
    let Some(seen) = seen else { return std::future::pending().await };
    let mut last = seen.clone();
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let now = stamps(arguments);
        if now != *seen && now == last {
            *seen = now;
            return;
        }
        last = now;
    }
}

fn stamps(arguments: &cli::Run) -> Vec<Stamp> {
    let stamp = |file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    arguments.config.iter().map(stamp).collect()
}
