//! Batches that wait until metadata services have answered, within bounds of time and memory.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Setup};

use super::catalog::Detector;
use super::cloud::{self, Said, Service};
use super::config::Config;
use super::facts::Facts;

/// The most bytes that wait; beyond, batches go without what is not known yet, oldest first.
const MAX_BYTES: usize = 16 << 20;
/// The most batches that wait.
const MAX_BATCHES: usize = 1024;
/// Services that were asked and gave no answer of use.
pub(super) const FAILED: &str = "profpipe_resource_detection_failed_total";

/// What waits, and what for.
#[derive(Debug)]
pub(super) struct Waiting {
    answers: Receiver<Vec<Said>>,
    /// Heard while waiting for the end.
    heard: Option<Vec<Said>>,
    until: Instant,
    batches: VecDeque<Batch>,
    bytes: usize,
    setup: Setup,
}

impl Waiting {
    /// Asks the services that the configuration lists, if any.
    pub(super) fn begin(config: &Config, setup: &Setup) -> Result<Option<Self>, Error> {
        let services: Vec<Service> = config
            .detectors
            .iter()
            .filter_map(|detector| {
                let endpoint = config.cloud(*detector)?.endpoint.clone();
                Some(Service { detector: *detector, endpoint })
            })
            .collect();
        if services.is_empty() {
            return Ok(None);
        }
        for service in &services {
            // So that it is there, at zero.
            failed(setup, service.detector, 0);
        }
        let timeout = config.timeout.0;
        let answers = cloud::ask(services, timeout)
            .map_err(|error| Error::with_source("no thread to ask metadata services", error))?;
        Ok(Some(Self {
            answers,
            heard: None,
            // The thread keeps the time too; this is for one that cannot.
            until: Instant::now() + timeout + timeout / 4,
            batches: VecDeque::new(),
            bytes: 0,
            setup: setup.clone(),
        }))
    }

    /// Keeps a batch; gives one back if that is too much.
    pub(super) fn hold(&mut self, batch: Batch) -> Option<Batch> {
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        if self.bytes <= MAX_BYTES && self.batches.len() <= MAX_BATCHES {
            return None;
        }
        let oldest = self.batches.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.bytes());
        Some(oldest)
    }

    /// Waits for the answers.
    pub(super) fn wait(&mut self, deadline: Instant) {
        let time = deadline.min(self.until).saturating_duration_since(Instant::now());
        match self.answers.recv_timeout(time) {
            Ok(said) => self.heard = Some(said),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    /// What the services said, once that is known or too late.
    pub(super) fn answers(&mut self, now: Instant) -> Option<Vec<(Detector, Facts)>> {
        let said = match self.heard.take().map_or_else(|| self.answers.try_recv(), Ok) {
            Ok(said) => said,
            Err(TryRecvError::Empty) if now < self.until => return None,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Vec::new(),
        };
        let mut known = Vec::new();
        for (detector, answer) in said {
            match answer {
                Ok(facts) => known.push((detector, facts)),
                Err(problem) => {
                    failed(&self.setup, detector, 1);
                    let (id, name) = (&self.setup.id, detector.name());
                    tracing::warn!(
                        "processors::{id}: the `{name}` detector found nothing: {problem}; \
                         profiles go without what it would say"
                    );
                }
            }
        }
        Some(known)
    }

    /// The batches, oldest first.
    pub(super) fn into_batches(self) -> impl Iterator<Item = Batch> {
        self.batches.into_iter()
    }
}

fn failed(setup: &Setup, detector: Detector, times: u64) {
    let labels = [("detector", detector.name())];
    setup.services.metrics.labelled(FAILED, &setup.id, &labels).add(times);
}
