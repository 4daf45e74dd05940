//! The one detail of a status that matters here, when to try again, and a status as the body of an
//! OTLP/HTTP error.

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// A status with a text, and perhaps a hint when to try again: the detail `google.rpc.RetryInfo`.
pub fn status(code: Code, message: impl Into<String>, retry_after: Option<Duration>) -> Status {
    match retry_after {
        None => Status::new(code, message),
        Some(delay) => {
            let details = ErrorDetails::with_retry_info(Some(delay));
            Status::with_error_details(code, message, details)
        }
    }
}

/// When to try again, by the detail `google.rpc.RetryInfo`.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// As `google.rpc.Status` in protobuf: the body of an OTLP/HTTP error.
pub fn encode_status(status: &Status) -> Vec<u8> {
    // Details are a whole `google.rpc.Status`.
    if !status.details().is_empty() {
        return status.details().to_vec();
    }
    let message = tonic_types::pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    message.encode_to_vec()
}

/// From `google.rpc.Status` in protobuf; `None` if it is none.
pub fn decode_status(bytes: &[u8]) -> Option<Status> {
    let read = tonic_types::pb::Status::decode(bytes).ok()?;
    let details = bytes::Bytes::copy_from_slice(if read.details.is_empty() { &[] } else { bytes });
    Some(Status::with_details(Code::from(read.code), read.message, details))
}

/// As `google.rpc.Status` in JSON: the body of an OTLP/HTTP error to a JSON request.
pub fn status_to_json(status: &Status) -> Vec<u8> {
    let code = i32::from(status.code());
    let mut json = serde_json::json!({ "code": code, "message": status.message() });
    if let (Some(delay), Some(json)) = (retry_delay(status), json.as_object_mut()) {
        let seconds = match delay.subsec_nanos() {
            0 => format!("{}s", delay.as_secs()),
            nanos => format!("{}.{nanos:09}s", delay.as_secs()),
        };
        let detail = serde_json::json!({ "@type": RETRY_INFO, "retryDelay": seconds });
        json.insert("details".into(), serde_json::json!([detail]));
    }
    serde_json::to_vec(&json).unwrap_or_default()
}
