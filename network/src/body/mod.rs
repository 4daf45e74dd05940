//! Reading the body of a request: within its size, its time and the memory budget.
//!
//! Every chunk is decompressed as it comes and paid for before it is kept, so that a request never
//! holds more than its [`Charge`] says, whatever its header promised.

mod unfold;

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use profpipe_engine::budget::Charge;
use tokio::time::{Instant, timeout_at};

use crate::grpc::headers::ENCODING;
use crate::grpc::{Code, FrameError, HEADER_BYTES, Header};
use crate::server::Refusal;
use unfold::Unfold;

/// Bytes a second that a sender must reach once the time for a body is over.
const SLOWEST: u64 = 16 << 10;
/// What a request is charged for before its body comes, beside decompression.
pub(crate) const FIRST: usize = 64 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// It is not.
    Identity,
    /// gzip, of any number of members.
    Gzip,
    /// zlib, which HTTP calls deflate.
    Zlib,
    /// zstd, with windows of at most 8 MiB.
    Zstd,
}

impl Coding {
    /// The coding of this name, if it is taken.
    pub(crate) fn named(name: &str, taken: &[String]) -> Option<Self> {
        let name = match name.trim() {
            name if name.eq_ignore_ascii_case("identity") => "",
            name => name,
        };
        let is_taken = |taken: &String| taken.eq_ignore_ascii_case(name);
        // Without a list everything is taken; a body that is not compressed always is.
        if !taken.is_empty() && !name.is_empty() && !taken.iter().any(is_taken) {
            return None;
        }
        match name.to_ascii_lowercase().as_str() {
            "" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zlib" | "deflate" => Some(Self::Zlib),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The coding of a request by plain HTTP.
    pub(crate) fn of_http(headers: &http::HeaderMap, taken: &[String]) -> Result<Self, Refusal> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else { return Ok(Self::Identity) };
        let coding = value.to_str().ok().filter(|_| second.is_none());
        coding.and_then(|name| Self::named(name, taken)).ok_or_else(|| {
            unsupported("the content encoding", taken, StatusCode::UNSUPPORTED_MEDIA_TYPE)
        })
    }

    /// The coding of the compressed messages of a gRPC call.
    pub(crate) fn of_grpc(headers: &http::HeaderMap, taken: &[String]) -> Result<Self, Refusal> {
        let Some(value) = headers.get(ENCODING) else { return Ok(Self::Identity) };
        value.to_str().ok().and_then(|name| Self::named(name, taken)).ok_or_else(|| {
            unsupported("the message encoding", taken, StatusCode::UNSUPPORTED_MEDIA_TYPE)
        })
    }

    /// The memory that decompression takes from the start.
    pub(crate) fn state(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip | Self::Zlib => 80 << 10,
            Self::Zstd => 512 << 10,
        }
    }
}

fn unsupported(what: &str, taken: &[String], status: StatusCode) -> Refusal {
    let names = if taken.is_empty() {
        "gzip, zstd, deflate".to_owned()
    } else {
        let names: Vec<&str> =
            taken.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        names.join(", ")
    };
    let names = if names.is_empty() { "identity".to_owned() } else { names };
    let message = format!("{what} is not supported; use {}", names.replace(", ", " or "));
    let mut refusal = Refusal::new(status, Code::Unimplemented, message);
    refusal.accept_encoding = Some(names);
    refusal
}

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes, before and after decompression.
    pub(crate) size: usize,
    /// Time, beside what the bytes received allow.
    pub(crate) time: Duration,
    /// When the client stops waiting.
    pub(crate) deadline: Option<std::time::Instant>,
    /// The length of the body, if its header says so.
    pub(crate) expected: Option<usize>,
}

/// Whether a body is as it is, or holds one message of a gRPC call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As it is.
    Plain,
    /// A message behind five bytes.
    Message,
}

