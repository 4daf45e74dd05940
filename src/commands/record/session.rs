//! One recording from attaching to the printed summary.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use profpipe::{Engine, EngineError, RunningEngine, Services};
use profpipe_engine::overhead::process_cpu;
use profpipe_engine::telemetry::names;
use profpipe_receivers::perf;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::collect::{Collected, nothing};
use super::process::Process;
use super::progress::Progress;
use super::signals::Arrived;
use super::target::{Running, Target};
use super::{Recording, summary};
use crate::commands::{fail, run::worker};

/// How long the last window may take to be named; large programs take their time.
const GRACE: Duration = Duration::from_secs(60);
/// How long a command that we end because of `-d` has before it is killed.
const TERMINATION: Duration = Duration::from_secs(5);
/// How often progress is shown and the process is looked at.
const TICK: Duration = Duration::from_millis(250);
/// A Ctrl-C that ended the command may reach us this much later, and means nothing then.
const ECHO: Duration = Duration::from_millis(300);

/// Prints a line to standard error. A reader that has gone away must not cost the command its exit
/// code, as a panic of `eprintln` would.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Why a recording ended.
enum End {
    /// The command has ended.
    Exited(ExitStatus),
    /// The process has ended.
    TargetGone,
    /// Somebody wants it to end.
    Signal,
    /// The time is up.
    Time,
    /// The sampler cannot go on.
    Failed(EngineError),
}

pub(super) async fn run(
    recording: Recording,
    target: Target,
    mut signals: UnboundedReceiver<Arrived>,
) -> anyhow::Result<ExitCode> {
    let collected = Collected::default();
    let services = Services { worker: worker(), ..Services::default() };
    let mut engine = match start(&recording, target.scope, &collected, &services) {
        Ok(engine) => engine,
        Err(error) => {
            if let Some(command) = target.command {
                command.give_up();
            }
            return Err(error);
        }
    };
    let (began, started) = (SystemTime::now(), Instant::now());
    // Of this process and what finds names: other children are what is recorded.
    let own_cpu = || Duration::from_nanos(process_cpu() + services.overhead.worker_cpu());
    let before = own_cpu();
    let mut command = match target.command.map(|command| command.release()).transpose() {
        Ok(command) => command,
        Err(cannot) => {
            say!("profpipe: {cannot}");
            return Ok(ExitCode::from(cannot.exit_code()));
        }
    };
    let shares_terminal =
        command.is_some() && (std::io::stdout().is_terminal() || std::io::stderr().is_terminal());
    let mut progress = Progress::start(shares_terminal);
    let mut watch = Watch {
        duration: recording.duration,
        command: command.as_mut(),
        process: target.process.as_ref(),
        engine: &mut engine,
        signals: &mut signals,
    };
    let end = watch.until_the_end(started, &mut progress).await;
    let elapsed = started.elapsed();

    progress.finishing();
    let stopped = tokio::select! {
        stopped = engine.stop(GRACE) => stopped,
        () = interrupted(&mut signals) => {
            progress.clear();
            return Err(anyhow!("interrupted again: the profile was not written"));
        }
    };
    progress.clear();
    let failed = match end {
        End::Failed(ref error) => Some(describe(error)),
        _ => stopped.as_ref().err().map(describe),
    };
    let code = match (&end, command) {
        (End::Exited(status), Some(command)) => passed_on(*status, &command),
        (End::Time, Some(command)) => end_command(command).await,
        // The sampler is gone, but the command is not ours to stop for that.
        (End::Failed(_), Some(command)) => accompany(command, &mut signals).await,
        _ => 0,
    };
    let mut profiles = collected.take();
    if profiles.sample_count() == 0 {
        profiles = nothing(recording.frequency, began, elapsed);
    }
    let cost = own_cpu().saturating_sub(before);
    let text = summary::of(&profiles, elapsed, recording.frequency)
        .map(|text| text + &summary::own_cost(cost, elapsed));
    let written = recording.output.write(&profiles, None);
    match text {
        Ok(text) => say!("{}", text.trim_end()),
        Err(error) => say!("profpipe: {error}"),
    }
    match &written {
        Ok(()) => say!("profpipe: wrote {}", recording.path.display()),
        // A flame graph of nothing cannot be drawn, and that nothing ran has been said.
        Err(_) if profiles.sample_count() == 0 => {
            say!("profpipe: {} was not written", recording.path.display());
        }
        Err(_) => {}
    }
    let failed = failed.or(written.err().filter(|_| profiles.sample_count() > 0));
    if let Some(failed) = failed {
        let failure = fail(&failed);
        // What the command has to say goes first.
        return Ok(if code == 0 { failure } else { ExitCode::from(code) });
    }
    Ok(ExitCode::from(code))
}

