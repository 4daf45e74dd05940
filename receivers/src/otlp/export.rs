//! One export request: from bytes to an answer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{StatusCode, request};
use profpipe_engine::Sender;
use profpipe_engine::batch::Batch;
use profpipe_engine::budget::Charge;
use profpipe_engine::telemetry::Metrics;
use profpipe_formats::otlp::{self, DecodeError, Rejected};
use profpipe_network::grpc::{Code, encode_status, status_to_json};
use profpipe_network::messages::{ExportProfilesPartialSuccess, ExportProfilesServiceResponse};
use profpipe_network::server::{Handler, Rejection, Reply, Request, Transport};
use profpipe_profile::Profiles;
use prost::Message as _;
use tokio::sync::Semaphore;

use super::version;
use crate::intake::{Counts, deliver};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// Requests up to this size are decoded where they are; larger ones would keep others waiting.
const AT_ONCE_BYTES: usize = 64 << 10;
/// The same for looking whether they can be passed on as they are.
const LARGE_BYTES: usize = 1 << 20;

/// Takes export requests, by whichever transport they come.
pub(super) struct Export {
    out: Sender,
    counts: TransportCounts,
    /// Held by the large request that is looked at or decoded, of which there is one at a time: that
    /// leaves processors to small ones, and others would only wait for memory, each with a part of
    /// it.
    turn: Arc<Semaphore>,
}

/// What became of samples, by transport.
pub(super) struct TransportCounts {
    grpc: Counts,
    http: Counts,
}

impl TransportCounts {
    pub(super) fn new(metrics: &Metrics, id: &str) -> Self {
        let counts = |transport: Transport| Counts::new(metrics, id, transport.name());
        Self { grpc: counts(Transport::Grpc), http: counts(Transport::Http) }
    }

    fn of(&self, transport: Transport) -> &Counts {
        match transport {
            Transport::Grpc => &self.grpc,
            Transport::Http => &self.http,
        }
    }
}

/// A request that was let in, what was refused of it, and its charge.
pub(super) type Admitted = Result<(Batch, Rejected, Charge), Rejection>;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
}

impl Form {
    /// By the content type of a request, parameters aside.
    fn of(head: &request::Parts) -> Option<Self> {
        let value = head.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let name = value.split(';').next().unwrap_or_default().trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match () {
            () if is(PROTOBUF) || is("application/protobuf") => Some(Self::Protobuf),
            () if is("application/grpc") || is("application/grpc+proto") => Some(Self::Protobuf),
            () if is(JSON) => Some(Self::Json),
            () => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        }
    }
}

impl Export {
    pub(super) fn new(out: Sender, counts: TransportCounts) -> Self {
        Self { out, counts, turn: Arc::new(Semaphore::new(1)) }
    }

    /// A request as a batch, what was refused of it, and its charge.
    pub(super) async fn read(&self, body: Bytes, form: Form, charge: Charge) -> Admitted {
        let body = match form {
            Form::Protobuf if body.len() <= LARGE_BYTES => match otlp::admit_clean(body) {
                Ok(payload) => return Ok((payload.into(), Rejected::default(), charge)),
                Err(body) => body,
            },
            _ => body,
        };
        if body.len() <= AT_ONCE_BYTES {
            return decode(body, form, charge);
        }
        let stopping = || Rejection::unavailable("the server is stopping");
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| stopping())?;
        // It goes on if the sender does not wait, and so do its charge and its turn. It waits for
        // nothing: who has the turn either gets memory at once or gives all of it back.
        let decoding = tokio::task::spawn_blocking(move || {
            let admitted = decode(body, form, charge);
            drop(turn);
            admitted
        });
        decoding.await.map_err(|_| stopping())?
    }

    async fn take(&self, request: Request, form: Form) -> Result<Rejected, Rejection> {
        let Request { body, charge, tenant, sending, transport, .. } = request;
        let counts = self.counts.of(transport);
        let (mut batch, rejected, mut charge) = self.read(body, form, charge).await?;
        counts.failed.add(rejected.samples as u64);
        if batch.samples() == 0 {
            return Ok(rejected);
        }
        // More was asked for than is needed now.
        charge.resize(batch.bytes());
        batch.context.tenant = tenant;
        deliver(&self.out, batch, charge, sending, counts).await?;
        Ok(rejected)
    }
}

