//! Whose turn it is among the stages that wait for the same budget.
//!
//! What profiles cannot leave without goes before all other work. For each stage it is known how large
//! its pieces usually are, and for how much of a window it was kept waiting: that is its unmet demand,
//! which the controller plans for. Time is a parameter.

use std::time::Duration;

use super::ledger::Stage;

/// What a piece of work is taken to need before the first of its stage, in nanoseconds.
const UNKNOWN_PIECE_NANOS: f64 = 300_000.0;
/// How long a stage waits at least before it asks again where delivery comes first: to wake up costs
/// some tens of microseconds.
const TURN_TIMEOUT: Duration = Duration::from_millis(100);
/// What has not asked for so long, in nanoseconds, does not wait any more.
const ABANDONED_NANOS: u64 = 6_000_000_000;
/// What is taken to be the size of a piece halves for every such time that it waits, in nanoseconds.
const FORGIVEN_NANOS: f64 = 5e9;
/// How much of a difference the usual size makes up for, with a longer piece and a shorter one.
const RISE_GAIN: f64 = 0.5;
/// See [`RISE_GAIN`].
const FALL_GAIN: f64 = 0.15;

/// The stages that wait, and what their work is like.
#[derive(Debug, Default)]
pub(super) struct Turns {
    stages: [Turn; Stage::ALL.len()],
    /// When the window began.
    window: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Turn {
    /// The usual size of a piece, from above.
    typical: f64,
    /// What was given and has not been told as taken.
    given: f64,
    /// Since when it waits, and when it asked last.
    waiting: Option<(u64, u64)>,
    /// When it will ask again.
    asks: u64,
    /// How long it has waited in this window, in nanoseconds, without the wait it is in.
    waited: u64,
}

/// For how much of a window work was kept waiting, of 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Waited {
    /// Work without which profiles cannot leave.
    pub(super) delivery: f64,
    /// All other work.
    pub(super) rest: f64,
}

impl Turns {
    fn turn(&mut self, stage: Stage) -> &mut Turn {
        &mut self.stages[stage as usize]
    }

    /// What the next piece of a stage is taken to need.
    pub(super) fn estimate(&self, stage: Stage, now: u64) -> f64 {
        self.stages[stage as usize].estimate(now)
    }

    /// A piece took so much.
    pub(super) fn learn(&mut self, stage: Stage, taken: f64) {
        let turn = self.turn(stage);
        let gain = if taken > turn.typical { RISE_GAIN } else { FALL_GAIN };
        turn.typical += gain * (taken - turn.typical);
    }

    /// How long a stage has waited by now.
    pub(super) fn waited(&self, stage: Stage, now: u64) -> Duration {
        let since = self.stages[stage as usize].waiting.map_or(now, |(since, _)| since);
        Duration::from_nanos(now.saturating_sub(since))
    }

    /// How long a stage has to wait for others.
    pub(super) fn wait(&self, stage: Stage, now: u64) -> Duration {
        // Some do without rather than wait.
        if stage.is_delivery() || matches!(stage, Stage::Discover | Stage::Calibrate) {
            return Duration::ZERO;
        }
        let waits =
            |turn: &Turn| turn.waiting.is_some_and(|(_, asked)| asked + ABANDONED_NANOS >= now);
        let delivery = Stage::ALL.into_iter().filter(|other| other.is_delivery());
        let delivery = delivery.map(|other| self.stages[other as usize]);
        let asks = delivery.filter(waits).map(|turn| turn.asks).max();
        asks.map_or(Duration::ZERO, |asks| {
            TURN_TIMEOUT + Duration::from_nanos(asks.saturating_sub(now))
        })
    }

    /// A stage waits, since now or for longer, and will ask again after `wait`.
    pub(super) fn queue(&mut self, stage: Stage, wait: Duration, now: u64) {
        if matches!(stage, Stage::Discover | Stage::Calibrate) {
            return;
        }
        let window = self.window;
        let turn = self.turn(stage);
        let since = match turn.waiting {
            Some((since, asked)) if asked + ABANDONED_NANOS >= now => since,
            other => {
                turn.end_wait(other.map_or(now, |(_, asked)| asked), window);
                now
            }
        };
        turn.waiting = Some((since, now));
        turn.asks = now + wait.as_nanos() as u64;
    }

    /// A stage has its turn, and was given so much.
    pub(super) fn begin(&mut self, stage: Stage, given: f64, now: u64) {
        let window = self.window;
        let turn = self.turn(stage);
        turn.end_wait(now, window);
        turn.given += given;
    }

    /// The largest piece that waits, as far as one knows before.
    pub(super) fn pending(&self, now: u64) -> f64 {
        let waits =
            |turn: &&Turn| turn.waiting.is_some_and(|(_, asked)| asked + ABANDONED_NANOS >= now);
        self.stages.iter().filter(waits).map(|turn| turn.estimate(now)).fold(0.0, f64::max)
    }

    /// What a stage was given is told: it is spent or not.
    pub(super) fn settle(&mut self, stage: Stage) -> f64 {
        std::mem::take(&mut self.turn(stage).given)
    }

    /// Ends a window: for how much of it work was kept waiting.
    pub(super) fn end_window(&mut self, now: u64) -> Waited {
        let window = self.window;
        let length = now.saturating_sub(window).max(1) as f64;
        let mut all = Waited::default();
        for stage in Stage::ALL {
            let turn = self.turn(stage);
            let until = match turn.waiting {
                Some((_, asked)) if asked + ABANDONED_NANOS < now => asked,
                _ => now,
            };
            let waiting =
                turn.waiting.map_or(0, |(since, _)| until.saturating_sub(since.max(window)));
            let share = (std::mem::take(&mut turn.waited) + waiting) as f64 / length;
            let class = if stage.is_delivery() { &mut all.delivery } else { &mut all.rest };
            *class = class.max(share.min(1.0));
        }
        self.window = now;
        all
    }
}

impl Turn {
    /// What a piece is taken to need: less the longer it waits, so that one that was large once does
    /// not keep the stage waiting for room that never comes.
    fn estimate(&self, now: u64) -> f64 {
        let typical = if self.typical > 0.0 { self.typical } else { UNKNOWN_PIECE_NANOS };
        let waited = self.waiting.map_or(0, |(since, _)| now.saturating_sub(since));
        typical * (-(waited as f64) / FORGIVEN_NANOS).exp2()
    }

    fn end_wait(&mut self, now: u64, window: u64) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += now.saturating_sub(since.max(window));
        }
    }
}
