//! How a target does: counters, and complaints that do not flood the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::component::Error;
use profpipe_engine::settings::ShownAddress;
use profpipe_engine::telemetry::{Counter, Metrics};

use super::target::Target;

/// Requests to a target (labels: `instance` and `profile`).
const SCRAPES: &str = "profpipe_pprof_scrapes_total";
/// Requests that brought no profile.
const FAILED: &str = "profpipe_pprof_scrapes_failed_total";
/// 1 if the last request brought a profile, else 0.
const UP: &str = "profpipe_pprof_target_up";
/// How long the last request took.
const DURATION: &str = "profpipe_pprof_scrape_duration_milliseconds";
/// Samples received.
const SAMPLES: &str = "profpipe_pprof_samples_total";
/// Times a target's counts began anew.
const RESTARTS: &str = "profpipe_pprof_target_restarts_total";

/// How often the same target is complained about.
const QUIET: Duration = Duration::from_secs(60);

/// The counters of one target.
pub(super) struct Status {
    receiver: String,
    scrapes: Counter,
    failed: Counter,
    up: Counter,
    duration: Counter,
    samples: Counter,
    restarts: Counter,
    complained: Option<Instant>,
    unsaid: u64,
    metrics: Arc<Metrics>,
    /// The labels of the counters.
    instance: String,
    profile: String,
}

impl Status {
    pub(super) fn new(metrics: &Arc<Metrics>, receiver: &str, target: &Target) -> Self {
        let instance = target.labels.get("instance").map(String::as_str).unwrap_or_default();
        let labels = [("instance", instance), ("profile", target.profile.as_str())];
        let counter = |name| metrics.labelled(name, receiver, &labels);
        Self {
            receiver: receiver.to_owned(),
            scrapes: counter(SCRAPES),
            failed: counter(FAILED),
            up: counter(UP),
            duration: counter(DURATION),
            samples: counter(SAMPLES),
            restarts: counter(RESTARTS),
            complained: None,
            unsaid: 0,
            metrics: Arc::clone(metrics),
            instance: instance.to_owned(),
            profile: target.profile.clone(),
        }
    }

    /// A request is over; true if it brought a profile.
    pub(super) fn scraped(&self, took: Duration, result: Result<bool, &Error>) {
        self.scrapes.add(1);
        self.failed.add(u64::from(result.is_err()));
        self.up.set(u64::from(result.is_ok()));
        self.duration.set(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    pub(super) fn samples(&self, count: usize) {
        self.samples.add(count as u64);
    }

    pub(super) fn restarted(&self, target: &Target) {
        self.restarts.add(1);
        tracing::info!("receivers::{}: {} has started anew", self.receiver, target.address);
    }

    /// Tells why a request failed, at most once a minute for a target.
    pub(super) fn complain(&mut self, target: &Target, error: &Error) {
        if self.complained.is_some_and(|last| last.elapsed() < QUIET) {
            self.unsaid += 1;
            return;
        }
        let more = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            more => format!(" (and {more} times more since the last message)"),
        };
        self.complained = Some(Instant::now());
        let shown = ShownAddress::of(&target.url);
        tracing::warn!("receivers::{}: {shown}: {}{more}", self.receiver, error.chain());
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        // A target that is gone is not up. Its series end with it, unless another has the same.
        self.up.set(0);
        let all = [
            (SCRAPES, &mut self.scrapes),
            (FAILED, &mut self.failed),
            (UP, &mut self.up),
            (DURATION, &mut self.duration),
            (SAMPLES, &mut self.samples),
            (RESTARTS, &mut self.restarts),
        ];
        let labels = [("instance", self.instance.as_str()), ("profile", self.profile.as_str())];
        for (name, counter) in all {
            drop(std::mem::take(counter));
            self.metrics.forget(name, &self.receiver, &labels);
        }
    }
}
