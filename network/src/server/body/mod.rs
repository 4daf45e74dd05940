//! Reading the body of a request: within its size, its time and the memory budget.
//!
//! Every chunk is decompressed as it comes and paid for before it is kept, so that a request never
//! holds more than its [`Charge`] says, whatever its header promised.

mod admitted;
mod decompress;
mod stream;

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use profpipe_engine::budget::Charge;
use tokio::time::{Instant, timeout_at};

use crate::grpc::Code;
use crate::grpc::headers::ENCODING;
use crate::server::rejection::Rejection;
pub(crate) use admitted::{Admission, Admitted};
use decompress::Decompressor;
pub use stream::BodyStream;
pub(crate) use stream::STREAM_BYTES;

/// Bytes a second that a sender must reach once the time for a body is over.
const MIN_BYTES_PER_SECOND: u64 = 16 << 10;
/// What a request is charged for before its body comes, beside decompression.
pub(crate) const FIRST_BYTES: usize = 64 << 10;

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
    pub(crate) fn of_http(headers: &http::HeaderMap, taken: &[String]) -> Result<Self, Rejection> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else { return Ok(Self::Identity) };
        let coding = value.to_str().ok().filter(|_| second.is_none());
        coding.and_then(|name| Self::named(name, taken)).ok_or_else(|| {
            unsupported("the content encoding", taken, StatusCode::UNSUPPORTED_MEDIA_TYPE)
        })
    }

    /// The coding of the compressed messages of a gRPC call.
    pub(crate) fn of_grpc(headers: &http::HeaderMap, taken: &[String]) -> Result<Self, Rejection> {
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

pub(crate) fn unsupported(what: &str, taken: &[String], status: StatusCode) -> Rejection {
    let names = if taken.is_empty() {
        "gzip, zstd, deflate".to_owned()
    } else {
        let names: Vec<&str> =
            taken.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        names.join(", ")
    };
    let names = if names.is_empty() { "identity".to_owned() } else { names };
    let message = format!("{what} is not supported; use {}", names.replace(", ", " or "));
    let mut rejection = Rejection::new(status, Code::Unimplemented, message);
    rejection.accept_encoding = Some(names);
    rejection
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

/// How long a body may take: the time of its limits, and a second more for every [`MIN_BYTES_PER_SECOND`] bytes.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    received: u64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), received: 0 }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// When the next bytes must be there.
    pub(crate) fn until(&self, limits: &Limits) -> Instant {
        let allowed =
            limits.time + Duration::from_millis(self.received * 1000 / MIN_BYTES_PER_SECOND);
        let until = self.start + allowed;
        limits.deadline.map_or(until, |deadline| until.min(deadline.into()))
    }
}

/// Reads a body of plain HTTP. The charge grows with it, and covers what is returned.
pub(crate) async fn read<B>(
    body: B,
    coding: Coding,
    limits: Limits,
    charge: Charge,
) -> Result<(Bytes, Charge), Rejection>
where
    B: http_body::Body,
    B::Data: Buf,
{
    let mut body = pin!(body);
    let mut reader = BodyReader::new(coding, limits, charge)?;
    let mut pace = Pace::new();
    loop {
        let frame = match timeout_at(pace.until(&limits), body.frame()).await {
            Ok(frame) => frame,
            Err(_) => return Err(too_slow()),
        };
        let data = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data(),
            Some(Err(_)) => return Err(cut_short()),
        };
        // Anything else is trailers, which are not used.
        let Ok(mut data) = data else { continue };
        while data.has_remaining() {
            let chunk = data.chunk();
            pace.received(chunk.len());
            reader.push(chunk)?;
            let length = chunk.len();
            data.advance(length);
        }
    }
    reader.decompressor.finish()
}

/// A body on its way in.
struct BodyReader {
    decompressor: Decompressor,
    limit: usize,
    /// Bytes that may still come.
    left: usize,
}

impl BodyReader {
    fn new(coding: Coding, limits: Limits, charge: Charge) -> Result<Self, Rejection> {
        let limit = limits.size;
        let decompressor = Decompressor::new(coding, limit, limits.expected.unwrap_or(0), charge)?;
        Ok(Self { decompressor, limit, left: limit })
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), Rejection> {
        self.left = self.left.checked_sub(chunk.len()).ok_or_else(|| too_large(self.limit))?;
        self.decompressor.push(chunk)
    }
}

fn too_slow() -> Rejection {
    Rejection::too_slow("the body did not come in time")
}

fn cut_short() -> Rejection {
    Rejection::invalid("the body was cut short")
}

/// Not a call of gRPC.
fn broken(message: String) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, Code::Internal, message)
}

/// More than is ever taken.
pub(crate) fn too_large(limit: usize) -> Rejection {
    Rejection::too_large(format!("the request is larger than {limit} bytes; send smaller ones"))
}

#[cfg(test)]
mod tests;
