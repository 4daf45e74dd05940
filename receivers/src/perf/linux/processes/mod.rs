//! Whose sample it is: processes, their threads and mappings, and who they say they are.
//!
//! The table of processes ([`process`]) follows records in the order of time and reads the rest
//! from `/proc` ([`host`]); a pid that is used again is another process. For profiles a process
//! is described by its cgroup and executable ([`resource`]) and by what an SDK in it publishes
//! ([`contexts`], [`process_context`]). What mapped files contain is left to `images`.

pub(super) mod contexts;
pub(super) mod host;
pub(super) mod process;
pub(super) mod process_context;
pub(super) mod resource;
