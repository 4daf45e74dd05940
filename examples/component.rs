//! A component of one's own, whole: what users type, what it does, how it is registered.
//! `cargo run --example component` prints the resource of a batch that went through it.
#![allow(clippy::print_stdout, reason = "the example shows its result")]

use profpipe::profile::ResourceProfiles;
use profpipe::{
    Batch, Config, Engine, Error, Exporter, Factory, Failure, Lifecycle, Outbox, Processor,
    ProcessorConfig, Profiles, Receiver, Sender, Setup, Stability,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Says on every resource which team it belongs to.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Team {
    /// The value of `team`; must not be empty.
    name: String,
}

impl Config for Team {
    fn validate(&self, problems: &mut profpipe::config::Problems) {
        if self.name.is_empty() {
            problems.push("name", "must not be empty");
        }
    }
}

impl ProcessorConfig for Team {
    fn build(self, _: &Setup) -> Result<Box<dyn Processor>, Error> {
        Ok(Box::new(self))
    }
}

impl Processor for Team {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        let cannot_read = |cause| Error::with_source("cannot read the batch", cause);
        batch.edit_resources(|resource| resource.set("team", &*self.name)).map_err(cannot_read)?;
        out.push(batch);
        Ok(())
    }
}

/// Its name in configurations, how far one may rely on it, what it does in one line.
const TEAM: Factory =
    Factory::processor::<Team>("team", Stability::Alpha, "says whose a resource is");

struct One;
struct Print;

#[profpipe::async_trait]
impl Receiver for One {
    async fn run(self: Box<Self>, out: Sender, _: Lifecycle) -> Result<(), Error> {
        let mut profiles = Profiles::new();
        profiles.resources.push(ResourceProfiles::default());
        out.send(Batch::new(profiles)).await.map_err(|closed| Error::new(closed.to_string()))
    }
}

#[profpipe::async_trait]
impl Exporter for Print {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let cause = |error| Failure::Reject { cause: Error::with_source("cannot read", error) };
        for group in &batch.shared().map_err(cause)?.resources {
            println!("team: {:?}", group.resource.get("team").and_then(|team| team.as_str()));
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), profpipe::EngineError> {
    let config = "{processors: {team: {name: checkout}}, service: {pipelines: {profiles: \
                  {receivers: [one], processors: [team], exporters: [print]}}}}";
    let engine = Engine::builder().with(TEAM).receiver("one", One).exporter("print", Print);
    let mut engine = engine.config_yaml(config).start()?;
    engine.wait().await?; // until every receiver has ended
    engine.stop(std::time::Duration::from_secs(5)).await
}
