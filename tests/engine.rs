//! Every registered component at work in an engine, and every example on this host.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it cannot test here"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profpipe::metric_names::file;
use profpipe::profile::{Profile, ResourceProfiles, SampleRef, ScopeProfiles};
use profpipe::telemetry::names;
use profpipe::{
    Batch, Engine, Error, Kind, Lifecycle, Outcome, Profiles, Receipt, Receiver, RunningEngine,
    Sender, Services, registry,
};

const GRACE: Duration = Duration::from_secs(5);
/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends one batch and waits for what becomes of it.
struct One(tokio::sync::oneshot::Sender<Outcome>);

#[profpipe::async_trait]
impl Receiver for One {
    async fn run(self: Box<Self>, out: Sender, _: Lifecycle) -> Result<(), Error> {
        let (receipt, acknowledgement) = Receipt::new();
        let mut batch = Batch::new(one_sample());
        batch.receipt = receipt;
        out.send(batch).await.map_err(|closed| Error::with_source("cannot send", closed))?;
        let _ = self.0.send(acknowledgement.wait().await);
        Ok(())
    }
}

fn one_sample() -> Profiles {
    let mut batch = Profiles::new();
    let mut profile = Profile::default();
    profile.sample_type.kind = batch.dictionary.strings.intern("cpu");
    profile.sample_type.unit = batch.dictionary.strings.intern("nanoseconds");
    profile.time_unix_nano = 1_700_000_000_000_000_000;
    profile.duration_nano = 10_000_000_000;
    profile.samples.push(SampleRef { values: &[7], ..SampleRef::default() });
    let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
    let mut resource = ResourceProfiles { scopes: vec![scope], ..ResourceProfiles::default() };
    resource.resource.set("service.name", "shop");
    batch.resources.push(resource);
    batch
}

fn builder(directory: &Path, config: &str) -> profpipe::Builder {
    let builder = Engine::builder().config_named("c.yaml", config);
    if config.contains("file:") {
        return builder.set(format!("exporters::file::path={}", directory.display()));
    }
    builder
}

/// Stops an engine in which nothing is left to do; it must not need the time that it is given, nor say
/// that something was late.
async fn stops(name: &str, engine: RunningEngine) {
    let stopped = tokio::time::timeout(DEADLINE, engine.stop(GRACE)).await;
    stopped
        .unwrap_or_else(|_| panic!("{name} does not stop"))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: the condition did not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a component must be told before it can run on its own; `None` if it needs a server, a
/// cluster or a sampler, which tests of its own bring along.
fn least(kind: Kind, name: &str) -> Option<&'static str> {
    Some(match (kind, name) {
        (Kind::Exporter, "otlp_grpc" | "otlp_http" | "pyroscope") => return None,
        (Kind::Processor, "governor" | "k8s_attributes") => return None,
        (Kind::Processor, "memory_limiter") => "{limit_mib: 64}",
        (Kind::Processor, "symbol_upload") => "{endpoint: 'http://127.0.0.1:1'}",
        (Kind::Receiver, "otlp") => "{protocols: {http: {endpoint: '127.0.0.1:0'}}}",
        (Kind::Receiver, "pyroscope") => "{endpoint: '127.0.0.1:0'}",
        (Kind::Receiver, "pprof") => "{static_configs: [{targets: ['127.0.0.1:1']}]}",
        _ => "",
    })
}

/// Scenario: one batch through every processor and every exporter, each with its defaults.
/// Guarantees: it is delivered, counted on both sides, and the engine stops within its grace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_processor_and_exporter_delivers() {
    for factory in registry::components() {
        if ![Kind::Processor, Kind::Exporter].contains(&factory.kind) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let name = factory.name;
        let Some(least) = least(factory.kind, name) else { continue };
        let config = match factory.kind {
            Kind::Exporter => format!(
                "exporters: {{{name}: {least}}}\n\
                 service: {{pipelines: {{profiles: {{receivers: [one], exporters: [{name}]}}}}}}"
            ),
            _ => format!(
                "processors: {{{name}: {least}}}\nexporters: {{nop: }}\nservice: {{pipelines: \
                 {{profiles: {{receivers: [one], processors: [{name}], exporters: [nop]}}}}}}"
            ),
        };
        let (sender, outcome) = tokio::sync::oneshot::channel();
        let services = Services::default();
        let mut engine = builder(directory.path(), &config)
            .receiver("one", One(sender))
            .services(services.clone())
            .start()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        engine.wait().await.unwrap();
        assert_eq!(outcome.await.unwrap(), Outcome::Delivered, "{name}");
        stops(name, engine).await;
        let label = match factory.kind {
            Kind::Exporter => format!("exporters::{name}"),
            _ => format!("processors::{name}"),
        };
        for counter in [names::SAMPLES_IN, names::SAMPLES_OUT] {
            assert_eq!(services.metrics.counter(counter, &label).get(), 1, "{name}: {counter}");
        }
        assert_eq!(services.metrics.total(names::BATCHES_FAILED), 0, "{name}");
    }
}

