//! What receivers that serve requests share: a batch goes on, and its sender gets an answer once it is
//! known what became of it.

use profpipe_engine::Sender;
use profpipe_engine::batch::{Batch, Outcome, Receipt};
use profpipe_engine::budget::Charge;
use profpipe_engine::telemetry::{Counter, Metrics, names};
use profpipe_network::server::{Rejection, Sending};

/// What became of the samples that came one way.
pub(crate) struct Counts {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
}

impl Counts {
    /// Of the receiver `id`, by `transport`.
    pub(crate) fn new(metrics: &Metrics, id: &str, transport: &str) -> Self {
        let count = |name| metrics.labelled(name, id, &[("transport", transport)]);
        Self {
            accepted: count(names::RECEIVER_ACCEPTED_SAMPLES),
            refused: count(names::RECEIVER_REFUSED_SAMPLES),
            failed: count(names::RECEIVER_FAILED_SAMPLES),
        }
    }
}

/// Sends a batch on and waits until it is delivered or durable; only then is that success.
pub(crate) async fn deliver(
    out: &Sender,
    mut batch: Batch,
    charge: Charge,
    sending: Sending,
    counts: &Counts,
) -> Result<(), Rejection> {
    let samples = batch.samples() as u64;
    let (receipt, acknowledgement) = Receipt::new();
    batch.receipt = receipt;
    let sent = out.send_admitted(batch, charge).await;
    drop(sending);
    let outcome = match sent {
        Ok(()) => acknowledgement.wait().await,
        Err(closed) => Outcome::Retry(closed.to_string()),
    };
    let rejection = match outcome {
        Outcome::Delivered | Outcome::Durable => {
            counts.accepted.add(samples);
            return Ok(());
        }
        Outcome::Retry(cause) => Rejection::unavailable(cause),
        Outcome::Rejected(cause) => Rejection::invalid(cause).of_others(),
    };
    counts.refused.add(samples);
    Err(rejection)
}
