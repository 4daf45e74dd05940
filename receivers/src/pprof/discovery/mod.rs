//! Where targets come from: each source runs on its own and tells its targets when they change.

mod annotated;
pub(super) mod docker;
mod file;
mod http;
pub(super) mod kubernetes;

use profpipe_pipeline::component::Error;
use profpipe_pipeline::config::Section;
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
    for service in &config.http_sd_configs {
        source += 1;
        let fetcher = fetcher.clone();
        tokio::spawn(http::ask(service.clone(), source, updates.clone(), fetcher, id.to_owned()));
    }
    for cluster in &config.kubernetes_sd_configs {
        source += 1;
        tokio::spawn(kubernetes::ask(cluster.clone(), source, updates.clone(), id.to_owned()));
    }
    for engine in &config.docker_sd_configs {
        source += 1;
        tokio::spawn(docker::ask(engine.clone(), source, updates.clone(), id.to_owned()));
    }
    receiver
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
        Error::new(format!("it is no list of `targets` and `labels`: {first}"))
    })?;
    Ok(groups.iter().flat_map(labels_of).collect())
}
