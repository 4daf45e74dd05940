//! A batch that waits for names, with what it has of them.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use profpipe_engine::batch::Batch;
use profpipe_profile::MappingIx;

use super::answer::{Reason, Resolution};
use super::cache::{Key, ModuleNumber};
use super::order::Services;
use super::rewrite::Given;

/// A batch that waits for names.
#[derive(Debug)]
pub(super) struct Parked {
    /// The batch.
    pub(super) batch: Batch,
    /// When it goes on without the names that have not come.
    pub(super) deadline: Instant,
    /// The same while a file is fetched for it.
    pub(super) last_deadline: Instant,
    /// About what it takes.
    pub(super) bytes: usize,
    /// The jobs it waits for.
    pub(super) jobs: HashSet<u64>,
    /// The services whose profiles it holds.
    pub(super) services: Services,
    /// Nothing is looked for: it only waits for those before it.
    pub(super) is_left: bool,
    /// What is known so far.
    pub(super) plan: Plan,
}

/// What a batch's mappings are, and the answers it has so far. They are kept here too, because
/// the cache may forget them before the batch goes on.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The modules of mappings, or why there is none.
    pub(super) modules: HashMap<MappingIx, Result<ModuleNumber, Reason>>,
    /// Where the code of other hosts' kernels begins: addresses in their symbols count from there.
    pub(super) kernels: HashMap<MappingIx, u64>,
    /// The answers.
    pub(super) answers: HashMap<Key, Resolution>,
    /// What symbol tables say, where better answers are on their way.
    pub(super) provisional: HashMap<Key, Resolution>,
}

impl Parked {
    /// How long it waits: longer where one of its jobs is among those for which files are fetched.
    pub(super) fn until(&self, fetching: &HashSet<u64>) -> Instant {
        let is_fetched = self.jobs.iter().any(|job| fetching.contains(job));
        if is_fetched { self.last_deadline } else { self.deadline }
    }
}

impl Plan {
    /// An address of a mapping as its module has it.
    pub(super) fn address(&self, mapping: MappingIx, address: u64) -> u64 {
        // What is before the code is in no function.
        let base = self.kernels.get(&mapping).copied().unwrap_or_default();
        address.checked_sub(base).unwrap_or(u64::MAX)
    }

    /// The answer for an address where the right one has not come in time.
    pub(super) fn in_the_meantime(&self, key: Key) -> Given {
        match self.provisional.get(&key) {
            Some(answer) => Given { answer: answer.clone(), is_provisional: true },
            None => Given { answer: Resolution::Unnamed(Reason::Timeout), is_provisional: false },
        }
    }
}
