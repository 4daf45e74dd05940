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
use profpipe_profile::attribute_names::PROCESS_PID;
use profpipe_profile::{Profiles, ResourceProfiles};
use profpipe_receivers::perf;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::collect::{Collected, nothing};
use super::insistence::{self, Demand, Insistence};
use super::preload::Preload;
use super::process::Process;
use super::progress::Progress;
use super::signals::Arrived;
use super::target::{Running, Target};
use super::tree::{self, Member};
use super::{Recording, summary};
use crate::commands::{fail, run::services};

/// How long the last window may take to be named; large programs take their time.
const GRACE: Duration = Duration::from_secs(60);
/// How long a command that we end has before it is killed.
const TERMINATION: Duration = Duration::from_secs(5);
/// How long one that was killed may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often progress is shown and the process is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long a command has to end after a second Ctrl-C before it is left alone.
const LEAVE_AFTER: Duration = Duration::from_millis(300);
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
pub(super) use say;

/// Why a recording ended.
enum End {
    /// The command has ended.
    Exited(ExitStatus),
    /// The process has ended.
    TargetGone,
    /// Somebody wants it to end.
    Signal,
    /// The same, and the command, which has not ended by Ctrl-C, is left alone.
    Left,
    /// The time is up.
    Time,
    /// The sampler cannot go on.
    Failed(EngineError),
}

pub(super) async fn run(
    recording: Recording,
    target: Target,
    preload: Option<Preload>,
    mut signals: UnboundedReceiver<Arrived>,
) -> anyhow::Result<ExitCode> {
    let collected = Collected::default();
    let services = services();
    let mut engine = match start(&recording, target.scope.clone(), &collected, &services) {
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
        asked: Insistence::default(),
        deadline: None,
        leaves: false,
    };
    let end = watch.until_the_end(started, &mut progress).await;
    let elapsed = started.elapsed();

    progress.finishing();
    let stopped = stop(engine, &services, &mut signals, &mut progress).await;
    progress.clear();
    let failed = match end {
        End::Failed(ref error) => Some(describe(error)),
        _ => stopped.as_ref().err().map(describe),
    };
    let mut profiles = collected.take();
    // Of the tree of a command; of the host nobody knows.
    let observed = matches!(target.scope, perf::Scope::Pid(_))
        .then(|| services.metrics.total(names::PROCESSES));
    let ending = match (&end, command) {
        (End::Exited(status), Some(command)) => Some(Ending {
            code: passed_on(*status, &command),
            survivors: describe_survivors(&command, &profiles, observed),
        }),
        (End::Time | End::Signal, Some(command)) => {
            let is_time = matches!(end, End::Time);
            Some(end_command(command, is_time, &mut signals, &profiles, observed).await)
        }
        (End::Left, Some(command)) => {
            let (name, pid) = (&command.name, command.member.pid);
            say!("profpipe: {name} does not end by Ctrl-C and goes on; kill {pid} ends it");
            // It is one of those that go on, and has been told.
            let others = observed.map(|count| count.saturating_sub(1));
            Some(Ending {
                code: 128 + libc::SIGINT as u8,
                survivors: describe_survivors(&command, &profiles, others),
            })
        }
        // The sampler is gone, but the command is not ours to stop for that.
        (End::Failed(_), Some(command)) => {
            Some(Ending { code: accompany(command, &mut signals).await, survivors: None })
        }
        _ => None,
    };
    let (code, survivors) = ending.map_or((0, None), |ending| (ending.code, ending.survivors));
    if let Some(preload) = preload {
        // What goes on may start programs that look for the library.
        preload.end(survivors.is_some());
    }
    if let Some(survivors) = survivors {
        say!("profpipe: {survivors}");
    }
    if profiles.sample_count() == 0 {
        profiles = nothing(recording.frequency, began, elapsed);
    }
    let cost = own_cpu().saturating_sub(before);
    let hidden = services.metrics.total(perf::HIDDEN_PROCESSES);
    let text = summary::of(&profiles, elapsed, recording.frequency, hidden)
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
        "processors": {
            // What a comparison must know of the host, the kernel and the program; nothing from a network.
            "resource_detection": { "detectors": ["fingerprint"] },
            // The end of a recording can wait for large programs.
            "symbolize": { "timeout": "30s" },
        },
        "service": { "pipelines": { "profiles": {
            "receivers": ["perf"],
            "processors": ["resource_detection", "symbolize"],
            "exporters": ["recording"],
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

/// Ends the sampler and waits for names, until that is done or somebody does not want to wait.
async fn stop(
    engine: RunningEngine,
    services: &Services,
    signals: &mut UnboundedReceiver<Arrived>,
    progress: &mut Progress,
) -> Result<(), EngineError> {
    let mut stopping = std::pin::pin!(engine.stop(GRACE));
    tokio::select! {
        stopped = &mut stopping => return stopped,
        () = interrupted(signals) => {}
    }
    progress.clear();
    say!("profpipe: interrupted again: what there is is written, without the names still missing");
    services.haste.begin();
    stopping.await
}

/// What a recording looks at while it runs.
struct Watch<'a> {
    duration: Option<Duration>,
    command: Option<&'a mut Running>,
    process: Option<&'a Process>,
    engine: &'a mut RunningEngine,
    signals: &'a mut UnboundedReceiver<Arrived>,
    asked: Insistence,
    /// When the recording ends although the command, which was told to end, has not.
    deadline: Option<Instant>,
    /// The command is left alone then.
    leaves: bool,
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
                Some(signal) = self.signals.recv() => {
                    if self.command.is_none() {
                        return End::Signal;
                    }
                    self.pass_on(signal, progress);
                }
                () = at(self.deadline) => {
                    return if self.leaves { End::Left } else { End::Signal };
                }
                () = at(until), if self.deadline.is_none() => return End::Time,
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
                    if let Some(command) = &self.command
                        && self.asked.hint_is_due(Instant::now())
                    {
                        let seconds = insistence::WINDOW.as_secs();
                        progress.clear();
                        say!(
                            "profpipe: {} goes on; Ctrl-C again within {seconds} s ends the recording",
                            command.name
                        );
                    }
                }
            }
        }
    }

    /// Passes a signal on to the command, or ends it because somebody asks again.
    fn pass_on(&mut self, signal: Arrived, progress: &mut Progress) {
        let Some(command) = &self.command else { return };
        let now = Instant::now();
        let name = &command.name;
        match self.asked.note(signal.number, now) {
            Demand::PassOn => {
                if !signal.from_terminal {
                    command.signal(signal.number);
                }
            }
            Demand::Leave => {
                if !signal.from_terminal {
                    command.signal(signal.number);
                }
                self.leaves = true;
                // It may be about to end.
                self.deadline = now.checked_add(LEAVE_AFTER);
            }
            Demand::Terminate => {
                progress.clear();
                let seconds = TERMINATION.as_secs();
                say!(
                    "profpipe: asked to end again: {name} gets SIGTERM, and SIGKILL after {seconds} s; \
                     once more ends it at once"
                );
                self.deadline = now.checked_add(TERMINATION);
                command.signal_all(libc::SIGTERM);
            }
            Demand::Kill => {
                progress.clear();
                // What comes after it is the end; one that the kernel holds back may take longer.
                self.deadline = Some(now);
                self.leaves &= signal.number == libc::SIGINT;
            }
        }
    }
}

