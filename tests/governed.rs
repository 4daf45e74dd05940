//! The sampler under the governor's law, as an engine runs both: sums stay right while the rate changes.
//!
//! Where perf events are not permitted the test says so and does nothing, but on CI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it does nothing"
)]

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use profpipe::metric_names::overhead;
use profpipe::profile::attribute_names::PROCESS_PID;
use profpipe::{Batch, Engine, Exporter, Failure, Profiles, Services};

/// Not a test: the program that the test below profiles. The thread that computes is not the first.
#[test]
fn spin() {
    if std::env::var_os("PROFPIPE_TEST_SPIN").is_none() {
        return;
    }
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        std::hint::black_box(busy(std::hint::black_box(1_000_000)));
    }
}

#[inline(never)]
fn busy(rounds: u64) -> u64 {
    (0..rounds).fold(1, |sum: u64, round| std::hint::black_box(sum.wrapping_mul(31) ^ round))
}

/// A child that is killed when the test ends.
struct Spinner(Child);

impl Spinner {
    fn start() -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spin", "--test-threads=1"])
            .env("PROFPIPE_TEST_SPIN", "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// CPU time of all its threads, in nanoseconds.
    fn cpu(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap().flatten();
        let took = tasks.map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap()
        });
        took.sum()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was seen of a process: in each profile the number of samples and their weight in nanoseconds.
#[derive(Clone)]
struct Seen {
    pid: u32,
    windows: Arc<Mutex<Vec<(f64, f64)>>>,
}

#[profpipe::async_trait]
impl Exporter for Seen {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch.shared().unwrap();
        let sums = self.sums(&profiles);
        self.windows.lock().unwrap().push(sums);
        Ok(())
    }
}

impl Seen {
    fn sums(&self, profiles: &Profiles) -> (f64, f64) {
        let (mut samples, mut nanoseconds) = (0.0, 0.0);
        for (resource, _, profile) in profiles.iter() {
            let pid = resource.get(PROCESS_PID).and_then(|value| value.as_int());
            if pid != Some(i64::from(self.pid)) {
                continue;
            }
            let sum: f64 = profile.samples.iter().map(|sample| sample.weight() as f64).sum();
            match profiles.dictionary.strings.get(profile.sample_type.kind) {
                "samples" => samples += sum,
                _ => nanoseconds += sum,
            }
        }
        (samples, nanoseconds)
    }
}

/// Scenario: the whole host is profiled within a budget while a child computes for some seconds; the
/// frequency rises all that time.
/// Guarantees: samples come with weights whose sum is the child's CPU time, within what so few and
/// unequal samples can tell; the metrics say what it cost; the governor goes with its sampler.
///
/// A sum of weights w has a standard deviation of at most the root of the sum of w²: five of these are
/// allowed, which chance exceeds once in 10⁶ runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_keeps_sums_right() {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let child = Spinner::start();
    let seen = Seen { pid: child.0.id(), windows: Arc::default() };
    let services = Services::default();
    let before = child.cpu();
    let engine = Engine::builder()
        .services(services.clone())
        .exporter("seen", seen.clone())
        .config_yaml(
            "receivers: {perf: {interval: 500ms}}\n\
             processors: {governor: {cpu: 5%}}\n\
             service: {pipelines: {profiles: {receivers: [perf], processors: [governor], \
             exporters: [seen]}}}",
        )
        .start();
    let engine = engine.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let took = child.cpu() - before;
    engine.stop(Duration::from_secs(5)).await.unwrap();
    assert!(services.metrics.total(overhead::WINDOWS) >= 5);
    assert!(services.metrics.total(overhead::CPU) > 0);
    assert!(!services.overhead.is_governed(), "the governor went with its sampler");
    let windows = seen.windows.lock().unwrap().clone();
    let samples: f64 = windows.iter().map(|(samples, _)| samples).sum();
    let sum: f64 = windows.iter().map(|(_, nanoseconds)| nanoseconds).sum();
    assert!(samples > 0.0, "no sample in ten seconds");
    let squares = windows.iter().filter(|(samples, _)| *samples > 0.0);
    let squares: f64 = squares.map(|(samples, sum)| sum * sum / samples).sum();
    let tolerance = 5.0 * squares.sqrt();
    assert!((sum - took).abs() < tolerance, "{sum} of {took} ns, within {tolerance}: {windows:?}");
}
