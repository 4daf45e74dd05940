//! `grpc.health.v1.Health`, for probes and for clients that watch a server before they call it.
//!
//! Every server with a gRPC method answers it: `SERVING` for the server and each of its services until it
//! stops. Credentials are not asked for, because probes have none, and an answer says nothing else. It lives
//! from a little memory of its own: a gateway without room for profiles is alive.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::{Request, Response, request};
use profpipe_engine::budget::Budget;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower_service::Service as _;

use super::body::{Admission, Admitted, Coding, Limits};
use super::connection::{Stop, stopped};
use super::rejection::Rejection;
use super::route::Router;

/// Where the methods are.
const PATH: &str = "/grpc.health.v1.Health/";
/// The most of a question, which is the name of a service.
const MAX_MESSAGE: usize = 4 << 10;
/// The questions that may be on their way at a time.
const CALLS: usize = 256;

/// Answers questions about the health of a server.
#[derive(Clone)]
pub(super) struct HealthCheck {
    server: HealthServer<Services>,
    budget: Arc<Budget>,
    /// How long a question may take to come.
    time: Duration,
}

/// The services of a server, and whether it stops.
struct Services {
    names: Vec<String>,
    stop: Stop,
}

impl HealthCheck {
    /// For a server that has a gRPC method.
    pub(super) fn new(router: &Router, stop: Stop, time: Duration) -> Option<Self> {
        let names = router.services();
        if names.is_empty() {
            return None;
        }
        let services = Services { names, stop };
        let server = HealthServer::new(services).max_decoding_message_size(MAX_MESSAGE);
        Some(Self { server, budget: Budget::new(CALLS * MAX_MESSAGE), time })
    }

    /// Whether a call is one of its methods.
    pub(super) fn is_asked(&self, head: &request::Parts) -> bool {
        head.uri.path().starts_with(PATH)
    }

    /// Answers a call.
    pub(super) async fn answer<B>(&self, head: &request::Parts, body: B) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let Some(charge) = self.budget.try_admit(MAX_MESSAGE) else {
            return Rejection::busy().to_call_status().into_http();
        };
        let limits = Limits { size: MAX_MESSAGE, time: self.time, deadline: None, expected: None };
        let admission = Admission::new(charge);
        let body = Admitted::new(body, Coding::Identity, limits, admission.clone());
        let mut request = Request::new(body);
        *request.uri_mut() = head.uri.clone();
        let Ok(response) = self.server.clone().call(request).await;
        match admission.rejection() {
            Some(rejection) => rejection.to_call_status().into_http(),
            None => response,
        }
    }
}

impl Services {
    /// The status of a service; `None` if there is no such service.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let is_known = service.is_empty() || self.names.iter().any(|name| name == service);
        let is_stopping = self.stop.borrow().is_some();
        is_known.then_some(match is_stopping {
            false => ServingStatus::Serving,
            true => ServingStatus::NotServing,
        })
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[async_trait]
impl Health for Services {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.get_ref().service);
        let status = status.ok_or_else(|| Status::not_found("there is no such service here"))?;
        Ok(tonic::Response::new(answer(status)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status now, and the last one when the server stops; it does not change in between.
    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let (now, last) = match self.status(&request.get_ref().service) {
            Some(now) => (now, ServingStatus::NotServing),
            None => (ServingStatus::ServiceUnknown, ServingStatus::ServiceUnknown),
        };
        let mut stop = self.stop.clone();
        let end = stream::once(async move {
            stopped(&mut stop).await;
            Ok(answer(last))
        });
        let all = stream::once(std::future::ready(Ok(answer(now)))).chain(end);
        Ok(tonic::Response::new(all.boxed()))
    }
}
