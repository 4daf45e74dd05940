//! An engine at work, and how it ends.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout_at;

use super::builder::EngineError;
use super::chain::Message;
use super::export::panic_text;
use crate::budget::Budget;
use crate::component::{Error, Extension, Lifecycle, Receiver, Stopper};
use crate::overhead::Overhead;
use crate::sender::Sender;
use crate::services::Health;
use crate::telemetry::Metrics;

/// An engine at work. Dropping it stops everything at once.
#[derive(Debug)]
pub struct RunningEngine {
    pub(super) receivers: JoinSet<(String, Result<(), Error>)>,
    pub(super) stoppers: Vec<Stopper>,
    pub(super) extensions: JoinSet<(String, Result<(), Error>)>,
    pub(super) extension_stoppers: Vec<Stopper>,
    pub(super) chains: Vec<ChainHandle>,
    pub(super) exporters: Vec<ExporterHandle>,
    /// Tells exporters the last instant.
    pub(super) stop: watch::Sender<Option<Instant>>,
    /// Tells senders that nothing is taken any more.
    pub(super) close: watch::Sender<bool>,
    /// Tells exporters that nothing more will come.
    pub(super) finish: watch::Sender<bool>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) overhead: Arc<Overhead>,
}

/// The way to a pipeline's thread.
#[derive(Debug)]
pub(super) struct ChainHandle {
    pub(super) pipeline: String,
    pub(super) queue: mpsc::Sender<Message>,
}

/// An exporter's task.
#[derive(Debug)]
pub(super) struct ExporterHandle {
    pub(super) id: String,
    pub(super) task: JoinHandle<()>,
}

/// Runs a receiver; a panic is its error.
pub(super) async fn receive(
    id: String,
    receiver: Box<dyn Receiver>,
    sender: Sender,
    life: Lifecycle,
) -> (String, Result<(), Error>) {
    let result = AssertUnwindSafe(async { receiver.run(sender, life).await }).catch_unwind().await;
    let result = result
        .unwrap_or_else(|panic| Err(Error::new(format!("it panicked: {}", panic_text(&*panic)))));
    (id, result)
}

/// Runs an extension; a panic is its error.
pub(super) async fn extend(
    id: String,
    extension: Arc<dyn Extension>,
    life: Lifecycle,
) -> (String, Result<(), Error>) {
    let result = AssertUnwindSafe(extension.run(life)).catch_unwind().await;
    let result = result
        .unwrap_or_else(|panic| Err(Error::new(format!("it panicked: {}", panic_text(&*panic)))));
    (id, result)
}

impl RunningEngine {
    /// The engine's counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The bytes of batches in flight.
    pub fn bytes_in_flight(&self) -> usize {
        self.budget.used()
    }

    /// Waits until every receiver has ended by itself, or one has failed. The engine is still
    /// there after that and wants to be stopped.
    ///
    /// # Errors
    /// The first failure of a receiver.
    pub async fn wait(&mut self) -> Result<(), EngineError> {
        loop {
            tokio::select! {
                ended = self.receivers.join_next() => match ended {
                    Some(ended) => outcome(ended)?,
                    None => return Ok(()),
                },
                Some(ended) = self.extensions.join_next() => match ended {
                    Ok((id, Err(cause))) => return Err(EngineError::Extension { id, cause }),
                    // One that has nothing more to do, or was aborted.
                    Ok((_, Ok(()))) | Err(_) => {}
                },
            }
        }
    }

    /// Stops: receivers first, then what they sent is processed, exported, and exporters closed;
    /// all within about `grace`.
    ///
    /// # Errors
    /// The first failure of a receiver while it was ending. Everything is stopped nevertheless.
    pub async fn stop(self, grace: Duration) -> Result<(), EngineError> {
        self.health.set(false);
        self.hand_over(grace).await.finish().await
    }

