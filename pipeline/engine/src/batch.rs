//! What travels between components: profiles, where they came from, and a receipt.
//!
//! The [payload](profpipe_formats::otlp::Payload) arrives either as bytes of the wire or as tables; a batch
//! gives access to it as it is.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::budget::Charge;
use crate::overhead::WaitingWindow;
use profpipe_formats::otlp::Payload;
use profpipe_profile::Profiles;

/// Profiles on their way through a pipeline.
#[derive(Debug, Clone)]
pub struct Batch {
    payload: Payload,
    /// Where the batch came from.
    pub context: Context,
    /// Acknowledges the batch when the last of its copies is dropped.
    pub receipt: Receipt,
    /// The batch's share of the memory budget, given back with its last copy.
    pub(crate) charge: Option<Arc<Charge>>,
}

/// Where a batch came from.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The receiver that produced it, as `type` or `type/name`.
    pub receiver: Arc<str>,
    /// Where it was taken: what its process ids, paths and kernel addresses mean.
    pub origin: Origin,
    /// Whose it is, where the receiver knows: by credentials, or by a header that it trusts.
    pub tenant: Option<Arc<str>>,
    /// The sampler's window that it is the profile of, until the last copy has left.
    pub window: Option<Arc<WaitingWindow>>,
}

/// Where a batch was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// On another host, or one does not know: its process ids and kernel are not ours.
    #[default]
    Elsewhere,
    /// On this host, while this program runs: its processes, files and kernel can be looked at.
    ThisHost,
}

impl From<Payload> for Batch {
    /// A batch that nobody waits for.
    fn from(payload: Payload) -> Self {
        Self { payload, context: Context::default(), receipt: Receipt::none(), charge: None }
    }
}

impl Batch {
    /// A batch of tables that nobody waits for.
    pub fn new(profiles: Profiles) -> Self {
        Payload::from(profiles).into()
    }

    /// The batch, taken on this host: for samplers.
    #[must_use]
    pub fn taken_here(mut self) -> Self {
        self.context.origin = Origin::ThisHost;
        self
    }

    /// A batch of an OTLP export request in protobuf, not decoded yet.
    pub fn from_wire(request: Bytes) -> Self {
        Payload::from_wire(request).into()
    }
}

impl Deref for Batch {
    type Target = Payload;

    fn deref(&self) -> &Payload {
        &self.payload
    }
}

impl DerefMut for Batch {
    fn deref_mut(&mut self) -> &mut Payload {
        &mut self.payload
    }
}

/// What became of a batch. The order is from best to worst: where a batch went several ways, the
/// worst outcome is its outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every destination has it.
    Delivered,
    /// It survives a crash of this process and will be delivered.
    Durable,
    /// It was lost, and sending it again may help.
    Retry(String),
    /// It was refused, and sending it again will not help.
    Rejected(String),
}

/// A share in the acknowledgement of one batch. Clones share; the last one dropped resolves it.
#[derive(Debug, Clone)]
pub struct Receipt(Option<Arc<Pending>>);

#[derive(Debug)]
struct Pending {
    worst: Mutex<Outcome>,
    answer: Mutex<Option<oneshot::Sender<Outcome>>>,
    merged: Mutex<Vec<Receipt>>,
}

impl Receipt {
    /// A receipt that nobody waits for.
    pub fn none() -> Self {
        Self(None)
    }

    /// A receipt, and the future of its outcome.
    pub fn new() -> (Self, Acknowledgement) {
        let (sender, receiver) = oneshot::channel();
        let pending = Pending {
            worst: Mutex::new(Outcome::Delivered),
            answer: Mutex::new(Some(sender)),
            merged: Mutex::default(),
        };
        (Self(Some(Arc::new(pending))), Acknowledgement(receiver))
    }

    /// One receipt that stands for several: its outcome becomes theirs.
    pub fn merge(receipts: Vec<Receipt>) -> Self {
        let merged: Vec<_> = receipts.into_iter().filter(|receipt| receipt.0.is_some()).collect();
        if merged.is_empty() {
            return Self::none();
        }
        Self(Some(Arc::new(Pending {
            worst: Mutex::new(Outcome::Delivered),
            answer: Mutex::new(None),
            merged: Mutex::new(merged),
        })))
    }

    /// Records what became of this share.
    pub fn settle(&self, outcome: Outcome) {
        if let Some(pending) = &self.0 {
            let mut worst = pending.worst.lock().unwrap_or_else(PoisonError::into_inner);
            if outcome > *worst {
                *worst = outcome;
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let worst = self.worst.get_mut().unwrap_or_else(PoisonError::into_inner).clone();
        for receipt in self.merged.get_mut().unwrap_or_else(PoisonError::into_inner) {
            receipt.settle(worst.clone());
        }
        if let Some(answer) = self.answer.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waiting any more is not an error.
            let _ = answer.send(worst);
        }
    }
}

/// The future outcome of a batch.
#[derive(Debug)]
pub struct Acknowledgement(oneshot::Receiver<Outcome>);

impl Acknowledgement {
    /// Waits until every share of the receipt is dropped.
    pub async fn wait(self) -> Outcome {
        self.0.await.unwrap_or_else(|_| Outcome::Retry("the pipeline dropped the batch".into()))
    }
}
