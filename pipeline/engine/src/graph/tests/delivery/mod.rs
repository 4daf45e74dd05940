//! Delivery to destinations that fail, are slow, refuse and come back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod durable;
mod memory;
mod references;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::component::{
    self, Config, ExporterConfig, Extension, ExtensionConfig, Factory, Offer, Setup, Stability,
    StoragePlace,
};
use profpipe_profile::{
    Function, Line, LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    ScopeProfiles, ValueType,
};

/// Decides about a batch, by its samples' names.
type Decide = Box<dyn FnMut(&[String]) -> Result<(), Failure> + Send>;

/// A destination that a test scripts.
#[derive(Clone)]
struct Backend(Arc<Mutex<Inner>>);

struct Inner {
    decide: Decide,
    /// Every sample that arrived, with how often.
    got: BTreeMap<String, usize>,
    /// The number of samples of each batch that arrived.
    batches: Vec<usize>,
    attempts: usize,
    flying: usize,
    most_flying: usize,
    delay: Duration,
}

impl Backend {
    /// A destination of this name, which configurations refer to.
    fn new(
        name: &str,
        decide: impl FnMut(&[String]) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        let inner = Inner {
            decide: Box::new(decide),
            got: BTreeMap::new(),
            batches: Vec::new(),
            attempts: 0,
            flying: 0,
            most_flying: 0,
            delay: Duration::ZERO,
        };
        let backend = Self(Arc::new(Mutex::new(inner)));
        BACKENDS.lock().unwrap().insert(name.to_owned(), backend.clone());
        backend
    }

    fn healthy(name: &str) -> Self {
        Self::new(name, |_| Ok(()))
    }

    fn set(&self, decide: impl FnMut(&[String]) -> Result<(), Failure> + Send + 'static) {
        self.0.lock().unwrap().decide = Box::new(decide);
    }

    fn slow(self, delay: Duration) -> Self {
        self.0.lock().unwrap().delay = delay;
        self
    }

    fn attempts(&self) -> usize {
        self.0.lock().unwrap().attempts
    }

    fn most_flying(&self) -> usize {
        self.0.lock().unwrap().most_flying
    }

    fn batches(&self) -> Vec<usize> {
        self.0.lock().unwrap().batches.clone()
    }

    /// The names of all samples that arrived; each must have arrived once.
    fn once(&self) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        assert!(inner.got.values().all(|count| *count == 1), "{:?}", inner.got);
        inner.got.keys().cloned().collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().got.values().sum()
    }
}

static BACKENDS: Mutex<BTreeMap<String, Backend>> = Mutex::new(BTreeMap::new());

/// One consumer of a backend.
struct Port(Backend);

#[async_trait]
impl Exporter for Port {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch
            .shared()
            .map_err(|error| Failure::Reject { cause: Error::with_source("unreadable", error) })?;
        let names = names_of(&profiles);
        let delay = {
            let mut inner = self.0.0.lock().unwrap();
            inner.attempts += 1;
            inner.flying += 1;
            inner.most_flying = inner.most_flying.max(inner.flying);
            inner.delay
        };
        if names.iter().any(|name| name == "panic") {
            self.0.0.lock().unwrap().flying -= 1;
            panic!("out of luck");
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut inner = self.0.0.lock().unwrap();
        inner.flying -= 1;
        (inner.decide)(&names)?;
        inner.batches.push(names.len());
        for name in names {
            *inner.got.entry(name).or_default() += 1;
        }
        Ok(())
    }

    fn fork(&self) -> Option<Box<dyn Exporter>> {
        Some(Box::new(Self(self.0.clone())))
    }
}

/// An exporter to a [`Backend`].
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct To {
    name: String,
    auth: BTreeMap<String, String>,
}

impl Config for To {}

impl ExporterConfig for To {
    fn build(self, _: &Setup) -> Result<Box<dyn Exporter>, Error> {
        let backends = BACKENDS.lock().unwrap();
        let backend = backends.get(&self.name).ok_or_else(|| Error::new("no such backend"))?;
        Ok(Box::new(Port(backend.clone())))
    }
}

/// An extension that keeps queues.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Keep {
    directory: PathBuf,
    max_bytes: Option<u64>,
}

impl Config for Keep {}

impl Extension for Keep {
    fn storage(&self) -> Option<StoragePlace> {
        Some(StoragePlace {
            directory: self.directory.clone(),
            durability: component::Durability::Os,
            max_bytes: self.max_bytes,
            segment_bytes: self.max_bytes.map(|bytes| bytes / 4),
            ..StoragePlace::default()
        })
    }
}

