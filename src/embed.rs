//! The engine with every built-in component, for programs that embed it.

use std::path::PathBuf;

use profpipe_engine::component::{Exporter, Factory, Processor, Receiver};
use profpipe_engine::config::{ConfigErrors, Environment, Layers};
use profpipe_engine::{Catalog, EngineError, Plan, Prepared, RetryPolicy, RunningEngine, Services};

use crate::registry;

/// A pipeline engine; see the [crate documentation](crate) for an example.
#[derive(Debug, Clone, Copy)]
pub struct Engine;

impl Engine {
    /// Begins an engine that knows every built-in component and has no configuration yet.
    pub fn builder() -> Builder {
        Builder {
            inner: profpipe_engine::Builder::new(Catalog::new(registry::components().copied())),
            layers: Layers::new(),
        }
    }
}

/// Collects configuration and components, then starts an engine.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    inner: profpipe_engine::Builder,
    layers: Layers,
}

impl Builder {
    /// Adds a configuration as text. Later texts and files override earlier ones key by key.
    pub fn config_yaml(mut self, text: impl Into<String>) -> Self {
        self.layers = self.layers.text(None, text);
        self
    }

    /// Adds a configuration as text under a name that stands for its file in errors.
    pub fn config_named(mut self, name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.layers = self.layers.text(Some(&name.into()), text);
        self
    }

    /// Adds configuration files.
    pub fn config_files<P: Into<PathBuf>>(mut self, files: impl IntoIterator<Item = P>) -> Self {
        for file in files {
            self.layers = self.layers.file(file);
        }
        self
    }

    /// Lets the configuration see environment variables: `${env:NAME}`, and
    /// `PROFPIPE__receivers__perf__frequency=49` as an override. Without this it sees none.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.layers = self.layers.environment(environment);
        self
    }

    /// Overrides one value, as `receivers::perf::frequency=49`; stronger than everything else.
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.layers = self.layers.set(assignment);
        self
    }

    /// Adds a component type, which configurations can then use like a built-in one.
    pub fn with(mut self, factory: Factory) -> Self {
        self.inner.factory(factory);
        self
    }

    /// Adds a finished receiver, under the id that pipelines list it by.
    pub fn receiver(mut self, id: &str, receiver: impl Receiver + 'static) -> Self {
        self.inner.receiver(id, Box::new(receiver));
        self
    }

    /// Adds a finished processor, under the id that one pipeline lists it by.
    pub fn processor(mut self, id: &str, processor: impl Processor + 'static) -> Self {
        self.inner.processor(id, Box::new(processor));
        self
    }

    /// Adds a finished exporter, under the id that pipelines list it by.
    pub fn exporter(mut self, id: &str, exporter: impl Exporter + 'static) -> Self {
        self.inner.exporter(id, Box::new(exporter));
        self
    }

    /// What the program offers to components: the symbolizer's worker, shared counters.
    pub fn services(mut self, services: Services) -> Self {
        self.inner.services(services);
        self
    }

    /// How many bytes of batches may be in flight; 64 MiB unless set.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.inner.memory_budget(bytes);
        self
    }

    /// How patient exporters are with a destination that fails; as in the Collector unless set.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.inner.retry(policy);
        self
    }

    /// Reads and checks the configuration without building anything.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn plan(&self) -> Result<Plan, ConfigErrors> {
        self.inner.plan(&self.layers.load()?)
    }

    /// Reads the configuration, builds every component and starts, on the current Tokio runtime.
    ///
    /// # Errors
    /// Every mistake in the configuration, or the component that cannot be built on this host.
    pub fn start(self) -> Result<RunningEngine, EngineError> {
        let plan = self.plan()?;
        self.start_plan(&plan)
    }

    /// Starts what [`Builder::plan`] returned.
    ///
    /// # Errors
    /// If a component cannot be built on this host.
    pub fn start_plan(self, plan: &Plan) -> Result<RunningEngine, EngineError> {
        self.inner.start(plan)
    }

    /// Builds the components of what [`Builder::plan`] returned without starting them, so that
    /// another engine can run until [`RunningEngine::hand_over`].
    ///
    /// # Errors
    /// If a component cannot be built on this host.
    pub fn prepare_plan(self, plan: &Plan) -> Result<Prepared, EngineError> {
        self.inner.prepare(plan)
    }
}
