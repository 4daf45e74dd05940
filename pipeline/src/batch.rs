//! What travels between components: profiles, where they came from, and a receipt.
//!
//! A batch arrives either as bytes of the wire or as tables. Bytes become tables once, when a
//! component first asks for samples; a pipeline that only forwards never decodes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::engine::Charge;
use crate::otlp;
use crate::overhead::WaitingWindow;
use crate::profile::{Profiles, Resource};

/// Profiles on their way through a pipeline.
#[derive(Debug, Clone)]
pub struct Batch {
    body: Body,
    /// Where the batch came from.
    pub context: Context,
    /// Acknowledges the batch when the last of its copies is dropped.
    pub receipt: Receipt,
    /// The batch's share of the memory budget, given back with its last copy.
    pub(crate) charge: Option<Arc<Charge>>,
    /// The number of samples in bytes, once somebody has asked.
    counted: OnceLock<usize>,
}

#[derive(Debug, Clone)]
enum Body {
    /// An OTLP export request as it was received.
    Wire(Bytes),
    /// Tables, shared until somebody changes them.
    Table(Arc<Profiles>),
}

/// Where a batch came from.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The receiver that produced it, as `type` or `type/name`.
    pub receiver: Arc<str>,
    /// Whose it is, where the receiver knows: by credentials, or by a header that it trusts.
    pub tenant: Option<Arc<str>>,
    /// The sampler's window that it is the profile of, until the last copy has left.
    pub window: Option<Arc<WaitingWindow>>,
}

impl Batch {
    /// A batch of tables that nobody waits for.
    pub fn new(profiles: Profiles) -> Self {
        Self {
            body: Body::Table(Arc::new(profiles)),
            context: Context::default(),
            receipt: Receipt::none(),
            charge: None,
            counted: OnceLock::new(),
        }
    }

    /// A batch of an OTLP export request in protobuf, not decoded yet.
    pub fn from_wire(request: Bytes) -> Self {
        Self {
            body: Body::Wire(request),
            context: Context::default(),
            receipt: Receipt::none(),
            charge: None,
            counted: OnceLock::new(),
        }
    }

    /// The batch, of which it is known how many samples it has.
    pub(crate) fn counted(mut self, samples: u64) -> Self {
        self.counted = usize::try_from(samples).map(OnceLock::from).unwrap_or_default();
        self
    }

    /// True while the batch is bytes as they were received.
    pub(crate) fn is_wire(&self) -> bool {
        matches!(self.body, Body::Wire(_))
    }

    /// As [`Batch::from_wire`], of so many samples.
    pub(crate) fn from_counted_wire(request: Bytes, samples: usize) -> Self {
        let batch = Self::from_wire(request);
        // The cell is new.
        let _ = batch.counted.set(samples);
        batch
    }

    /// About how much memory the batch takes, in bytes; copies share it.
    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::Wire(request) => request.len(),
            Body::Table(profiles) => profiles.memory(),
        }
    }

    /// The number of samples; 0 for bytes that are not an OTLP request. Bytes are walked only once.
    pub fn samples(&self) -> usize {
        match &self.body {
            Body::Table(profiles) => profiles.sample_count(),
            Body::Wire(request) => *self
                .counted
                .get_or_init(|| otlp::summary(request).map_or(0, |summary| summary.samples)),
        }
    }

    /// The tables, decoded if the batch is still bytes.
    ///
    /// # Errors
    /// If the bytes are not an OTLP request of a dialect that we read.
    pub fn profiles(&mut self) -> Result<&Profiles, otlp::DecodeError> {
        self.promote()?;
        match &self.body {
            Body::Table(profiles) => Ok(profiles),
            Body::Wire(_) => unreachable!("promoted above"),
        }
    }

    /// The tables, for changing them; copied first if another copy of the batch shares them.
    ///
    /// # Errors
    /// As [`Batch::profiles`].
    pub fn profiles_mut(&mut self) -> Result<&mut Profiles, otlp::DecodeError> {
        self.promote()?;
        match &mut self.body {
            Body::Table(profiles) => Ok(Arc::make_mut(profiles)),
            Body::Wire(_) => unreachable!("promoted above"),
        }
    }

    /// The tables, shared: for an exporter, which may not change the batch.
    ///
    /// # Errors
    /// As [`Batch::profiles`].
    pub fn shared(&self) -> Result<Arc<Profiles>, otlp::DecodeError> {
        match &self.body {
            Body::Table(profiles) => Ok(Arc::clone(profiles)),
            Body::Wire(request) => otlp::decode(request).map(Arc::new),
        }
    }

    /// The batch as an OTLP export request: the bytes received, if nobody has asked for tables.
    pub fn to_otlp(&self) -> Bytes {
        match &self.body {
            Body::Wire(request) => request.clone(),
            Body::Table(profiles) => otlp::encode(profiles).into(),
        }
    }

    /// The OTLP export request as it was received, if nobody has asked for tables.
    pub fn wire(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Wire(request) => Some(request),
            Body::Table(_) => None,
        }
    }

    /// Changes every resource, without decoding a batch that is still bytes. A batch in which nothing
    /// changes stays as it is.
    ///
    /// # Errors
    /// If the bytes are not an OTLP request as far as they are looked at.
    pub fn edit_resources(
        &mut self,
        mut edit: impl FnMut(&mut Resource),
    ) -> Result<(), otlp::DecodeError> {
        match &mut self.body {
            Body::Wire(request) => {
                if let Some(edited) = otlp::edit_resources(request, edit)? {
                    *request = edited.into();
                }
            }
            Body::Table(profiles) => {
                for group in &mut Arc::make_mut(profiles).resources {
                    edit(&mut group.resource);
                }
            }
        }
        Ok(())
    }

    /// How much the batch holds, without decoding it.
    ///
    /// # Errors
    /// If the bytes are not an OTLP request.
    pub fn summary(&self) -> Result<otlp::Summary, otlp::DecodeError> {
        match &self.body {
            Body::Table(profiles) => Ok(otlp::Summary::of_tables(profiles)),
            Body::Wire(request) => otlp::summary(request),
        }
    }

    fn promote(&mut self) -> Result<(), otlp::DecodeError> {
        if let Body::Wire(request) = &self.body {
            self.body = Body::Table(Arc::new(otlp::decode(request)?));
        }
        Ok(())
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
