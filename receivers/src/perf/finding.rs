//! One thing that this host allows or not, for people who ask why something is missing.

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Allowed.
    Good,
    /// Not there; something works less well.
    Limited,
    /// Not there; profiling does not work without it.
    Missing,
}

/// What a host allows in one respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a few words.
    pub name: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub detail: String,
    /// What the lack of it costs the user; empty if it is there.
    pub cost: String,
    /// The command that grants it; empty if it is there or nothing can.
    pub grant: String,
}

impl Finding {
    /// True if nothing is missing.
    pub fn ok(&self) -> bool {
        self.level == Level::Good
    }
}
