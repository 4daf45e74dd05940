//! The receivers of profpipe.
//!
//! A component is a folder with `mod.rs` (the running thing), `config.rs` (what users type),
//! `tests.rs` and `README.md`, and one name in the list below. It depends on the crates of `pipeline/`
//! and never on another component.

use profpipe_engine::component::Factory;

mod intake;
mod scope;

pub mod inprocess;
pub mod nop;
pub mod otlp;
pub mod perf;
pub mod pprof;
pub mod pyroscope;

/// Every component of this crate.
pub const COMPONENTS: &[Factory] = &[
    nop::FACTORY,
    otlp::FACTORY,
    perf::FACTORY,
    pprof::FACTORY,
    pyroscope::FACTORY,
    inprocess::FACTORY,
];
