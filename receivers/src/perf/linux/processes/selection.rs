//! The processes that are wanted, where the whole host is sampled for one process and its descendants.

use std::fs;

use hashbrown::HashSet;

use crate::perf::linux::records::record::Record;

/// A process and its descendants, by their pids, as records tell.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pids: HashSet<u32>,
}

impl Selection {
    /// These and what they will start.
    pub(crate) fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        Self { pids: pids.into_iter().collect() }
    }

    /// Whether a record is of one of them; takes note of those that they start.
    pub(crate) fn takes(&mut self, record: &Record<'_>) -> bool {
        match record {
            Record::Sample(sample) => self.pids.contains(&sample.pid),
            Record::Map(map) => self.pids.contains(&map.pid),
            Record::Name { pid, .. } | Record::Exit { pid, .. } => self.pids.contains(pid),
            Record::Fork { pid, parent, .. } => {
                let is_wanted = self.pids.contains(parent);
                if is_wanted {
                    self.pids.insert(*pid);
                } else {
                    // Its number was that of one that has ended.
                    self.pids.remove(pid);
                }
                is_wanted
            }
            Record::Lost { .. } | Record::Other => true,
        }
    }

    /// Forgets those that are gone; true if none is left.
    pub(crate) fn is_over(&mut self) -> bool {
        self.pids.retain(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(true));
        self.pids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(pid: u32, parent: u32) -> Record<'static> {
        Record::Fork { pid, tid: pid, parent, parent_tid: parent }
    }

    /// Scenario: a process starts others, which start others; strangers do the same; a number is used
    /// again by a stranger.
    /// Guarantees: records of the tree are taken, no others; what was lost concerns everybody.
    #[test]
    fn a_tree_is_followed() {
        let mut tree = Selection::new([10, 11]);
        assert!(tree.takes(&fork(20, 10)) && tree.takes(&fork(21, 20)));
        assert!(!tree.takes(&fork(30, 3)) && !tree.takes(&fork(31, 30)));
        let exit = |pid| Record::Exit { pid, tid: pid };
        let taken = [10, 11, 20, 21, 3, 30, 31].map(|pid| tree.takes(&exit(pid)));
        assert_eq!(taken, [true, true, true, true, false, false, false]);
        assert!(!tree.takes(&fork(20, 3)) && !tree.takes(&exit(20)));
        assert!(tree.takes(&Record::Lost { records: 1 }));
    }
}
