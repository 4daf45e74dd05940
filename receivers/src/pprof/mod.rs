//! The `pprof` receiver: asks services for profiles over HTTP.
//!
//! `discovery` finds targets as sets of labels, `relabel` rewrites them, `target` makes of them
//! what to ask where. Each profile of each target has a task (`scrape`) that asks at its own time
//! of the interval, gets the answer (`fetch`), and turns counts since the start of a process into
//! counts since the last answer (`delta`).

mod config;
mod delta;
mod discovery;
mod fetch;
mod profiles;
mod relabel;
mod scrape;
mod status;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use profpipe_engine::Sender;
use profpipe_engine::component::{Error, Factory, Lifecycle, Receiver, Setup, Stability};
use profpipe_engine::telemetry::{Counter, Metrics};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};

pub use config::{
    Config, DockerConfig, FileConfig, HttpConfig, KubernetesConfig, Namespaces, Role, Scheme,
    StaticConfig,
};
pub use profiles::{ProfileConfig, ProfilesConfig};
pub use relabel::{Action, RelabelConfig};

use delta::Baseline;
use discovery::Update;
use fetch::Fetcher;
use relabel::Rule;
use scrape::Scraper;
use status::Status;
use target::Target;

/// How the component is registered.
pub const FACTORY: Factory = Factory::receiver::<Config>(
    "pprof",
    Stability::Alpha,
    "asks services for pprof profiles over HTTP",
);

/// Profiles of targets that are asked for (gauge).
const TARGETS: &str = "profpipe_pprof_targets";

/// How long what was known of targets before a reload waits for them to be told again.
const CARRIED_FOR: Duration = Duration::from_secs(600);

/// The last counts of targets, by their keys: they outlive a reload.
#[derive(Debug, Default)]
struct Baselines(std::sync::Mutex<HashMap<String, Arc<Mutex<Baseline>>>>);

impl Baselines {
    fn of(&self, key: &str) -> Arc<Mutex<Baseline>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(key.to_owned()).or_default())
    }

    fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| keep(key));
    }
}

struct PprofReceiver {
    id: String,
    baselines: Arc<Baselines>,
    job: String,
    config: Config,
    rules: Vec<Rule>,
    fetcher: Fetcher,
    metrics: Arc<Metrics>,
    targets: Counter,
}

impl PprofReceiver {
    fn new(config: Config, setup: &Setup) -> Result<Self, Error> {
        let job = if config.job_name.is_empty() { &setup.id } else { &config.job_name };
        Ok(Self {
            id: setup.id.clone(),
            job: job.clone(),
            rules: config.relabel_configs.iter().cloned().filter_map(Rule::new).collect(),
            fetcher: Fetcher::new(&config, setup)?,
            baselines: setup.services.carried.of(&format!("receivers::{}", setup.id)),
            metrics: Arc::clone(&setup.services.metrics),
            targets: setup.services.metrics.counter(TARGETS, &setup.id),
            config,
        })
    }

    /// The targets of everything that is known.
    fn targets(&self, known: &BTreeMap<usize, Update>) -> HashMap<String, Target> {
        let mut targets = HashMap::new();
        for update in known.values() {
            for labels in &update.targets {
                let found =
                    target::targets(&self.config, &self.job, &self.rules, labels, update.kind);
                match found {
                    Ok(found) => {
                        targets.extend(found.into_iter().map(|target| (target.key(), target)));
                    }
                    Err(problem) => {
                        tracing::warn!("receivers::{}: a target is left out: {problem}", self.id);
                    }
                }
                if targets.len() > self.config.max_targets {
                    tracing::error!(
                        "receivers::{}: more than {} targets; the rest is left out (max_targets)",
                        self.id,
                        self.config.max_targets
                    );
                    return targets;
                }
            }
        }
        targets
    }
}

#[async_trait]
impl Receiver for PprofReceiver {
    async fn run(self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        let mut updates = discovery::start(&self.config, &self.fetcher, &self.id);
        let mut known = BTreeMap::new();
        let mut scrapers = JoinSet::new();
        let mut running: HashMap<String, AbortHandle> = HashMap::new();
        let started = Instant::now();
        let mut measuring: HashMap<String, Arc<Mutex<()>>> = HashMap::new();
        loop {
            let update = tokio::select! {
                _ = life.stopping() => break,
                update = updates.recv() => update,
            };
            let Some(update) = update else {
                // Only targets that never change: nothing more will be told.
                life.stopping().await;
                break;
            };
            known.insert(update.source, update);
            let targets = self.targets(&known);
            self.targets.set(targets.len() as u64);
            running.retain(|key, task| {
                let stays = targets.contains_key(key);
                if !stays {
                    task.abort();
                    self.baselines.retain(|known| known != key);
                }
                stays
            });
            if started.elapsed() > CARRIED_FOR {
                self.baselines.retain(|key| targets.contains_key(key));
            }
            measuring.retain(|_, lock| Arc::strong_count(lock) > 1);
            for (key, target) in targets {
                if running.contains_key(&key) {
                    continue;
                }
                let lock = measuring.entry(target.address.clone()).or_default();
                let scraper = Scraper {
                    interval: self.config.scrape_interval.0,
                    timeout: self.config.scrape_timeout.0,
                    max_body: self.config.max_body_size,
                    fetcher: self.fetcher.clone(),
                    out: out.clone(),
                    measuring: Arc::clone(lock),
                    baseline: self.baselines.of(&key),
                    status: Status::new(&self.metrics, &self.id, &target),
                    target,
                };
                running.insert(key, scrapers.spawn(scraper.run()));
            }
            // What has ended is forgotten.
            while scrapers.try_join_next().is_some() {}
        }
        scrapers.shutdown().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
