//! HTTP and gRPC for components: servers, clients, TLS, limits.
//!
//! Receivers that listen and exporters that send share these; none of it knows a component.

mod authority_leaf;
pub mod client;
pub mod debuginfo;
mod endpoint;
pub mod grpc;
pub mod messages;
pub mod server;
pub mod settings;
mod watched_files;

pub use watched_files::WatchedFiles;

/// What the macros of this crate refer to.
#[doc(hidden)]
pub mod __private {
    pub use profpipe_engine::settings::{Duration, Secret};
}
