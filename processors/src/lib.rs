//! The processors of profpipe.
//!
//! A component is a folder with `mod.rs` (the running thing), `config.rs` (what users type),
//! `tests.rs` and `README.md`, and one name in the list below. It depends on the crates of `pipeline/`,
//! on the network crate where it looks things up elsewhere, and never on another component; only
//! the worker that reads binaries, and what finds debug files, is asked by others than `symbolize`, too.

pub mod attributes;
pub mod batch;
pub mod downsample;
pub mod filter;
pub mod governor;
#[cfg(feature = "kubernetes")]
pub mod k8s_attributes;
pub mod memory_limiter;
pub mod resource;
pub mod resource_detection;
pub mod symbol_upload;
pub mod symbolize;

mod actions;

pub use actions::{Action, Verb};

use profpipe_engine::component::Factory;

/// Every component of this crate.
pub const COMPONENTS: &[Factory] = &[
    attributes::FACTORY,
    batch::FACTORY,
    downsample::FACTORY,
    filter::FACTORY,
    governor::FACTORY,
    #[cfg(feature = "kubernetes")]
    k8s_attributes::FACTORY,
    memory_limiter::FACTORY,
    resource::FACTORY,
    resource_detection::FACTORY,
    symbol_upload::FACTORY,
    symbolize::FACTORY,
];
