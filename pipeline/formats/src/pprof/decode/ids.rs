//! Rows by the id that a file gave them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::malformed;
use crate::pprof::DecodeError;

/// Rows by the id that a file gave them: a vector where ids count up, as nearly all do.
pub(super) struct Ids {
    kind: &'static str,
    dense: Vec<u32>,
    sparse: HashMap<u64, u32, RandomState>,
}

impl Ids {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, dense: Vec::new(), sparse: HashMap::default() }
    }

    pub(super) fn insert(&mut self, id: u64, row: u32) -> Result<(), DecodeError> {
        let kind = self.kind;
        if id == 0 {
            return Err(malformed(format!("a {kind} has the id 0")));
        }
        let former = if id == self.dense.len() as u64 + 1 && !self.sparse.contains_key(&id) {
            self.dense.push(row);
            None
        } else {
            match usize::try_from(id - 1).ok().and_then(|at| self.dense.get_mut(at)) {
                Some(former) => Some(*former),
                None => self.sparse.insert(id, row),
            }
        };
        match former {
            Some(_) => Err(malformed(format!("two {kind}s have the id {id}"))),
            None => Ok(()),
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<u32> {
        let dense = usize::try_from(id.wrapping_sub(1)).ok().and_then(|at| self.dense.get(at));
        dense.copied().or_else(|| self.sparse.get(&id).copied())
    }
}
