//! Tables: what is known of the names in binaries, kept on disk for all who come later.
//!
//! A binary is understood once. What the worker says of it is kept under its build id, or under the
//! hash of its content where it has none; other processes of this user (agent, `record`, gateway,
//! `symbolize`) and later ones find it there and need neither the binary nor a worker.
//!
//! A table grows as it is needed. Answers are added as they come; then, when nothing else is to do, all
//! addresses around them (`format::WINDOW`), so that the next new address there costs nothing. A
//! profile needs few windows of a large binary: making all of them would take minutes, megabytes and, of
//! a debug file of a gigabyte, most of a budget, for names that nobody asks for.
//!
//! - [`mod@config`]: what users type. `format`: the file. `directory`: where files are. `table`: one that is open.
//! - `content`: what a binary without a build id is known by.
//! - `client`: what the thread that asks the worker does with them.

mod client;
pub mod config;
mod content;
mod directory;
pub(super) mod format;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use profpipe_engine::telemetry::Counter;

pub(super) use self::client::TableUse;

use self::directory::Directory;
use self::format::{
    BLOCK_HEADER, Block, BlockHeader, Identity, Sources, WINDOW, encode_block, encode_identity,
};
use self::table::{MAX_PARTS, Table};
use super::answer::{Resolution, ResolvedAddress};

/// The most tables that are open.
const MAX_OPEN: usize = 128;
/// The bytes of decoded blocks that are kept while names are asked for. To read one again takes some
/// 100 µs.
const MAX_DECODED_BYTES: usize = 16 << 20;
/// Where there is no room, a block that was not needed for so many windows is not needed any more.
const RECENT_WINDOWS: u64 = 1024;

/// Reads bytes as the file of a table and as what a block of one holds, and asks for all their addresses:
/// for fuzzing. Returns how many have an answer.
///
/// # Errors
/// If an answer is not about the address that was asked for.
#[doc(hidden)]
pub fn try_table(bytes: &[u8]) -> Result<usize, String> {
    let mut blocks = Vec::new();
    blocks.extend(Block::of_payload(0, bytes));
    let mut at = format::decode_identity(bytes).map_or(0, |(_, at)| at as usize);
    while let Some(rest) = bytes.get(at..).filter(|rest| at > 0 && !rest.is_empty()) {
        let Some(header) = BlockHeader::decode(rest) else { break };
        let end = BLOCK_HEADER + header.stored as usize;
        let Some((head, payload)) =
            rest.get(..end).and_then(|it| it.split_at_checked(BLOCK_HEADER))
        else {
            break;
        };
        blocks.extend(Block::decode(&header, head, payload));
        at += end;
    }
    let mut answers = 0;
    for mut block in blocks {
        for offset in 0..=WINDOW {
            let Some(address) = block.window.checked_add(offset) else { break };
            let Some(found) = block.find(address) else { continue };
            let window = block.window..block.window.saturating_add(WINDOW);
            let is_in = |it: &u64| window.contains(it);
            if !found.same.contains(&address) || !is_in(&found.same.start) || !is_in(&address) {
                return Err(format!("{found:?} for {address:#x}"));
            }
            answers += 1;
        }
    }
    Ok(answers)
}

/// The tables of a directory without a symbolizer around them, for benchmarks.
#[doc(hidden)]
#[derive(Debug)]
pub struct TableReader(Tables);

impl TableReader {
    /// The tables in this directory, which must be there.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let counts = TableCounts {
            found: Counter::default(),
            missing: Counter::default(),
            bytes: Counter::default(),
        };
        Tables::open(directory, u64::MAX, counts).map(Self)
    }

    /// What is read.
    #[cfg(test)]
    pub(super) fn inner(&mut self) -> &mut Tables {
        &mut self.0
    }

    /// How many of these addresses, which ascend, have an answer.
    pub fn count(&mut self, key: &str, addresses: &[u64]) -> usize {
        self.0.take_known(key, &mut addresses.to_vec()).len()
    }

    /// How many of these are in a window that is whole.
    pub fn count_whole(&mut self, key: &str, addresses: &[u64]) -> usize {
        let Some(table) = self.0.table(key) else { return 0 };
        table.look();
        addresses.iter().filter(|address| table.is_whole(**address - **address % WINDOW)).count()
    }

    /// Bytes of decoded blocks now.
    pub fn decoded_bytes(&self) -> usize {
        self.0.decoded_bytes
    }
}

