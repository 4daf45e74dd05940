//! How old the windows are whose profiles have not left yet: metrics, and a warning where they are
//! late.

use std::sync::Arc;
use std::time::Duration;

use profpipe_engine::overhead::{OldestWindow, Overhead, Stage, WaitingWindow};
use profpipe_engine::telemetry::{Counter, Metrics, names};

/// Intervals from which on profiles are late.
const LATE_INTERVALS: u32 = 2;

/// The metrics.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    oldest: Counter,
    waiting: [(Stage, Counter); Stage::ALL.len()],
}

impl Meters {
    /// Those of a receiver.
    pub(crate) fn new(metrics: &Metrics, receiver: &str) -> Self {
        let waiting = |stage: Stage| {
            let label = [("stage", stage.name())];
            (stage, metrics.labelled(names::WINDOWS_WAITING, receiver, &label))
        };
        Self {
            oldest: metrics.counter(names::OLDEST_WINDOW, receiver),
            waiting: Stage::ALL.map(waiting),
        }
    }
}

/// The windows of a receiver that have not left.
pub(crate) struct Ages {
    overhead: Arc<Overhead>,
    receiver: Arc<str>,
    /// It was said that they are late.
    is_reported: bool,
}

impl Ages {
    pub(crate) fn new(overhead: Arc<Overhead>, receiver: Arc<str>) -> Self {
        Self { overhead, receiver, is_reported: false }
    }

    /// A window ended; its samplers have this interval. Both are in nanoseconds.
    pub(crate) fn begin(&self, end: u64, interval: u64) -> WaitingWindow {
        self.overhead.window_ended(end, Duration::from_nanos(interval))
    }

    /// Brings the metrics up to date; says once that profiles are late, and once that they no longer
    /// are.
    pub(crate) fn look(&mut self, meters: &Meters) {
        let oldest = self.overhead.oldest_window();
        meters.oldest.set(oldest.map_or(0, |oldest| oldest.age.as_millis() as u64));
        for (stage, meter) in &meters.waiting {
            meter.set(oldest.map_or(0, |oldest| oldest.windows_at(*stage) as u64));
        }
        let receiver = &self.receiver;
        match oldest {
            Some(oldest) if oldest.age > LATE_INTERVALS * oldest.interval => {
                if !std::mem::replace(&mut self.is_reported, true) {
                    let advice = advice(&oldest, self.overhead.is_governed());
                    tracing::warn!(
                        "receivers::{receiver}: profiles are late: the oldest window ended {:.0?} ago \
                         and waits for {}; {advice}",
                        oldest.age,
                        oldest.stage.purpose()
                    );
                }
            }
            Some(oldest) if oldest.age > oldest.interval => {}
            _ => {
                if std::mem::take(&mut self.is_reported) {
                    tracing::info!("receivers::{receiver}: profiles leave in time again");
                }
            }
        }
    }
}

/// What helps where profiles are late.
fn advice(oldest: &OldestWindow, is_governed: bool) -> &'static str {
    match (oldest.stage, is_governed) {
        (Stage::Send, false) => "look whether the exporters reach their backend",
        (_, false) => "the host may be too busy",
        (_, true) => "a larger `governor::cpu` or a longer `perf::interval` helps",
    }
}
