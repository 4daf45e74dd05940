//! Which parts of batches under way the server has: a batch that is tried again does not send them
//! again.
//!
//! An attempt takes what is known about its batch, which it recognises by its parts, and gives it
//! back when it ends early, also when it is cancelled. Two batches that are equal byte for byte have
//! two entries, and each is taken by one attempt: nothing of the second is taken for the first.
//! What is known lives in memory: after a restart, or after [`MAX_BATCHES`] other batches have failed,
//! all parts are sent again.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// The most batches that are remembered.
const MAX_BATCHES: usize = 1024;

type Hash = [u8; 32];

/// What is known about batches that were not delivered as a whole.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<VecDeque<(Hash, HashSet<Hash>)>>);

/// One attempt at one batch.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    of: &'a Progress,
    batch: Hash,
    accepted: HashSet<Hash>,
}

impl Progress {
    /// Begins an attempt at the batch of these parts.
    pub(super) fn begin(&self, parts: &[Bytes]) -> Attempt<'_> {
        let mut batch = Sha256::new();
        for part in parts {
            batch.update(hash(part));
        }
        let batch: Hash = batch.finalize().into();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(key, _)| *key == batch);
        let accepted = at.and_then(|at| known.remove(at)).map(|(_, accepted)| accepted);
        Attempt { of: self, batch, accepted: accepted.unwrap_or_default() }
    }
}

impl Attempt<'_> {
    /// True if the server has this part.
    pub(super) fn has(&self, part: &[u8]) -> bool {
        !self.accepted.is_empty() && self.accepted.contains(&hash(part))
    }

    /// The server has this part.
    pub(super) fn accepted(&mut self, part: &[u8]) {
        self.accepted.insert(hash(part));
    }

    /// There will be no further attempt.
    pub(super) fn done(mut self) {
        self.accepted.clear();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.accepted.is_empty() {
            return;
        }
        let mut known = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((self.batch, std::mem::take(&mut self.accepted)));
        if known.len() > MAX_BATCHES {
            known.pop_front();
        }
    }
}

fn hash(part: &[u8]) -> Hash {
    Sha256::digest(part).into()
}
