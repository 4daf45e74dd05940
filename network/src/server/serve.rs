//! One request: who, whether, how large; then its handler.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request as HttpRequest, Response, StatusCode, request};
use http_body::Body as _;
use http_body_util::{BodyExt, Either};
use hyper::body::Incoming;
use profpipe_engine::budget::{Budget, Charge};
use profpipe_engine::component::{Extension, Identity};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Reply;
use super::answer::{ReplyBody, grpc_rejection};
use super::body::{self, BodyStream, Coding, FIRST_BYTES, Limits, STREAM_BYTES};
use super::call::unary;
use super::connection::Alive;
use super::cors;
use super::health::HealthCheck;
use super::rejection::Rejection;
use super::route::{Handler, Request, Router, Sending, Transport};
use super::tarpit::{Peer, Tarpit};
use crate::grpc::headers::{STATUS, TIMEOUT};
use crate::grpc::{Code, is_grpc, parse_timeout};
use crate::settings::server::ServerSettings;

/// So much of an unwanted body is read before the answer over HTTP/1.1, so that a
/// client that still writes gets to read it.
const DRAIN_LIMIT_BYTES: usize = 1 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Shared {
    pub(super) settings: ServerSettings,
    pub(super) router: Router,
    pub(super) health: Option<HealthCheck>,
    pub(super) tarpit: Tarpit,
    pub(super) budget: Arc<Budget>,
    pub(super) auth: Option<Arc<dyn Extension>>,
    pub(super) tenant_header: Option<http::HeaderName>,
    /// Fails to give one once the server has stopped.
    pub(super) sending: mpsc::WeakSender<Infallible>,
}

/// Answers a request.
pub(super) async fn serve(
    shared: Arc<Shared>,
    peer: &Peer,
    request: HttpRequest<Incoming>,
    alive: Option<Alive>,
) -> Result<Response<ReplyBody>, Infallible> {
    let (head, body) = request.into_parts();
    let transport = transport(&head);
    if transport == Transport::Grpc
        && let Some(health) = shared.health.as_ref().filter(|health| health.is_asked(&head))
    {
        drop(alive);
        return Ok(Box::pin(health.answer(&head, body)).await.map(Either::Right));
    }
    let cors = shared.settings.cors.as_ref();
    let cors = cors.filter(|cors| transport == Transport::Http && !cors.allowed_origins.is_empty());
    if let Some(reply) = cors.and_then(|cors| cors::preflight(cors, &head)) {
        drop(alive);
        drain_body(&head, body).await;
        return Ok(reply.into_http());
    }
    let (handler, result) = match find(&shared, &head, transport) {
        Ok((handler, identity)) => {
            let routed =
                Routed { shared: &shared, handler: &**handler, transport, identity, alive };
            let kept = routed.handler;
            let result = match transport {
                Transport::Http => routed.answer(head.clone(), body).await.map(Reply::into_http),
                // Boxed, so that requests by plain HTTP do not carry its size around.
                Transport::Grpc => Box::pin(routed.call(head.clone(), body)).await,
            };
            (Some(kept), result)
        }
        Err(rejection) => {
            drop(alive);
            drain_body(&head, body).await;
            (None, Err(rejection))
        }
    };
    let waits = match &result {
        Err(rejection) => rejection.is_of_sender(),
        // What tonic itself rejects is not a call.
        Ok(response) => transport == Transport::Grpc && response.headers().contains_key(STATUS),
    };
    if result.is_ok() && !waits {
        peer.is_good();
    }
    let mut response = match (result, transport) {
        (Ok(response), _) => response,
        (Err(rejection), Transport::Grpc) => grpc_rejection(&rejection),
        (Err(rejection), Transport::Http) => handler
            .map_or_else(|| Reply::text(&rejection), |it| it.reject(&head, &rejection))
            .into_http(),
    };
    if transport == Transport::Grpc && head.version < http::Version::HTTP_2 {
        // Over HTTP/1.1 only trailers that were announced are sent.
        let names =
            http::HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
        response.headers_mut().insert(http::header::TRAILER, names);
    }
    if let Some(cors) = cors {
        cors::allow(cors, &head.headers, response.headers_mut());
    }
    drop(head);
    if waits {
        // Only the answer is left of the request.
        shared.tarpit.rejected(peer).await;
    }
    Ok(response)
}

