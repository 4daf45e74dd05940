//! The `file` exporter: each window of each service as a file that other tools open.
//!
//! A batch is one window. Its resources are grouped by service, each group becomes a file, or a file
//! for each sample type where the format holds only one. A file
//! appears whole or not at all and never replaces another (`directory`), with a name that no
//! service name can abuse (`name`). Old files are deleted by age and by bytes.
//!
//! When an export succeeds, the files survive a crash of the machine. Encoding and writing run on
//! a thread for blocking work.

mod config;
mod directory;
pub mod metric_names;
mod name;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Exporter, Factory, Failure, Setup, Stability};
use profpipe_engine::overhead::checkpoint;
use profpipe_engine::telemetry::Counter;
use profpipe_formats::report::collapse_all;
use profpipe_formats::{folded, otlp, pprof};
use profpipe_profile::attribute_names::SERVICE_NAME;
use profpipe_profile::{Profiles, ResourceProfiles, Value};

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
            files_written: setup.services.metrics.counter(metric_names::FILES_WRITTEN, &setup.id),
            bytes_written: setup.services.metrics.counter(metric_names::BYTES_WRITTEN, &setup.id),
        })
    }
}

#[async_trait]
impl Exporter for FileExporter {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let batch = batch.clone();
        let directory = Arc::clone(&self.directory);
        let format = self.format;
        let writing = profpipe_engine::overhead::aside(move || {
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

/// The most sample types of a service in one window that become files: each is one.
const MAX_TYPES: usize = 64;

/// The files of a batch, one for each service, or one for each of its sample types.
fn files(
    profiles: &Profiles,
    format: Format,
    now: SystemTime,
) -> Result<Vec<(Stem, Vec<u8>)>, Failure> {
    let services = by_service(profiles);
    let is_whole = services.len() == 1;
    let mut files = Vec::new();
    for (service, positions) in services {
        checkpoint();
        let start = first_start(positions.iter().filter_map(|at| profiles.resources.get(*at)));
        let stem = Stem::new(service, name::start_time(start, now));
        if is_whole {
            encode(profiles, format, stem, &mut files)?;
        } else {
            encode(&profiles.pick(positions), format, stem, &mut files)?;
        }
    }
    Ok(files)
}

/// The positions of each service's resources, in the order in which services first appear.
fn by_service(profiles: &Profiles) -> Vec<(&str, Vec<usize>)> {
    let mut services: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut known = HashMap::new();
    for (position, resource) in profiles.resources.iter().enumerate() {
        if resource.scopes.iter().all(|scope| scope.profiles.is_empty()) {
            continue;
        }
        let service = resource.resource.get(SERVICE_NAME).and_then(Value::as_str);
        let service = service.filter(|name| !name.is_empty()).unwrap_or(name::UNKNOWN_SERVICE);
        let at = *known.entry(service).or_insert_with(|| {
            services.push((service, Vec::new()));
            services.len() - 1
        });
        if let Some((_, positions)) = services.get_mut(at) {
            positions.push(position);
        }
    }
    services
}

/// When the earliest profile began, in nanoseconds since the epoch; 0 if none says.
fn first_start<'a>(resources: impl Iterator<Item = &'a ResourceProfiles>) -> u64 {
    let scopes = resources.flat_map(|resource| &resource.scopes);
    let starts = scopes.flat_map(|scope| &scope.profiles).map(|profile| profile.time_unix_nano);
    starts.filter(|start| *start > 0).min().unwrap_or(0)
}

/// Writes the window of one service: one file, or one for each sample type.
fn encode(
    profiles: &Profiles,
    format: Format,
    stem: Stem,
    files: &mut Vec<(Stem, Vec<u8>)>,
) -> Result<(), Failure> {
    let rejected = |what: &str, cause: Box<dyn std::error::Error + Send + Sync>| Failure::Reject {
        cause: Error::with_source(format!("cannot write the batch as {what}"), cause),
    };
    match format {
        Format::Otlp => files.push((stem, otlp::encode(profiles))),
        Format::OtlpJson => files.push((stem, otlp::encode_json(profiles))),
        Format::Pprof => {
            let content =
                pprof::encode(profiles).map_err(|cause| rejected("pprof", cause.into()))?;
            files.push((stem, content));
        }
        Format::Folded => {
            let types = collapse_all(profiles, MAX_TYPES)
                .map_err(|cause| rejected("collapsed stacks", cause.into()))?;
            for one in &types {
                let kind = &one.profile_type;
                let named = types.iter().filter(|other| other.profile_type == *kind).count();
                let stem = match named {
                    1 => stem.of_type(kind),
                    // Of different things, as `cpu` in nanoseconds and in cycles.
                    _ => stem.of_type(&format!("{kind}_{}", one.unit)),
                };
                files.push((stem, folded::write(one).into_bytes()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
