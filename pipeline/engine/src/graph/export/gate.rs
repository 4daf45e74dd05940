//! When a destination may be tried: the state machine that all its consumers share.
//!
//! A destination is open until an attempt fails. Then it is paused for everybody, for as long as it
//! asks or the backoff says; after that one attempt goes ahead as a probe while the others wait for
//! its result. A probe that gets through, or that is answered in any way that is about the batch
//! and not about the destination, opens it.
//!
//! A destination that refuses *us* is held: paused in the same way, probed at least every
//! [`REFUSED_RETRY`], and known as held until it answers.
//!
//! Pure: the time and the randomness are arguments.

use std::time::{Duration, Instant};

use crate::delivery::{Backoff, RetryPolicy};

/// The longest wait between attempts once the engine is stopping.
const HURRIED_RETRY: Duration = Duration::from_millis(200);
/// The longest wait between probes of a destination that is held.
pub(super) const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// What a destination may ask for.
const ASKED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Whether a destination may be tried.
#[derive(Debug)]
pub(super) struct Gate {
    policy: RetryPolicy,
    backoff: Backoff,
    state: State,
    /// Counts pauses: what an attempt that began before a pause says about it is old.
    epoch: u64,
    hurried: bool,
    held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Paused(Instant),
    Probing,
}

/// Permission for one attempt. Its result must be told to the gate that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    epoch: u64,
    probe: bool,
}

impl Ticket {
    pub(super) fn is_probe(self) -> bool {
        self.probe
    }
}

/// The answer to who wants to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Try.
    Go(Ticket),
    /// Ask again then, or when somebody says that something has changed.
    Wait(Instant),
    /// Ask again when somebody says that something has changed.
    WaitForProbe,
}

impl Gate {
    pub(super) fn new(policy: RetryPolicy, now: Instant) -> Self {
        let policy = RetryPolicy { max_elapsed_time: Duration::ZERO, ..policy };
        Self {
            policy,
            backoff: Backoff::new(policy, now),
            state: State::Open,
            epoch: 0,
            hurried: false,
            held: false,
        }
    }

    /// Asks whether to try at `now`.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let probe = match self.state {
            State::Open => false,
            State::Paused(until) if until > now => return Admission::Wait(until),
            State::Paused(_) => {
                self.state = State::Probing;
                true
            }
            State::Probing => return Admission::WaitForProbe,
        };
        Admission::Go(Ticket { epoch: self.epoch, probe })
    }

    /// The destination took the batch, or refused it for what it is. True if that ends a pause.
    pub(super) fn answered(&mut self, ticket: Ticket, now: Instant) -> bool {
        if self.state == State::Open || ticket.epoch < self.epoch {
            return false;
        }
        self.state = State::Open;
        self.backoff = Backoff::new(self.policy, now);
        self.held = false;
        true
    }

    /// The attempt failed for now. Returns when there will be another one at the earliest.
    /// `asked` is what the destination wants us to wait; `random` is from 0 to 1.
    pub(super) fn failed(
        &mut self,
        ticket: Ticket,
        now: Instant,
        asked: Option<Duration>,
        random: f64,
    ) -> Instant {
        let asked = asked.map(|asked| asked.clamp(ASKED.0, ASKED.1));
        if ticket.epoch < self.epoch {
            return self.prolong(now, asked);
        }
        let wait = self.backoff.after_failure(now, asked, random).unwrap_or(REFUSED_RETRY);
        self.pause(now, wait)
    }

    /// The destination refuses us. Returns when it will be probed at the earliest.
    pub(super) fn refused(&mut self, ticket: Ticket, now: Instant, random: f64) -> Instant {
        if ticket.epoch < self.epoch {
            return self.prolong(now, None);
        }
        self.held = true;
        let wait = self.backoff.after_failure(now, None, random).unwrap_or(REFUSED_RETRY);
        self.pause(now, wait.min(REFUSED_RETRY))
    }

    /// The attempt ended without a result that says anything about the destination.
    pub(super) fn abandoned(&mut self, ticket: Ticket, now: Instant) {
        if ticket.probe && ticket.epoch == self.epoch && self.state == State::Probing {
            self.state = State::Paused(now);
        }
    }

    /// From now on no wait is long.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.hurried = true;
        if let State::Paused(until) = &mut self.state {
            *until = (*until).min(now + HURRIED_RETRY);
        }
    }

    /// True while the destination refuses us.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// When the pause ends, if there is one.
    pub(super) fn pause_end(&self) -> Option<Instant> {
        match self.state {
            State::Paused(until) => Some(until),
            State::Open | State::Probing => None,
        }
    }

    fn pause(&mut self, now: Instant, wait: Duration) -> Instant {
        let wait = if self.hurried { wait.min(HURRIED_RETRY) } else { wait };
        let until = now + wait;
        self.epoch += 1;
        self.state = State::Paused(until);
        until
    }

    /// An attempt from before the pause failed too: that makes the pause no longer, unless the
    /// destination asks for it.
    fn prolong(&mut self, now: Instant, asked: Option<Duration>) -> Instant {
        match &mut self.state {
            State::Paused(until) => {
                if let Some(asked) = asked.filter(|_| !self.hurried) {
                    *until = (*until).max(now + asked);
                }
                *until
            }
            State::Open | State::Probing => now,
        }
    }
}
