//! A pipeline: its processors, called one after the other on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::export::{ExporterInput, panic_text};
use super::log_rate_limit::LogRateLimit;
use crate::batch::{Batch, Outcome};
use crate::budget::Budget;
use crate::component::{Outbox, Processor};
use crate::edge::Edge;
use crate::overhead::{Overhead, Stage, Work, thread_cpu};
use crate::sender::Inlet;
use crate::telemetry::Counter;

/// How often processors are ticked.
pub(super) const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// The same where every wake-up counts.
const GOVERNED_TICK_INTERVAL: Duration = Duration::from_secs(1);
/// A tick that takes longer, in nanoseconds, had something to do.
const SHORT_TICK_NANOS: u64 = 200_000;
/// How often a pipeline looks around in which all have nothing to do.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// The way into a pipeline.
#[derive(Debug, Clone)]
pub(super) enum Inbox {
    /// A pipeline with processors: to its thread.
    Thread { queue: mpsc::Sender<Message>, queued: Counter },
    /// A pipeline without: straight to its exporters.
    Direct(Vec<ExporterInput>),
}

/// What a pipeline's thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// To process a batch of so many bytes.
    Batch(Batch, u64),
    /// To flush until the instant, answer, and end.
    Finish(Instant, oneshot::Sender<()>),
}

impl Inlet for Inbox {
    fn push(&self, batch: Batch) {
        match self {
            Self::Thread { queue, queued } => {
                let bytes = batch.bytes() as u64;
                queued.add(bytes);
                if let Err(mpsc::SendError(Message::Batch(batch, _))) =
                    queue.send(Message::Batch(batch, bytes))
                {
                    queued.sub(bytes);
                    batch.receipt.settle(Outcome::Retry("the pipeline has stopped".into()));
                }
            }
            Self::Direct(exporters) => fan_out(exporters, batch),
        }
    }
}

/// A copy for each exporter; the last takes the batch itself.
fn fan_out(exporters: &[ExporterInput], batch: Batch) {
    note(&batch, Stage::Send);
    let Some((last, others)) = exporters.split_last() else { return };
    for exporter in others {
        exporter.push(batch.clone());
    }
    last.push(batch);
}

/// Notes what the profile of a sampler's window waits for.
fn note(batch: &Batch, stage: Stage) {
    if let Some(window) = &batch.context.window {
        window.waits_for(stage);
    }
}

/// A processor of a pipeline.
pub(super) struct ProcessorNode {
    pub(super) id: String,
    pub(super) processor: Box<dyn Processor>,
    pub(super) edge: Edge,
    pub(super) quiet: LogRateLimit,
}

/// What a pipeline's thread owns.
pub(super) struct Chain {
    pub(super) links: Vec<ProcessorNode>,
    pub(super) exporters: Vec<ExporterInput>,
    pub(super) budget: Arc<Budget>,
    pub(super) overhead: Arc<Overhead>,
    pub(super) queued: Counter,
}

impl Chain {
    /// Runs until told to finish, or until nobody can send any more.
    pub(super) fn run(mut self, inbox: mpsc::Receiver<Message>) {
        let mut next_tick = Instant::now() + TICK_INTERVAL;
        loop {
            let idle = self.links.iter().all(|link| link.processor.is_idle());
            let wait = match idle {
                true => IDLE_INTERVAL,
                false => next_tick.saturating_duration_since(Instant::now()),
            };
            match inbox.recv_timeout(wait) {
                Ok(Message::Batch(batch, bytes)) => {
                    self.queued.sub(bytes);
                    self.pass(0, batch);
                }
                Ok(Message::Finish(deadline, done)) => {
                    self.finish(deadline);
                    // Queues are left before the answer, so that exporters see the end in order.
                    drop(self);
                    reject_rest(&inbox);
                    let _ = done.send(());
                    return;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.finish(Instant::now() + Duration::from_secs(1));
                    return;
                }
            }
            let now = Instant::now();
            if now >= next_tick {
                // A slow batch makes a tick late; it is not made up for.
                let is_governed = self.overhead.is_governed();
                next_tick = now + if is_governed { GOVERNED_TICK_INTERVAL } else { TICK_INTERVAL };
                if is_governed && !idle {
                    // It may send on what waited.
                    self.overhead.pause(Stage::Process);
                }
                self.tick(now);
            }
        }
    }

    /// Takes a batch through the processors from `at` on.
    fn pass(&mut self, at: usize, batch: Batch) {
        let Some(link) = self.links.get_mut(at) else {
            fan_out(&self.exporters, batch);
            return;
        };
        link.edge.took(&batch);
        note(&batch, Stage::Process);
        // A sampler with a budget: one step at a time, as the budget allows.
        let paced = self.overhead.paces(&batch.context.receiver);
        let work = paced.then(|| Work::in_turn(&self.overhead, Stage::Process));
        let receipt = batch.receipt.clone();
        let mut out = Outbox::default();
        let process = || link.processor.process(batch, &mut out);
        let processed = catch_unwind(AssertUnwindSafe(|| match work {
            Some(work) => work.run(process),
            None => process(),
        }));
        let failure = match processed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(panic) => Some(format!("it panicked: {}", panic_text(&*panic))),
        };
        if let Some(message) = failure {
            link.edge.failed(1);
            if let Some(more) = link.quiet.pass(Instant::now()) {
                tracing::warn!("processors::{}: a batch was rejected: {message}{more}", link.id);
            }
            receipt.settle(Outcome::Rejected(message));
            // What it had emitted so far is part of a batch that was refused as a whole.
            return;
        }
        drop(receipt);
        self.emit(at, out);
    }

    /// Passes on what the processor `at` emitted.
    fn emit(&mut self, at: usize, mut out: Outbox) {
        let batches: Vec<Batch> = out.drain().collect();
        for mut batch in batches {
            // The batch may have grown or be a new one: what counts is what it takes now.
            batch.charge = Some(Arc::new(self.budget.charge(batch.bytes())));
            if let Some(link) = self.links.get(at) {
                link.edge.gave(&batch);
            }
            self.pass(at + 1, batch);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.each("tick", |processor, out| processor.tick(now, out));
    }

    fn finish(&mut self, deadline: Instant) {
        self.each("finish", |processor, out| processor.finish(deadline, out));
    }

    /// Calls every processor from first to last, each with what those before it emitted.
    fn each(&mut self, what: &str, call: impl Fn(&mut dyn Processor, &mut Outbox)) {
        for at in 0..self.links.len() {
            let mut out = Outbox::default();
            let link = &mut self.links[at];
            let since = thread_cpu();
            let called = catch_unwind(AssertUnwindSafe(|| call(link.processor.as_mut(), &mut out)));
            let taken = thread_cpu().saturating_sub(since);
            if taken < SHORT_TICK_NANOS {
                self.overhead.spend_a_little(Stage::Process, taken);
            } else {
                self.overhead.spend(Stage::Process, taken);
            }
            if let Err(panic) = called {
                link.edge.failed(1);
                if let Some(more) = link.quiet.pass(Instant::now()) {
                    let text = panic_text(&*panic);
                    tracing::error!("processors::{}: {what} panicked: {text}{more}", link.id);
                }
            }
            self.emit(at, out);
        }
    }
}

/// Batches that arrived after the end are not delivered, and nobody shall believe that they were.
fn reject_rest(inbox: &mpsc::Receiver<Message>) {
    while let Ok(message) = inbox.try_recv() {
        if let Message::Batch(batch, _) = message {
            batch.receipt.settle(Outcome::Retry("the pipeline has stopped".into()));
        }
    }
}
