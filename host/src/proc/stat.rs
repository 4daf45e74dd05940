//! `/proc/PID/stat`: what the kernel says of a process in numbers.

use super::text;

/// The longest line that is read; the kernel writes less than half of it.
const MAX_LINE: u64 = 4096;
/// The flag of a thread of the kernel (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    /// The pid of its parent; 0 if that is outside of our namespace.
    pub parent: u32,
    /// The number of its process group; 0 if that is outside of our namespace, as of the kernel's.
    pub group: u32,
    /// It is a thread of the kernel.
    pub kernel: bool,
    /// It has ended, and nobody has waited for it yet.
    pub ended: bool,
    /// When it started, in the kernel's ticks since boot.
    pub start_time: u64,
    /// The time that it has computed, in user mode and in the kernel, in ticks.
    pub cpu_time: u64,
}

impl Stat {
    /// Reads it of a process that is there.
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&text(pid, "stat", MAX_LINE)?)
    }

    /// Reads a line.
    pub fn parse(line: &str) -> Option<Self> {
        // The name is in parentheses and may hold any character; after it come fields 3 and on.
        let (_, fields) = line.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let flags: u64 = fields.nth(3)?.parse().ok()?;
        let user: u64 = fields.nth(4)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let start_time = fields.nth(6)?.parse().ok()?;
        let cpu_time = user.saturating_add(system);
        let kernel = flags & KERNEL_THREAD != 0;
        Some(Self { parent, group, kernel, ended, start_time, cpu_time })
    }
}
