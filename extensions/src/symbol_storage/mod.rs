//! The `symbol_storage` extension: binaries and debug files that agents and people upload, by build id.
//!
//! Receivers that name it in `symbol_storage` take uploads; the processor `symbolize` that names it looks
//! there before it asks servers. It keeps files, bounded, and looks at no more of them than their headers:
//! symbols are read by the symbolizer's worker, in its sandbox.
//!
//! - [`mod@config`]: what users type. `store`: the files. `lease`: who sends a file. `upload`: one on its way.

pub mod config;
mod lease;
mod store;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;

use profpipe_engine::component::{Extension, Factory, Stability, SymbolStorage};

pub use config::Config;
use store::Store;

/// How the component is registered.
pub const FACTORY: Factory = Factory::extension::<Config>(
    "symbol_storage",
    Stability::Alpha,
    "keeps binaries and debug files that agents and people upload, for `symbolize`",
);

/// Files that came, by what became of them.
pub(crate) const UPLOADS: &str = "profpipe_symbol_storage_uploads_total";
/// Bytes of the files that are kept (a gauge).
pub(crate) const BYTES: &str = "profpipe_symbol_storage_bytes";

struct SymbolStorageExtension(Arc<Store>);

impl Extension for SymbolStorageExtension {
    fn symbol_storage(&self) -> Option<Arc<dyn SymbolStorage>> {
        Some(Arc::clone(&self.0) as Arc<dyn SymbolStorage>)
    }
}
