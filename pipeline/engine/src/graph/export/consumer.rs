//! One consumer of a destination: takes what is next, tries until it is out, refused or out of
//! time, and tells everybody how it ended.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::cut::{self, MAX_CUT_LEVELS};
use super::destination_gate::{DestinationGate, NotNow};
use super::gather::{Gather, Work};
use super::item::{Item, STOPPED};
use super::tries::Tries;
use super::{now, panic_text};
use crate::batch::{Batch, Receipt};
use crate::component::{Exporter, Failure};
use crate::delivery::Batching;
use crate::delivery::RetryPolicy;
use crate::overhead::{Metered, Overhead, Stage};
use crate::telemetry::Counter;

/// How long an attempt with a durable item may go on once the engine stops.
const LAST_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// One consumer of a destination.
pub(super) struct Consumer {
    pub(super) exporter: Box<dyn Exporter>,
    pub(super) gather: Arc<Gather>,
    pub(super) passage: Arc<DestinationGate>,
    pub(super) overhead: Arc<Overhead>,
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
    /// It makes way for others, for now.
    Aside,
}

/// How the sending of a piece ended.
enum Piece {
    Sent,
    TooLarge(String),
    Refused(String),
    GivenUp(String),
    Stopped(String),
    Aside,
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
        for item in items.iter().filter(|item| item.tries.is_none()) {
            self.passage.counters.edge.took(item.batch());
        }
        let durable = items.iter().any(Item::is_durable);
        if let Some(merged) = merged {
            let mut tries = Tries::new(self.retry, now());
            match self.send(merged, durable, true, &mut tries).await {
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
                End::Refused(..) | End::Aside => {}
            }
        }
        for item in items {
            self.deliver_one(item, durable).await;
        }
    }

    async fn deliver_one(&mut self, mut item: Item, durable: bool) {
        let mut batch = item.batch().clone();
        batch.receipt = Receipt::none();
        let mut tries = item.tries.take().unwrap_or_else(|| Tries::new(self.retry, now()));
        match self.send(batch, durable, false, &mut tries).await {
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
            End::Aside => {
                let until = tries.earliest.unwrap_or_else(now);
                item.tries = Some(tries);
                self.gather.parked.park(item, until);
            }
        }
    }

    /// Sends a batch, in pieces if it has to be. One that was merged is not cut further than the
    /// configuration wants, because what it was merged from can be sent one by one.
    async fn send(&mut self, batch: Batch, durable: bool, merged: bool, tries: &mut Tries) -> End {
        let deadline = tries.deadline(self.retry);
        let mut pieces = first_cut(self.batching, batch).await;
        // What is sent in part already goes on until it is sent as a whole.
        // In memory nothing is tried for so long that it would matter.
        let mut whole = pieces.len() == 1 && !merged && durable;
        let mut sent = 0;
        let mut refused: Option<String> = None;
        while let Some((piece, level)) = pieces.pop_front() {
            let ended = if whole {
                self.send_piece(&piece, durable, deadline, tries, true).await
            } else {
                let mut tries = Tries::new(self.retry, now());
                self.send_piece(&piece, durable, deadline, &mut tries, false).await
            };
            whole = false;
            match ended {
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
                Piece::Aside => return End::Aside,
            }
        }
        match refused {
            Some(reason) => End::Refused(reason, sent),
            None => End::Delivered,
        }
    }

    /// Tries one piece until it is out, refused, out of time, or others should have a turn.
    async fn send_piece(
        &mut self,
        piece: &Batch,
        durable: bool,
        deadline: Option<Instant>,
        tries: &mut Tries,
        may_park: bool,
    ) -> Piece {
        let passage = Arc::clone(&self.passage);
        loop {
            let permit = match passage.enter(tries.earliest, deadline, durable).await {
                Ok(permit) => permit,
                Err(NotNow::Late(reason)) => return Piece::GivenUp(reason),
                Err(NotNow::Stopping(reason)) => return Piece::Stopped(reason),
            };
            if tries.again() {
                passage.counters.retries.add(1);
            }
            let since = now();
            let attempted = self.attempt(piece, durable).await;
            passage.counters.attempt.took(now().saturating_duration_since(since));
            passage.counters.attempt_samples.record(piece.samples() as f64);
            passage.counters.attempt_bytes.record(piece.bytes() as f64);
            let failure = match attempted {
                Ok(()) => {
                    permit.answered();
                    return Piece::Sent;
                }
                Err(Problem::OutOfTime) => return Piece::Stopped(STOPPED.to_owned()),
                Err(Problem::Panic(text)) => {
                    // Says something about the exporter, and nothing about the destination.
                    drop(permit);
                    passage.complain(&text);
                    if tries.panicked(durable) {
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
                    let own = tries.failed(now(), passage.answers());
                    let wait = match own.filter(|_| after.is_none() && !permit.is_probe()) {
                        Some(own) => {
                            drop(permit);
                            own
                        }
                        None => permit.failed(after, &reason),
                    };
                    passage.complain(&format!("trying again in {wait:.1?}: {reason}"));
                    tries.earliest = Some(now() + wait);
                    let aside = may_park && tries.is_stubborn() && !passage.is_stopping();
                    if aside && self.gather.parked.has_room(piece.bytes()) {
                        return Piece::Aside;
                    }
                }
                Failure::Hold { .. } => {
                    permit.refused(&reason);
                    tries.earliest = Some(now());
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch, durable: bool) -> Result<(), Problem> {
        let _flying = InFlightGuard::new(&self.passage.counters.in_flight);
        let mut stop = self.passage.stop.clone();
        let timeout = self.timeout;
        let overhead = Arc::clone(&self.overhead);
        let paced = overhead.paces(&batch.context.receiver);
        let bytes = batch.bytes() as u64;
        let attempt = AssertUnwindSafe(self.exporter.export(batch)).catch_unwind();
        let limited = async {
            if paced {
                overhead.sendable(bytes).await;
            }
            let attempt = Metered::new(&overhead, Stage::Send, attempt);
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
                let last = if durable { last.min(now() + LAST_ATTEMPT_TIMEOUT) } else { last };
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
    if level >= MAX_CUT_LEVELS {
        return None;
    }
    tokio::task::spawn_blocking(move || cut::halves(&piece)).await.ok()?
}

/// Counts an attempt while it goes on.
struct InFlightGuard(Counter);

impl InFlightGuard {
    fn new(counter: &Counter) -> Self {
        counter.add(1);
        Self(counter.clone())
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}
