//! The scope of the profiles that this program takes itself.
//!
//! Two samplers take them, `perf` and `inprocess`, and say the same of their origin: who reads a
//! profile need not know which of the two it was.

use profpipe_profile::attribute_names::PPROF_DEFAULT_SAMPLE_TYPE;
use profpipe_profile::{KeyValue, Scope};

/// This program and its version; tools show CPU time first.
pub(crate) fn own_scope(default_type: &str) -> Scope {
    Scope {
        name: "profpipe".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        attributes: vec![KeyValue {
            key: PPROF_DEFAULT_SAMPLE_TYPE.into(),
            value: default_type.into(),
        }],
        ..Scope::default()
    }
}
