//! Whether a module's file still has the content that was mapped.
//!
//! A descriptor is not a snapshot: a program may be overwritten in place while it is remembered, as
//! `cp` does. So the file is compared with what the profile says of it when it is opened, and its
//! length and time from then on.

use std::fs::File;
use std::os::fd::AsFd;

use profpipe_engine::modules::ModuleId;
use profpipe_host::elf::htlhash;

use super::build_id::BuildId;

/// The length of a file and when it was written to; equal as long as nobody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    length: i64,
    modified: (i64, u64),
}

impl Stamp {
    /// That of a file now; none if they cannot be read.
    pub(super) fn of(file: impl AsFd) -> Option<Self> {
        let facts = rustix::fs::fstat(file).ok()?;
        Some(Self { length: facts.st_size, modified: (facts.st_mtime, facts.st_mtime_nsec as u64) })
    }
}

/// Whether a file is the module with these identities: it has the build id, which the worker has read
/// in it; without one, it has the hash.
pub(super) fn is_of(file: &File, found: &[u8], build_id: Option<&BuildId>, id: &ModuleId) -> bool {
    match (build_id, id) {
        (Some(build_id), _) => build_id.is(found),
        (None, ModuleId::Htl(hash)) if is_hash(hash) => htlhash(file).is_none_or(|is| is == *hash),
        (None, _) => true,
    }
}

/// Other identities than the hash are somebody's own, and nothing is known of them.
fn is_hash(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}
