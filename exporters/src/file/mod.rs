//! The `file` exporter: each window of each service as a file that other tools open.
//!
//! A batch is one window. Its resources are grouped by service, each group becomes a file that
//! appears whole or not at all and never replaces another ([`directory`]), with a name that no
//! service name can abuse ([`name`]). Old files are deleted by age and by bytes.
//!
//! When an export succeeds, the files survive a crash of the machine. Encoding and writing run on
//! a thread for blocking work.

mod config;
mod directory;
mod name;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Error, Exporter, Factory, Failure, Setup, Stability};
use profpipe_pipeline::otlp;
use profpipe_pipeline::profile::attribute_names::SERVICE_NAME;
use profpipe_pipeline::profile::{Profiles, ResourceProfiles, Value};
use profpipe_pipeline::telemetry::{Counter, names};

pub use config::{Config, Format, Retention};
use directory::Directory;
use name::Stem;

/// How the component is registered.
pub const FACTORY: Factory = Factory::exporter::<Config>(
    "file",
    Stability::Beta,
    "writes each window of each service as a file",
);

struct FileExporter {
    /// Shared with the thread that writes: an export that is given up does not take it away.
    directory: Arc<Mutex<Directory>>,
    format: Format,
    files_written: Counter,
    bytes_written: Counter,
}

impl FileExporter {
    fn open(config: Config, setup: &Setup) -> Result<Self, Error> {
        let directory = Directory::open(&config.path, config.retention, SystemTime::now())?;
        Ok(Self {
            directory: Arc::new(Mutex::new(directory)),
            format: config.format,
            files_written: setup.services.metrics.counter(names::FILES_WRITTEN, &setup.id),
            bytes_written: setup.services.metrics.counter(names::FILE_BYTES_WRITTEN, &setup.id),
        })
    }
}

#[async_trait]
impl Exporter for FileExporter {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let batch = batch.clone();
        let directory = Arc::clone(&self.directory);
        let format = self.format;
        let writing = tokio::task::spawn_blocking(move || {
            let profiles = batch.shared().map_err(|cause| Failure::Reject {
                cause: Error::with_source("cannot read the batch", cause),
            })?;
            let now = SystemTime::now();
            let files = files(&profiles, format, now)?;
            let mut directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
            directory
                .write(&files, format, now)
                .map_err(|cause| Failure::Retry { after: None, cause })
        });
        let written = writing.await.map_err(|cause| Failure::Reject {
            cause: Error::with_source("cannot encode the batch", cause),
        })??;
        self.files_written.add(written.files);
        self.bytes_written.add(written.bytes);
        Ok(())
    }
}

/// The files of a batch, one for each service.
fn files(
    profiles: &Profiles,
    format: Format,
    now: SystemTime,
) -> Result<Vec<(Stem, Vec<u8>)>, Failure> {
    let groups = by_service(profiles);
    let stem = |service: &str, resources: &[&ResourceProfiles]| {
        Stem::new(service, name::start_time(first_start(resources), now))
    };
    if let [(service, resources)] = groups.as_slice() {
        return Ok(vec![(stem(service, resources), encode(profiles, format)?)]);
    }
    let mut part = Profiles { dictionary: profiles.dictionary.clone(), resources: Vec::new() };
    let mut files = Vec::with_capacity(groups.len());
    for (service, resources) in groups {
        part.resources = resources.iter().map(|resource| (*resource).clone()).collect();
        files.push((stem(service, &resources), encode(&part, format)?));
    }
    Ok(files)
}

/// The resources of each service, in the order in which services first appear.
fn by_service(profiles: &Profiles) -> Vec<(&str, Vec<&ResourceProfiles>)> {
    let mut groups: Vec<(&str, Vec<&ResourceProfiles>)> = Vec::new();
    let mut group_of = HashMap::new();
    for resource in &profiles.resources {
        if resource.scopes.iter().all(|scope| scope.profiles.is_empty()) {
            continue;
        }
        let service = resource.resource.get(SERVICE_NAME).and_then(Value::as_str);
        let service = service.filter(|name| !name.is_empty()).unwrap_or(name::UNKNOWN_SERVICE);
        let group = *group_of.entry(service).or_insert_with(|| {
            groups.push((service, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, resources)) = groups.get_mut(group) {
            resources.push(resource);
        }
    }
    groups
}

/// When the earliest profile began, in nanoseconds since the epoch; 0 if none says.
fn first_start(resources: &[&ResourceProfiles]) -> u64 {
    let scopes = resources.iter().flat_map(|resource| &resource.scopes);
    let starts = scopes.flat_map(|scope| &scope.profiles).map(|profile| profile.time_unix_nano);
    starts.filter(|start| *start > 0).min().unwrap_or(0)
}

fn encode(profiles: &Profiles, format: Format) -> Result<Vec<u8>, Failure> {
    match format {
        Format::Otlp => Ok(otlp::encode(profiles)),
        Format::Pprof | Format::OtlpJson | Format::Folded => {
            Err(Failure::Reject { cause: Error::new("this format is not written yet") })
        }
    }
}

#[cfg(test)]
mod tests;
