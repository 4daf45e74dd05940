//! The agent under test, and what it costs second by second.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::process::{KERNEL_SAMPLE, Meter};

/// Numbers of runs, for their files.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// What a record of a mapping, a name, a fork or an end costs it.
const KERNEL_RECORD: f64 = 2_000.0;

/// The seconds of a day.
const DAY: f64 = 86_400.0;

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    log: std::path::PathBuf,
}

impl Agent {
    pub(crate) fn start(
        home: &Path,
        percent: Option<f64>,
        (hertz, events): (u32, &str),
        sink: SocketAddr,
    ) -> Self {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let governor = percent
            .map(|percent| format!("governor: {{cpu: {percent}%, start: {{advance: 0s}}}},"));
        let listed = if percent.is_some() { "governor, " } else { "" };
        let text = format!(
            "receivers: {{perf: {{frequency: {hertz}, interval: 5s, events: {events}}}}}\n\
             processors: {{{} symbolize: }}\n\
             exporters: {{otlp_http: {{endpoint: 'http://{sink}', compression: none, \
             timeout: 5s}}}}\n\
             service: {{telemetry: {{logs: {{level: debug}}}}, pipelines: {{profiles: \
             {{receivers: [perf], processors: [{listed}symbolize], exporters: [otlp_http]}}}}}}\n",
            governor.unwrap_or_default()
        );
        let config = home.join(format!("{number}.yaml"));
        std::fs::write(&config, text).unwrap();
        let log = home.join(format!("{number}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["run", "--config"])
            .arg(&config)
            .current_dir(home)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Ends it as a user would.
    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }

    /// Its log so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of the agent and its worker in each second, in nanoseconds.
pub(crate) struct Run {
    /// The time of day when the first second began.
    began: f64,
    user: Vec<f64>,
}

impl Run {
    pub(crate) fn measure(agent: &Agent, seconds: f64) -> Self {
        let mut meter = Meter::default();
        let pid = agent.child.id();
        // What came before is the start, which is not counted.
        meter.step(pid);
        let began = Instant::now();
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() % DAY;
        let mut user = Vec::new();
        for second in 1..=seconds as u32 {
            let next = began + Duration::from_secs(u64::from(second));
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            user.push(meter.step(pid));
        }
        Self { began: day, user }
    }

    /// With what the kernel took from the profiled. The agent's own windows say when they ended and
    /// how many samples there were; without a governor they are spread evenly.
    pub(crate) fn with_kernel(&self, said: &str) -> Vec<f64> {
        let cost = cost_of(said);
        let windows = windows_of(said);
        if windows.is_empty() {
            let even = samples_of(said) as f64 / (self.user.len() as f64 + 3.0);
            return self.user.iter().map(|user| user + even * cost).collect();
        }
        let mut costs = self.user.clone();
        for window in &windows {
            let kernel = window.samples * cost + window.sideband * KERNEL_RECORD;
            let end = (window.ended - self.began).rem_euclid(DAY);
            for (second, total) in costs.iter_mut().enumerate() {
                let (from, to) = (second as f64, second as f64 + 1.0);
                let common = end.min(to) - (end - window.seconds).max(from);
                *total += kernel * common.max(0.0) / window.seconds.max(1e-3);
            }
        }
        costs
    }

    /// Of agent and worker alone.
    pub(crate) fn user(&self) -> &[f64] {
        &self.user
    }
}

/// What the agent saw in a window.
pub(crate) struct Window {
    /// The time of day.
    ended: f64,
    pub(crate) seconds: f64,
    pub(crate) samples: f64,
    pub(crate) sideband: f64,
    pub(crate) busy: f64,
}

/// The windows in a log.
pub(crate) fn windows_of(said: &str) -> Vec<Window> {
    let figure = |line: &str, key: &str| -> Option<f64> {
        let (_, rest) = line.split_once(key)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    };
    let window = |line: &str| {
        Some(Window {
            ended: time_of(line)?,
            seconds: figure(line, "Observation { seconds: ")?,
            samples: figure(line, " samples: ")?,
            sideband: figure(line, " sideband: ")?,
            busy: figure(line, " busy: ")?,
        })
    };
    said.lines().filter_map(window).collect()
}

/// The time of day that a line of the log begins with.
fn time_of(line: &str) -> Option<f64> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    time.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

/// What a sample costs the kernel, in nanoseconds, as measured by the agent if it did.
pub(crate) fn cost_of(said: &str) -> f64 {
    let figure = said.split_once("kernel at most ").and_then(|(_, rest)| rest.split_once(' '));
    figure.and_then(|(text, _)| text.parse::<f64>().ok()).map_or(KERNEL_SAMPLE, |us| us * 1000.0)
}

/// The samples of the whole run, as the last line says.
pub(crate) fn samples_of(said: &str) -> u64 {
    let last = said.lines().rev().find(|line| line.contains("stopped after"));
    let figure = last.and_then(|line| line.split_once(" samples"));
    let text = figure.and_then(|(head, _)| head.rsplit(' ').next()).unwrap_or_default();
    text.replace(',', "").parse().unwrap_or(0)
}
