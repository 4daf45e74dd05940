//! The exporters of profpipe.
//!
//! A component is a folder with `mod.rs` (the running thing), `config.rs` (what users type),
//! `tests.rs` and `README.md`, and one name in the list below. It depends on the crates of `pipeline/`
//! and never on another component.

use profpipe_engine::component::Factory;

pub mod debug;
pub mod file;
pub mod metric_names;
pub mod nop;
mod otlp;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod pyroscope;

#[cfg(test)]
mod testing;

/// Every component of this crate.
pub const COMPONENTS: &[Factory] = &[
    otlp_grpc::FACTORY,
    otlp_http::FACTORY,
    pyroscope::FACTORY,
    file::FACTORY,
    debug::FACTORY,
    nop::FACTORY,
];
