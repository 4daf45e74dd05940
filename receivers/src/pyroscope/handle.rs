//! One request: from bytes to an answer, in the words of the protocol that it came by.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{BufMut, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, request};
use profpipe_engine::Sender;
use profpipe_engine::batch::Batch;
use profpipe_engine::budget::Charge;
use profpipe_engine::settings::ByteSize;
use profpipe_engine::telemetry::Metrics;
use profpipe_network::grpc::{Code, Status, connect_code_name, headers};
use profpipe_network::server::{Handler, Rejection, Reply, Request, Transport};
use profpipe_profile::Profiles;
use tokio::sync::Semaphore;

use super::convert::{self, ConvertError};
use super::push;
use super::query::Query;
use crate::intake::{Counts, deliver};

const PROTOBUF: &str = "application/proto";
const JSON: &str = "application/json";
const GRPC_WEB: &str = "application/grpc-web+proto";

/// What all handlers share: where batches go, and the counters.
pub(super) struct Intake {
    out: Sender,
    limit: ByteSize,
    /// As many requests are decoded at a time as there are processors: each takes memory.
    decoding: Semaphore,
    counts: [Counts; 3],
}

/// The protocol that a request came by, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Connect,
    /// `/ingest`.
    Http,
}

impl Intake {
    pub(super) fn new(out: Sender, limit: ByteSize, metrics: &Metrics, id: &str) -> Self {
        let decoders = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            out,
            limit,
            decoding: Semaphore::new(decoders),
            counts: ["grpc", "connect", "http"].map(|protocol| Counts::new(metrics, id, protocol)),
        }
    }

    fn counts(&self, protocol: Protocol) -> &Counts {
        let [grpc, connect, http] = &self.counts;
        match protocol {
            Protocol::Grpc => grpc,
            Protocol::Connect => connect,
            Protocol::Http => http,
        }
    }

    /// Decodes a request and waits until what was in it is delivered or durable.
    async fn take(
        &self,
        request: Request,
        protocol: Protocol,
        decode: impl FnOnce(&Bytes, &mut dyn FnMut(usize) -> bool) -> Result<Profiles, ConvertError>
        + Send
        + 'static,
    ) -> Result<(), Rejection> {
        let Request { body, mut charge, tenant, sending, .. } = request;
        let counts = self.counts(protocol);
        let turn = self.decoding.acquire().await;
        let decoded = tokio::task::spawn_blocking(move || {
            let decoded = decode(&body, &mut |bytes| charge.try_grow(bytes));
            (decoded, charge)
        });
        let (decoded, charge): (_, Charge) =
            decoded.await.map_err(|_| Rejection::unavailable("the server is stopping"))?;
        drop(turn);
        let profiles = decoded.map_err(|error| {
            if error != ConvertError::Busy {
                // How many samples there were is not known: at least one.
                counts.failed.add(1);
            }
            rejection(error)
        })?;
        if profiles.sample_count() == 0 {
            return Ok(());
        }
        let mut batch = Batch::new(profiles);
        batch.context.tenant = tenant;
        deliver(&self.out, batch, charge, sending, counts).await
    }
}

fn rejection(error: ConvertError) -> Rejection {
    match error {
        ConvertError::Invalid(what) => Rejection::invalid(what),
        // Not RESOURCE_EXHAUSTED, which clients of Pyroscope take for a rate limit: it will never
        // be taken, however often it is sent.
        ConvertError::TooLarge(what) => {
            Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, what)
        }
        ConvertError::Unsupported(what) => {
            Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, what)
        }
        ConvertError::Busy => Rejection::busy(),
    }
}

/// How a call of the push service is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
    GrpcWeb,
}

impl Form {
    /// By the content type of a request, parameters aside.
    fn of(head: &request::Parts) -> Option<Self> {
        let name = content_type(head).split(';').next().unwrap_or_default().trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match () {
            () if is(PROTOBUF) || is("application/grpc") || is("application/grpc+proto") => {
                Some(Self::Protobuf)
            }
            () if is(JSON) => Some(Self::Json),
            () if is("application/grpc-web") || is(GRPC_WEB) => Some(Self::GrpcWeb),
            () => None,
        }
    }
}

