//! What happens to profiles on their way.

use std::time::Instant;

use super::Error;
use crate::batch::Batch;

/// A step of a pipeline: a function from batches to batches.
///
/// A processor never blocks and never waits: one that needs an answer from elsewhere keeps the
/// batch (bounded in bytes and time) and emits it from [`Processor::tick`]. Dropping a batch
/// acknowledges it, so a processor that drops one for a bad reason settles its receipt first. An
/// error or a panic rejects the batch; the pipeline goes on.
pub trait Processor: Send {
    /// Takes a batch and emits any number of batches.
    ///
    /// # Errors
    /// If the batch cannot be processed; it is then rejected and counted.
    fn process(&mut self, batch: Batch, out: &mut Outbox) -> Result<(), Error>;

    /// Called about ten times a second: emits what has become ready.
    fn tick(&mut self, now: Instant, out: &mut Outbox) {
        let _ = (now, out);
    }

    /// True if [`Processor::tick`] has nothing to do until another batch comes. A pipeline in which
    /// all say so is not woken.
    fn is_idle(&self) -> bool {
        false
    }

    /// Called once, after the last batch: emits everything still held, at the latest at
    /// `deadline`. The one method that may wait.
    fn finish(&mut self, deadline: Instant, out: &mut Outbox) {
        let _ = (deadline, out);
    }

    /// What the processor looks at; a pipeline in which all want only bytes never decodes.
    fn wants(&self) -> Access {
        Access::Samples
    }
}

/// How deep a processor looks into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// At its size only.
    Bytes,
    /// At resources and scopes.
    Resources,
    /// At samples and dictionary.
    Samples,
}

/// Where a processor puts the batches it emits.
#[derive(Debug, Default)]
pub struct Outbox {
    batches: Vec<Batch>,
}

impl Outbox {
    /// Emits a batch.
    pub fn push(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    /// Takes what was emitted.
    pub fn drain(&mut self) -> impl Iterator<Item = Batch> + '_ {
        self.batches.drain(..)
    }
}
