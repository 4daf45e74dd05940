//! The `file_storage` extension: a directory in which queues survive the process.
//!
//! It makes sure that the directory is there. What is in it belongs to the queues of the exporters
//! that name the extension in `sending_queue::storage`; how they lay it out is the delivery's
//! business, and all of them share one log.

mod config;
#[cfg(test)]
mod tests;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use profpipe_engine::component::{Error, Extension, Factory, Stability, StoragePlace};

pub use config::{Compaction, Config};

/// How the component is registered.
pub const FACTORY: Factory = Factory::extension::<Config>(
    "file_storage",
    Stability::Beta,
    "keeps queues in a directory, so that they survive the process",
);

struct FileStorage {
    place: StoragePlace,
}

impl FileStorage {
    fn open(config: &Config) -> Result<Self, Error> {
        let directory = &config.directory;
        let name = directory.display();
        if !directory.is_dir() {
            if !config.create_directory {
                let what = format!("{name} is not a directory; create it or set create_directory");
                return Err(Error::new(what));
            }
            let mode = config.mode().unwrap_or(config::PRIVATE);
            DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(|cause| {
                let what = format!("cannot create {name}; create it for this user or name another");
                Error::with_source(what, cause)
            })?;
        }
        let directory = directory.canonicalize().map_err(|cause| {
            Error::with_source(format!("cannot find the directory {name}"), cause)
        })?;
        let place = StoragePlace {
            directory,
            durability: config.durability(),
            max_bytes: config.max_bytes.map(|size| size.0),
            max_age: config.max_age.map(|age| age.0).filter(|age| !age.is_zero()),
            min_free_bytes: config.min_free_bytes.map(|size| size.0),
            segment_bytes: config.segment_bytes.map(|size| size.0),
        };
        Ok(Self { place })
    }
}

impl Extension for FileStorage {
    fn storage(&self) -> Option<StoragePlace> {
        Some(self.place.clone())
    }
}
