//! `profpipe run`: a pipeline until somebody stops it.

use std::process::ExitCode;
use std::time::Duration;

use profpipe::{Engine, EngineError, Environment, Services, WorkerCommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{Usage, validate};
use crate::cli;

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
    log_to_stderr(plan.telemetry.level.as_deref());
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let services = Services { worker: worker(), ..Services::default() };
    // Processors and the sampler have threads of their own: two workers carry the rest.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let mut stops = Stops::new()?;
        let mut engine = builder.services(services).start_plan(&plan)?;
        let ended = tokio::select! {
            ended = engine.wait() => ended,
            () = stops.next() => Ok(()),
        };
        tracing::info!("stopping");
        let stopped = tokio::select! {
            stopped = engine.stop(GRACE) => stopped,
            () = stops.next() => {
                tracing::warn!("stopped at once: what was not written is lost");
                return Ok(ExitCode::FAILURE);
            }
        };
        ended.and(stopped).map_err(describe)?;
        Ok(ExitCode::SUCCESS)
    });
    // A component that hangs must not keep the program alive.
    runtime.shutdown_background();
    result
}

fn describe(error: EngineError) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// How this program starts itself as the symbolizer's worker.
fn worker() -> Option<WorkerCommand> {
    let program = std::env::current_exe().ok()?;
    Some(WorkerCommand { program, arguments: vec!["symbolizer-worker".into()] })
}

/// Logs to standard error; `PROFPIPE_LOG` or the configuration chooses what.
fn log_to_stderr(level: Option<&str>) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("PROFPIPE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(level.unwrap_or("info")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
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