/// What is counted.
#[derive(Debug)]
pub(super) struct TableCounts {
    /// Addresses whose answer was there.
    pub(super) found: Counter,
    /// Those that the worker was asked for.
    pub(super) missing: Counter,
    /// The bytes on disk.
    pub(super) bytes: Counter,
}

/// The tables in a directory.
#[derive(Debug)]
pub(super) struct Tables {
    directory: Directory,
    /// By key, with when each was last used.
    open: HashMap<String, (u64, Table)>,
    /// Counts windows that were asked.
    clock: u64,
    decoded_bytes: usize,
    counts: TableCounts,
}

impl Tables {
    /// The tables in this directory.
    ///
    /// # Errors
    /// If it cannot be used, or is not ours alone.
    pub(super) fn open(path: &Path, max_bytes: u64, counts: TableCounts) -> io::Result<Self> {
        let directory = Directory::open(path, max_bytes)?;
        counts.bytes.set(directory.bytes());
        Ok(Self { directory, open: HashMap::new(), clock: 0, decoded_bytes: 0, counts })
    }

    /// Whose table it is and what it was made of.
    pub(super) fn identity(&mut self, key: &str) -> Option<&Identity> {
        Some(&self.table(key)?.identity)
    }

    fn table(&mut self, key: &str) -> Option<&mut Table> {
        if !self.open.contains_key(key) {
            let file = self.directory.find(key)?;
            let Some(table) = Table::open(file, key) else {
                // Of another version, or broken.
                self.directory.remove(key);
                return None;
            };
            self.insert(key, table);
        }
        let (used, table) = self.open.get_mut(key)?;
        *used = self.clock;
        Some(table)
    }

    fn insert(&mut self, key: &str, table: Table) {
        if self.open.len() >= MAX_OPEN {
            let mut used: Vec<u64> = self.open.values().map(|(used, _)| *used).collect();
            let (_, median, _) = used.select_nth_unstable(MAX_OPEN / 2);
            let median = *median;
            self.open.retain(|_, (used, _)| *used > median);
            self.count_decoded();
        }
        self.open.insert(key.to_owned(), (self.clock, table));
    }

    /// Forgets what can be read again.
    pub(super) fn rest(&mut self) {
        for (_, table) in self.open.values_mut() {
            table.forget_before(u64::MAX);
        }
        self.count_decoded();
    }

    fn count_decoded(&mut self) {
        self.decoded_bytes = self.open.values().map(|(_, table)| table.bytes()).sum();
    }

    /// Takes the addresses out of a list that are known, with what is known of them.
    pub(super) fn take_known(
        &mut self,
        key: &str,
        addresses: &mut Vec<u64>,
    ) -> Vec<ResolvedAddress> {
        let mut known = Vec::new();
        let asked = addresses.len();
        let mut window = None;
        let mut clock = self.clock;
        let mut bytes = self.decoded_bytes;
        if let Some(table) = self.table(key) {
            addresses.retain(|address| {
                let start = address - address % WINDOW;
                let before: Option<u64> = window.replace(start);
                if before != Some(start) {
                    clock += 1;
                    if bytes > MAX_DECODED_BYTES {
                        let unused = table.forget_before(clock.saturating_sub(RECENT_WINDOWS));
                        bytes = bytes.saturating_sub(unused);
                    }
                    if bytes > MAX_DECODED_BYTES
                        && let Some(before) = before
                    {
                        // Batch after batch asks for the same windows in the same order: the one that was
                        // needed last is needed last again, and to forget the oldest would be to have none.
                        bytes = bytes.saturating_sub(table.forget_window(before));
                    }
                }
                let found = table.find(*address, clock, &mut bytes);
                let is_unknown = found.is_none();
                known.extend(found);
                is_unknown
            });
        }
        self.clock = clock;
        self.decoded_bytes = bytes;
        if self.decoded_bytes > MAX_DECODED_BYTES {
            // Of other tables what was not needed lately, or, where one window is large, everything.
            let is_much = self.decoded_bytes > 2 * MAX_DECODED_BYTES;
            let until = if is_much { clock } else { clock.saturating_sub(RECENT_WINDOWS) };
            for (other, (_, table)) in &mut self.open {
                if other != key {
                    table.forget_before(until);
                }
            }
            self.count_decoded();
        }
        self.counts.found.add(known.len() as u64);
        self.counts.missing.add((asked - known.len()) as u64);
        known
    }

