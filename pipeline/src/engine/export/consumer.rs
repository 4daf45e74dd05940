//! One consumer of a destination: takes what is next, tries until it is out, refused or out of
//! time, and tells everybody how it ended.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::cut::{self, LEVELS};
use super::gather::{Gather, Work};
use super::item::{Item, STOPPED};
use super::passage::{NotNow, Passage, random};
use super::{now, panic_text};
use crate::batch::{Batch, Receipt};
use crate::component::{Exporter, Failure};
use crate::engine::retry::{Backoff, RetryPolicy};
use crate::engine::settings::Batching;
use crate::telemetry::Counter;

/// How often a panic may repeat before a durable item is put aside.
const PANICS: u32 = 3;
/// How long an attempt with a durable item may go on once the engine stops.
const LAST_ATTEMPT: Duration = Duration::from_secs(2);

/// One consumer of a destination.
pub(super) struct Consumer {
    pub(super) exporter: Box<dyn Exporter>,
    pub(super) gather: Arc<Gather>,
    pub(super) passage: Arc<Passage>,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) batching: Option<Batching>,
}

/// How the sending of an item ended.
enum End {
    Delivered,
    /// It will never succeed; so many samples of it did.
    Refused(String, u64),
    /// There is no time left to try; so many samples of it succeeded.
    GivenUp(String, u64),
    /// The engine stops.
    Stopped(String),
}

/// How the sending of a piece ended.
enum Piece {
    Sent,
    TooLarge(String),
    Refused(String),
    GivenUp(String),
    Stopped(String),
}

/// How an attempt ended that did not succeed.
enum Problem {
    Failure(Failure),
    Panic(String),
    OutOfTime,
}

impl Consumer {
    /// Runs until there is nothing more to take.
    pub(super) async fn run(&mut self) {
        while let Some(work) = self.gather.next().await {
            self.deliver(work).await;
        }
    }

    async fn deliver(&mut self, work: Work) {
        let Work { merged, items } = work;
        for item in &items {
            self.passage.counters.edge.took(item.batch());
        }
        let durable = items.iter().any(Item::is_durable);
        if let Some(merged) = merged {
            match self.send(merged, durable, true).await {
                End::Delivered => {
                    items.into_iter().for_each(Item::delivered);
                    return;
                }
                End::GivenUp(reason, _) => {
                    items.into_iter().for_each(|item| item.given_up(&reason, 0));
                    return;
                }
                End::Stopped(reason) => {
                    items.into_iter().for_each(|item| item.returned(&reason));
                    return;
                }
                // One of them is to blame, not all.
                End::Refused(..) => {}
            }
        }
        for item in items {
            let mut batch = item.batch().clone();
            batch.receipt = Receipt::none();
            match self.send(batch, durable, false).await {
                End::Delivered => item.delivered(),
                End::Refused(reason, sent) => {
                    self.passage.complain(&format!("a batch was dropped: {reason}"));
                    item.refused(&reason, sent);
                }
                End::GivenUp(reason, sent) => {
                    self.passage.complain(&format!("a batch was given up: {reason}"));
                    item.given_up(&reason, sent);
                }
                End::Stopped(reason) => item.returned(&reason),
            }
        }
    }

    /// Sends a batch, in pieces if it has to be. One that was merged is not cut further than the
    /// configuration wants, because what it was merged from can be sent one by one.
    async fn send(&mut self, batch: Batch, durable: bool, merged: bool) -> End {
        let limit = self.retry.map(|retry| retry.max_elapsed_time).filter(|limit| !limit.is_zero());
        let deadline = limit.and_then(|limit| now().checked_add(limit));
        let mut pieces = first_cut(self.batching, batch).await;
        let mut sent = 0;
        let mut refused: Option<String> = None;
        while let Some((piece, level)) = pieces.pop_front() {
            match self.send_piece(&piece, durable, deadline).await {
                Piece::Sent => sent += piece.samples() as u64,
                Piece::Refused(reason) | Piece::TooLarge(reason) if merged => {
                    return End::Refused(reason, sent);
                }
                Piece::Refused(reason) => refused = refused.or(Some(reason)),
                Piece::TooLarge(reason) => match halves(piece, level).await {
                    Some(parts) => {
                        for part in parts.into_iter().rev() {
                            pieces.push_front((part, level + 1));
                        }
                    }
                    None => refused = refused.or(Some(reason)),
                },
                Piece::GivenUp(reason) => return End::GivenUp(reason, sent),
                Piece::Stopped(reason) => return End::Stopped(reason),
            }
        }
        match refused {
            Some(reason) => End::Refused(reason, sent),
            None => End::Delivered,
        }
    }

