//! A program with a pipeline inside: its own receiver, its own exporter, its own settings.
//!
//! `cargo run --example embedding` sends three batches through the engine and prints them.

#![allow(clippy::print_stdout, reason = "the example shows its result")]

use std::time::Duration;

use profpipe::profile::{Profile, ResourceProfiles, SampleRef, ScopeProfiles};
use profpipe::{
    Batch, Config, Engine, Error, Exporter, ExporterConfig, Factory, Failure, Lifecycle, Profiles,
    Receiver, Sender, Setup, Stability,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives three batches of one sample and ends.
struct Three;

#[profpipe::async_trait]
impl Receiver for Three {
    async fn run(self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        for weight in 1..=3 {
            tokio::select! {
                // Waits while the engine holds as much as it may.
                sent = out.send(Batch::new(one_sample(weight))) => {
                    sent.map_err(|closed| Error::with_source("cannot send", closed))?;
                }
                _ = life.stopping() => break,
            }
        }
        Ok(())
    }
}

/// A batch of one sample of the type `cpu` in `nanoseconds`, for the service `shop`.
fn one_sample(weight: i64) -> Profiles {
    let mut batch = Profiles::new();
    let mut profile = Profile::default();
    profile.sample_type.kind = batch.dictionary.strings.intern("cpu");
    profile.sample_type.unit = batch.dictionary.strings.intern("nanoseconds");
    profile.samples.push(SampleRef { values: &[weight], ..SampleRef::default() });
    let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
    let mut resource = ResourceProfiles { scopes: vec![scope], ..ResourceProfiles::default() };
    resource.resource.set("service.name", "shop");
    batch.resources.push(resource);
    batch
}

/// What users type for the exporter `print`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PrintConfig {
    /// What stands before every line.
    prefix: String,
}

impl Config for PrintConfig {}

impl ExporterConfig for PrintConfig {
    fn build(self, _: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(Print(self.prefix)))
    }
}

/// Prints every sample.
struct Print(String);

#[profpipe::async_trait]
impl Exporter for Print {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch.shared().map_err(|error| Failure::Reject {
            cause: Error::with_source("cannot decode the batch", error),
        })?;
        for (resource, _, profile) in profiles.iter() {
            for sample in profile.samples.iter() {
                let service = resource.get("service.name").and_then(|name| name.as_str());
                println!("{}{}: {}", self.0, service.unwrap_or("?"), sample.weight());
            }
        }
        Ok(())
    }
}

const PIPELINE: &str = "
exporters:
  print: { prefix: 'sample of ' }
service:
  pipelines:
    profiles: { receivers: [three], exporters: [print] }
";

#[tokio::main]
async fn main() -> Result<(), profpipe::EngineError> {
    let print = Factory::exporter::<PrintConfig>("print", Stability::Alpha, "prints every sample");
    let mut engine = Engine::builder()
        .with(print) // a type that configurations can use, with settings
        .receiver("three", Three) // a finished receiver, under an id
        .config_yaml(PIPELINE)
        .start()?;
    engine.wait().await?; // until every receiver has ended
    engine.stop(Duration::from_secs(5)).await
}
