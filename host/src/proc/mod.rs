//! Files of `/proc/PID`.
//!
//! A process may have any name, which the kernel writes into them as it is: readers here go by what
//! comes after it, take what is not UTF-8 for replacement characters, and leave out a line that makes
//! no sense instead of the file. `None` is a process that is gone, or not ours to look at.

mod maps;
mod stat;
mod status;

pub use maps::{Mapping, executable};
pub use stat::Stat;
pub use status::Status;

use std::fs::File;
use std::io::Read;

/// A file of a process, of which at most `most` bytes are read.
pub fn text(pid: u32, file: &str, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{file}")).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    // Names are ASCII nearly always: no copy.
    let text = String::from_utf8(bytes);
    Some(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
