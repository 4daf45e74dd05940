//! Files with credentials that may be replaced while the program runs.
//!
//! They are looked at once a second, by what the file system says about them and not by their
//! content. If one cannot be read any more, or its new content is wrong, that is told once, and what
//! was read last stays in force.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use profpipe_engine::component::{Error, Lifecycle};
use profpipe_engine::settings::Secret;
use profpipe_network::WatchedFiles;

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Larger files than this are no credentials.
const LARGEST: u64 = 1 << 20;

/// How a value is read.
type Read<T> = Box<dyn Fn() -> Result<T, Error> + Send + Sync>;

/// A value that is read from files and read again when these change.
pub(crate) struct Watched<T> {
    files: Mutex<WatchedFiles>,
    read: Read<T>,
    value: RwLock<Arc<T>>,
}

impl<T> Watched<T> {
    /// The value that `read` returns now, and again whenever one of the files has changed.
    ///
    /// # Errors
    /// If it cannot be read now.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let files = Mutex::new(WatchedFiles::new(files));
        let value = RwLock::new(Arc::new(read()?));
        Ok(Self { files, read: Box::new(read), value })
    }

    /// The value as it is now.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files until told to stop.
    pub(crate) async fn keep_up(&self, id: &str, mut life: Lifecycle) {
        if self.files().is_empty() {
            life.stopping().await;
            return;
        }
        loop {
            tokio::select! {
                _ = life.stopping() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => self.look(id),
            }
        }
    }

    /// Reads again if a file has changed.
    pub(crate) fn look(&self, id: &str) {
        // The caller says when to look.
        if !self.files().have_changed(Duration::from_nanos(1)) {
            return;
        }
        match (self.read)() {
            Ok(value) => {
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!("extensions::{id}: read the changed credentials");
            }
            Err(error) => {
                let why = error.chain();
                tracing::warn!("extensions::{id}: the earlier credentials stay in force: {why}");
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, WatchedFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of a file with secrets.
pub(crate) fn read_secret(file: &Path) -> Result<Secret, Error> {
    let name = file.display();
    let failed = |cause: std::io::Error| Error::with_source(format!("cannot read {name}"), cause);
    let data = std::fs::metadata(file).map_err(failed)?;
    if !data.is_file() || data.len() > LARGEST {
        return Err(Error::new(format!("{name} is not a small file")));
    }
    std::fs::read_to_string(file).map(Secret::new).map_err(failed)
}
