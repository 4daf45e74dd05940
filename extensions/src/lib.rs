//! The extensions of profpipe.
//!
//! A component is a folder with `mod.rs` (the running thing), `config.rs` (what users type),
//! `tests.rs` and `README.md`, and one name in the list below. It depends on the pipeline and the
//! network crate and never on another component.

pub mod basicauth;
pub mod bearertokenauth;
pub mod file_storage;
pub mod health_check;
pub mod symbol_storage;

mod credentials;
mod tenants;
mod watched;

use profpipe_engine::component::Factory;

/// Every component of this crate.
pub const COMPONENTS: &[Factory] = &[
    basicauth::FACTORY,
    bearertokenauth::FACTORY,
    file_storage::FACTORY,
    health_check::FACTORY,
    symbol_storage::FACTORY,
];
