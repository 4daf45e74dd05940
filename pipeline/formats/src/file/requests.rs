//! Several requests of OTLP in one file, as the OpenTelemetry Collector's `file` exporter writes them.
//!
//! A file that is still being written ends within a request; what came before is good.

use profpipe_profile::{Profiles, merge};
use serde::de::IgnoredAny;

use super::{DecodeError, without_mark};
use crate::otlp;

/// What is said of a file that ends too soon.
const CUT_OFF: &str = "the last request is cut off and was skipped";

/// Whether bytes begin with the length of a request and what may be one.
pub(super) fn has_lengths(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    // The key of one of the two fields; a first request may be cut off, if it is all there is.
    length > 0 && matches!(rest, [0x0a | 0x12, ..])
}

/// Requests in protobuf, each after its length in four bytes, the highest first.
pub(super) fn after_lengths(
    mut bytes: &[u8],
    notes: &mut Vec<String>,
) -> Result<Profiles, DecodeError> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let request = bytes
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_be_bytes(*length) as usize));
        match request {
            Some((request, rest)) => {
                requests.push(numbered(requests.len(), otlp::decode(request))?);
                bytes = rest;
            }
            None if requests.is_empty() => {
                let at = bytes.len();
                let field = "ExportProfilesServiceRequest".to_owned();
                return Err(otlp::DecodeError::Truncated { field, at }.into());
            }
            None => {
                notes.push(CUT_OFF.to_owned());
                break;
            }
        }
    }
    Ok(united(requests))
}

/// Requests in JSON: one, or one after the other, as on lines.
pub(super) fn json(bytes: &[u8], notes: &mut Vec<String>) -> Result<Profiles, DecodeError> {
    let text = without_mark(bytes);
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    let mut requests = Vec::new();
    let mut start = 0;
    while let Some(value) = values.next() {
        let end = values.byte_offset();
        match value {
            Ok(_) => {
                let request = text.get(start..end).unwrap_or_default();
                requests.push(numbered(requests.len(), otlp::decode_json(request))?);
                start = end;
            }
            Err(error) if error.is_eof() && !requests.is_empty() => {
                notes.push(CUT_OFF.to_owned());
                break;
            }
            Err(error) => {
                return Err(otlp::DecodeError::Json(error.to_string()).into());
            }
        }
    }
    Ok(united(requests))
}

/// Names the request that is wrong, unless it may be the only one.
fn numbered(
    before: usize,
    decoded: Result<Profiles, otlp::DecodeError>,
) -> Result<Profiles, DecodeError> {
    decoded.map_err(|cause| match before {
        0 => cause.into(),
        before => DecodeError::Request { number: before + 1, cause },
    })
}

fn united(mut requests: Vec<Profiles>) -> Profiles {
    match requests.len() {
        1 => requests.pop().unwrap_or_default(),
        _ => merge(requests),
    }
}