/// Decodes a request, paying for everything before it is there.
pub(super) fn decode(body: Bytes, form: Form, mut charge: Charge) -> Admitted {
    let body = match form {
        Form::Protobuf if body.len() <= LARGE_BYTES => body,
        Form::Protobuf => match otlp::admit_clean(body) {
            Ok(payload) => return Ok((payload.into(), Rejected::default(), charge)),
            Err(body) => body,
        },
        Form::Json => {
            let mut rejection = None;
            let read = otlp::json_to_protobuf_within(&body, |more| {
                charge_more(&mut charge, more, &mut rejection)
            });
            let request = rejection_of(read, rejection)?;
            drop(body);
            charge.resize(request.capacity());
            match otlp::admit_clean(request.into()) {
                Ok(payload) => return Ok((payload.into(), Rejected::default(), charge)),
                Err(request) => request,
            }
        }
    };
    // Large tables that no sample needs are not worth the time they take.
    if body.len() > AT_ONCE_BYTES && otlp::summary(&body).is_ok_and(|found| found.samples == 0) {
        return Ok((Batch::new(Profiles::new()), Rejected::default(), charge));
    }
    let mut rejection = None;
    let admitted = otlp::admit_within(body, |more| charge_more(&mut charge, more, &mut rejection));
    let (payload, rejected) = rejection_of(admitted, rejection)?;
    Ok((payload.into(), rejected, charge))
}

/// Takes so many bytes more; keeps why not.
fn charge_more(charge: &mut Charge, more: usize, rejection: &mut Option<Rejection>) -> bool {
    *rejection = grow(charge, more).err();
    rejection.is_none()
}

/// Why a request is rejected that could not be read.
fn rejection_of<T>(
    read: Result<T, DecodeError>,
    rejection: Option<Rejection>,
) -> Result<T, Rejection> {
    read.map_err(|error| match (error, rejection) {
        (DecodeError::NoRoom, Some(rejection)) => rejection,
        (error, _) => invalid(&error),
    })
}

fn invalid(error: &DecodeError) -> Rejection {
    Rejection::invalid(error.to_string())
}

/// Takes so many bytes more: it is for the sender to know whether there is no room now, or never.
fn grow(charge: &mut Charge, more: usize) -> Result<(), Rejection> {
    if charge.would_exceed(more) {
        let message = "the request decodes to more than the whole memory budget; send smaller ones";
        return Err(Rejection::too_large(message));
    }
    if charge.try_grow(more) { Ok(()) } else { Err(Rejection::busy()) }
}

#[async_trait]
impl Handler for Export {
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        if Form::of(head).is_none() {
            let message = format!("the content type must be {PROTOBUF} or {JSON}");
            return Err(Rejection::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::Unimplemented,
                message,
            ));
        }
        version::check(&head.headers)
    }

    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let form = match request.transport {
            Transport::Grpc => Form::Protobuf,
            Transport::Http => Form::of(&request.head).unwrap_or(Form::Protobuf),
        };
        let rejected = self.take(request, form).await?;
        Ok(Reply::new(form.content_type(), answer(&rejected, form)))
    }

    fn reject(&self, head: &request::Parts, rejection: &Rejection) -> Reply {
        match Form::of(head) {
            Some(Form::Json) => {
                Reply::rejection(rejection, JSON, status_to_json(&rejection.to_status()))
            }
            Some(Form::Protobuf) => {
                Reply::rejection(rejection, PROTOBUF, encode_status(&rejection.to_status()))
            }
            None => Reply::text(rejection),
        }
    }
}

/// An `ExportProfilesServiceResponse`: empty unless something was rejected.
fn answer(rejected: &Rejected, form: Form) -> Vec<u8> {
    match form {
        _ if *rejected == Rejected::default() && form == Form::Protobuf => Vec::new(),
        _ if *rejected == Rejected::default() => b"{}".to_vec(),
        Form::Protobuf => {
            let partial_success = ExportProfilesPartialSuccess {
                rejected_profiles: rejected.profiles as i64,
                error_message: rejected.message.clone().into(),
            };
            let response = ExportProfilesServiceResponse { partial_success: Some(partial_success) };
            response.encode_to_vec()
        }
        Form::Json => {
            // 64-bit numbers are texts in this form.
            let escaped = serde_json::Value::from(rejected.message.as_str());
            let profiles = rejected.profiles;
            format!(
                "{{\"partialSuccess\":{{\"rejectedProfiles\":\"{profiles}\",\
                 \"errorMessage\":{escaped}}}}}"
            )
            .into_bytes()
        }
    }
}