    /// Whether all of a window is known, from sources as good as these.
    pub(super) fn is_whole(&mut self, key: &str, window: u64, sources: &Sources) -> bool {
        let table = self.table(key).filter(|table| table.identity.sources.covers(sources));
        table.is_some_and(|table| table.is_whole(window))
    }

    /// Keeps answers for ranges of one window, ascending: `is_whole` if for all of it. What was made
    /// of less than these sources is forgotten, and, where not all were there, what is older than
    /// `max_age`; what was made of more stays as it is.
    pub(super) fn add(
        &mut self,
        key: &str,
        (sources, max_age): (&Sources, Option<Duration>),
        (window, is_whole): (u64, bool),
        ranges: &[(Range<u64>, Resolution)],
    ) {
        if self.table(key).is_some_and(|table| table.is_deleted()) {
            // By whoever made room.
            self.open.remove(key);
        }
        match self.table(key).map(|table| &table.identity) {
            Some(has) if has.sources == *sources => {
                let is_old = max_age.is_some_and(|max_age| !has.is_younger(max_age));
                if is_old && !sources.is_complete() && self.begin(key, sources).is_none() {
                    return;
                }
            }
            Some(has) if has.sources.covers(sources) => return,
            _ => {
                if self.begin(key, sources).is_none() {
                    return;
                }
            }
        }
        let Some((_, table)) = self.open.get_mut(key) else { return };
        let is_enough = !is_whole && table.parts(window) >= MAX_PARTS;
        if table.is_whole(window) || is_enough {
            return;
        }
        let Some(block) = encode_block(window, is_whole, ranges) else { return };
        let Ok(file) = table.file.try_clone() else { return };
        if let Err(error) = self.directory.append(&file, &block, || table.look()) {
            // Another process is at it, or the disk is full: it is found out again another time.
            tracing::debug!("symbolize: cannot keep names of {key}: {error}");
            return;
        }
        table.look();
        self.count_decoded();
        self.counts.bytes.set(self.directory.bytes());
    }

    fn begin(&mut self, key: &str, sources: &Sources) -> Option<()> {
        self.create(key, sources, None)
    }

    /// The hash of the content of a file in a state.
    pub(super) fn content(&mut self, state: &str) -> Option<Arc<str>> {
        let content = self.table(state)?.identity.content.as_deref().map(Arc::from);
        // It is asked for once.
        self.open.remove(state);
        content
    }

    /// Keeps it.
    pub(super) fn keep_content(&mut self, state: &str, content: &str) {
        // Without it the file is read again, which has been said.
        let _ = self.create(state, &Sources::default(), Some(content.to_owned()));
        self.open.remove(state);
    }

    fn create(&mut self, key: &str, sources: &Sources, content: Option<String>) -> Option<()> {
        let replaces = self.table(key).is_some();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let identity = Identity {
            key: key.to_owned(),
            sources: sources.clone(),
            made_at: since.as_secs(),
            content,
        };
        let header = encode_identity(&identity)?;
        match self.directory.create(key, &header, replaces) {
            Ok(file) => {
                let table = Table::open(file, key)?;
                self.insert(key, table);
                Some(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.table(key).filter(|table| table.identity.sources == *sources).map(|_| ())
            }
            Err(error) => {
                tracing::debug!("symbolize: cannot keep names of {key}: {error}");
                None
            }
        }
    }
}
