//! The body of a gRPC call: every frame is paid for before tonic keeps it.
//!
//! [`Admitted`] stands between the connection and tonic. Of a message it looks at the five bytes in
//! front: a message over the limit ends the call before any of it is kept. One that is compressed does not go
//! through tonic's buffer: it is decompressed as it comes, every chunk paid for, and handed over beside an
//! empty frame ([`Admission::message`]). Whether a frame is well-formed is otherwise tonic's to say.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame};
use profpipe_engine::budget::Charge;
use tokio::time::{Sleep, sleep_until};
use tonic::Status;

use super::decompress::Decompressor;
use super::{Coding, Limits, Pace, broken, too_large};
use crate::server::rejection::Rejection;

/// The flag and the length in front of a message.
const PREFIX_BYTES: usize = 5;
/// A frame without a message: for one that was decompressed.
const EMPTY_FRAME: Bytes = Bytes::from_static(&[0; PREFIX_BYTES]);

/// What a call has paid, shared by its body and whoever takes the message.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `None` while a message is decompressed, and once it was taken.
    charge: Option<Charge>,
    /// The message, if it was compressed.
    decompressed: Option<Bytes>,
    /// Why the call is rejected.
    rejection: Option<Rejection>,
}

impl Admission {
    pub(crate) fn new(charge: Charge) -> Self {
        let state = State { charge: Some(charge), decompressed: None, rejection: None };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers why the call is rejected; the status only ends the call within tonic.
    pub(crate) fn reject(&self, rejection: Rejection) -> Status {
        let status = Status::new(rejection.code, "");
        self.state().rejection = Some(rejection);
        status
    }

    /// Why the call was rejected.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        self.state().rejection.take()
    }

    /// The message as its sender had it, and what it takes of the budget. `message` is what tonic read.
    pub(crate) fn message(&self, message: Bytes) -> Result<(Bytes, Charge), Rejection> {
        let mut state = self.state();
        let charge = state.charge.take();
        let mut charge = charge.ok_or_else(|| broken("a message is taken twice".to_owned()))?;
        let message = state.decompressed.take().unwrap_or(message);
        charge.resize(message.len());
        Ok((message, charge))
    }

    /// Pays for `bytes` of a message in all.
    fn pay(&self, bytes: usize) -> Result<(), Rejection> {
        let mut state = self.state();
        let Some(charge) = &mut state.charge else { return Ok(()) };
        let missing = bytes.saturating_sub(charge.bytes());
        if missing > 0 && !charge.try_grow(missing) {
            return Err(Rejection::busy());
        }
        Ok(())
    }
}

/// A body that is paid for as it comes, within the limits of size and time.
pub(crate) struct Admitted<B> {
    body: B,
    admission: Admission,
    /// How the call says that its message is compressed.
    coding: Coding,
    /// While a compressed message comes.
    decompressor: Option<Decompressor>,
    limits: Limits,
    pace: Pace,
    prefix: [u8; PREFIX_BYTES],
    /// How many bytes of the prefix are there.
    filled: usize,
    /// What came with the end of the prefix.
    rest: Bytes,
    /// Bytes of the message that have come, and that are still to come.
    taken: usize,
    left: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Admitted<B> {
    pub(crate) fn new(body: B, coding: Coding, limits: Limits, admission: Admission) -> Self {
        Self {
            body,
            admission,
            coding,
            decompressor: None,
            limits,
            pace: Pace::new(),
            prefix: [0; PREFIX_BYTES],
            filled: 0,
            rest: Bytes::new(),
            taken: 0,
            left: 0,
            timer: None,
        }
    }

    /// What tonic gets of a piece of the body; nothing while the prefix is not whole.
    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, Rejection> {
        if self.filled < PREFIX_BYTES {
            let now = piece.len().min(PREFIX_BYTES - self.filled);
            for (place, byte) in self.prefix.iter_mut().skip(self.filled).zip(&piece) {
                *place = *byte;
            }
            self.filled += now;
            piece.advance(now);
            if self.filled < PREFIX_BYTES {
                return Ok(None);
            }
            self.rest = piece;
            return self.begin();
        }
        self.left = self
            .left
            .checked_sub(piece.len())
            .ok_or_else(|| broken("a second message in a call that has one".to_owned()))?;
        if let Some(decompressor) = &mut self.decompressor {
            decompressor.push(&piece)?;
            return if self.left == 0 { self.decompressed().map(Some) } else { Ok(None) };
        }
        self.taken += piece.len();
        self.admission.pay(self.taken)?;
        Ok(Some(piece))
    }

    /// What tonic gets of a prefix.
    fn begin(&mut self) -> Result<Option<Bytes>, Rejection> {
        let [flag, length @ ..] = self.prefix;
        // A length that this machine cannot count is over any limit.
        self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if flag <= 1 && self.left > self.limits.size {
            return Err(too_large(self.limits.size));
        }
        if flag != 1 || self.coding == Coding::Identity {
            return Ok(Some(Bytes::copy_from_slice(&self.prefix)));
        }
        let charge = self.admission.state().charge.take();
        let charge = charge.ok_or_else(|| broken("a message begins twice".to_owned()))?;
        self.decompressor = Some(Decompressor::new(self.coding, self.limits.size, 0, charge)?);
        if self.left == 0 { self.decompressed().map(Some) } else { Ok(None) }
    }

    /// Ends a compressed message: what tonic gets instead.
    fn decompressed(&mut self) -> Result<Bytes, Rejection> {
        if let Some(decompressor) = self.decompressor.take() {
            let (message, charge) = decompressor.finish()?;
            let mut state = self.admission.state();
            state.decompressed = Some(message);
            state.charge = Some(charge);
        }
        Ok(EMPTY_FRAME)
    }

    /// Whether the time for what has come is over.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let until = self.pace.until(&self.limits);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context).is_ready()
    }
}

impl<B> Body for Admitted<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            let piece = if this.rest.is_empty() {
                match Pin::new(&mut this.body).poll_frame(context) {
                    Poll::Pending if this.is_late(context) => Err(super::too_slow()),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) if this.decompressor.is_some() => {
                        Err(broken("the body ends in the middle of a message".to_owned()))
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(Err(_))) => Err(super::cut_short()),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(piece) => {
                            this.pace.received(piece.len());
                            Ok(piece)
                        }
                        // Trailers, which are not used.
                        Err(_) => continue,
                    },
                }
            } else {
                Ok(std::mem::take(&mut this.rest))
            };
            let taken = piece.and_then(|piece| this.take(piece));
            return match taken {
                Ok(None) => continue,
                Ok(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                Err(rejection) => Poll::Ready(Some(Err(this.admission.reject(rejection)))),
            };
        }
    }
}
