//! What a log knows about itself.

/// What left a log undelivered for one destination, in samples, since the log was opened. Dead letters are
/// not among it, nor what [`tools`](crate::tools) dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Older than [`max_age`](crate::LogSettings::max_age).
    pub expired: u64,
    /// The oldest, where [others need the room](crate::WhenFull::DropOldest).
    pub evicted: u64,
    /// Damaged on the disk.
    pub damaged: u64,
}

impl Losses {
    /// All of it.
    pub fn samples(&self) -> u64 {
        self.expired + self.evicted + self.damaged
    }

    /// What there is beyond what was known.
    #[must_use]
    pub fn minus(self, known: Self) -> Self {
        Self {
            expired: self.expired.saturating_sub(known.expired),
            evicted: self.evicted.saturating_sub(known.evicted),
            damaged: self.damaged.saturating_sub(known.damaged),
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            expired: self.expired.max(other.expired),
            evicted: self.evicted.max(other.evicted),
            damaged: self.damaged.max(other.damaged),
        }
    }
}

/// What a log knows about itself; counted since it was opened, where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// What the segments take, in bytes.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: u64,
    /// Records kept.
    pub appended_records: u64,
    /// What they took, in bytes.
    pub appended_bytes: u64,
    /// Records refused because the log was full.
    pub refused_records: u64,
    /// Unfinished records dropped, once for each destination: too old, or to make room.
    pub dropped_records: u64,
    /// Records that were damaged, once for each destination; since the log was made.
    pub lost_records: u64,
    /// Records that became dead letters; since the log was made.
    pub dead_letters: u64,
    /// Dead letters dropped to make room for others.
    pub dropped_letters: u64,
    /// Damaged ranges found.
    pub damaged_ranges: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
    /// Segments that ended in an unfinished write, which a crash leaves.
    pub torn_tails: u64,
    /// Files with the name of a segment that are none of this log and version.
    pub foreign_files: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Of these, syncs.
    pub failed_syncs: u64,
    /// What is wrong with the disk; `None` once it works again.
    pub trouble: Option<String>,
}
