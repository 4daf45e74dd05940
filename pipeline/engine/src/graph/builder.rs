//! From a plan to a running engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::catalog::Catalog;
use super::chain::{Chain, Inbox, Message, ProcessorNode};
use super::export::{Destination, ExportContext, ways};
use super::left_behind;
use super::log_rate_limit::LogRateLimit;
use super::plan::Plan;
use super::running::{ChainHandle, ExporterHandle, RunningEngine, extend, receive};
use crate::budget::DEFAULT_BYTES;
use crate::component::{
    Built, Error, Exporter, Extensions, Factory, Kind, Lifecycle, MemoryLimit, Processor, Receiver,
    Setup,
};
use crate::config::{ConfigErrors, Document};
use crate::delivery::{Delivery, RetryPolicy};
use crate::edge::Edge;
use crate::sender::{Inlet, Outlet, Sender};
use crate::services::Services;
use crate::storage::OpenQueue;
use crate::telemetry::names;

/// Why an engine does not start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(ConfigErrors),
    /// A component cannot be built on this host.
    #[error("{id}: {}", cause.chain())]
    Build {
        /// The component, as `exporters::file`.
        id: String,
        /// Why.
        cause: Error,
    },
    /// A receiver cannot go on.
    #[error("receivers::{id}: {}", cause.chain())]
    Receiver {
        /// The receiver.
        id: String,
        /// Why.
        cause: Error,
    },
    /// An extension cannot go on.
    #[error("extensions::{id}: {}", cause.chain())]
    Extension {
        /// The extension.
        id: String,
        /// Why.
        cause: Error,
    },
    /// The engine was started outside a Tokio runtime.
    #[error("the engine needs a Tokio runtime; start it inside one")]
    NoRuntime,
    /// The system gives no more threads.
    #[error("cannot start the thread of the pipeline {pipeline}: {cause}")]
    Thread {
        /// The pipeline.
        pipeline: String,
        /// Why.
        cause: std::io::Error,
    },
}

impl From<ConfigErrors> for EngineError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

