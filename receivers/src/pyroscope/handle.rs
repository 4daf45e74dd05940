//! One request: from bytes to an answer, in the words of the protocol that it came by.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, request};
use profpipe_engine::Sender;
use profpipe_engine::batch::Batch;
use profpipe_engine::budget::Charge;
use profpipe_engine::settings::ByteSize;
use profpipe_engine::telemetry::Metrics;
use profpipe_network::grpc::Code;
use profpipe_network::server::{Handler, Rejection, Reply, Request, Transport};
use profpipe_profile::Profiles;
use tokio::sync::Semaphore;

use super::call::{self, Form, content_type};
use super::convert::{self, ConvertError};
use super::push;
use super::query::Query;
use crate::intake::{Counts, deliver};

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

/// `push.v1.PusherService/Push`, as Connect, gRPC and gRPC-Web.
pub(super) struct Push(pub(super) Arc<Intake>);

#[async_trait]
impl Handler for Push {
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        call::admit(head)
    }

    async fn handle(&self, mut request: Request) -> Result<Reply, Rejection> {
        let form = Form::of_request(&request);
        request.body = call::message(form, &request.body)?;
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
        Ok(call::reply(form, Bytes::new(), &serde_json::json!({})))
    }

    fn reject(&self, head: &request::Parts, rejection: &Rejection) -> Reply {
        call::reject(head, rejection)
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
        call::connect(rejection)
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