/// Attaches the sampler: when this returns, every instruction of the target counts.
fn start(
    recording: &Recording,
    scope: perf::Scope,
    collected: &Collected,
    services: &Services,
) -> anyhow::Result<RunningEngine> {
    let sampler = perf::Config {
        frequency: recording.frequency,
        events: recording.events.clone(),
        scope,
        timestamps: true,
        ..perf::Config::default()
    };
    // JSON is YAML.
    let configuration = json!({
        "receivers": { "perf": sampler },
        // The end of a recording can wait for large programs.
        "processors": { "symbolize": { "timeout": "30s" } },
        "service": { "pipelines": { "profiles": {
            "receivers": ["perf"], "processors": ["symbolize"], "exporters": ["recording"],
        } } },
    });
    Engine::builder()
        .config_yaml(configuration.to_string())
        .exporter("recording", collected.clone())
        .services(services.clone())
        .start()
        .map_err(|error| describe(&error))
}

/// An error of the engine without the configuration that nobody wrote.
fn describe(error: &EngineError) -> anyhow::Error {
    match error {
        EngineError::Build { cause, .. } | EngineError::Receiver { cause, .. } => {
            anyhow!("{}", cause.chain())
        }
        error => anyhow!("{error}"),
    }
}

/// What a recording looks at while it runs.
struct Watch<'a> {
    duration: Option<Duration>,
    command: Option<&'a mut Running>,
    process: Option<&'a Process>,
    engine: &'a mut RunningEngine,
    signals: &'a mut UnboundedReceiver<Arrived>,
}

impl Watch<'_> {
    async fn until_the_end(&mut self, started: Instant, progress: &mut Progress) -> End {
        let metrics = Arc::clone(self.engine.metrics());
        let until = self.duration.and_then(|duration| started.checked_add(duration));
        let mut ticks = tokio::time::interval(TICK);
        // The first tick comes at once.
        ticks.tick().await;
        let mut sampler_ended = false;
        loop {
            let time_is_up = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            let exit = async {
                match &mut self.command {
                    Some(command) => (&mut command.exit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                exit = exit => match exit {
                    Ok(Ok(status)) => return End::Exited(status),
                    _ => return End::TargetGone,
                },
                Some(signal) = self.signals.recv() => match &self.command {
                    Some(_) if signal.from_terminal => {}
                    Some(command) => command.signal(signal.number),
                    None => return End::Signal,
                },
                () = time_is_up => return End::Time,
                ended = self.engine.wait(), if !sampler_ended => match ended {
                    Err(error) => return End::Failed(error),
                    // The command's exit code is still to come.
                    Ok(()) if self.command.is_some() => sampler_ended = true,
                    Ok(()) => return End::TargetGone,
                },
                _ = ticks.tick() => {
                    let samples = metrics.total(names::SAMPLES);
                    progress.show(started.elapsed(), samples, metrics.total(names::SAMPLES_LOST));
                    if self.process.is_some_and(Process::has_ended) {
                        return End::TargetGone;
                    }
                }
            }
        }
    }
}

/// Resolves when somebody wants us to end although we are ending.
async fn interrupted(signals: &mut UnboundedReceiver<Arrived>) {
    tokio::time::sleep(ECHO).await;
    while signals.try_recv().is_ok() {}
    if signals.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Waits for a command without profiling it any more.
async fn accompany(mut command: Running, signals: &mut UnboundedReceiver<Arrived>) -> u8 {
    say!("profpipe: profiling has failed; {} goes on without", command.name);
    loop {
        tokio::select! {
            exit = &mut command.exit => return match exit {
                Ok(Ok(status)) => passed_on(status, &command),
                _ => 1,
            },
            Some(signal) = signals.recv() => {
                if !signal.from_terminal {
                    command.signal(signal.number);
                }
            }
        }
    }
}

/// The exit code that tells how the command ended, as shells have it.
fn passed_on(status: ExitStatus, command: &Running) -> u8 {
    if let Some(signal) = status.signal() {
        say!("profpipe: {} was ended by signal {signal}", command.name);
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Ends a command whose time is up. That it ends is what was asked for, so it is no failure.
async fn end_command(mut command: Running) -> u8 {
    command.signal(libc::SIGTERM);
    if let Ok(exit) = tokio::time::timeout(TERMINATION, &mut command.exit).await {
        return match exit {
            Ok(Ok(status)) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(0),
            _ => 0,
        };
    }
    say!("profpipe: {} did not end within 5 s of SIGTERM and was killed", command.name);
    command.signal(libc::SIGKILL);
    let _ = command.exit.await;
    0
}
