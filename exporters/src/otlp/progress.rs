//! Which parts of batches under way the server has: a batch that is tried again does not send them
//! again.
//!
//! An attempt takes what is known about its batch, which it recognises by its content, and gives it
//! back when it ends early, also when it is cancelled. Two batches that are equal byte for byte have
//! two entries, and each is taken by one attempt: nothing of the second is taken for the first.
//! What is known lives in memory: after a restart, or after [`MAX_BATCHES`] other batches have failed,
//! all parts are sent again.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// The most batches that are remembered.
const MAX_BATCHES: usize = 1024;

type Hash = [u8; 32];

/// What is known about batches that were not delivered as a whole.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<VecDeque<Known>>);

/// What is known about one.
#[derive(Debug)]
struct Known {
    batch: Hash,
    /// The limit by which it was cut: by another one the parts would be others.
    limit: usize,
    accepted: HashSet<Hash>,
}

/// One attempt at one batch.
#[derive(Debug)]
pub(super) struct Attempt {
    of: Arc<Progress>,
    known: Known,
}

impl Progress {
    /// Begins an attempt at a batch of this content, which is to be cut by [`Attempt::limit`]: this
    /// one, or the one that an attempt before has used.
    pub(super) fn begin(self: &Arc<Self>, content: &[u8], limit: usize) -> Attempt {
        let batch = hash(content);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|known| known.batch == batch);
        let known = at.and_then(|at| all.remove(at));
        let known = known.unwrap_or_else(|| Known { batch, limit, accepted: HashSet::new() });
        Attempt { of: Arc::clone(self), known }
    }
}

impl Attempt {
    /// The limit by which the batch is cut.
    pub(super) fn limit(&self) -> usize {
        self.known.limit
    }

    /// True if the server has this part.
    pub(super) fn has(&self, part: &[u8]) -> bool {
        !self.known.accepted.is_empty() && self.known.accepted.contains(&hash(part))
    }

    /// The server has this part.
    pub(super) fn accepted(&mut self, part: &[u8]) {
        self.known.accepted.insert(hash(part));
    }

    /// There will be no further attempt.
    pub(super) fn done(mut self) {
        self.known.accepted.clear();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.known.accepted.is_empty() {
            return;
        }
        let accepted = std::mem::take(&mut self.known.accepted);
        let mut all = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(Known { accepted, ..self.known });
        if all.len() > MAX_BATCHES {
            all.pop_front();
        }
    }
}

fn hash(part: &[u8]) -> Hash {
    Sha256::digest(part).into()
}
