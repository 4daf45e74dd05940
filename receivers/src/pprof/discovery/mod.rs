//! Where targets come from: each source runs on its own and tells its targets when they change.

mod annotated;
pub(super) mod docker;
mod file;
mod http;
pub(super) mod kubernetes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::component::Error;
use profpipe_engine::config::Section;
use profpipe_engine::settings::{self, ShownAddress};
use tokio::sync::mpsc;

use super::config::{Config, StaticConfig};
use super::fetch::Fetcher;
use super::relabel::Labels;
use super::target::Source;

/// The most bytes that a list of targets may take.
const MAX_LIST: usize = 16 << 20;

/// What a source knows now; replaces what it told before.
#[derive(Debug)]
pub(super) struct Update {
    /// The number of the source.
    pub(super) source: usize,
    pub(super) kind: Source,
    /// The labels of each target, `__address__` among them.
    pub(super) targets: Vec<Labels>,
}

/// Starts every source of a configuration; they end when nobody listens any more.
pub(super) fn start(config: &Config, fetcher: &Fetcher, id: &str) -> mpsc::Receiver<Update> {
    let (updates, receiver) = mpsc::channel(16);
    let fixed = config.static_configs.iter().flat_map(labels_of).collect();
    let first = Update { source: 0, kind: Source::Local, targets: fixed };
    // There is room: nothing else has been sent.
    let _ = updates.try_send(first);
    let mut source = 0;
    for files in &config.file_sd_configs {
        source += 1;
        tokio::spawn(file::watch(files.clone(), source, updates.clone(), id.to_owned()));
    }
    let mut poll = |of: String, interval: settings::Duration| {
        source += 1;
        let who = format!("receivers::{id}: {of}");
        Poll { who, interval: interval.0, source, updates: updates.clone() }
    };
    for service in &config.http_sd_configs {
        let poll =
            poll(format!("http_sd {}", ShownAddress::of(&service.url)), service.refresh_interval);
        let asked = Arc::new((service.clone(), fetcher.clone()));
        tokio::spawn(poll.run(move || {
            let asked = Arc::clone(&asked);
            async move { http::list(&asked.0, &asked.1).await }
        }));
    }
    for cluster in &config.kubernetes_sd_configs {
        let poll = poll("the Kubernetes API".to_owned(), cluster.refresh_interval);
        let cluster = Arc::new(cluster.clone());
        tokio::spawn(poll.run(move || {
            let cluster = Arc::clone(&cluster);
            async move { kubernetes::list(&cluster).await }
        }));
    }
    for engine in &config.docker_sd_configs {
        let poll = poll("Docker".to_owned(), engine.refresh_interval);
        let engine = Arc::new(engine.clone());
        tokio::spawn(poll.run(move || {
            let engine = Arc::clone(&engine);
            async move { docker::list(&engine).await }
        }));
    }
    receiver
}

/// A source that is asked at regular times.
struct Poll {
    /// As what it is called in the log.
    who: String,
    interval: Duration,
    source: usize,
    updates: mpsc::Sender<Update>,
}

impl Poll {
    /// Tells the targets when they have changed. While there is no answer, those from before stay.
    async fn run<F: Future<Output = Result<Vec<Labels>, Error>> + Send>(
        self,
        list: impl Fn() -> F,
    ) {
        let Self { who, interval, source, updates } = self;
        let mut told: Option<Vec<Labels>> = None;
        let mut problem: Option<String> = None;
        loop {
            let next = Instant::now() + interval.max(Duration::from_secs(1));
            let listed = list().await;
            let failed = listed.as_ref().err().map(Error::chain);
            if failed != problem {
                // One line for each state, not for each time it is seen.
                match &failed {
                    Some(why) => {
                        tracing::warn!("{who}: {why}; going on with the targets from before");
                    }
                    None => tracing::info!("{who}: it tells targets again"),
                }
                problem = failed;
            }
            match listed {
                Ok(targets) if told.as_ref() == Some(&targets) => {}
                Ok(targets) => {
                    told = Some(targets.clone());
                    let update = Update { source, kind: Source::Network, targets };
                    if updates.send(update).await.is_err() {
                        return;
                    }
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = updates.closed() => return,
            }
        }
    }
}

/// The labels of each target of a group.
fn labels_of(group: &StaticConfig) -> Vec<Labels> {
    let labels = |target: &String| {
        let mut labels: Labels = group.labels.clone();
        labels.insert("__address__".into(), target.clone());
        labels
    };
    group.targets.iter().map(labels).collect()
}

/// Reads a list of groups in YAML or JSON.
fn parse(text: &str) -> Result<Vec<Labels>, Error> {
    let groups = Section::from_yaml(text).and_then(|section| section.read::<Vec<StaticConfig>>());
    let groups = groups.map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Error::new(format!("it is not a list of `targets` and `labels`: {first}"))
    })?;
    Ok(groups.iter().flat_map(labels_of).collect())
}