/// Resolves at an instant; never if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
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
    let mut asked = Insistence::default();
    loop {
        tokio::select! {
            exit = &mut command.exit => return match exit {
                Ok(Ok(status)) => passed_on(status, &command),
                _ => 1,
            },
            Some(signal) = signals.recv() => match asked.note(signal.number, Instant::now()) {
                Demand::PassOn | Demand::Leave if signal.from_terminal => {}
                Demand::PassOn | Demand::Leave => command.signal(signal.number),
                Demand::Terminate => command.signal_all(libc::SIGTERM),
                Demand::Kill => command.signal_all(libc::SIGKILL),
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

/// How a command has ended.
struct Ending {
    code: u8,
    /// What there is to say of what it has started.
    survivors: Option<String>,
}

/// What there is to say of processes that go on without the command.
fn describe_survivors(
    command: &Running,
    profiles: &Profiles,
    count: Option<u64>,
) -> Option<String> {
    let mut sampled = Vec::new();
    if count.is_some() {
        let pid = |of: &ResourceProfiles| of.resource.get(PROCESS_PID)?.as_int();
        sampled.extend(profiles.resources.iter().filter_map(pid));
    }
    let sampled: Vec<u32> = sampled.into_iter().filter_map(|pid| pid.try_into().ok()).collect();
    tree::describe_survivors(&command.name, command.member, &sampled, count)
}

/// Ends a command, and what it has started, because the time is up or because somebody has asked for
/// it again and again. The first is no failure: it is what was asked for.
async fn end_command(
    mut command: Running,
    is_time: bool,
    signals: &mut UnboundedReceiver<Arrived>,
    profiles: &Profiles,
    observed: Option<u64>,
) -> Ending {
    let others = tree::descendants(command.member.pid);
    let also = match others.len() {
        0 => String::new(),
        1 => " and a process that it has started".into(),
        count => format!(" and {count} processes that it has started"),
    };
    let name = command.name.clone();
    let mut status = None;
    if is_time {
        say!("profpipe: the time is up: SIGTERM ends {name}{also}");
        command.signal(libc::SIGTERM);
        others.iter().for_each(|member| member.signal(libc::SIGTERM));
        let ended = async {
            // Asked only once: it has no second answer.
            status = Some((&mut command.exit).await);
            tree::wait(others.clone(), TERMINATION).await;
        };
        tokio::select! {
            _ = tokio::time::timeout(TERMINATION, ended) => {}
            // Somebody does not want to wait.
            Some(_) = signals.recv() => {}
        }
    }
    let still: Vec<Member> = others.iter().copied().filter(|member| member.is_alive()).collect();
    if status.is_none() || !still.is_empty() {
        match (is_time, status.is_none()) {
            (true, true) => say!("profpipe: {name} did not end by SIGTERM and was killed"),
            (true, false) => {
                say!("profpipe: {} of them did not end by SIGTERM and were killed", still.len());
            }
            (false, _) => say!("profpipe: {name}{also} killed"),
        }
        command.signal(libc::SIGKILL);
        still.iter().for_each(|member| member.signal(libc::SIGKILL));
        if status.is_none() {
            status = tokio::time::timeout(KILL_TIMEOUT, &mut command.exit).await.ok();
        }
        tree::wait(still, KILL_TIMEOUT).await;
    }
    // The command itself was one of them.
    let ended = 1 + others.len() as u64;
    let survivors = observed.map(|observed| observed.saturating_sub(ended));
    let code = match status {
        Some(Ok(Ok(status))) if is_time => {
            status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(0)
        }
        Some(Ok(Ok(status))) => passed_on(status, &command),
        _ if is_time => 0,
        // It could not be killed, as in a call that the kernel does not interrupt.
        _ => 130,
    };
    Ending { code, survivors: describe_survivors(&command, profiles, survivors) }
}