fn transport(head: &request::Parts) -> Transport {
    let content_type = head.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if head.method == Method::POST && content_type.is_some_and(is_grpc) {
        Transport::Grpc
    } else {
        Transport::Http
    }
}

/// The handler of a request, for a sender that is known.
fn find<'s>(
    shared: &'s Shared,
    head: &request::Parts,
    transport: Transport,
) -> Result<(&'s Arc<dyn Handler>, Identity), Rejection> {
    let identity = authenticate(shared, head)?;
    let handler = shared.router.find(head, transport)?;
    Ok((handler, identity))
}

fn authenticate(shared: &Shared, head: &request::Parts) -> Result<Identity, Rejection> {
    let Some(extension) = &shared.auth else { return Ok(Identity::default()) };
    let Some(auth) = extension.server_auth() else {
        return Err(Rejection::unauthenticated("senders cannot be authenticated here"));
    };
    let values: Vec<&[u8]> =
        head.headers.get_all(auth.header()).iter().map(http::HeaderValue::as_bytes).collect();
    auth.authenticate(&values).map_err(|error| Rejection::unauthenticated(error.to_string()))
}

/// A request whose handler is known.
struct Routed<'s> {
    shared: &'s Arc<Shared>,
    handler: &'s dyn Handler,
    transport: Transport,
    identity: Identity,
    /// `None` once the server has stopped.
    alive: Option<Alive>,
}