fn content_type(head: &request::Parts) -> &str {
    head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// `push.v1.PusherService/Push`, as Connect, gRPC and gRPC-Web.
pub(super) struct Push(pub(super) Arc<Intake>);

#[async_trait]
impl Handler for Push {
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        if Form::of(head).is_some() {
            return Ok(());
        }
        let message = format!("the content type must be {PROTOBUF}, {JSON} or application/grpc");
        Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, message))
    }

    async fn handle(&self, mut request: Request) -> Result<Reply, Rejection> {
        let form = match request.transport {
            Transport::Grpc => Form::Protobuf,
            _ => Form::of(&request.head).unwrap_or(Form::Protobuf),
        };
        if form == Form::GrpcWeb {
            request.body = unframed(&request.body)?;
        }
        let limit = self.0.limit;
        let protocol = match (request.transport, form) {
            (Transport::Grpc, _) | (_, Form::GrpcWeb) => Protocol::Grpc,
            _ => Protocol::Connect,
        };
        let taken = self.0.take(request, protocol, move |body, pay| {
            let series = match form {
                Form::Json => {
                    // The base64 text becomes bytes while it is still there.
                    if !pay(body.len()) {
                        return Err(ConvertError::Busy);
                    }
                    push::decode_json(body)?
                }
                Form::Protobuf | Form::GrpcWeb => push::decode(body)?,
            };
            convert::push(series, limit, pay)
        });
        taken.await?;
        Ok(match form {
            Form::Protobuf => Reply::new(PROTOBUF, Bytes::new()),
            Form::Json => Reply::new(JSON, "{}"),
            Form::GrpcWeb => {
                let mut body = vec![0; 5];
                put_trailers(&mut body, Code::Ok, "");
                Reply::new(GRPC_WEB, body)
            }
        })
    }

    fn reject(&self, head: &request::Parts, rejection: &Rejection) -> Reply {
        match Form::of(head) {
            // gRPC-Web says everything in the body.
            Some(Form::GrpcWeb) => {
                let mut body = Vec::new();
                put_trailers(&mut body, rejection.code, &rejection.message);
                Reply::new(GRPC_WEB, body)
            }
            Some(Form::Protobuf | Form::Json) => connect(rejection),
            None => Reply::text(rejection),
        }
    }
}

/// `/ingest`, the interface before the push service.
pub(super) struct Ingest(pub(super) Arc<Intake>);

#[async_trait]
impl Handler for Ingest {
    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let content_type = content_type(&request.head).to_owned();
        let text = request.head.uri.query().unwrap_or_default();
        let query = Query::parse(text, &content_type, now.as_nanos() as u64)
            .map_err(|malformed| rejection(malformed.into()))?;
        let limit = self.0.limit;
        let taken = self.0.take(request, Protocol::Http, move |body, pay| {
            convert::ingest(&query, &content_type, body, limit, pay)
        });
        taken.await?;
        Ok(Reply::new("text/plain; charset=utf-8", Bytes::new()))
    }

    fn reject(&self, _: &request::Parts, rejection: &Rejection) -> Reply {
        connect(rejection)
    }
}

/// `/ready`: answers as long as the server runs.
pub(super) struct Ready;

#[async_trait]
impl Handler for Ready {
    async fn handle(&self, _: Request) -> Result<Reply, Rejection> {
        Ok(Reply::new("text/plain; charset=utf-8", "ready\n"))
    }
}

/// An error as Connect writes it.
fn connect(rejection: &Rejection) -> Reply {
    let is_for_good = rejection.retry_after.is_none();
    let code = match rejection.code {
        // Clients would send it again and again.
        Code::ResourceExhausted if is_for_good => Code::InvalidArgument,
        code => code,
    };
    let body = serde_json::json!({ "code": connect_code_name(code), "message": rejection.message });
    Reply::rejection(rejection, JSON, body.to_string())
}

/// The message of a gRPC-Web call: one frame that is not compressed.
fn unframed(body: &Bytes) -> Result<Bytes, Rejection> {
    let wrong = || Rejection::invalid("not one uncompressed message of gRPC-Web");
    let (head, message) = body.split_first_chunk::<5>().ok_or_else(wrong)?;
    let [flags, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if flags != 0 || message.len() < length {
        return Err(wrong());
    }
    Ok(body.slice(5..5 + length))
}

/// Trailers as gRPC-Web puts them at the end of a body.
fn put_trailers(body: &mut Vec<u8>, code: Code, message: &str) {
    let message: String = message.chars().filter(|char| !char.is_control()).collect();
    let headers = Status::new(code, message).into_http::<()>().into_parts().0.headers;
    let mut trailers = Vec::new();
    for name in [headers::STATUS, headers::MESSAGE] {
        let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        trailers.extend([name.as_bytes(), b":", value, b"\r\n"].concat());
    }
    body.put_u8(0x80);
    body.put_u32(trailers.len() as u32);
    body.put_slice(&trailers);
}
