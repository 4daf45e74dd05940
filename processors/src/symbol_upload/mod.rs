//! `symbol_upload`: offers the binaries of this host's profiles to a gateway that names frames.
//!
//! The agent then sends addresses and build ids, a third of the bytes, and keeps its processor time. The
//! processor only looks which modules a batch has and hands it on at once; a thread of its own asks the
//! gateway for each build id whether it has it, and sends what is wanted: one file at a time, so many bytes
//! a minute, nothing while a budget leaves no time for names. No file is read here beyond its headers.
//!
//! - [`mod@config`]: what users type. [`mod@client`]: asks and sends. `thread`: what is offered when.
//!   `kernel`: the kernel's functions as a file.

pub mod client;
pub mod config;
mod kernel;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use profpipe_engine::batch::{Batch, Origin};
use profpipe_engine::component::{Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::modules::{Content, KERNEL, Module, ModuleId, ModuleStore};
use profpipe_profile::{Dictionary, Index as _, MappingIx, StringIx};

use self::client::Uploader;
pub use self::config::Config;
use self::kernel::KnownKernel;
use self::thread::{Candidate, Handle, Pace};
use crate::symbolize::BuildId;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "symbol_upload",
    Stability::Alpha,
    "offers this host's binaries to a gateway that names frames",
);

/// Modules that were offered, or need not be; beyond, all are offered again, and the gateway says that it
/// has them.
const MAX_SEEN: usize = 16_384;

/// Files that were offered, by what came of it.
pub(crate) const FILES: &str = "profpipe_symbol_upload_files_total";
/// Bytes that were sent.
pub(crate) const BYTES: &str = "profpipe_symbol_upload_bytes_total";

/// The processor.
#[derive(Debug)]
pub(crate) struct SymbolUpload {
    modules: Arc<ModuleStore>,
    /// Only modules under these directories; all if there is none.
    paths: Vec<PathBuf>,
    seen: HashSet<BuildId>,
    kernel: Arc<KnownKernel>,
    thread: Handle,
}

impl SymbolUpload {
    /// The processor, with its thread.
    ///
    /// # Errors
    /// If certificates cannot be read, the extension for credentials is not there, or no thread be started.
    pub(crate) fn new(config: Config, setup: &Setup) -> Result<Self, Error> {
        let uploader = Uploader::new(&config.client(), config.timeout.0, &setup.extensions)?;
        let pace = Pace {
            max_file_size: config.max_file_size.0,
            bytes_per_minute: config.bytes_per_minute.0,
            debug_directories: config.debug_directories,
            is_with_kernel: config.kernel,
        };
        let kernel = Arc::new(KnownKernel::default());
        let thread = Handle::start(uploader, pace, &kernel, setup);
        let thread = thread.map_err(|cause| Error::with_source("cannot start a thread", cause))?;
        let modules = Arc::clone(&setup.services.modules);
        Ok(Self { modules, paths: config.paths, seen: HashSet::new(), kernel, thread })
    }

    /// Hands the module of a mapping to the thread, if it was not before.
    fn offer(&mut self, dictionary: &Dictionary, mapping: MappingIx) -> Option<()> {
        let ids = ModuleId::of_mapping(dictionary, mapping);
        let build_id = ids.iter().find_map(|id| match id {
            ModuleId::Gnu(hex) => BuildId::parse(hex),
            _ => None,
        })?;
        if self.seen.contains(&build_id) {
            return None;
        }
        let module = ids.iter().find_map(|id| self.modules.find(id))?;
        let candidate = self.candidate(&module, build_id.clone());
        // Where there is no room it is offered with a later batch.
        if candidate.is_none_or(|candidate| self.thread.hand_over(candidate)) {
            if self.seen.len() >= MAX_SEEN {
                self.seen.clear();
            }
            self.seen.insert(build_id);
        }
        Some(())
    }

    fn candidate(&self, module: &Module, build_id: BuildId) -> Option<Candidate> {
        let Content::Elf(file) = &module.content else { return None };
        let path = Path::new(&module.path);
        let is_meant = self.paths.is_empty() || self.paths.iter().any(|it| path.starts_with(it));
        let file = Arc::clone(file);
        is_meant.then(|| Candidate { build_id, path: path.to_path_buf(), pid: module.pid, file })
    }
}

impl Processor for SymbolUpload {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        if batch.context.origin == Origin::ThisHost
            && let Ok(profiles) = batch.shared()
        {
            let dictionary = &profiles.dictionary;
            for at in 1..dictionary.mappings.len() {
                self.offer(dictionary, MappingIx::new(at as u32));
            }
            let is_kernel = |name: StringIx| dictionary.strings.get(name) == KERNEL;
            let has_kernel = dictionary.mappings.iter().any(|it| is_kernel(it.filename));
            drop(profiles);
            if let Some(kernel) = self.kernel.get().filter(|_| has_kernel)
                && let Ok(profiles) = batch.profiles_mut()
            {
                kernel.mark(profiles);
            }
        }
        out.push(batch);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }
}