/// Collects what an engine needs and starts it.
#[derive(Default)]
pub struct Builder {
    catalog: Catalog,
    services: Services,
    ready: HashMap<(Kind, String), Built>,
    memory: Option<usize>,
    retry: Option<RetryPolicy>,
    /// Those of the plan, once they are built.
    extensions: Extensions,
    /// What its components want of the memory budget.
    wanted: MemoryLimit,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl Builder {
    /// An engine of these component types.
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, ..Self::default() }
    }

    /// Adds a component type.
    pub fn factory(&mut self, factory: Factory) -> &mut Self {
        self.catalog.add(factory);
        self
    }

    /// Adds a receiver that is there already, under an id that pipelines can list.
    pub fn receiver(&mut self, id: &str, receiver: Box<dyn Receiver>) -> &mut Self {
        self.ready(Kind::Receiver, id, Built::Receiver(receiver))
    }

    /// Adds a processor that is there already, under an id that one pipeline can list.
    pub fn processor(&mut self, id: &str, processor: Box<dyn Processor>) -> &mut Self {
        self.ready(Kind::Processor, id, Built::Processor(processor))
    }

    /// Adds an exporter that is there already, under an id that pipelines can list.
    pub fn exporter(&mut self, id: &str, exporter: Box<dyn Exporter>) -> &mut Self {
        self.ready(Kind::Exporter, id, Built::Exporter(exporter))
    }

    fn ready(&mut self, kind: Kind, id: &str, built: Built) -> &mut Self {
        self.catalog.add_ready(kind, id);
        self.ready.insert((kind, id.to_owned()), built);
        self
    }

    /// What the host program offers to components.
    pub fn services(&mut self, services: Services) -> &mut Self {
        self.services = services;
        self
    }

    /// How many bytes of batches may be in flight.
    pub fn memory_budget(&mut self, bytes: usize) -> &mut Self {
        self.memory = Some(bytes);
        self
    }

    /// How patient exporters are with a destination that fails, where their sections have no
    /// `retry_on_failure`.
    pub fn retry(&mut self, policy: RetryPolicy) -> &mut Self {
        self.retry = Some(policy);
        self
    }

    /// Checks a configuration against the component types.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn plan(&self, document: &Document) -> Result<Plan, ConfigErrors> {
        Plan::new(document, &self.catalog)
    }

    /// Builds every component and starts. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// If a component cannot be built; then nothing was started.
    pub fn start(self, plan: &Plan) -> Result<RunningEngine, EngineError> {
        self.prepare(plan)?.start()
    }

    /// Builds every component, so that what cannot be built is known while another engine still
    /// runs. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// If a component cannot be built.
    pub fn prepare(mut self, plan: &Plan) -> Result<Prepared, EngineError> {
        tokio::runtime::Handle::try_current().map_err(|_| EngineError::NoRuntime)?;
        let parts = self.build_all(plan)?;
        Ok(Prepared { builder: self, plan: plan.clone(), parts })
    }

    fn build_all(&mut self, plan: &Plan) -> Result<Parts, EngineError> {
        self.services.overhead.begin();
        self.services.listeners.begin();
        let mut parts = Parts::default();
        let mut extensions = BTreeMap::new();
        for id in &plan.extensions {
            if let Built::Extension(extension) = self.build(plan, Kind::Extension, id)? {
                extensions.insert(id.clone(), extension);
            }
        }
        self.extensions = Extensions::new(extensions);
        // Exporters first: one that cannot write should say so before a receiver disturbs anybody.
        for pipeline in &plan.pipelines {
            for id in &pipeline.exporters {
                if !parts.exporters.contains_key(id)
                    && let Built::Exporter(exporter) = self.build(plan, Kind::Exporter, id)?
                {
                    parts.exporters.insert(id.clone(), exporter);
                }
            }
        }
        for pipeline in &plan.pipelines {
            let mut processors = Vec::new();
            for id in &pipeline.processors {
                if let Built::Processor(processor) = self.build(plan, Kind::Processor, id)? {
                    processors.push((id.clone(), processor));
                }
            }
            parts.processors.push(processors);
        }
        for pipeline in &plan.pipelines {
            for id in &pipeline.receivers {
                if !parts.receivers.contains_key(id)
                    && let Built::Receiver(receiver) = self.build(plan, Kind::Receiver, id)?
                {
                    parts.receivers.insert(id.clone(), receiver);
                }
            }
        }
        Ok(parts)
    }

    fn build(&mut self, plan: &Plan, kind: Kind, id: &str) -> Result<Built, EngineError> {
        let label = format!("{}::{id}", kind.section());
        let key = (kind, id.to_owned());
        let Some(defined) = plan.components.get(&key) else {
            return self.ready.remove(&key).ok_or_else(|| EngineError::Build {
                id: label,
                cause: Error::new("a ready-made component can be used only once"),
            });
        };
        let setup = Setup {
            id: id.to_owned(),
            services: self.services.clone(),
            extensions: self.extensions.clone(),
            memory: self.wanted.clone(),
        };
        let parsed = (defined.factory.parse)(&defined.section).map_err(ConfigErrors::from)?;
        let built = (defined.factory.build)(parsed, &setup)
            .map_err(|cause| EngineError::Build { id: label.clone(), cause })?;
        let as_promised = match &built {
            Built::Receiver(_) => Kind::Receiver,
            Built::Processor(_) => Kind::Processor,
            Built::Exporter(_) => Kind::Exporter,
            Built::Extension(_) => Kind::Extension,
        };
        if as_promised == kind {
            return Ok(built);
        }
        let cause = Error::new("its factory built a component of another kind");
        Err(EngineError::Build { id: label, cause })
    }

    /// Where the queue of an exporter is, if it is durable.
    fn log_of(&self, delivery: &Delivery) -> Result<Option<Arc<OpenQueue>>, Error> {
        let Some(id) = &delivery.queue.storage else { return Ok(None) };
        let place = self.extensions.get(id)?.storage().ok_or_else(|| {
            Error::new(format!("the extension `{id}` keeps no queues; use `file_storage`"))
        })?;
        Ok(Some(self.services.queues.open(&place)?))
    }

    fn wire(self, plan: &Plan, parts: Parts) -> Result<RunningEngine, EngineError> {
        let metrics = &self.services.metrics;
        let budget = Arc::clone(&self.services.budget);
        let wanted = self.memory.into_iter().chain(self.wanted.get()).min();
        budget.set_limit(wanted.unwrap_or(DEFAULT_BYTES));
        let (stop, stopped) = watch::channel(None::<Instant>);
        let (close, closed) = watch::channel(false);
        let (finish, finished) = watch::channel(false);
        let around = ExportContext {
            metrics: Arc::clone(metrics),
            budget: Arc::clone(&budget),
            overhead: Arc::clone(&self.services.overhead),
            stop: stopped,
            finish: finished,
        };
        let mut exporters = Vec::new();
        let mut destinations = BTreeMap::new();
        for (id, exporter) in parts.exporters {
            let delivery = plan.delivery(&id, self.retry)?;
            let destination = self
                .log_of(&delivery)
                .and_then(|log| Destination::new(&id, exporter, delivery, log, &around))
                .map_err(|cause| EngineError::Build { id: format!("exporters::{id}"), cause })?;
            destinations.insert(id, destination);
        }
        let served: BTreeSet<_> = destinations
            .iter()
            .filter_map(|(id, destination)| Some((destination.place()?, id.clone())))
            .collect();
        let mut chains = Vec::new();
        let mut inboxes = Vec::new();
        for (pipeline, processors) in plan.pipelines.iter().zip(parts.processors) {
            let (ways, appenders) = ways(&destinations, pipeline);
            for (id, appender) in appenders {
                exporters.push(ExporterHandle { id, task: tokio::spawn(appender.run()) });
            }
            if processors.is_empty() {
                inboxes.push(Inbox::Direct(ways));
                continue;
            }
            let links = processors.into_iter().map(|(id, processor)| {
                let edge = Edge::new(metrics, &format!("processors::{id}"));
                ProcessorNode { id, processor, edge, quiet: LogRateLimit::default() }
            });
            let queued =
                metrics.counter(names::QUEUED_BYTES, &format!("pipelines::{}", pipeline.id));
            let chain = Chain {
                links: links.collect(),
                exporters: ways,
                budget: Arc::clone(&budget),
                overhead: Arc::clone(&self.services.overhead),
                queued: queued.clone(),
            };
            let (queue, messages) = mpsc::channel::<Message>();
            std::thread::Builder::new()
                .name(format!("pp-{}", pipeline.id))
                .spawn(move || chain.run(messages))
                .map_err(|cause| EngineError::Thread { pipeline: pipeline.id.clone(), cause })?;
            chains.push(ChainHandle { pipeline: pipeline.id.clone(), queue: queue.clone() });
            inboxes.push(Inbox::Thread { queue, queued });
        }
        for (id, destination) in destinations {
            exporters.push(ExporterHandle { id, task: tokio::spawn(destination.run()) });
        }
        let mut extensions = JoinSet::new();
        let mut extension_stoppers = Vec::new();
        for (id, extension) in self.extensions.iter() {
            let (stopper, life) = Lifecycle::new();
            extension_stoppers.push(stopper);
            extensions.spawn(extend(id.to_owned(), Arc::clone(extension), life));
        }
        let mut stoppers = Vec::new();
        let mut receivers = JoinSet::new();
        for (id, receiver) in parts.receivers {
            let listed = plan.pipelines.iter().zip(&inboxes);
            let outlet = Outlet {
                receiver: id.as_str().into(),
                budget: Arc::clone(&budget),
                pipelines: listed
                    .filter(|(pipeline, _)| pipeline.receivers.contains(&id))
                    .map(|(_, inbox)| Box::new(inbox.clone()) as Box<dyn Inlet>)
                    .collect(),
                closed: closed.clone(),
                edge: Edge::new(metrics, &format!("receivers::{id}")),
            };
            let (stopper, life) = Lifecycle::new();
            stoppers.push(stopper);
            let sender = Sender::wired(Arc::new(outlet));
            receivers.spawn(receive(id, receiver, sender, life));
        }
        left_behind::report(&served, &self.services, &self.extensions);
        self.services.health.set(true);
        Ok(RunningEngine {
            health: Arc::clone(&self.services.health),
            overhead: Arc::clone(&self.services.overhead),
            receivers,
            stoppers,
            extensions,
            extension_stoppers,
            chains,
            exporters,
            stop,
            close,
            finish,
            budget,
            metrics: Arc::clone(metrics),
        })
    }
}

/// An engine whose components are built and do not run yet.
pub struct Prepared {
    builder: Builder,
    plan: Plan,
    parts: Parts,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Starts it. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn start(self) -> Result<RunningEngine, EngineError> {
        self.builder.wire(&self.plan, self.parts)
    }
}

/// Components that were built and wait to be wired.
#[derive(Default)]
struct Parts {
    receivers: BTreeMap<String, Box<dyn Receiver>>,
    /// For each pipeline, in order.
    processors: Vec<Vec<(String, Box<dyn Processor>)>>,
    exporters: BTreeMap<String, Box<dyn Exporter>>,
}