/// Reads a body. `charge` grows with it, and covers what is returned.
pub(crate) async fn read<B>(
    body: B,
    framing: Framing,
    coding: Coding,
    limits: Limits,
    charge: &mut Charge,
) -> Result<Bytes, Refusal>
where
    B: http_body::Body,
    B::Data: Buf,
{
    let mut body = pin!(body);
    let mut taking = Taking::new(framing, coding, limits, charge)?;
    let start = Instant::now();
    let mut received: u64 = 0;
    loop {
        let allowed = limits.time + Duration::from_millis(received * 1000 / SLOWEST);
        let until = start + allowed;
        let until = limits.deadline.map_or(until, |deadline| until.min(deadline.into()));
        let frame = match timeout_at(until, body.frame()).await {
            Ok(frame) => frame,
            Err(_) => return Err(Refusal::too_slow("the body did not come in time")),
        };
        let data = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data(),
            Some(Err(_)) => return Err(Refusal::invalid("the body was cut short")),
        };
        // Anything else is trailers, which nobody needs.
        let Ok(mut data) = data else { continue };
        while data.has_remaining() {
            let chunk = data.chunk();
            received += chunk.len() as u64;
            taking.push(chunk)?;
            let length = chunk.len();
            data.advance(length);
        }
    }
    taking.finish()
}

/// A body on its way in.
struct Taking<'c> {
    /// Five bytes, if the body holds a message; how many of them are there.
    prefix: Option<([u8; HEADER_BYTES], usize)>,
    coding: Coding,
    limits: Limits,
    /// What takes the bytes; not before it is known whether they are compressed.
    unfold: Option<Unfold<'c>>,
    charge: Option<&'c mut Charge>,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl<'c> Taking<'c> {
    fn new(
        framing: Framing,
        coding: Coding,
        limits: Limits,
        charge: &'c mut Charge,
    ) -> Result<Self, Refusal> {
        let mut taking = Self {
            prefix: None,
            coding,
            limits,
            unfold: None,
            charge: Some(charge),
            left: limits.size,
        };
        match framing {
            Framing::Message => taking.prefix = Some(([0; HEADER_BYTES], 0)),
            Framing::Plain => taking.begin(coding, limits.expected.unwrap_or(0))?,
        }
        Ok(taking)
    }

    fn begin(&mut self, coding: Coding, expected: usize) -> Result<(), Refusal> {
        let Some(charge) = self.charge.take() else {
            return Err(Refusal::invalid("a message begins twice"));
        };
        self.unfold = Some(Unfold::new(coding, self.limits.size, expected, charge)?);
        Ok(())
    }

    fn push(&mut self, mut chunk: &[u8]) -> Result<(), Refusal> {
        if self.unfold.is_none() {
            chunk = self.head(chunk)?;
        }
        if chunk.is_empty() {
            return Ok(());
        }
        self.left = match (self.left.checked_sub(chunk.len()), self.prefix) {
            (Some(left), _) => left,
            (None, None) => return Err(too_large(self.limits.size)),
            (None, Some(_)) => {
                return Err(broken(FrameError::Second.to_string()));
            }
        };
        match &mut self.unfold {
            Some(unfold) => unfold.push(chunk),
            None => Ok(()),
        }
    }

    /// Takes the five bytes before a message; returns what follows them.
    fn head<'b>(&mut self, chunk: &'b [u8]) -> Result<&'b [u8], Refusal> {
        let Some((bytes, filled)) = &mut self.prefix else { return Ok(chunk) };
        let (now, rest) = chunk.split_at(chunk.len().min(HEADER_BYTES - *filled));
        for (place, byte) in bytes.iter_mut().skip(*filled).zip(now) {
            *place = *byte;
        }
        *filled += now.len();
        if *filled < HEADER_BYTES {
            return Ok(rest);
        }
        let header = Header::decode(*bytes, self.limits.size).map_err(|error| match error {
            FrameError::TooLarge { limit, .. } => too_large(limit),
            error => broken(error.to_string()),
        })?;
        let coding = match (header.compressed, self.coding) {
            (false, _) => Coding::Identity,
            (true, Coding::Identity) => {
                return Err(broken("a message is compressed without saying how".to_owned()));
            }
            (true, coding) => coding,
        };
        self.left = header.length;
        self.begin(coding, header.length)?;
        Ok(rest)
    }

    fn finish(self) -> Result<Bytes, Refusal> {
        let none = || broken("the call has no message".to_owned());
        let unfold = self.unfold.ok_or_else(none)?;
        if self.prefix.is_some() && self.left > 0 {
            return Err(broken(FrameError::Truncated.to_string()));
        }
        unfold.finish()
    }
}

/// Not a call of gRPC.
fn broken(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::Internal, message)
}

/// More than is ever taken.
pub(crate) fn too_large(limit: usize) -> Refusal {
    Refusal::too_large(format!("the request is larger than {limit} bytes; send smaller ones"))
}

#[cfg(test)]
mod tests;
