//! `profpipe run`: a pipeline until somebody stops it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use profpipe::{Builder, Engine, Environment, Kind, Plan, Services, WorkerCommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{Usage, validate};
use crate::cli;
use crate::status::{Screen, Status};

/// The built-in agent.
const AGENT: &str = include_str!("../../config-examples/agent.yaml");

/// How long flushing may take after Ctrl-C. Users wait at most five seconds; some of them are for
/// noticing the signal and leaving.
const GRACE: Duration = Duration::from_millis(4500);

pub(crate) fn run(arguments: cli::Run) -> anyhow::Result<ExitCode> {
    if arguments.watch {
        let message = "--watch is not available in this version: restart profpipe instead";
        return Err(Usage(message.into()).into());
    }
    let builder = if arguments.config.is_empty() {
        let builder = Engine::builder().config_named("built-in agent", AGENT);
        let builder = builder.environment(Environment::of_process());
        arguments.set.iter().fold(builder, |builder, set| builder.set(set))
    } else {
        validate::builder(&arguments.config, &arguments.set)
    };
    let plan = match builder.plan() {
        Ok(plan) => plan,
        Err(errors) => return Ok(validate::report(&errors)),
    };
    let screen = Screen::new();
    log_to(screen.clone(), plan.telemetry.level.as_deref());
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let services = Services { worker: worker(), ..Services::default() };
    let status = Status::new(screen, Arc::clone(&services.metrics), destination(&plan));
    // Processors and the sampler have threads of their own: two workers carry the rest.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(run_until_stopped(builder.services(services), &plan, status));
    // A component that hangs must not keep the program alive.
    runtime.shutdown_background();
    result
}

async fn run_until_stopped(
    builder: Builder,
    plan: &Plan,
    mut status: Status,
) -> anyhow::Result<ExitCode> {
    let mut stops = Stops::new()?;
    let mut engine = builder.start_plan(plan)?;
    let pipelines: Vec<&str> = plan.pipelines.iter().map(|pipeline| &*pipeline.id).collect();
    tracing::info!("running {}; Ctrl-C stops", pipelines.join(", "));
    let ended = tokio::select! {
        ended = engine.wait() => ended,
        () = stops.next() => Ok(()),
        () = status.run() => Ok(()),
    };
    let stopped = tokio::select! {
        stopped = engine.stop(GRACE) => stopped,
        () = stops.next() => {
            status.finish();
            anyhow::bail!("stopped at once by a second signal; what was not written is lost");
        }
    };
    status.finish();
    ended.and(stopped)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the files of a plan go, for people.
fn destination(plan: &Plan) -> Option<String> {
    let files =
        plan.components().filter(|(kind, _, name)| *kind == Kind::Exporter && *name == "file");
    let paths: Vec<String> =
        files.filter_map(|(kind, id, _)| plan.setting(kind, id, "path")).collect();
    (!paths.is_empty()).then(|| paths.join(", "))
}

/// How this program starts itself as the symbolizer's worker.
pub(super) fn worker() -> Option<WorkerCommand> {
    let program = std::env::current_exe().ok()?;
    Some(WorkerCommand { program, arguments: vec!["symbolizer-worker".into()] })
}

/// Logs to the screen; `PROFPIPE_LOG` or the configuration chooses what. A panic is one line too.
fn log_to(screen: Screen, level: Option<&str>) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("PROFPIPE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(level.unwrap_or("info")));
    let colours = screen.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(screen)
        .with_target(false)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("a bug in profpipe at {place}: {}", panic.payload_as_str().unwrap_or("?"));
    }));
}

/// Ctrl-C and the polite signal of service managers.
struct Stops {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stops {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
