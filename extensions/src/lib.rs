//! The extensions of profpipe.
//!
//! A component is a folder with `mod.rs` (the running thing), `config.rs` (what users type),
//! `tests.rs` and `README.md`, and one name in the list below. It depends on the pipeline and the
//! network crate and never on another component.

use profpipe_pipeline::component::Factory;

/// Every component of this crate.
pub const COMPONENTS: &[Factory] = &[];
