//! `profpipe record`: profiles a command, a process or the host into one file.
//!
//! A command is started stopped, the sampler is attached, then the command runs. It owns its
//! standard input and output, gets the signals that are sent to us, and its exit code becomes ours.
//! Who asks for the end a second time gets it: the command is ended, and what was recorded is written.
//! Everything that we print goes to standard error.

mod collect;
mod counting;
mod gate;
mod insistence;
mod preload;
mod process;
mod progress;
mod session;
mod signals;
mod summary;
mod target;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use profpipe_receivers::perf;

use crate::cli;
use crate::files::Output;
use crate::mistake::Mistake;
use preload::Preload;
use target::Target;

/// The fastest that anybody may ask for; the kernel may allow less.
const MAX_FREQUENCY: u32 = 10_000;

/// Looks at waiting threads in a second, where nothing is said.
const LOOKS: u32 = 400;

/// What to record, checked.
struct Recording {
    frequency: u32,
    events: Vec<perf::Event>,
    duration: Option<Duration>,
    output: Output,
    /// The output as the user named it.
    path: PathBuf,
}

pub(crate) fn run(arguments: cli::Record) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::check(&arguments)?;
    let preload = recording.prepare_heap(&arguments)?;
    let environment = preload.as_ref().map(Preload::environment).unwrap_or_default();
    // From here on something may have been started, and errors must end it.
    let target = Target::find(&arguments, environment)?;
    // Only now: the command has inherited which signals are ignored.
    let signals = signals::listen()?;
    log_warnings();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(session::run(recording, target, preload, signals));
    runtime.shutdown_background();
    result
}

/// Shows what components warn about, such as a permission that is missing; `PROFPIPE_LOG` chooses
/// otherwise.
fn log_warnings() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("PROFPIPE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // Only a second logger is an error, and there is none.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .try_init();
}

impl Recording {
    /// Everything that can be known to be wrong before anything is started.
    fn check(arguments: &cli::Record) -> anyhow::Result<Self> {
        let wrong = |message: String| anyhow::Error::new(Mistake(format!("record: {message}")));
        let what = [arguments.pid.is_some(), arguments.all, !arguments.cmd.is_empty()];
        if what == [false; 3] {
            let message = "nothing to profile; give a command after `--`, or -p PID, or -a";
            return Err(wrong(message.into()));
        }
        if !(1..=MAX_FREQUENCY).contains(&arguments.frequency) {
            return Err(wrong(format!(
                "-F {}: the frequency must be from 1 to {MAX_FREQUENCY}",
                arguments.frequency
            )));
        }
        let mut events: Vec<perf::Event> = Vec::new();
        for text in &arguments.event {
            let event =
                perf::Event::parse(text).map_err(|error| wrong(format!("-e {text}: {error}")))?;
            if !events.iter().any(|known| known.identity() == event.identity()) {
                events.push(for_a_recording(event));
            }
        }
        if arguments.cmd.is_empty() && events.iter().any(|it| matches!(it, perf::Event::Heap(_))) {
            let message = "-e heap: programs are started with a library that samples their heap; give a \
                           command after `--`";
            return Err(wrong(message.into()));
        }
        let has_time = |it: &perf::Event| matches!(it, perf::Event::Cpu | perf::Event::Wall(_));
        if events.iter().any(|it| matches!(it, perf::Event::Calls(_)))
            && !events.iter().any(has_time)
        {
            // How long a call takes is what people count calls for.
            events.push(for_a_recording(perf::Event::Wall(perf::OffCpu::default())));
        }
        let duration = arguments.duration.map(|seconds| {
            Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|duration| !duration.is_zero())
                .ok_or_else(|| wrong(format!("-d {seconds}: give a number of seconds above 0")))
        });
        Ok(Self {
            frequency: arguments.frequency,
            events,
            duration: duration.transpose()?,
            output: Output::create(&arguments.output)?,
            path: arguments.output.clone(),
        })
    }
}

impl Recording {
    /// What a command needs to have its heap sampled, if that is wanted.
    fn prepare_heap(&mut self, arguments: &cli::Record) -> anyhow::Result<Option<Preload>> {
        let heap = self.events.iter_mut().find_map(|event| match event {
            perf::Event::Heap(options) => Some(options),
            _ => None,
        });
        let (Some(options), Some(program)) = (heap, arguments.cmd.first()) else { return Ok(None) };
        let preload = Preload::prepare(options.interval())?;
        options.listen.get_or_insert_with(|| preload.socket());
        // What is left in the end is what people want to know of a run.
        options.at_end = true;
        for remark in preload::remarks(program) {
            session::say!("profpipe: {remark}");
        }
        Ok(Some(preload))
    }
}

/// An event with what is best for a recording where nothing was said: more looks than an agent takes, and
/// no thread is left out that waits from the beginning to the end.
fn for_a_recording(event: perf::Event) -> perf::Event {
    let more = |options: perf::OffCpu| perf::OffCpu {
        rate: options.rate.or(Some(LOOKS)),
        parked: options.parked.or(Some(perf::Parked::Keep)),
        ..options
    };
    match event {
        perf::Event::OffCpu(options) => perf::Event::OffCpu(more(options)),
        perf::Event::Wall(options) => perf::Event::Wall(more(options)),
        // Who asks for it now wants it, whatever it takes.
        perf::Event::Calls(options) => perf::Event::Calls(perf::Calls {
            max_hits: options.max_hits.or(Some(u64::MAX)),
            ..options
        }),
        event => event,
    }
}

#[cfg(test)]
mod tests;
