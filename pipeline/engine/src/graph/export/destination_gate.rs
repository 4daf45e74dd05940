//! The way of all consumers of one destination through its gate: waiting, telling results, saying
//! in the log what goes wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::counters::Counters;
use super::gate::{Admission, Gate, Ticket};
use super::item::STOPPED;
use super::{now, sleep_until};
use crate::delivery::RetryPolicy;
use crate::graph::log_rate_limit::LogRateLimit;

/// How often it is said that a destination refuses us.
const ALARM_INTERVAL: Duration = Duration::from_secs(60);

/// How much later who has failed before comes than others.
const RETRY_YIELD: Duration = Duration::from_millis(20);

/// What the consumers of one destination share.
#[derive(Debug)]
pub(super) struct DestinationGate {
    pub(super) id: Arc<str>,
    pub(super) counters: Arc<Counters>,
    state: Mutex<State>,
    /// Tells those who wait that something has changed.
    changed: watch::Sender<()>,
    /// The last instant, once the engine stops.
    pub(super) stop: watch::Receiver<Option<Instant>>,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    /// Why it is paused.
    reason: String,
    quiet: LogRateLimit,
    alarm: LogRateLimit,
    /// How often the destination has answered about a batch.
    answers: u64,
}

/// Permission for one attempt; if its result is never told, it was none.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    passage: &'a DestinationGate,
    ticket: Option<Ticket>,
}

/// Why there is no permission.
#[derive(Debug)]
pub(super) enum NotNow {
    /// It would come after the deadline.
    Late(String),
    /// The engine stops.
    Stopping(String),
}

impl DestinationGate {
    pub(super) fn new(
        id: Arc<str>,
        policy: RetryPolicy,
        counters: Arc<Counters>,
        stop: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let state = State {
            gate: Gate::new(policy, now()),
            reason: String::new(),
            quiet: LogRateLimit::default(),
            alarm: LogRateLimit::every(ALARM_INTERVAL),
            answers: 0,
        };
        Self { id, counters, state: Mutex::new(state), changed: watch::Sender::new(()), stop }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the destination may be tried, and not before `earliest`. Who has failed before
    /// comes a little later, so that the probe is somebody else's if there is one.
    ///
    /// # Errors
    /// Why not, if that will not be before the deadline or before the engine ends. What is durable
    /// does not wait for anything once the engine stops.
    pub(super) async fn enter(
        &self,
        earliest: Option<Instant>,
        deadline: Option<Instant>,
        durable: bool,
    ) -> Result<Permit<'_>, NotNow> {
        let mut changed = self.changed.subscribe();
        let mut stop = self.stop.clone();
        loop {
            changed.borrow_and_update();
            let last = *stop.borrow_and_update();
            if last.is_some_and(|last| durable || last <= now()) {
                return Err(NotNow::Stopping(self.reason()));
            }
            let next = {
                let mut state = self.lock();
                if last.is_some() {
                    state.gate.hurry(now());
                }
                let later = state.gate.pause_end().filter(|_| earliest.is_some());
                let later = later.map(|until| until + RETRY_YIELD).max(earliest);
                match later.filter(|later| *later > now() && last.is_none()) {
                    Some(later) => Some(later),
                    None => match state.gate.admit(now()) {
                        Admission::Go(ticket) => {
                            return Ok(Permit { passage: self, ticket: Some(ticket) });
                        }
                        Admission::Wait(until) => Some(until),
                        Admission::WaitForProbe => None,
                    },
                }
            };
            let soonest = next.unwrap_or_else(now);
            if deadline.is_some_and(|deadline| deadline <= soonest) {
                return Err(NotNow::Late(self.reason()));
            }
            // An engine that was dropped has no time left.
            if stop.has_changed().is_err() || last.is_some_and(|last| last <= soonest) {
                return Err(NotNow::Stopping(self.reason()));
            }
            let end = deadline.into_iter().chain(last).min();
            tokio::select! {
                () = sleep_until(next) => {}
                () = sleep_until(end) => {}
                _ = changed.changed() => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// How often the destination has answered about a batch so far.
    pub(super) fn answers(&self) -> u64 {
        self.lock().answers
    }

    /// True once the engine stops, or is gone.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    fn reason(&self) -> String {
        let reason = self.lock().reason.clone();
        if reason.is_empty() { STOPPED.to_owned() } else { reason }
    }

    /// A line in the log, now and then.
    pub(super) fn complain(&self, what: &str) {
        let more = self.lock().quiet.pass(now());
        if let Some(more) = more {
            tracing::warn!("exporters::{}: {what}{more}", self.id);
        }
    }
}

impl Permit<'_> {
    /// True if the others wait for the result.
    pub(super) fn is_probe(&self) -> bool {
        self.ticket.is_some_and(Ticket::is_probe)
    }

    /// The destination took the batch, or refused it for what it is.
    pub(super) fn answered(mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut state = self.passage.lock();
        state.answers += 1;
        let held = state.gate.is_held();
        let opened = state.gate.answered(ticket, now());
        self.passage.counters.held.set(u64::from(state.gate.is_held()));
        if !opened {
            return;
        }
        state.alarm = LogRateLimit::every(ALARM_INTERVAL);
        drop(state);
        let how = if held { "accepts us again" } else { "answers again" };
        tracing::info!("exporters::{}: the destination {how}", self.passage.id);
        self.passage.changed.send_replace(());
    }

    /// The attempt failed for now; returns how long nothing is tried.
    pub(super) fn failed(mut self, asked: Option<Duration>, reason: &str) -> Duration {
        let Some(ticket) = self.ticket.take() else { return Duration::ZERO };
        let mut state = self.passage.lock();
        let until = state.gate.failed(ticket, now(), asked, random());
        reason.clone_into(&mut state.reason);
        drop(state);
        self.passage.changed.send_replace(());
        until.saturating_duration_since(now())
    }

    /// The destination refuses us.
    pub(super) fn refused(mut self, reason: &str) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut state = self.passage.lock();
        state.gate.refused(ticket, now(), random());
        reason.clone_into(&mut state.reason);
        let held = state.gate.is_held();
        let alarm = state.alarm.pass(now());
        drop(state);
        self.passage.counters.held.set(u64::from(held));
        if let Some(more) = alarm {
            tracing::error!(
                "exporters::{}: the destination refuses us, nothing is sent to it until that is \
                 corrected: {reason}{more}",
                self.passage.id
            );
        }
        self.passage.changed.send_replace(());
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.passage.lock().gate.abandoned(ticket, now());
            self.passage.changed.send_replace(());
        }
    }
}

/// From 0 to 1; good enough to spread retries.
pub(super) fn random() -> f64 {
    use std::hash::BuildHasher;
    let bits = foldhash::fast::RandomState::default().hash_one(Instant::now());
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
