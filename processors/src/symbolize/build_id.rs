//! The GNU build id: what an executable is known by where the file is not at hand.
//!
//! Ids come from senders, and end up in paths and URLs: only hex digits get past this.

use std::fmt;
use std::sync::Arc;

use profpipe_host::elf::is_build_id;

/// A GNU build id, in lower-case hex digits; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BuildId(Arc<str>);

impl BuildId {
    /// An id from its hex digits; none if it is not one.
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        is_build_id(hex).then(|| Self(hex.to_ascii_lowercase().into()))
    }

    /// An id from its bytes; none if it is not one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::parse(&hex)
    }

    /// Its hex digits, an even number of them.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }

    /// True if it is this one.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        Self::from_bytes(bytes).is_some_and(|other| other == *self)
    }

    /// Where debug directories keep the file, with this ending.
    pub(super) fn path(&self, ending: &str) -> String {
        let (first, rest) = self.0.split_at_checked(2).unwrap_or_default();
        format!(".build-id/{first}/{rest}{ending}")
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
