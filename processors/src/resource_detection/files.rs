//! Small text files of the kernel and the system, read whole and bounded.
//!
//! All paths are below one root, so that an agent in a container can look at the host's files that
//! are mounted for it, and a test at its own. What cannot be read is not there: nothing here fails.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The most of a file that is read. `/proc/cpuinfo` of a large machine is longer; its first CPU is
/// what is wanted.
const MAX_BYTES: u64 = 64 << 10;
/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// The files below a root.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// The files below this root.
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a file is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The start of a file as text without the white space around it.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The text of a file that is not empty.
    pub(super) fn line(&self, path: &str) -> Option<String> {
        self.text(path).filter(|text| !text.is_empty())
    }

    /// The number in a file.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let names = entries.take(MAX_ENTRIES).map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The root itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// The value of `KEY=value` or `key : value` in a text, without quotes.
pub(super) fn value<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim() == key && !value.is_empty()).then_some(value)
    })
}

/// The number of CPUs in a list such as `0-3,6`.
pub(super) fn count(list: &str) -> Option<i64> {
    let mut total = 0_i64;
    for range in list.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<i64>().ok()?, last.parse::<i64>().ok()?);
        total = total.checked_add(last.checked_sub(first)?.checked_add(1)?.max(0))?;
    }
    (total > 0).then_some(total)
}
