//! What a running pipeline tells its user: one line that is kept up to date on a terminal, a log
//! line now and then anywhere else.
//!
//! On a terminal the line is the last one; everything logged goes above it. So both go through
//! [`Screen`], which takes the line away before a log line and puts it back after.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use profpipe::metric_names::{file, overhead};
use profpipe::telemetry::{Metrics, names};
use tracing_subscriber::fmt::MakeWriter;

use crate::account::Waiting;
use crate::usage::Usage;

/// How often the line on a terminal is renewed.
const REFRESH: Duration = Duration::from_secs(1);
/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Standard error, shared by the log and the status line.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    terminal: bool,
    line: Arc<Mutex<String>>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        // A dumb terminal cannot go back to the start of a line and clear it.
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { terminal: io::stderr().is_terminal() && !dumb, line: Arc::default() }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Replaces the status line; an empty one takes it away.
    fn show(&self, text: &str) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        // Zero is what terminals say that do not know.
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
        let width = size.map(|size| size.ws_col).filter(|width| *width > 1).unwrap_or(80);
        // The last column stays free: some terminals wrap there.
        let shown: String = text.chars().take(usize::from(width) - 1).collect();
        // A terminal that is gone is no reason to stop profiling.
        let _ = write!(io::stderr().lock(), "\r\x1b[2K{shown}");
        *line = shown;
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { screen: self.clone(), text: Vec::new() }
    }
}

/// One log line, written as a whole when it is complete.
#[derive(Debug)]
pub(crate) struct LogLine {
    screen: Screen,
    text: Vec<u8>,
}

impl Write for LogLine {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let line = self.screen.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stderr().lock();
        // A log that cannot be written has nobody to be told about it.
        let _ = if line.is_empty() {
            out.write_all(&self.text)
        } else {
            out.write_all(b"\r\x1b[2K")
                .and_then(|()| out.write_all(&self.text))
                .and_then(|()| out.write_all(line.as_bytes()))
        };
    }
}

/// Reads the counters and tells what they say.
pub(crate) struct Status {
    screen: Screen,
    metrics: Arc<Metrics>,
    /// Where files go, for people.
    destination: Option<String>,
    started: Instant,
    usage: Usage,
    last: Reading,
    /// What waits in queues on disk at the end, for people.
    waiting: Option<String>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    samples: u64,
    cpu: Duration,
}

impl Status {
    pub(crate) fn new(screen: Screen, metrics: Arc<Metrics>, destination: Option<String>) -> Self {
        let mut usage = Usage::new();
        let now = Instant::now();
        let last = Reading { at: now, samples: 0, cpu: usage.read().cpu };
        Self { screen, metrics, destination, started: now, usage, last, waiting: None }
    }

    /// Tells for ever.
    pub(crate) async fn run(&mut self) {
        let period = if self.screen.is_terminal() { REFRESH } else { LOG_EVERY };
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let line = self.line();
            if self.screen.is_terminal() {
                self.screen.show(&line);
            } else {
                tracing::info!("{line}");
            }
        }
    }

    /// Files go elsewhere from now on.
    pub(crate) fn redirect(&mut self, destination: Option<String>) {
        self.destination = destination;
    }

    /// What waits in queues on disk at the end.
    pub(crate) fn leaves(&mut self, queues: &Waiting) {
        let of_place = queues.iter().flat_map(|(_, destinations)| destinations);
        let records: u64 = of_place.map(|(_, pending)| pending.records).sum();
        if records > 0 {
            let plural = if records == 1 { "" } else { "es" };
            self.waiting =
                Some(format!("{records} batch{plural} wait in queues for the next start"));
        }
    }

    /// Takes the line away and says how it went.
    pub(crate) fn finish(&self) {
        if self.screen.is_terminal() {
            self.screen.show("");
        }
        let total = |name| self.metrics.total(name);
        let mut line = format!(
            "stopped after {}: {} samples, {} lost, {} files",
            clock(self.started.elapsed()),
            grouped(total(names::SAMPLES)),
            grouped(total(names::SAMPLES_LOST)),
            grouped(total(file::FILES_WRITTEN)),
        );
        if let Some(destination) = &self.destination {
            line.push_str(&format!(" in {destination}"));
        }
        if let Some(waiting) = &self.waiting {
            line.push_str(&format!("; {waiting}"));
        }
        tracing::info!("{line}");
    }

    /// What the counters say now; rates are since the last call.
    fn line(&mut self) -> String {
        let now = Instant::now();
        let usage = self.usage.read();
        let samples = self.metrics.total(names::SAMPLES);
        let elapsed = now.duration_since(self.last.at).as_secs_f64().max(0.001);
        let rate = samples.saturating_sub(self.last.samples) as f64 / elapsed;
        let cpu = usage.cpu.saturating_sub(self.last.cpu).as_secs_f64() / elapsed * 100.0;
        self.last = Reading { at: now, samples, cpu: usage.cpu };
        let mut parts = vec![
            clock(self.started.elapsed()),
            format!("{rate:.0} samples/s"),
            format!("{} lost", grouped(self.metrics.total(names::SAMPLES_LOST))),
            format!("cpu {cpu:.1}%"),
        ];
        if let Some(overhead) = overhead(&self.metrics) {
            parts.push(overhead);
        }
        parts.extend(oldest_window(&self.metrics));
        parts.extend(unnamed(&self.metrics));
        if let Some(own) = usage.resident {
            let children = usage.children_resident >> 20;
            let worker = if children > 0 { format!(" + {children} worker") } else { String::new() };
            parts.push(format!("mem {}{worker} MiB", own >> 20));
        }
        let files = grouped(self.metrics.total(file::FILES_WRITTEN));
        match &self.destination {
            Some(destination) => parts.push(format!("{files} files in {destination}")),
            None => {
                let delivered = self.exported();
                parts.push(format!("{} batches out", grouped(delivered)));
            }
        }
        let failed = self.metrics.total(names::BATCHES_FAILED);
        if failed > 0 {
            parts.push(format!("{} failed", grouped(failed)));
        }
        parts.join(" | ")
    }

    fn exported(&self) -> u64 {
        let of_exporter = |(name, id, _): &(&str, String, u64)| {
            *name == names::BATCHES_OUT && id.starts_with("exporters::")
        };
        self.metrics.snapshot().iter().filter(|row| of_exporter(row)).map(|(_, _, n)| n).sum()
    }
}