    /// Ends the receivers, so that another engine may begin to take what comes. The rest goes on
    /// until [`Leaving::finish`] is through, all within about `grace` from now.
    pub async fn hand_over(mut self, grace: Duration) -> Leaving {
        let start = tokio::time::Instant::now();
        let last = start + grace;
        self.overhead.hurry();
        // Each stage may use up to its share; what one leaves over, the next ones have.
        let receivers_until = start + grace.mul_f64(0.5);
        self.stop.send_replace(Some(last.into_std()));
        for stopper in &self.stoppers {
            stopper.stop(grace.mul_f64(0.5));
        }
        let result = self.stop_receivers(receivers_until).await;
        self.close.send_replace(true);
        Leaving { engine: self, result, chains_until: start + grace.mul_f64(0.75), last }
    }

    async fn stop_receivers(&mut self, until: tokio::time::Instant) -> Result<(), EngineError> {
        let mut result = Ok(());
        loop {
            match timeout_at(until, self.receivers.join_next()).await {
                Ok(Some(ended)) => result = result.and(outcome(ended)),
                Ok(None) => return result,
                Err(_) => {
                    let late = self.receivers.len();
                    tracing::warn!("{late} receivers did not end in time and were cut off");
                    self.receivers.abort_all();
                    return result;
                }
            }
        }
    }

    async fn stop_extensions(&mut self, last: tokio::time::Instant) {
        for stopper in self.extension_stoppers.drain(..) {
            stopper.stop(Duration::ZERO);
        }
        let ended = async { while self.extensions.join_next().await.is_some() {} };
        // Late ones are aborted when the set is dropped.
        let _ = timeout_at(last, ended).await;
    }

    async fn stop_chains(&mut self, until: tokio::time::Instant) {
        // A processor that waits until its deadline must still hand on what it waited with.
        let slack = until.saturating_duration_since(tokio::time::Instant::now()) / 4;
        let deadline = (until - slack).into_std();
        let mut flushed = Vec::new();
        for chain in self.chains.drain(..) {
            let (done, answer) = oneshot::channel();
            // A thread that is gone has nothing to flush.
            if chain.queue.send(Message::Finish(deadline, done)).is_ok() {
                flushed.push((chain.pipeline, answer));
            }
        }
        for (pipeline, answer) in flushed {
            if timeout_at(until, answer).await.is_err() {
                tracing::warn!("pipeline {pipeline}: processors did not flush in time");
            }
        }
    }

    async fn stop_exporters(&mut self, last: tokio::time::Instant) {
        self.finish.send_replace(true);
        // A little later than exporters themselves give up, so that they settle what is left.
        let cut = last + Duration::from_millis(100);
        for exporter in self.exporters.drain(..) {
            let abort = exporter.task.abort_handle();
            if timeout_at(cut, exporter.task).await.is_err() {
                tracing::warn!("exporters::{}: did not close in time", exporter.id);
                abort.abort();
            }
        }
    }
}

/// An engine that takes nothing more. Dropping it leaves behind what it still holds.
#[derive(Debug)]
#[must_use = "what it holds is delivered by `finish`"]
pub struct Leaving {
    engine: RunningEngine,
    result: Result<(), EngineError>,
    chains_until: tokio::time::Instant,
    last: tokio::time::Instant,
}

impl Leaving {
    /// Processes and exports what is left, then closes everything.
    ///
    /// # Errors
    /// The first failure of a receiver while it was ending. Everything is stopped nevertheless.
    pub async fn finish(mut self) -> Result<(), EngineError> {
        self.engine.stop_chains(self.chains_until).await;
        self.engine.stop_exporters(self.last).await;
        self.engine.stop_extensions(self.last).await;
        self.result
    }
}

fn outcome(
    ended: Result<(String, Result<(), Error>), tokio::task::JoinError>,
) -> Result<(), EngineError> {
    match ended {
        Ok((_, Ok(()))) => Ok(()),
        Ok((id, Err(cause))) => Err(EngineError::Receiver { id, cause }),
        // Aborted on purpose; panics are caught inside the task.
        Err(_) => Ok(()),
    }
}
