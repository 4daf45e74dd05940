//! `/proc/PID/status`: whose a process is, and what it may do.

use super::text;

/// The most of the file that is read.
const MAX_FILE: u64 = 64 << 10;

/// What the file says, as far as it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// The pid that the process has in its own namespace.
    pub own_pid: Option<u32>,
    /// The user that new files of the process belong to.
    pub file_user: Option<u32>,
    /// The effective capabilities, a bit each.
    pub capabilities: Option<u64>,
}

impl Status {
    /// Reads it of a process that is there.
    pub fn read(pid: u32) -> Option<Self> {
        Some(Self::parse(&text(pid, "status", MAX_FILE)?))
    }

    /// Reads a file; what is not there is none.
    pub fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let mut columns = value.split_ascii_whitespace();
            match key {
                // One for each namespace, the innermost last.
                "NSpid" => status.own_pid = columns.next_back().and_then(|pid| pid.parse().ok()),
                // Real, effective, saved, file system.
                "Uid" => status.file_user = columns.nth(3).and_then(|user| user.parse().ok()),
                "CapEff" => {
                    status.capabilities =
                        columns.next().and_then(|set| u64::from_str_radix(set, 16).ok());
                }
                _ => {}
            }
        }
        status
    }
}
