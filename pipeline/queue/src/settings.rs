//! The settings of a log: its limits, what happens at them, and when a record counts as kept.

use std::time::Duration;

/// The limits of a log and what happens at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The most that segments may take together, in bytes; one segment more is taken at times.
    pub max_bytes: u64,
    /// Records older than this are dropped and counted; `None` keeps them.
    pub max_age: Option<Duration>,
    /// The size of a segment in bytes. A larger record has a segment of its own.
    pub segment_bytes: u64,
    /// How much of the disk stays free, in bytes; `None`: the smaller of 5 % and 256 MiB.
    pub min_free: Option<u64>,
    /// What happens to a record for which there is no room.
    pub when_full: WhenFull,
    /// How long to wait for more records before a write.
    pub gather: Duration,
    /// The most that the dead letters of one destination may take, in bytes.
    pub dead_bytes: u64,
    /// How much of what was written last is kept in memory for its readers, in bytes.
    pub cache_bytes: u64,
    /// When a record counts as kept.
    pub durability: Durability,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_age: None,
            segment_bytes: 16 << 20,
            min_free: None,
            when_full: WhenFull::Refuse,
            gather: Duration::from_millis(1),
            dead_bytes: 64 << 20,
            cache_bytes: 4 << 20,
            durability: Durability::Fsync,
        }
    }
}

/// What happens to a record for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused: its sender still has it.
    #[default]
    Refuse,
    /// The oldest segment makes room; what it held is counted as dropped.
    DropOldest,
}

/// When a record of a log counts as kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it: it survives a power cut.
    #[default]
    Fsync,
    /// When the operating system has it: it survives the end of this process, not of the machine.
    Os,
}
