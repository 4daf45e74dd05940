//! `perf-PID.map`: what just-in-time compilers say about the code they wrote.
//!
//! Lines of `start size name`, numbers in hex, appended as code is made. Memory is used again, so
//! where lines overlap the last one is right. The file is read on where it grew, and from the start
//! when it became shorter.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use super::super::protocol::{Language, WireFunction};
use super::demangle;

/// The most that is read of one file.
const MAX_TEXT: u64 = 512 << 20;
/// The most names that are kept, and their bytes.
const MAX_ROWS: usize = 2 << 20;
/// See [`MAX_ROWS`].
const MAX_NAMES: usize = 128 << 20;
/// How much is read at once, and the longest line.
const CHUNK: usize = 256 << 10;

/// The names in one file.
#[derive(Debug)]
pub(super) struct PerfMap {
    file: OwnedFd,
    /// Text up to here is in `table`.
    read: u64,
    table: Table,
}

impl PerfMap {
    /// The map in this file.
    pub(super) fn new(file: OwnedFd) -> Self {
        Self { file, read: 0, table: Table::default() }
    }

    /// The same map, now in this descriptor (of the same file).
    pub(super) fn replace_file(&mut self, file: OwnedFd) {
        self.file = file;
    }

    /// Reads what was appended.
    pub(super) fn refresh(&mut self) {
        let Ok(facts) = rustix::fs::fstat(&self.file) else { return };
        let size = u64::try_from(facts.st_size).unwrap_or_default();
        if size < self.read {
            self.read = 0;
            self.table = Table::default();
        }
        let mut chunk = vec![0_u8; if size > self.read { CHUNK } else { 0 }];
        while self.read < size.min(MAX_TEXT) {
            let Ok(got) = rustix::io::pread(&self.file, &mut chunk, self.read) else { return };
            let text = chunk.get(..got).unwrap_or_default();
            // The last line may be half written: it is read again next time.
            let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else {
                // A line longer than all that was read is not a name.
                self.read += if got == CHUNK { got as u64 } else { return };
                continue;
            };
            for line in text.get(..end).unwrap_or_default().split(|byte| *byte == b'\n') {
                self.table.add_line(line);
            }
            self.read += end as u64 + 1;
        }
    }

    /// The function that an address is in.
    pub(super) fn find(&self, address: u64) -> Option<WireFunction> {
        self.table.find(address).map(function)
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.table.names.capacity() + self.table.rows.len() * 48
    }
}

/// Names by address range; ranges do not overlap.
#[derive(Debug, Default)]
pub(in super::super) struct Table {
    /// start → (end, where the name is).
    rows: BTreeMap<u64, (u64, u32, u32)>,
    names: Vec<u8>,
}

impl Table {
    /// Adds a line; nonsense is skipped.
    pub(in super::super) fn add_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let number = |part: Option<&[u8]>| {
            let text = std::str::from_utf8(part?).ok()?;
            let digits = text.strip_prefix("0x").unwrap_or(text);
            u64::from_str_radix(digits, 16).ok()
        };
        let (Some(start), Some(size)) = (number(parts.next()), number(parts.next())) else {
            return;
        };
        let Some(name) = parts.next().filter(|name| !name.is_empty()) else { return };
        if self.rows.len() >= MAX_ROWS || self.names.len() + name.len() > MAX_NAMES {
            return;
        }
        let from = self.names.len() as u32;
        self.names.extend_from_slice(name);
        self.insert(start, start.saturating_add(size.max(1)), (from, self.names.len() as u32));
    }

    fn insert(&mut self, start: u64, end: u64, name: (u32, u32)) {
        // What is left of older ranges on either side stays theirs.
        while let Some((&old, &(old_end, from, to))) = self.rows.range(..end).next_back() {
            if old_end <= start {
                break;
            }
            self.rows.remove(&old);
            if old_end > end {
                self.rows.insert(end, (old_end, from, to));
            }
            if old < start {
                self.rows.insert(old, (start, from, to));
                break;
            }
        }
        self.rows.insert(start, (end, name.0, name.1));
    }

    /// The name of the range that an address is in.
    pub(in super::super) fn find(&self, address: u64) -> Option<&[u8]> {
        let (_, &(end, from, to)) = self.rows.range(..=address).next_back()?;
        (address < end).then(|| self.names.get(from as usize..to as usize)).flatten()
    }
}

/// How V8 begins the names of its code.
const V8_KINDS: [&str; 9] = [
    "JS:",
    "LazyCompile:",
    "Function:",
    "Script:",
    "Eval:",
    "Builtin:",
    "BytecodeHandler:",
    "RegExp:",
    "Stub:",
];

/// A function by the name that its compiler gave it, which stays as it is, marks for the tier
/// (`~`, `^`, `+`, `*`) included.
fn function(name: &[u8]) -> WireFunction {
    let text = String::from_utf8_lossy(name);
    let name = demangle::cut(&text);
    if let Some(rest) = text.strip_prefix("py::") {
        // CPython: `py::function:file`.
        let file = rest.split_once(':').map(|(_, file)| demangle::cut(file));
        let (file, language) = (file.unwrap_or_default(), Language::Python);
        return WireFunction { name, file, language, ..<_>::default() };
    }
    if !V8_KINDS.iter().any(|kind| text.starts_with(kind)) {
        return WireFunction { name, ..<_>::default() };
    }
    // `JS:*function file:line:column`.
    let place = text.split_once(' ').map(|(_, place)| place).and_then(|place| {
        let (place, _column) = place.rsplit_once(':')?;
        let (file, line) = place.rsplit_once(':')?;
        Some((demangle::cut(file), line.parse().ok()?))
    });
    let (file, start_line) = place.unwrap_or_default();
    WireFunction { name, file, start_line, language: Language::V8, ..<_>::default() }
}
