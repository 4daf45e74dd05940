//! What an answer means for the batch that was sent: the rules of the OTLP specification, and what it
//! leaves open.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use profpipe_engine::component::{Error, Failure};

use profpipe_engine::settings::shown_text;

use super::request::Response;
use crate::grpc::{Code, Status, code_name, decode_status, retry_delay};

/// The least and the most that a server can make us wait.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// The most of an error's text that is repeated.
const MAX_TEXT_CHARS: usize = 300;

/// What the status of an answer means; `None` for success. `text` is what the server says about it.
pub fn http_failure(response: &Response, text: &str, now: SystemTime) -> Option<Failure> {
    let status = response.status;
    if status.is_success() {
        return None;
    }
    let mut message = format!("the server answered {status}");
    let text = printable(text.as_bytes());
    if !text.is_empty() {
        message = format!("{message}: {text}");
    }
    let cause = Error::new(message);
    Some(match status.as_u16() {
        429 | 502..=504 => Failure::Retry { after: retry_after(&response.headers, now), cause },
        413 => Failure::TooLarge { cause },
        // So says the Collector, up to v0.161 at least.
        400 if is_too_large(&text) => Failure::TooLarge { cause },
        // Whatever we send: it is the address, the credentials or the proxy that are wrong.
        300..=399 | 401 | 403 | 404 | 407 => Failure::Hold { cause },
        _ => Failure::Reject { cause },
    })
}

/// How long the server asks us to wait, by `Retry-After`: seconds or a date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER))
}

/// What the status of a gRPC call means; it is not OK.
pub fn status_failure(status: &Status) -> Failure {
    let cause = Error::new(format!("the server answered {}", short(status)));
    let hint = retry_delay(status);
    let after = hint.map(|wait| wait.min(MAX_RETRY_AFTER)).filter(|wait| !wait.is_zero());
    match status.code() {
        Code::ResourceExhausted if hint.is_some() => Failure::Retry { after, cause },
        // Some servers call a message that is too large out of range.
        Code::ResourceExhausted | Code::OutOfRange if is_too_large(status.message()) => {
            Failure::TooLarge { cause }
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Retry { after, cause },
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
            Failure::Hold { cause }
        }
        // Success is not asked about.
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Internal => Failure::Reject { cause },
    }
}

/// A status as part of a line.
pub(super) fn short(status: &Status) -> String {
    let code = code_name(status.code());
    match printable(status.message().as_bytes()) {
        text if text.is_empty() => code.to_owned(),
        text => format!("{code}: {text}"),
    }
}

/// True if a server says so about a message, in the words of any of the implementations.
fn is_too_large(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let words = [
        "larger than max",
        "too large",
        "message exceeds",
        "exceeds maximum",
        "exceeds the maximum",
        "the limit is",
    ];
    words.iter().any(|words| text.contains(words))
}

/// A text from outside as a part of one line: no control characters, not too long, and of addresses in it
/// neither logins nor values of queries.
pub fn printable(text: &[u8]) -> String {
    let text = text.get(..MAX_TEXT_CHARS * 4).unwrap_or(text);
    let text = shown_text(&String::from_utf8_lossy(text));
    let mut line = String::new();
    for (at, word) in text
        .split(|c: char| c.is_whitespace() || is_hidden(c))
        .filter(|w| !w.is_empty())
        .enumerate()
    {
        if at > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > MAX_TEXT_CHARS {
        line = line.chars().take(MAX_TEXT_CHARS).chain(['…']).collect();
    }
    line
}

/// Control characters, and those that change the direction of what follows.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the body of an OTLP/HTTP error says: the message of its `google.rpc.Status`, or the text.
impl Response {
    /// What the body says about an error: the message of a `google.rpc.Status` in protobuf or
    /// JSON, or the text itself.
    pub fn error_text(&self) -> String {
        let kind = self.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if self.is_protobuf() {
            return decode_status(&self.body)
                .map(|status| status.message().to_owned())
                .unwrap_or_default();
        }
        if kind.starts_with("application/json")
            && let Ok(value) = serde_json::from_slice::<serde_json::Value>(&self.body)
            && let Some(message) = value.get("message").and_then(serde_json::Value::as_str)
        {
            return message.to_owned();
        }
        printable(&self.body)
    }

    /// True if the body is a message in protobuf.
    pub(super) fn is_protobuf(&self) -> bool {
        let kind = self.headers.get(http::header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-protobuf"))
    }

    /// The message of an answer that is success, without what the server was told in secret: it may
    /// repeat that where it says what it did not take.
    pub fn message(&self) -> bytes::Bytes {
        self.told.taken_out_of_message(self.body.clone())
    }

    /// True if the request was accepted.
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// An answer made up, for tests of what answers mean.
    pub fn of_status(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            truncated: false,
            trailers: HeaderMap::new(),
            told: std::sync::Arc::default(),
        }
    }
}
