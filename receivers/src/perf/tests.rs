//! The receiver as a whole, on this host; where perf events are not permitted these tests say so
//! and do nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and may say why it does nothing"
)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{
    Config as _, Lifecycle, Receiver, ReceiverConfig, Setup, Stopper,
};
use profpipe_engine::config::Problems;
use profpipe_engine::modules::ModuleId;
use profpipe_engine::settings;
use profpipe_engine::telemetry::names;
use profpipe_engine::{Sender, Services};
use profpipe_profile::attribute_names::{
    PROCESS_EXECUTABLE_NAME, PROCESS_PID, SERVICE_NAME, STACK_STATE, THREAD_NAME,
};
use profpipe_profile::{Profiles, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Config, Event, Scope, Unwind};

/// How long a test waits for what must come.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Scenario: the configuration as the design shows it, as `record` builds it, and with nonsense.
/// Guarantees: the public keys mean what they say; nonsense is a problem with a name.
#[test]
fn reads_its_configuration() {
    let text = r#"{"frequency": 99, "interval": "10s", "events": ["cpu"], "unwind": "auto", "scope": "system"}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.events, [Event::Cpu]);
    let text = r#"{"scope": {"pid": 42}, "unwind": "frame_pointers", "stack_size": "16KiB"}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!((config.scope, config.unwind), (Scope::Pid(42), Unwind::FramePointers));
    assert!(serde_json::from_str::<Config>(r#"{"frequencyy": 1}"#).is_err());
    let mut problems = Problems::default();
    Config::default().validate(&mut problems);
    assert!(!format!("{problems:?}").contains("must"));
    Config { frequency: 0, ..Config::default() }.validate(&mut problems);
    assert!(format!("{problems:?}").contains("frequency"));
}

/// Scenario: a process that does not exist is to be profiled.
/// Guarantees: building fails with one line that names it.
#[test]
fn a_process_that_does_not_exist_is_a_clear_error() {
    let config = Config { scope: Scope::Pid(u32::MAX >> 2), ..Config::default() };
    let Err(error) = config.build(&setup()) else { panic!("it was built") };
    let text = error.to_string();
    assert!(text.contains("does not exist") || text.contains("perf events"), "{text}");
    assert!(!text.contains('\n'));
}

/// Not a test: the program that the tests below profile.
#[test]
fn spin() {
    if std::env::var_os("PROFPIPE_TEST_SPIN").is_none() {
        return;
    }
    let until = std::time::Instant::now() + 2 * TEST_TIMEOUT;
    while std::time::Instant::now() < until {
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
            .args(["--exact", "perf::tests::spin", "--test-threads=1"])
            .env("PROFPIPE_TEST_SPIN", "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.end();
    }
}

fn setup() -> Setup {
    Setup::new("perf", Services::default())
}

type Running =
    (JoinHandle<Result<(), profpipe_engine::component::Error>>, mpsc::Receiver<Batch>, Stopper);

fn start(receiver: Box<dyn Receiver>) -> Running {
    let (stopper, life) = Lifecycle::new();
    let (sender, batches) = Sender::detached(64);
    (tokio::spawn(receiver.run(sender, life)), batches, stopper)
}

fn build(scope: Scope, setup: &Setup) -> Option<Box<dyn Receiver>> {
    let interval = settings::Duration::from_millis(500);
    match (Config { scope, interval, ..Config::default() }).build(setup) {
        Ok(receiver) => Some(receiver),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// What the samples of one process come to.
#[derive(Debug, Default)]
struct Sums {
    samples: i64,
    nanoseconds: i64,
    incomplete: i64,
}

fn add(profiles: &Profiles, pid: u32, sums: &mut Sums) -> Option<Resource> {
    let mut resource = None;
    let dictionary = &profiles.dictionary;
    for (of, _, profile) in profiles.iter() {
        if of.get(PROCESS_PID).and_then(|value| value.as_int()) != Some(i64::from(pid)) {
            continue;
        }
        resource = Some(of.clone());
        let counts = dictionary.strings.get(profile.sample_type.kind) == "samples";
        for sample in profile.samples.iter() {
            let keys: Vec<_> = sample
                .attributes
                .iter()
                .map(|ix| dictionary.strings.get(dictionary.attributes.key(*ix)))
                .collect();
            assert!(keys.contains(&THREAD_NAME));
            assert!(!dictionary.stacks.get(sample.stack).is_empty());
            if !counts {
                sums.nanoseconds += sample.weight();
                continue;
            }
            sums.samples += sample.weight();
            if keys.contains(&STACK_STATE) {
                sums.incomplete += sample.weight();
            }
        }
    }
    resource
}

/// Scenario: a child computes; it is profiled by its pid until enough samples have come, and then
/// it ends.
/// Guarantees: samples of it come with a resource that names it; both sample types agree with the
/// frequency; nearly all stacks are complete; the module store has its executable; the receiver
/// ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_a_child_until_it_ends() {
    let mut child = Spinner::start();
    let pid = child.0.id();
    let setup = setup();
    let Some(receiver) = build(Scope::Pid(pid), &setup) else { return };
    let (running, mut batches, _stopper) = start(receiver);
    let mut sums = Sums::default();
    let mut resource = None;
    let mut modules = Vec::new();
    let collect = async {
        while sums.samples < 100 {
            let mut batch = batches.recv().await.expect("the receiver goes on");
            let profiles = batch.profiles().unwrap();
            resource = add(profiles, pid, &mut sums).or(resource.take());
            let mappings = &profiles.dictionary.mappings;
            modules.extend(
                (1..mappings.len() as u32)
                    .filter_map(|row| mappings.check(row))
                    .flat_map(|row| ModuleId::of_mapping(&profiles.dictionary, row)),
            );
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, collect).await.expect("samples come");
    child.end();
    let drain = async { while batches.recv().await.is_some() {} };
    tokio::time::timeout(TEST_TIMEOUT, drain).await.expect("the receiver ends by itself");
    running.await.unwrap().unwrap();

    let executable = std::env::current_exe().unwrap();
    let name = executable.file_name().unwrap().to_str();
    let resource = resource.unwrap();
    assert_eq!(resource.get(PROCESS_EXECUTABLE_NAME).unwrap().as_str(), name);
    assert!(resource.get(SERVICE_NAME).is_some());
    assert!(sums.incomplete * 20 <= sums.samples, "{sums:?}");
    let expected = sums.samples as f64 / 99.0;
    let found = sums.nanoseconds as f64 / 1e9;
    assert!((found / expected - 1.0).abs() < 0.2, "{found} s in {} samples", sums.samples);
    let published = modules.iter().filter(|id| matches!(id, ModuleId::Htl(_)));
    assert!(published.clone().count() > 0);
    for id in published {
        assert!(setup.services.modules.find(id).is_some(), "{id:?}");
    }
    assert!(setup.services.metrics.total(names::SAMPLES) >= sums.samples as u64);
}

/// Scenario: the whole host is profiled while a child computes, and the receiver is told to stop.
/// Guarantees: the child's samples are among those that came; the receiver sends what it holds and
/// ends.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_the_host_until_told_to_stop() {
    let child = Spinner::start();
    let pid = child.0.id();
    let setup = setup();
    let Some(receiver) = build(Scope::System, &setup) else { return };
    let (running, mut batches, stopper) = start(receiver);
    let mut sums = Sums::default();
    let collect = async {
        while sums.samples < 20 {
            let mut batch = batches.recv().await.expect("the receiver goes on");
            add(batch.profiles().unwrap(), pid, &mut sums);
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, collect).await.expect("samples come");
    stopper.stop(Duration::from_secs(5));
    let drain = async { while batches.recv().await.is_some() {} };
    tokio::time::timeout(TEST_TIMEOUT, drain).await.expect("the receiver ends");
    running.await.unwrap().unwrap();
}

/// Scenario: the host is asked what it allows.
/// Guarantees: whatever is missing has a cost, in one line each.
#[test]
fn every_finding_says_what_it_costs() {
    let findings = super::probe();
    assert!(!findings.is_empty());
    for finding in findings {
        assert!(finding.ok() || !finding.cost.is_empty(), "{finding:?}");
        assert!(!finding.detail.contains('\n') && !finding.grant.contains('\n'));
    }
}