    /// Tries one piece until it is out, refused, or out of time.
    async fn send_piece(
        &mut self,
        piece: &Batch,
        durable: bool,
        deadline: Option<Instant>,
    ) -> Piece {
        let passage = Arc::clone(&self.passage);
        let (mut attempts, mut panics) = (0_u64, 0_u32);
        // When it may be tried again, once it has failed, and how often the destination had
        // answered by then.
        let (mut earliest, mut answers) = (None, None);
        let mut backoff = Backoff::new(self.retry.unwrap_or_default(), now());
        loop {
            let permit = match passage.enter(earliest, deadline, durable).await {
                Ok(permit) => permit,
                Err(NotNow::Late(reason)) => return Piece::GivenUp(reason),
                Err(NotNow::Stopping(reason)) => return Piece::Stopped(reason),
            };
            if attempts > 0 {
                passage.counters.retries.add(1);
            }
            attempts += 1;
            let failure = match self.attempt(piece, durable).await {
                Ok(()) => {
                    permit.answered();
                    return Piece::Sent;
                }
                Err(Problem::OutOfTime) => return Piece::Stopped(STOPPED.to_owned()),
                Err(Problem::Panic(text)) => {
                    // Says something about the exporter, and nothing about the destination.
                    drop(permit);
                    panics += 1;
                    passage.complain(&text);
                    if panics >= if durable { PANICS } else { 1 } {
                        return Piece::Refused(text);
                    }
                    continue;
                }
                Err(Problem::Failure(failure)) => failure,
            };
            let reason = failure.cause().chain();
            match failure {
                Failure::Reject { .. } => {
                    permit.answered();
                    return Piece::Refused(reason);
                }
                Failure::TooLarge { .. } => {
                    permit.answered();
                    return Piece::TooLarge(reason);
                }
                Failure::Retry { .. } | Failure::Hold { .. } if self.retry.is_none() => {
                    return Piece::GivenUp(reason);
                }
                Failure::Retry { after, .. } => {
                    // It fails again while others get through: then it is not the destination.
                    let known = passage.answers();
                    let alone = answers.is_some_and(|answers| known > answers);
                    answers = Some(known);
                    let own = backoff.after_failure(now(), None, random()).unwrap_or_default();
                    let wait = if alone && after.is_none() && !permit.is_probe() {
                        drop(permit);
                        own
                    } else {
                        permit.failed(after, &reason)
                    };
                    passage.complain(&format!("trying again in {wait:.1?}: {reason}"));
                    earliest = Some(now() + wait);
                }
                Failure::Hold { .. } => {
                    permit.refused(&reason);
                    earliest = Some(now());
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch, durable: bool) -> Result<(), Problem> {
        let _flying = Flying::new(&self.passage.counters.in_flight);
        let mut stop = self.passage.stop.clone();
        let timeout = self.timeout;
        let attempt = AssertUnwindSafe(self.exporter.export(batch)).catch_unwind();
        let limited = async {
            match timeout {
                Some(timeout) => {
                    tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| {
                        let text = format!("no answer within {timeout:?}");
                        Ok(Err(Failure::retry(crate::component::Error::new(text))))
                    })
                }
                None => attempt.await,
            }
        };
        let out_of_time = async {
            // An engine that is gone sets no limit.
            let Ok(last) = stop.wait_for(Option::is_some).await.map(|last| *last) else {
                return std::future::pending().await;
            };
            if let Some(last) = last {
                let last = if durable { last.min(now() + LAST_ATTEMPT) } else { last };
                tokio::time::sleep_until(last.into()).await;
            }
        };
        tokio::select! {
            attempted = limited => match attempted {
                Ok(result) => result.map_err(Problem::Failure),
                Err(panic) => {
                    Err(Problem::Panic(format!("it panicked: {}", panic_text(&*panic))))
                }
            },
            () = out_of_time => Err(Problem::OutOfTime),
        }
    }
}

/// The batch in pieces of the size that the configuration allows.
async fn first_cut(batching: Option<Batching>, batch: Batch) -> VecDeque<(Batch, u32)> {
    let max = batching.and_then(|batching| Some((batching.sizer, batching.max_size?)));
    let pieces = match max {
        Some((sizer, max)) if sizer.weigh(&batch) > max => {
            let whole = batch.clone();
            let cut = tokio::task::spawn_blocking(move || cut::to_size(&batch, sizer, max));
            cut.await.unwrap_or_else(|_| vec![whole])
        }
        _ => vec![batch],
    };
    pieces.into_iter().map(|piece| (piece, 0)).collect()
}

async fn halves(piece: Batch, level: u32) -> Option<Vec<Batch>> {
    if level >= LEVELS {
        return None;
    }
    tokio::task::spawn_blocking(move || cut::halves(&piece)).await.ok()?
}

/// Counts an attempt while it goes on.
struct Flying(Counter);

impl Flying {
    fn new(counter: &Counter) -> Self {
        counter.add(1);
        Self(counter.clone())
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}
