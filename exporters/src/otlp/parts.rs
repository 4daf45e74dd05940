//! The requests that a batch becomes.

use std::sync::Arc;

use bytes::Bytes;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Failure};
use profpipe_formats::otlp;
use profpipe_profile::Profiles;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::progress::{Attempt, Progress};

/// Batches that take more memory than this are encoded on a thread for blocking work.
const ASIDE: usize = 256 << 10;
/// How many times longer JSON is, about.
const JSON_FACTOR: usize = 3;

/// How requests are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Protobuf.
    #[default]
    Proto,
    /// JSON: larger and slower, for servers that read nothing else.
    Json,
}

/// The requests that a batch becomes.
pub(super) enum Parts {
    /// A single one.
    One(Bytes),
    /// Several, none of them longer than the limit if that is possible.
    Many(Vec<Bytes>, Attempt),
}

/// The requests of a batch, of at most `limit` bytes.
pub(super) async fn of(
    batch: &Batch,
    encoding: Encoding,
    limit: usize,
    progress: &Arc<Progress>,
) -> Result<Parts, Failure> {
    // The usual case of a gateway: nothing is read, nothing is copied.
    if let Some(request) = batch.wire()
        && encoding == Encoding::Proto
        && request.len() <= limit
    {
        return Ok(Parts::One(request.clone()));
    }
    let large = batch.bytes() > ASIDE;
    let (batch, progress) = (batch.clone(), Arc::clone(progress));
    aside(large, move || {
        let profiles = batch.shared().map_err(unreadable)?;
        if fits(&profiles, encoding, limit) {
            let request = encode(&profiles, encoding);
            if request.len() <= limit {
                return Ok(Parts::One(request));
            }
        }
        let attempt = match batch.wire() {
            Some(request) => progress.begin(request, limit),
            None => progress.begin(&otlp::encode(&profiles), limit),
        };
        drop(batch);
        let parts = requests(Arc::unwrap_or_clone(profiles), encoding, attempt.limit());
        Ok(Parts::Many(parts, attempt))
    })
    .await
}

/// Cuts a request further.
pub(super) async fn cut(
    request: Bytes,
    encoding: Encoding,
    limit: usize,
) -> Result<Vec<Bytes>, Failure> {
    aside(request.len() > ASIDE, move || {
        let profiles = match encoding {
            Encoding::Proto => otlp::decode(&request),
            Encoding::Json => otlp::decode_json(&request),
        };
        Ok(requests(profiles.map_err(unreadable)?, encoding, limit))
    })
    .await
}

fn fits(profiles: &Profiles, encoding: Encoding, limit: usize) -> bool {
    otlp::encoded_len(profiles) <= proto_limit(encoding, limit)
}

fn proto_limit(encoding: Encoding, limit: usize) -> usize {
    match encoding {
        Encoding::Proto => limit,
        Encoding::Json => limit / JSON_FACTOR,
    }
}

fn requests(profiles: Profiles, encoding: Encoding, limit: usize) -> Vec<Bytes> {
    let mut left = otlp::split(profiles, proto_limit(encoding, limit));
    left.reverse();
    let mut requests = Vec::with_capacity(left.len());
    while let Some(part) = left.pop() {
        let request = encode(&part, encoding);
        // How long JSON is, is only known once it is there.
        if encoding == Encoding::Json && request.len() > limit {
            let half = otlp::encoded_len(&part) / 2;
            let pieces = otlp::split(part, half);
            if pieces.len() > 1 {
                left.extend(pieces.into_iter().rev());
                continue;
            }
        }
        requests.push(request);
    }
    requests
}

fn encode(profiles: &Profiles, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Proto => otlp::encode(profiles).into(),
        Encoding::Json => otlp::encode_json(profiles).into(),
    }
}

fn unreadable(cause: otlp::DecodeError) -> Failure {
    Failure::Reject { cause: Error::with_source("cannot read the batch", cause) }
}

/// Runs work here, or beside the connections if it is much.
async fn aside<R: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> Result<R, Failure> + Send + 'static,
) -> Result<R, Failure> {
    if !large {
        return work();
    }
    profpipe_engine::overhead::aside(work).await.unwrap_or_else(|cause| {
        Err(Failure::Reject { cause: Error::with_source("cannot encode the batch", cause) })
    })
}
