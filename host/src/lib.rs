//! What receivers and processors both ask of the host they run on.
//!
//! - [`content`]: bytes at positions, of an open file or of memory.
//! - [`elf`]: what an ELF file is: headers, segments, build ids.
//! - [`gopclntab`]: the header of the table of functions that every Go program has.
//! - [`proc`]: files of `/proc/PID`: `stat`, `status`, `maps`.
//! - [`cgroup`]: container and unit of a process.
//! - [`own_directory`]: directories that are ours alone, for what is kept on disk.
//!
//! All of it belongs to others: a file may be hostile, cut off or replaced while it is read, a
//! process may choose its name. Every read is bounded and positioned, nothing is mapped, and what
//! makes no sense is as if it were not there. No symbol and no line is read here: that is left to the
//! worker of the `symbolize` processor, which may crash. The crate knows no component.

pub mod cgroup;
pub mod content;
pub mod elf;
pub mod gopclntab;
pub mod own_directory;
pub mod proc;

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
