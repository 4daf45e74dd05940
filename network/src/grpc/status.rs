//! A status with its text and the one detail that matters here: when to try again.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderValue};

use super::{Code, decode_text, encode_text, headers};
use crate::protobuf::{Malformed, fields, put_bytes, put_int};

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// The most of a text that is sent: headers are small.
const MAX_TEXT: usize = 1024;

/// Senders pad or not, as they like.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a call ended: a `google.rpc.Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// What happened, for people.
    pub message: String,
    /// When to try again: the detail `google.rpc.RetryInfo`.
    pub retry_after: Option<Duration>,
}

/// The bytes are not a `google.rpc.Status`.
pub type BadStatus = Malformed;

impl Status {
    /// A status with a text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// With a hint when to try again.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// As `google.rpc.Status` in protobuf: also the body of an OTLP/HTTP error.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_int(&mut bytes, 1, i64::from(self.code.number()));
        put_bytes(&mut bytes, 2, self.message.as_bytes());
        if let Some(delay) = self.retry_after {
            let mut duration = Vec::new();
            put_int(&mut duration, 1, i64::try_from(delay.as_secs()).unwrap_or(i64::MAX));
            put_int(&mut duration, 2, i64::from(delay.subsec_nanos()));
            // A delay of nothing is a hint too.
            let mut info = vec![1 << 3 | 2, u8::try_from(duration.len()).unwrap_or_default()];
            info.extend(duration);
            let mut any = Vec::new();
            put_bytes(&mut any, 1, RETRY_INFO.as_bytes());
            put_bytes(&mut any, 2, &info);
            put_bytes(&mut bytes, 3, &any);
        }
        bytes
    }

    /// As `google.rpc.Status` in JSON: the body of an OTLP/HTTP error to a JSON request.
    pub fn to_json(&self) -> Vec<u8> {
        let mut status = serde_json::json!({ "code": self.code.number(), "message": self.message });
        if let (Some(delay), Some(status)) = (self.retry_after, status.as_object_mut()) {
            let seconds = match delay.subsec_nanos() {
                0 => format!("{}s", delay.as_secs()),
                nanos => format!("{}.{nanos:09}s", delay.as_secs()),
            };
            let detail = serde_json::json!({ "@type": RETRY_INFO, "retryDelay": seconds });
            status.insert("details".into(), serde_json::json!([detail]));
        }
        serde_json::to_vec(&status).unwrap_or_default()
    }

    /// From `google.rpc.Status` in protobuf.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadStatus> {
        let mut status = Self::new(Code::Ok, "");
        for field in fields(bytes) {
            match field? {
                (1, number) => status.code = Code::from_number(number.int()),
                (2, text) => status.message = text.text(),
                (3, any) => {
                    if let Some(delay) = retry_info(any.bytes())? {
                        status.retry_after = Some(delay);
                    }
                }
                _ => {}
            }
        }
        Ok(status)
    }

    /// Adds the status to trailers, or to the headers of an answer without a message.
    pub fn write_to(&self, map: &mut HeaderMap) {
        map.insert(headers::STATUS, HeaderValue::from(u16::from(self.code.number())));
        let mut end = self.message.len().min(MAX_TEXT);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        let text = self.message.get(..end).unwrap_or_default();
        if let Ok(text) = HeaderValue::try_from(encode_text(text))
            && !text.is_empty()
        {
            map.insert(headers::MESSAGE, text);
        }
        if self.retry_after.is_some() {
            let short = Self { message: text.to_owned(), ..self.clone() };
            if let Ok(details) = HeaderValue::try_from(BASE64.encode(short.encode())) {
                map.insert(headers::DETAILS, details);
            }
        }
    }

    /// Reads the status of trailers, or of headers; `None` if there is none.
    pub fn read_from(map: &HeaderMap) -> Option<Self> {
        let code = Code::from_header(map.get(headers::STATUS)?.as_bytes());
        let message = map.get(headers::MESSAGE).map(|text| decode_text(text.as_bytes()));
        let details = map.get(headers::DETAILS).and_then(|text| BASE64.decode(text).ok());
        let details = details.and_then(|bytes| Self::decode(&bytes).ok());
        let (retry_after, more) = match details {
            Some(details) => (details.retry_after, details.message),
            None => (None, String::new()),
        };
        Some(Self { code, message: message.unwrap_or(more), retry_after })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.name())?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// The delay in a detail, if that is a `RetryInfo`.
fn retry_info(any: &[u8]) -> Result<Option<Duration>, Malformed> {
    let (mut kind, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in fields(any) {
        match field? {
            (1, text) => kind = text.bytes(),
            (2, bytes) => value = bytes.bytes(),
            _ => {}
        }
    }
    // Only the name after the last slash counts.
    if kind.rsplit(|byte| *byte == b'/').next() != Some(b"google.rpc.RetryInfo") {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields(value) {
        let (1, duration) = field? else { continue };
        for field in fields(duration.bytes()) {
            match field? {
                (1, number) => seconds = number.int(),
                (2, number) => nanos = number.int(),
                _ => {}
            }
        }
    }
    // What is negative asks for no delay.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let nanos = u32::try_from(nanos).unwrap_or(0).min(999_999_999);
    Ok(Some(Duration::new(seconds, nanos)))
}
