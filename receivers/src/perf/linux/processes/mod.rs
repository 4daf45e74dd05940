//! Whose sample it is: processes, their threads and mappings, and who they say they are.
//!
//! The table of processes ([`process`]) follows records in the order of time and reads the rest
//! from `/proc` ([`host`]); a pid that is used again is another process. For profiles a process
//! is described by its cgroup and executable ([`resource`]) and by what an SDK in it publishes
//! ([`contexts`], [`process_context`]); what was sent of it is noted ([`announced`]). Where a just-in-time
//! compiler names its code is in [`perf_map`], what the kernel runs where it is probed in [`probe_page`].
//! Which processes can be seen at all says [`namespace`], which are wanted [`selection`]. What mapped files
//! contain is left to `images`.

pub(super) mod announced;
pub(super) mod contexts;
pub(super) mod host;
pub(super) mod namespace;
pub(super) mod perf_map;
pub(super) mod probe_page;
pub(super) mod process;
pub(super) mod process_context;
pub(super) mod resource;
pub(super) mod selection;