/// What profiling costs of what it may, if there is a budget.
fn overhead(metrics: &Metrics) -> Option<String> {
    let percent = |name| metrics.total(name) as f64 / 1e4;
    let budget = percent(overhead::BUDGET);
    let spent = percent(overhead::SPENT);
    (budget > 0.0).then(|| format!("overhead {spent:.2} % of {budget} %"))
}

/// Seconds from which on the age of the oldest window is worth a place in the line.
const OLD: u64 = 2;

/// How old the oldest window is whose profile has not left, and what it waits for.
fn oldest_window(metrics: &Metrics) -> Option<String> {
    let seconds = metrics.total(names::OLDEST_WINDOW) / 1000;
    if seconds < OLD {
        return None;
    }
    let waiting = metrics
        .readings()
        .into_iter()
        .filter(|reading| reading.name == names::WINDOWS_WAITING && reading.value > 0);
    let stages = waiting.flat_map(|reading| reading.labels).map(|(_, stage)| stage);
    let stages: Vec<String> = stages.collect();
    Some(format!("oldest window {seconds} s ({})", stages.join(", ")))
}

/// The share of frames without a name, where names were looked for.
fn unnamed(metrics: &Metrics) -> Option<String> {
    let (named, unnamed) =
        (metrics.total(names::FRAMES_NAMED), metrics.total(names::FRAMES_UNNAMED));
    let share = unnamed as f64 * 100.0 / (named + unnamed) as f64;
    (share >= 0.5).then(|| format!("{share:.0} % unnamed"))
}

/// `1h02m03s`, `2m03s` or `3s`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes:02}m{seconds:02}s"),
    }
}

/// `1,234,567`.
/// A number with commas between thousands.
pub(crate) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: numbers and times of every length.
    /// Guarantees: they read as people write them.
    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(clock(Duration::from_secs(3)), "3s");
        assert_eq!(clock(Duration::from_secs(123)), "2m03s");
        assert_eq!(clock(Duration::from_secs(3723)), "1h02m03s");
    }

    /// Scenario: a status line over counters that grew.
    /// Guarantees: it names rate, losses, own cost and where the files are.
    #[test]
    fn the_line_tells_what_matters() {
        let metrics = Arc::new(Metrics::default());
        let screen = Screen { terminal: false, line: Arc::default() };
        let destination = Some("./profiles".to_owned());
        let mut status = Status::new(screen, Arc::clone(&metrics), destination);
        metrics.counter(names::SAMPLES, "perf").add(5000);
        metrics.counter(names::SAMPLES_LOST, "perf").add(1200);
        metrics.counter(file::FILES_WRITTEN, "file").add(3);
        let line = status.line();
        assert!(!line.contains("overhead"), "{line}");
        for part in [" samples/s", "1,200 lost", "cpu ", "3 files in ./profiles"] {
            assert!(line.contains(part), "{line}");
        }
        metrics.counter(overhead::BUDGET, "perf").set(10_000);
        metrics.counter(overhead::SPENT, "perf").set(8_310);
        let line = status.line();
        assert!(line.contains("overhead 0.83 % of 1 %"), "{line}");
        assert!(!line.contains("oldest") && !line.contains("unnamed"), "{line}");
        metrics.counter(names::OLDEST_WINDOW, "perf").set(12_700);
        metrics.labelled(names::WINDOWS_WAITING, "perf", &[("stage", "symbolize")]).set(2);
        metrics.labelled(names::WINDOWS_WAITING, "perf", &[("stage", "send")]).set(0);
        metrics.counter(names::FRAMES_NAMED, "symbolize").add(90);
        metrics.counter(names::FRAMES_UNNAMED, "symbolize").add(10);
        let line = status.line();
        for part in ["oldest window 12 s (symbolize)", "10 % unnamed"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
