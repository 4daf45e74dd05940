//! The functions of managed programs that have a name, by process, place and cookie.
//!
//! The table has two generations, as the stacks have: what is asked for moves to the young one, and
//! when that is full what is still in the old one is forgotten. A process has its share and no more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::cpython::lines::LineTable;

/// The most functions of a generation.
const MAX_FUNCTIONS: usize = 16_384;
/// The most of one process in a generation.
const MAX_FUNCTIONS_OF_PROCESS: u32 = 4096;
/// The longest name that is kept, in characters.
pub(crate) const MAX_NAME: usize = 1024;

/// What identifies a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FunctionKey {
    /// Our number for the process.
    pub(crate) process: u32,
    /// The object that describes it there.
    pub(crate) code: u64,
    /// What tells it from another at the same place.
    pub(crate) cookie: u64,
}

/// A function of a managed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: String,
    /// The line of its beginning; 0 if unknown.
    pub(crate) first_line: u32,
    /// Which line a position is on.
    pub(crate) lines: Lines,
}

/// Which line of a function a position is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lines {
    /// As CPython has it.
    Table(LineTable),
    /// From which position on which line is run, in the order of positions.
    Starts(Box<[(u32, u32)]>),
}

impl Function {
    /// The line of a position; that of the beginning if the table does not say.
    pub(crate) fn line(&self, position: u32) -> u32 {
        let line = match &self.lines {
            Lines::Table(table) => table.line(self.first_line, position),
            Lines::Starts(starts) => {
                let after = starts.partition_point(|(start, _)| *start <= position);
                after.checked_sub(1).and_then(|at| starts.get(at)).map(|(_, line)| *line)
            }
        };
        line.unwrap_or(self.first_line)
    }
}

/// Text that somebody else wrote, without what would move a cursor or end a line, and bounded.
pub(crate) fn clean(text: &str) -> String {
    text.chars().take(MAX_NAME).map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect()
}

fn is_unprintable(c: char) -> bool {
    // Controls, and what turns the direction of text.
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The functions that are known.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    tables: Mutex<Tables>,
    /// Requests that were made, and those that were served.
    asked: AtomicU64,
    served: AtomicU64,
    rotations: AtomicU32,
}

#[derive(Debug, Default)]
struct Tables {
    young: HashMap<FunctionKey, Arc<Function>>,
    old: HashMap<FunctionKey, Arc<Function>>,
    /// How many of each process are in the young one.
    of_process: HashMap<u32, u32>,
}

impl Functions {
    /// A function, if its name was read.
    pub(crate) fn get(&self, key: &FunctionKey) -> Option<Arc<Function>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = tables.young.get(key) {
            return Some(Arc::clone(found));
        }
        let found = tables.old.remove(key)?;
        self.insert(&mut tables, *key, &found);
        Some(found)
    }

    /// Notes a function.
    pub(crate) fn put(&self, key: FunctionKey, function: Function) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut tables, key, &Arc::new(function));
    }

    fn insert(&self, tables: &mut Tables, key: FunctionKey, function: &Arc<Function>) {
        if tables.young.len() >= MAX_FUNCTIONS {
            tables.old = std::mem::take(&mut tables.young);
            tables.of_process.clear();
            self.rotations.fetch_add(1, Ordering::Relaxed);
        }
        let count = tables.of_process.entry(key.process).or_default();
        if *count < MAX_FUNCTIONS_OF_PROCESS {
            *count += 1;
            tables.young.insert(key, Arc::clone(function));
        }
    }

    /// Notes that a name was asked for.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request was served, whatever came of it.
    pub(crate) fn serve(&self) {
        self.served.fetch_add(1, Ordering::Release);
    }

    /// Whether every request was served.
    pub(crate) fn is_settled(&self) -> bool {
        self.served.load(Ordering::Acquire) >= self.asked.load(Ordering::Relaxed)
    }
}
