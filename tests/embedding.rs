//! The library as another program sees it: only names that `profpipe` exports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use profpipe::telemetry::names;
use profpipe::{
    Batch, Config, Engine, EngineError, Error, Exporter, Factory, Failure, Lifecycle, Outcome,
    Profiles, Receipt, Receiver, ReceiverConfig, Sender, Services, Setup, Stability,
};

/// What users type for the receiver `count_to`.
#[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct CountTo {
    /// How many batches to give.
    last: u32,
}

impl Default for CountTo {
    fn default() -> Self {
        Self { last: 3 }
    }
}

impl Config for CountTo {
    fn validate(&self, problems: &mut profpipe::config::Problems) {
        if self.last > 100 {
            problems.push("last", "must be at most 100");
        }
    }
}

impl ReceiverConfig for CountTo {
    fn build(self, _: &Setup) -> Result<Box<dyn Receiver>, Error> {
        Ok(Box::new(self))
    }
}

#[profpipe::async_trait]
impl Receiver for CountTo {
    async fn run(self: Box<Self>, out: Sender, _: Lifecycle) -> Result<(), Error> {
        for _ in 0..self.last {
            let (receipt, acknowledgement) = Receipt::new();
            let mut batch = Batch::new(Profiles::new());
            batch.receipt = receipt;
            out.send(batch).await.map_err(|closed| Error::with_source("cannot send", closed))?;
            match acknowledgement.wait().await {
                Outcome::Delivered => {}
                other => return Err(Error::new(format!("{other:?}"))),
            }
        }
        Ok(())
    }
}

/// Keeps where batches came from.
#[derive(Clone, Default)]
struct Origins(Arc<Mutex<Vec<String>>>);

#[profpipe::async_trait]
impl Exporter for Origins {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.0.lock().unwrap().push(batch.context.receiver.to_string());
        Ok(())
    }
}

const PIPELINE: &str = "\
receivers: {count_to/two: {last: 2}}
service: {pipelines: {profiles: {receivers: [count_to/two], exporters: [mine, nop]}}}
exporters: {nop: }
";

fn factory() -> Factory {
    Factory::receiver::<CountTo>("count_to", Stability::Alpha, "counts")
}

/// Scenario: a program adds a receiver type and a finished exporter beside a built-in one, and runs
/// the engine.
/// Guarantees: settings arrive, batches arrive with their origin and are acknowledged, counters
/// are the program's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_components_in_own_program() {
    let origins = Origins::default();
    let services = Services::default();
    let mut engine = Engine::builder()
        .with(factory())
        .exporter("mine", origins.clone())
        .config_yaml(PIPELINE)
        .set("receivers::count_to/two::last=4")
        .services(services.clone())
        .start()
        .unwrap();
    engine.wait().await.unwrap();
    engine.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(*origins.0.lock().unwrap(), ["count_to/two"; 4]);
    assert_eq!(services.metrics.counter(names::BATCHES_IN, "exporters::nop").get(), 4);
}

/// Scenario: a configuration uses an older spelling of a type.
/// Guarantees: it works, with a warning that gives the new one.
#[test]
fn older_spellings_warn() {
    let old = factory().with_aliases(&["countto"]);
    let text = PIPELINE.replace("count_to", "countto");
    let builder = Engine::builder().with(old).exporter("mine", Origins::default());
    let plan = builder.config_named("app.yaml", text).plan().unwrap();
    let warnings: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
    let place = "app.yaml:1:13: receivers::countto/two: ";
    assert_eq!(warnings, [format!("{place}`countto` is an older spelling; write `count_to`")]);
}

/// Scenario: the same program with a wrong configuration, and without a runtime.
/// Guarantees: errors that a program can tell apart, with the texts that users get.
#[test]
fn errors_are_told() {
    let builder = || Engine::builder().with(factory()).exporter("mine", Origins::default());
    let text = PIPELINE.replace("last: 2", "last: 200").replace("[mine,", "[mien,");
    let error = builder().config_named("app.yaml", text).plan().unwrap_err().to_string();
    assert_eq!(
        error,
        "app.yaml:1:34: receivers::count_to/two::last: must be at most 100\n\
         app.yaml:2:73: service::pipelines::profiles::exporters::0: `mien` is not defined under \
         `exporters`; did you mean `mine`?"
    );
    let error = builder().config_yaml(PIPELINE).start().unwrap_err();
    assert!(matches!(error, EngineError::NoRuntime), "{error}");
}

/// Scenario: the examples of the documentation are run.
/// Guarantees: they do what they say; a whole component takes less than 80 lines.
#[test]
fn the_examples_run() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (example, expected) in [
        ("embedding", "sample of shop: 1\nsample of shop: 2\nsample of shop: 3\n"),
        ("component", "team: Some(\"checkout\")\n"),
    ] {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["run", "--quiet", "--example", example])
            .current_dir(root)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{example}");
    }
    let component = std::fs::read_to_string(root.join("examples/component.rs")).unwrap();
    assert!(component.lines().count() < 80, "{} lines", component.lines().count());
}
