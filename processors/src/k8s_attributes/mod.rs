//! The `k8s_attributes` processor: says of which pod, workload, namespace and node a profile is.
//!
//! The API server is listed and watched by a thread of its own; what it says is kept in a store, of
//! which only the needed fields. A resource is found by its container, which is what profiles have.
//!
//! # What it promises
//! - The pipeline never waits. A batch of which a pod is not known yet is parked for a bounded time,
//!   within bounded bytes; what was waited for in vain once is not waited for again.
//! - Attributes that are there already stay as they are.
//! - No answer of the API server, however long, broken or late, ends the processor; without any
//!   answer batches go on as they are.
//!
//! # Layout
//! `config`: what users type. `access`, `watch`: the API server. `objects`: what it says. `store`:
//! what is known. `rules`: what is made of it.

mod access;
mod config;
pub mod metric_names;
mod objects;
mod rules;
mod store;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::telemetry::Counter;
use profpipe_formats::otlp;
use profpipe_profile::Resource;
use tokio::sync::oneshot;

use self::config::Comparison;
use self::objects::Kind;
use self::rules::ExtractRules;
use self::store::{Query, Store};
use self::watch::{Pace, Shared, Watcher, escaped};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "k8s_attributes",
    Stability::Alpha,
    "says of which Kubernetes pod, workload, namespace and node a profile is",
)
.with_aliases(&["k8sattributes"]);

/// How long it is remembered that waiting was in vain.
const IN_VAIN: Duration = Duration::from_secs(600);
/// Of how many this is remembered.
const MAX_IN_VAIN: usize = 16_384;
/// How often what is gone is looked through.
const PURGE: Duration = Duration::from_secs(10);

/// The processor.
pub(crate) struct KubernetesAttributes {
    config: Config,
    /// Nothing in passthrough mode.
    shared: Option<Arc<Shared>>,
    /// Ends the thread when the last processor of this id and these settings is dropped.
    _watch: Option<Arc<Watch>>,
    started: Instant,
    parked: VecDeque<Parked>,
    parked_bytes: usize,
    /// What was waited for in vain, and when.
    in_vain: HashMap<Query, Instant>,
    /// The change of the store that was looked at last.
    seen: u64,
    purged: Instant,
    found: Counter,
    missed: Counter,
    parked_gauge: Counter,
}

/// What is known of a cluster, and the thread that keeps it so. A reload goes on with it.
#[derive(Debug)]
struct Watch {
    shared: Arc<Shared>,
    /// Ends the thread when it is dropped.
    _stop: oneshot::Sender<()>,
}

/// The watch of the processor before this one, as long as that is there.
type KnownWatch = Mutex<Weak<Watch>>;

/// A batch that waits.
#[derive(Debug)]
struct Parked {
    batch: Batch,
    bytes: usize,
    deadline: Instant,
}

impl KubernetesAttributes {
    /// The processor, with the thread that asks the API server.
    ///
    /// # Errors
    /// If the API server cannot be asked from here.
    pub(crate) fn start(config: Config, setup: &Setup) -> Result<Self, Error> {
        Self::start_at(config, setup, Pace::default())
    }

    fn start_at(config: Config, setup: &Setup, pace: Pace) -> Result<Self, Error> {
        let metrics = &setup.services.metrics;
        let component = format!("processors::{}", setup.id);
        let known = setup.services.carried.of_same::<_, KnownWatch>(&component, &config);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watch = known.upgrade().filter(|_| !config.passthrough);
        if !config.passthrough && watch.is_none() {
            let counter = |name| metrics.counter(name, &setup.id);
            let made = Arc::new(Shared {
                access: access::Access::of(&config)?,
                wanted: ExtractRules::of(&config).map_err(Error::new)?,
                store: Mutex::default(),
                changes: Counter::default(),
                events: counter(metric_names::EVENTS),
                lists: counter(metric_names::LISTS),
                failures: counter(metric_names::FAILURES),
                pods: counter(metric_names::PODS),
                pace,
                id: setup.id.clone(),
            });
            let watchers = watchers(&config, &made)?;
            let made = Arc::new(Watch { _stop: spawn(watchers)?, shared: made });
            *known = Arc::downgrade(&made);
            watch = Some(made);
        }
        drop(known);
        let now = Instant::now();
        Ok(Self {
            config,
            shared: watch.as_ref().map(|watch| Arc::clone(&watch.shared)),
            _watch: watch,
            started: now,
            parked: VecDeque::new(),
            parked_bytes: 0,
            in_vain: HashMap::new(),
            seen: 0,
            purged: now,
            found: metrics.counter(metric_names::RESOURCES_FOUND, &setup.id),
            missed: metrics.counter(metric_names::RESOURCES_MISSED, &setup.id),
            parked_gauge: metrics.counter(metric_names::PARKED_BYTES, &setup.id),
        })
    }