/// Scenario: every receiver with its defaults; where this host does not allow one, it says so.
/// Guarantees: it stops when asked, within its grace, without an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receiver_stops_when_asked() {
    for factory in registry::components().filter(|factory| factory.kind == Kind::Receiver) {
        let name = factory.name;
        let least = least(factory.kind, name).unwrap_or_default();
        let config = format!(
            "receivers: {{{name}: {least}}}\nexporters: {{nop: }}\n\
             service: {{pipelines: {{profiles: {{receivers: [{name}], exporters: [nop]}}}}}}"
        );
        let engine = match Engine::builder().config_yaml(config).start() {
            Ok(engine) => engine,
            Err(error) => {
                assert!(error.to_string().starts_with(&format!("receivers::{name}: ")));
                profpipe_testing::skipped(&error.to_string());
                continue;
            }
        };
        stops(name, engine).await;
    }
}

/// Scenario: two limits of memory in one configuration, then another without any.
/// Guarantees: the smallest is the budget of the process, and goes with its configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_limit_is_the_budget() {
    let services = Services::default();
    let text = |processors: &str| {
        format!(
            "receivers: {{nop: }}\nexporters: {{nop: }}\nprocessors: {{memory_limiter: {{limit_mib: \
             100}}, memory_limiter/2: {{limit_mib: 50}}}}\nservice: {{pipelines: {{profiles: \
             {{receivers: [nop], processors: {processors}, exporters: [nop]}}}}}}"
        )
    };
    for (processors, mib) in [("[memory_limiter, memory_limiter/2]", 40), ("[]", 64)] {
        let builder = Engine::builder().config_yaml(text(processors)).services(services.clone());
        let engine = builder.start().unwrap();
        assert_eq!(services.budget.limit(), mib << 20);
        engine.stop(GRACE).await.unwrap();
    }
}

/// Scenario: every example that samples, on this host, with short windows and something busy.
/// Guarantees: every exporter of it gets profiles, files appear while it runs, and nothing fails.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_run() {
    let busy = Busy::start();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples");
    for example in std::fs::read_dir(examples).unwrap() {
        let file = example.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let services = Services::default();
        let plan = Engine::builder().config_files([&file]).plan().unwrap();
        let has = |wanted| plan.components().any(|(_, _, name)| name == wanted);
        if !has("perf") || has("symbol_upload") {
            // It samples nothing, or needs its gateway: other tests have what it needs.
            continue;
        }
        let mut builder = Engine::builder().config_files([&file]).services(services.clone());
        let mut expected = Vec::new();
        let mut writes = false;
        for (kind, id, name) in plan.components() {
            match (kind, name) {
                (Kind::Receiver, "perf") => {
                    builder = builder.set(format!("receivers::{id}::interval=200ms"));
                }
                // Half a percent is little for a program that is not optimized.
                (Kind::Processor, "governor") => {
                    builder = builder.set(format!("processors::{id}::cpu=20%"));
                }
                (Kind::Exporter, "file") => {
                    let path = directory.path().join(id.replace('/', "_"));
                    builder = builder.set(format!("exporters::{id}::path={}", path.display()));
                    writes = true;
                }
                _ => {}
            }
            if kind == Kind::Exporter {
                expected.push(format!("exporters::{id}"));
            }
        }
        let engine = match builder.start() {
            Ok(engine) => engine,
            Err(error) => {
                // This host is no pod; tests of the processor run it beside an API server.
                let needs_a_cluster = file.ends_with("kubernetes.yaml")
                    && error.to_string().contains("this is not a pod of a cluster");
                if !needs_a_cluster {
                    profpipe_testing::skipped(&format!("{}: {error}", file.display()));
                }
                continue;
            }
        };
        let metrics = &services.metrics;
        until(&file.display().to_string(), || {
            let failed = metrics.total(names::BATCHES_FAILED);
            assert_eq!(failed, 0, "{}: {:?}", file.display(), metrics.snapshot());
            let out = |label: &String| metrics.counter(names::SAMPLES_OUT, label).get() > 0;
            expected.iter().all(out) && (!writes || metrics.total(file::FILES_WRITTEN) > 0)
        })
        .await;
        engine.stop(GRACE).await.unwrap();
        let folders = std::fs::read_dir(directory.path()).unwrap();
        for folder in folders {
            assert!(std::fs::read_dir(folder.unwrap().path()).unwrap().count() > 0);
        }
    }
    drop(busy);
}

/// A thread that is busy until it is dropped: something for the sampler to see.
struct Busy(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sum = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}
