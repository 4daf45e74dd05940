//! Why a request is rejected: one value that is written as an HTTP response or as the status of a gRPC
//! call, whichever protocol asks. `Status` alone is what gRPC calls its own.

use std::time::Duration;

use http::StatusCode;
use profpipe_engine::settings::shown_text;

use crate::grpc::{Code, Status, headers, status};

/// The most of a text that is sent in a header.
const MAX_TEXT: usize = 1024;

/// Why a request is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
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
    /// The methods to use instead.
    pub allow: Option<String>,
    /// It is not the request that is wrong.
    of_others: bool,
}

impl Rejection {
    /// A rejection for good.
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        // A text may repeat an address of ours, or of a library, as a whole.
        let message = shown_text(&message.into());
        Self {
            status,
            code,
            message,
            retry_after: None,
            accept_encoding: None,
            allow: None,
            of_others: false,
        }
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
        let rejection = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, message);
        rejection.retry_after(Duration::from_secs(1))
    }

    /// It was lost on its way and may come again: 503, `UNAVAILABLE` with a hint.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let rejection = Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message);
        rejection.retry_after(Duration::from_secs(1))
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

    /// The same, where it is not the request that is wrong: its sender is not made to wait for this
    /// answer, however often it comes.
    #[must_use]
    pub fn of_others(mut self) -> Self {
        self.of_others = true;
        self
    }

    /// Whether the request is wrong, for good.
    pub(super) fn is_of_sender(&self) -> bool {
        self.retry_after.is_none() && !self.of_others
    }

    /// The same as a status of gRPC: in protobuf or JSON, the body of an OTLP/HTTP error.
    pub fn to_status(&self) -> Status {
        status(self.code, self.message.as_str(), self.retry_after)
    }

    /// The same as the status of a call, which travels in headers: those are small.
    pub(super) fn to_call_status(&self) -> Status {
        let end = self.message.floor_char_boundary(MAX_TEXT);
        let text = self.message.get(..end).unwrap_or_default();
        let mut status = status(self.code, text, self.retry_after);
        let codings = self.accept_encoding.as_deref().map(str::parse);
        if let Some(Ok(codings)) = codings {
            status.metadata_mut().insert(headers::ACCEPT_ENCODING, codings);
        }
        status
    }
}
