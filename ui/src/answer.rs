//! Answers: with the headers that keep strangers out, compressed, and with a tag by which the next
//! request learns that nothing has changed.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use profpipe_network::server::Reply;
use profpipe_store::QueryError;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// What the page may do: nothing but run its own code, look as it says, and ask this server.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Smaller bodies are not worth compressing.
const MIN_COMPRESSED_BYTES: usize = 1024;

/// A body with its type and status.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// The name of the file that it is to be saved as.
    pub(crate) file: Option<String>,
}

impl Answer {
    pub(crate) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into(), file: None }
    }

    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        // Texts, numbers and lists of them cannot fail to be JSON.
        Self::new("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// An error as `{"code","message"}`, as Connect writes it.
    pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "code": code, "message": message });
        Self { status, ..Self::json(&body) }
    }

    /// The answer as it is sent.
    pub(crate) fn into_reply(self, request: &HeaderMap) -> Reply {
        let mut reply = Reply::new(self.content_type, self.body);
        reply.status = self.status;
        if let Some(file) = &self.file
            && let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{file}\""))
        {
            reply.headers.insert(header::CONTENT_DISPOSITION, value);
        }
        if self.status == StatusCode::OK {
            let tag = tag(&reply.body);
            let is_known = request
                .get_all(header::IF_NONE_MATCH)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|known| known.trim().trim_start_matches("W/") == tag);
            if let Ok(tag) = HeaderValue::from_str(&tag) {
                reply.headers.insert(header::ETAG, tag);
            }
            if is_known {
                reply.status = StatusCode::NOT_MODIFIED;
                reply.body = Bytes::new();
            }
        }
        compress(&mut reply, request);
        guard(&mut reply.headers);
        reply
    }
}

/// The tag of a body. It is weak in that compressed bodies have it, too.
fn tag(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn compress(reply: &mut Reply, request: &HeaderMap) {
    reply.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if reply.body.len() < MIN_COMPRESSED_BYTES {
        return;
    }
    let compressed = match coding(request) {
        Some("zstd") => zstd::bulk::compress(&reply.body, 3).ok().map(|body| ("zstd", body)),
        Some(_) => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
            gzip.write_all(&reply.body).and_then(|()| gzip.finish()).ok().map(|body| ("gzip", body))
        }
        None => None,
    };
    if let Some((coding, body)) = compressed
        && body.len() < reply.body.len()
    {
        reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        reply.body = body.into();
    }
}

/// The coding that a client takes and that is best.
fn coding(request: &HeaderMap) -> Option<&'static str> {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    let accepted: Vec<&str> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|one| {
            let (name, rest) = one.split_once(';').unwrap_or((one, ""));
            let is_rejected =
                matches!(rest.trim().replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00");
            (!is_rejected).then_some(name.trim())
        })
        .collect();
    ["zstd", "gzip"]
        .into_iter()
        .find(|coding| accepted.iter().any(|it| it.eq_ignore_ascii_case(coding)))
}

/// Headers of every answer.
pub(crate) fn guard(headers: &mut HeaderMap) {
    let fixed = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "private, no-cache"),
        ("x-frame-options", "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

impl From<QueryError> for Answer {
    fn from(error: QueryError) -> Self {
        let (status, code) = match error {
            QueryError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            QueryError::TooLarge(_) => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
            _ => (StatusCode::BAD_REQUEST, "invalid_argument"),
        };
        Self::error(status, code, &error.to_string())
    }
}