    /// Until when batches wait for the first list.
    fn first_list(&self, store: &Store) -> Option<Instant> {
        let until = self.started + self.config.wait_for_metadata_timeout.0;
        (self.config.wait_for_metadata && !store.is_listed()).then_some(until)
    }

    /// Whether a batch lacks something that may still come.
    fn lacks(&self, batch: &mut Batch, shared: &Shared, now: Instant) -> Result<bool, Error> {
        let of_bytes = batch.wire().map(|request| otlp::resources(request)).transpose();
        let of_bytes = of_bytes.map_err(unreadable)?;
        let mut resources: Vec<&Resource> = Vec::new();
        match &of_bytes {
            Some(read) => resources.extend(read.iter().map(|(resource, _)| resource)),
            None => {
                let groups = &batch.profiles().map_err(unreadable)?.resources;
                resources.extend(groups.iter().map(|group| &group.resource));
            }
        }
        let store = shared.store();
        if !store.is_watched(Kind::Pod) {
            return Ok(false);
        }
        let is_unknown = |resource: &Resource| {
            let queries = shared.wanted.queries(resource);
            let Some(first) = queries.first() else { return false };
            let is_vain = self.in_vain.get(first).is_some_and(|at| *at + IN_VAIN > now);
            if is_vain {
                return false;
            }
            match store.find(&queries) {
                None => true,
                found => !shared.wanted.apply(&store, found, &mut resource.clone()),
            }
        };
        Ok(resources.into_iter().any(is_unknown))
    }

    /// Sets what is known and emits the batch.
    fn emit(&mut self, mut batch: Batch, now: Instant, out: &mut Outbox) -> Result<(), Error> {
        let Some(shared) = self.shared.clone() else {
            out.push(batch);
            return Ok(());
        };
        let store = shared.store();
        let edited = batch.edit_resources(|resource| {
            let queries = shared.wanted.queries(resource);
            let found = store.find(&queries);
            let is_found = found.is_some();
            let is_complete = shared.wanted.apply(&store, found, resource) && is_found;
            let Some(query) = queries.into_iter().next() else { return };
            if is_found {
                self.found.add(1)
            } else {
                self.missed.add(1)
            }
            if is_complete {
                return;
            }
            if self.in_vain.len() >= MAX_IN_VAIN {
                self.in_vain.retain(|_, at| *at + IN_VAIN > now);
                if self.in_vain.len() >= MAX_IN_VAIN {
                    self.in_vain.clear();
                }
            }
            self.in_vain.insert(query, now);
        });
        edited.map_err(unreadable)?;
        drop(store);
        out.push(batch);
        Ok(())
    }

    /// Emits what waits no longer: what has become known, what is too late, what is too much.
    fn release(&mut self, now: Instant, out: &mut Outbox) {
        let Some(shared) = self.shared.clone() else { return };
        let changes = shared.changes.get();
        let has_changed = changes != self.seen;
        self.seen = changes;
        let limit = usize::try_from(self.config.max_parked.0).unwrap_or(usize::MAX);
        let first_list = self.first_list(&shared.store());
        let mut waiting = VecDeque::with_capacity(self.parked.len());
        while let Some(mut parked) = self.parked.pop_front() {
            let is_late = parked.deadline <= now || self.parked_bytes > limit;
            let waits_for_list = first_list.is_some_and(|until| until > now);
            let goes = is_late
                || has_changed
                    && !waits_for_list
                    && !self.lacks(&mut parked.batch, &shared, now).unwrap_or(false);
            if !goes {
                waiting.push_back(parked);
                continue;
            }
            self.parked_bytes = self.parked_bytes.saturating_sub(parked.bytes);
            // It was read when it came in.
            let _ = self.emit(parked.batch, now, out);
        }
        self.parked = waiting;
        self.parked_gauge.set(self.parked_bytes as u64);
    }
}

