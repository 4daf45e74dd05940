//! Why a request is refused, for whichever protocol asks.

use std::time::Duration;

use http::StatusCode;

/// A status of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nobody knows.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// Too late.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// Known, but not allowed.
    PermissionDenied = 7,
    /// Too much: with a hint to come again, for now; without, for ever.
    ResourceExhausted = 8,
    /// There is no such method, or it does not do this.
    Unimplemented = 12,
    /// A fault of ours, or of the framing.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// Not known.
    Unauthenticated = 16,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status in HTTP.
    pub status: StatusCode,
    /// The status in gRPC.
    pub code: Code,
    /// One line that says what is wrong and what to do.
    pub message: String,
    /// When to come again, if that makes sense.
    pub retry_after: Option<Duration>,
    /// Codings to use instead, for a body whose coding is not taken.
    pub accept_encoding: Option<String>,
}

impl Refusal {
    /// A refusal for good.
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, accept_encoding: None }
    }

    /// The request makes no sense: 400, `INVALID_ARGUMENT`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    /// Larger than is ever taken: 413, `RESOURCE_EXHAUSTED` without a hint.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
    }

    /// No room now: 429, `RESOURCE_EXHAUSTED` with a hint.
    pub fn busy() -> Self {
        let message = "the memory budget is used up; come again later";
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, message);
        refusal.retry_after(Duration::from_secs(1))
    }

    /// It was lost on its way and may come again: 503, `UNAVAILABLE` with a hint.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message);
        refusal.retry_after(Duration::from_secs(1))
    }

    /// The sender is not known: 401, `UNAUTHENTICATED`.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, message)
    }

    /// The body took too long: 408, `DEADLINE_EXCEEDED`.
    pub fn too_slow(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, message)
    }

    /// The same, with a hint when to come again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same as `google.rpc.Status` in protobuf, with `RetryInfo` if there is a hint.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 80);
        number(&mut out, 1, self.code as u64);
        bytes(&mut out, 2, self.message.as_bytes());
        if let Some(after) = self.retry_after {
            let mut duration = Vec::new();
            number(&mut duration, 1, after.as_secs());
            number(&mut duration, 2, u64::from(after.subsec_nanos()));
            let mut info = Vec::new();
            bytes(&mut info, 1, &duration);
            let mut any = Vec::new();
            bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            bytes(&mut any, 2, &info);
            bytes(&mut out, 3, &any);
        }
        out
    }

    /// The same as `google.rpc.Status` in JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut status = serde_json::json!({
            "code": self.code as i32,
            "message": self.message,
        });
        if let (Some(after), Some(object)) = (self.retry_after, status.as_object_mut()) {
            let seconds = format!("{}s", after.as_secs_f64());
            object.insert(
                "details".to_owned(),
                serde_json::json!([{
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": seconds,
                }]),
            );
        }
        status.to_string().into_bytes()
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        varint(out, field << 3);
        varint(out, value);
    }
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}