impl Routed<'_> {
    /// Answers a request by plain HTTP.
    async fn answer(mut self, head: request::Parts, body: Incoming) -> Result<Reply, Rejection> {
        let before = match self.before(&head, &body) {
            Ok(before) => before,
            Err(rejection) => {
                drain_body(&head, body).await;
                return Err(rejection);
            }
        };
        let Before { tenant, coding, limits, charge, sending } = before;
        if self.handler.stream_limit().is_some() {
            let taken = Taken { body: Bytes::new(), charge, tenant, sending };
            return self.stream(head, taken, BodyStream::new(body, limits)).await;
        }
        let (body, charge) = body::read(body, coding, limits, charge).await?;
        self.handle(head, Taken { body, charge, tenant, sending }, limits.deadline).await
    }

    /// Answers a request whose body comes piece by piece.
    async fn stream(
        self,
        head: request::Parts,
        taken: Taken,
        mut body: BodyStream,
    ) -> Result<Reply, Rejection> {
        let transport = self.transport;
        let Taken { body: none, charge, tenant, sending } = taken;
        let identity = self.identity;
        let request = Request {
            head: head.clone(),
            body: none,
            charge,
            tenant,
            identity,
            transport,
            deadline: None,
            sending,
        };
        let answer = self.handler.handle_stream(request, &mut body).await;
        if answer.is_err() {
            drain_body(&head, body.into_inner()).await;
        }
        answer
    }

    /// Answers a gRPC call. What tonic itself finds wrong with it is in the answer.
    async fn call(
        mut self,
        head: request::Parts,
        body: Incoming,
    ) -> Result<Response<ReplyBody>, Rejection> {
        let before = match self.before(&head, &body) {
            Ok(before) => before,
            Err(rejection) => {
                drain_body(&head, body).await;
                return Err(rejection);
            }
        };
        let Before { tenant, coding, limits, charge, sending } = before;
        let handle = |body, charge| async {
            let taken = Taken { body, charge, tenant, sending };
            self.handle(head, taken, limits.deadline).await.map(|reply| reply.body)
        };
        let response = unary(body, coding, limits, charge, handle).await?;
        Ok(response.map(Either::Right))
    }

    /// Has the handler answer, within the time that the client waits.
    async fn handle(
        self,
        head: request::Parts,
        taken: Taken,
        deadline: Option<Instant>,
    ) -> Result<Reply, Rejection> {
        let Taken { body, charge, tenant, sending } = taken;
        let request = Request {
            head,
            body,
            charge,
            tenant,
            identity: self.identity,
            transport: self.transport,
            deadline,
            sending,
        };
        let answered = self.handler.handle(request);
        match deadline {
            None => answered.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), answered).await {
                Ok(answer) => answer,
                Err(_) => Err(late()),
            },
        }
    }

    /// What is decided before any of the body is read.
    fn before(&mut self, head: &request::Parts, body: &Incoming) -> Result<Before, Rejection> {
        let Some(alive) = self.alive.take() else {
            return Err(Rejection::unavailable("the server is stopping"));
        };
        let sending = Sending { _alive: alive };
        let tenant = self.tenant(head)?;
        self.handler.admit(head)?;
        let settings = &self.shared.settings;
        let taken = &settings.compression_algorithms;
        let (coding, size) = match self.transport {
            Transport::Http => (Coding::of_http(&head.headers, taken)?, settings.max_body),
            Transport::Grpc => (Coding::of_grpc(&head.headers, taken)?, settings.max_message),
        };
        let stream = self.handler.stream_limit().filter(|_| self.transport == Transport::Http);
        let size = match stream {
            None => size,
            Some(_) if coding != Coding::Identity => {
                let only = [String::from("identity")];
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(body::unsupported("the content encoding", &only, status));
            }
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let expected = body.size_hint().exact().map(|length| length as usize);
        // Five bytes stand before a message.
        if expected.is_some_and(|length| length > size.saturating_add(5)) {
            return Err(body::too_large(size));
        }
        // There must be room for what was announced, but only what has come is paid for: else slow
        // senders could keep everybody else out with promises.
        let announced = match stream {
            Some(_) => STREAM_BYTES,
            None => coding.state() + expected.unwrap_or(FIRST_BYTES),
        };
        let mut charge = self.shared.budget.try_admit(announced).ok_or_else(Rejection::busy)?;
        if stream.is_none() {
            charge.resize(announced.min(coding.state() + FIRST_BYTES));
        }
        let deadline = match self.transport {
            Transport::Http => None,
            Transport::Grpc => deadline(head),
        };
        let limits = Limits { size, time: settings.body_timeout, deadline, expected };
        Ok(Before { tenant, coding, limits, charge, sending })
    }

    fn tenant(&self, head: &request::Parts) -> Result<Option<Arc<str>>, Rejection> {
        if self.identity.tenant.is_some() {
            return Ok(self.identity.tenant.clone());
        }
        let Some(name) = &self.shared.tenant_header else { return Ok(None) };
        let mut values = head.headers.get_all(name).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else { return Ok(None) };
        match value
            .to_str()
            .ok()
            .filter(|text| Identity::is_tenant(text))
            .filter(|_| second.is_none())
        {
            Some(text) => Ok(Some(text.into())),
            None => Err(Rejection::invalid(format!(
                "{name} must be given once, as {}",
                Identity::TENANT_RULE
            ))),
        }
    }
}

struct Before {
    tenant: Option<Arc<str>>,
    coding: Coding,
    limits: Limits,
    charge: Charge,
    sending: Sending,
}

/// A body that was read, with what belongs to it.
struct Taken {
    body: Bytes,
    charge: Charge,
    tenant: Option<Arc<str>>,
    sending: Sending,
}

fn late() -> Rejection {
    let said = "the caller's time is over";
    Rejection::new(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, said).of_others()
}

/// When the caller of a gRPC method stops waiting.
fn deadline(head: &request::Parts) -> Option<Instant> {
    let timeout = parse_timeout(head.headers.get(TIMEOUT)?.as_bytes())?;
    // What is too far away to be a time is no limit.
    Instant::now().checked_add(timeout)
}

/// Reads and drops a part of a body.
async fn drain_body(head: &request::Parts, mut body: Incoming) {
    if head.version >= http::Version::HTTP_2 || body.is_end_stream() {
        return;
    }
    // A client that waits for `100 Continue` sends no body.
    if head.headers.contains_key(http::header::EXPECT) {
        return;
    }
    let mut left = DRAIN_LIMIT_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(length);
            if left == 0 {
                return;
            }
        }
    };
    // Whether it is all there or not, the answer follows.
    let _ = timeout(DRAIN_TIMEOUT, reading).await;
}