fn unreadable(cause: otlp::DecodeError) -> Error {
    Error::with_source("cannot read the batch", cause)
}

impl Processor for KubernetesAttributes {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        let Some(shared) = self.shared.clone() else {
            out.push(batch);
            return Ok(());
        };
        let now = Instant::now();
        let first_list = self.first_list(&shared.store()).filter(|until| *until > now);
        let lacks = self.lacks(&mut batch, &shared, now)?;
        let deadline = match first_list {
            Some(until) => until.max(now + self.config.wait.0),
            None if lacks => now + self.config.wait.0,
            None => now,
        };
        if deadline <= now {
            return self.emit(batch, now, out);
        }
        let bytes = batch.bytes();
        self.parked_bytes = self.parked_bytes.saturating_add(bytes);
        self.parked.push_back(Parked { batch, bytes, deadline });
        self.release(now, out);
        Ok(())
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox) {
        self.release(now, out);
        if let Some(shared) = &self.shared
            && now.saturating_duration_since(self.purged) >= PURGE
        {
            self.purged = now;
            shared.store().purge(now);
        }
    }

    fn finish(&mut self, _deadline: Instant, out: &mut Outbox) {
        let now = Instant::now();
        for parked in std::mem::take(&mut self.parked) {
            let _ = self.emit(parked.batch, now, out);
        }
        self.parked_bytes = 0;
        self.parked_gauge.set(0);
    }

    fn wants(&self) -> Access {
        if self.shared.is_some() { Access::Resources } else { Access::Bytes }
    }
}

/// What is to be watched.
fn watchers(config: &Config, shared: &Arc<Shared>) -> Result<Vec<Watcher>, Error> {
    let node = match config.filter.node_from_env_var.as_str() {
        "" => config.filter.node.clone(),
        name => std::env::var(name).ok().filter(|node| !node.is_empty()).ok_or_else(|| {
            Error::new(format!(
                "`filter::node_from_env_var`: the environment variable {name} is not set; let the \
                 pod have it from `spec.nodeName`"
            ))
        })?,
    };
    let mut watchers = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| shared.wanted.needs(*kind)) {
        shared.store().watch(kind);
        let namespace = &config.filter.namespace;
        let path = if kind.is_namespaced() && !namespace.is_empty() {
            format!("{}/namespaces/{}/{}", kind.group(), escaped(namespace), kind.plural())
        } else {
            format!("{}/{}", kind.group(), kind.plural())
        };
        let mut fields = Vec::new();
        let mut labels = Vec::new();
        match kind {
            Kind::Pod => {
                if !node.is_empty() {
                    fields.push(format!("spec.nodeName={node}"));
                }
                for selector in &config.filter.fields {
                    let sign = if selector.op == Comparison::NotEquals { "!=" } else { "=" };
                    fields.push(format!("{}{sign}{}", selector.key, selector.value));
                }
                for selector in &config.filter.labels {
                    let (key, value) = (&selector.key, &selector.value);
                    labels.push(match selector.op {
                        Comparison::Equals => format!("{key}={value}"),
                        Comparison::NotEquals => format!("{key}!={value}"),
                        Comparison::Exists => key.clone(),
                        Comparison::DoesNotExist => format!("!{key}"),
                    });
                }
            }
            Kind::Node if !node.is_empty() => fields.push(format!("metadata.name={node}")),
            _ => {}
        }
        let mut selectors = String::new();
        for (name, list) in [("fieldSelector", fields), ("labelSelector", labels)] {
            if !list.is_empty() {
                selectors.push_str(&format!("{name}={}&", escaped(&list.join(","))));
            }
        }
        let shared = Arc::clone(shared);
        let from_cache = kind == Kind::Pod && !node.is_empty();
        watchers.push(Watcher { shared, kind, path, selectors, from_cache, has_complained: false });
    }
    Ok(watchers)
}

/// Runs the watches on a thread of their own, until what is returned is dropped.
fn spawn(watchers: Vec<Watcher>) -> Result<oneshot::Sender<()>, Error> {
    let cannot = |cause| Error::with_source("cannot start a thread for the Kubernetes API", cause);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(cannot)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        runtime.block_on(async {
            for watcher in watchers {
                tokio::spawn(watcher.run());
            }
            // It is dropped, never sent.
            let _ = stopped.await;
        });
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name("kubernetes".into()).spawn(run).map_err(cannot)?;
    Ok(stop)
}
