//! The names that a thread had in a window, by time.
//!
//! Threads of a pool are named after what they do at the moment: a sample has the name that its thread
//! had then, not the last one.

use std::sync::Arc;

/// The most names of one thread in one window; beyond, the last of them stays.
const MAX_NAMES: usize = 256;

/// The names of a thread, each from a time of the monotonic clock on.
#[derive(Debug, Clone)]
pub(super) struct ThreadNames {
    names: Vec<(u64, Arc<str>)>,
    /// The window of its last sample.
    pub(super) used: u64,
}

impl ThreadNames {
    /// A thread that has had this name all the time.
    pub(super) fn new(name: Arc<str>, used: u64) -> Self {
        Self { names: vec![(0, name)], used }
    }

    /// It has this name from then on.
    pub(super) fn rename(&mut self, name: Arc<str>, since: u64) {
        if self.names.last().is_none_or(|(_, last)| *last != name) && self.names.len() < MAX_NAMES {
            self.names.push((since, name));
        }
    }

    /// The number of the name that it had at a time.
    pub(super) fn at(&self, time: u64) -> u32 {
        let before = self.names.partition_point(|(since, _)| *since <= time);
        before.saturating_sub(1) as u32
    }

    /// The name with a number.
    pub(super) fn name(&self, number: u32) -> &str {
        let name = self.names.get(number as usize).or_else(|| self.names.last());
        name.map_or("", |(_, name)| name)
    }

    /// The window has ended: only the last name can be of use.
    pub(super) fn end_window(&mut self) {
        if self.names.len() > 1 {
            self.names.drain(..self.names.len() - 1);
            self.names.shrink_to_fit();
        }
    }
}