impl ExtensionConfig for Keep {
    fn offers() -> Option<&'static [Offer]> {
        Some(&[Offer::Storage])
    }

    fn build(self, _: &Setup) -> Result<Arc<dyn Extension>, Error> {
        Ok(Arc::new(self))
    }
}

/// A builder that knows `to` and `keep`, with a receiver `in`.
fn builder() -> (Builder, mpsc::UnboundedSender<Batch>) {
    let (sender, receiver) = feed();
    let mut builder = Builder::default();
    builder.factory(Factory::exporter::<To>("to", Stability::Alpha, "a test"));
    builder.factory(Factory::extension::<Keep>("keep", Stability::Alpha, "a test"));
    builder.receiver("in", receiver);
    (builder, sender)
}

/// An engine with one exporter, `to`, of these settings.
fn engine(settings: &str) -> (RunningEngine, mpsc::UnboundedSender<Batch>) {
    let (builder, sender) = builder();
    let config = format!(
        "exporters: {{to: {{{settings}}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [in], exporters: [to]}}}}}}"
    );
    (start(builder, &config), sender)
}

/// A batch of samples with these names.
fn named(names: &[&str]) -> (Batch, Acknowledgement) {
    let mut profiles = Profiles::new();
    let tables = &mut profiles.dictionary;
    let kind = tables.strings.intern("samples");
    let unit = tables.strings.intern("count");
    let mut profile =
        Profile { sample_type: ValueType { kind, unit }, time_unix_nano: 1, ..Profile::default() };
    for name in names {
        let name = tables.strings.intern(name);
        let function = tables.functions.intern(Function { name, ..Function::default() });
        let lines = [Line { function, ..Line::default() }];
        let location = LocationRef { lines: &lines, ..LocationRef::default() };
        let location = tables.locations.intern(location);
        let stack = tables.stacks.intern(&[location]);
        profile.samples.push(SampleRef { stack, values: &[1], ..SampleRef::default() });
    }
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    let resource = Resource::default();
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    let (receipt, acknowledgement) = Receipt::new();
    let mut batch = Batch::from_wire(profpipe_formats::otlp::encode(&profiles).into());
    batch.receipt = receipt;
    (batch, acknowledgement)
}

/// The names of all samples.
fn names_of(profiles: &Profiles) -> Vec<String> {
    let tables = &profiles.dictionary;
    let mut names = Vec::new();
    for resource in &profiles.resources {
        for profile in resource.scopes.iter().flat_map(|scope| &scope.profiles) {
            for sample in profile.samples.iter() {
                let location = tables.stacks.get(sample.stack)[0];
                let function = tables.locations.get(location).lines[0].function;
                names.push(tables.strings.get(tables.functions.get(function).name).to_owned());
            }
        }
    }
    names
}

/// Sends so many batches of one sample each, `0` to `count - 1`.
fn send_numbers(
    sender: &mpsc::UnboundedSender<Batch>,
    numbers: std::ops::Range<usize>,
) -> Vec<Acknowledgement> {
    numbers
        .map(|number| {
            let (batch, acknowledgement) = named(&[&format!("{number:04}")]);
            sender.send(batch).unwrap();
            acknowledgement
        })
        .collect()
}

async fn outcomes(acknowledgements: Vec<Acknowledgement>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for acknowledgement in acknowledgements {
        outcomes.push(acknowledgement.wait().await);
    }
    outcomes
}

fn count_of(metrics: &crate::telemetry::Metrics, name: &'static str) -> u64 {
    metrics.counter(name, "exporters::to").get()
}

/// Every sample that was taken is somewhere: sent, dropped for a reason, dead or pending.
fn balance(metrics: &crate::telemetry::Metrics) {
    let count = |name| count_of(metrics, name);
    let ends = [
        names::EXPORTER_SENT_SAMPLES,
        names::EXPORTER_REFUSED_SAMPLES,
        names::EXPORTER_GIVEN_UP_SAMPLES,
        names::EXPORTER_STOPPED_SAMPLES,
        names::EXPORTER_DEAD_SAMPLES,
        names::EXPORTER_PENDING_SAMPLES,
    ];
    let ends: Vec<_> = ends.iter().map(|name| (*name, count(name))).collect();
    let enqueued = count(names::EXPORTER_ENQUEUED_SAMPLES);
    assert_eq!(enqueued, ends.iter().map(|(_, count)| count).sum::<u64>(), "{ends:?}");
    assert_eq!(count(names::EXPORTER_IN_FLIGHT), 0);
}
