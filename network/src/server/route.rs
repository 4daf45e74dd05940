//! Which handler answers which request, and what it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode, request};
use profpipe_engine::budget::Charge;
use profpipe_engine::component::Identity;
use tokio::sync::mpsc;

use super::answer::Reply;
use super::body::BodyStream;
use super::rejection::Rejection;
use crate::grpc::Code;

/// Answers requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Looks at the head of a request, before any of its body is read.
    ///
    /// # Errors
    /// If it is to be rejected.
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        let _ = head;
        Ok(())
    }

    /// Answers a request.
    ///
    /// # Errors
    /// If it is rejected.
    async fn handle(&self, request: Request) -> Result<Reply, Rejection>;

    /// The most bytes of a body that is not to be kept in memory, whatever the server's own limit. Such a
    /// request by plain HTTP goes to [`Handler::handle_stream`]; its body may not be compressed.
    fn stream_limit(&self) -> Option<u64> {
        None
    }

    /// Answers a request whose body comes piece by piece; `request.body` is empty.
    ///
    /// # Errors
    /// If it is rejected.
    async fn handle_stream(
        &self,
        request: Request,
        body: &mut BodyStream,
    ) -> Result<Reply, Rejection> {
        let _ = body;
        self.handle(request).await
    }

    /// Writes a rejection for a client that asked by HTTP; a line of text unless the protocol wants
    /// something else. Not called for gRPC.
    fn reject(&self, head: &request::Parts, rejection: &Rejection) -> Reply {
        let _ = head;
        Reply::text(rejection)
    }
}

/// A request whose body was read.
#[derive(Debug)]
pub struct Request {
    /// Method, address and headers. A body that was compressed no longer is.
    pub head: request::Parts,
    /// The body, or the message of a gRPC call.
    pub body: Bytes,
    /// What the body takes of the memory budget.
    pub charge: Charge,
    /// Whose it is: by credentials, or by a header that is trusted.
    pub tenant: Option<Arc<str>>,
    /// Who sent it.
    pub identity: Identity,
    /// How it came.
    pub transport: Transport,
    /// When the client stops waiting, if it said so.
    pub deadline: Option<Instant>,
    /// To be dropped when everything was sent on.
    pub sending: Sending,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Plain HTTP.
    Http,
    /// A gRPC call.
    Grpc,
}

impl Transport {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// Held by a request until its handler has nothing to send any more; a server that stops waits for
/// it. A handler drops it before it waits for what becomes of the batch: that is known only when
/// the pipelines have ended, which they do after the receivers.
#[derive(Debug, Clone)]
pub struct Sending {
    pub(super) _alive: mpsc::Sender<Infallible>,
}

/// Handlers by method, path and protocol.
#[derive(Default)]
pub struct Router {
    paths: BTreeMap<String, Methods>,
    otherwise: Option<Arc<dyn Handler>>,
    /// By what stands before the last part of a path.
    prefixes: BTreeMap<String, Methods>,
}

#[derive(Default)]
struct Methods {
    http: Vec<(Method, Arc<dyn Handler>)>,
    grpc: Option<Arc<dyn Handler>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.paths.keys()).entries(self.prefixes.keys()).finish()
    }
}

impl Router {
    /// Without any handler.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler of plain HTTP.
    #[must_use]
    pub fn http(mut self, method: Method, path: &str, handler: Arc<dyn Handler>) -> Self {
        self.paths.entry(path.to_owned()).or_default().http.push((method, handler));
        self
    }

    /// Adds a handler of plain HTTP for all paths that are this prefix, which ends with `/`, and one part more.
    #[must_use]
    pub fn http_below(mut self, method: Method, prefix: &str, handler: Arc<dyn Handler>) -> Self {
        self.prefixes.entry(prefix.to_owned()).or_default().http.push((method, handler));
        self
    }

    /// Adds a handler of a gRPC method, by its path `/package.Service/Method`. The same path may
    /// have a handler of plain HTTP, too: the content type decides.
    #[must_use]
    pub fn grpc(mut self, path: &str, handler: Arc<dyn Handler>) -> Self {
        self.paths.entry(path.to_owned()).or_default().grpc = Some(handler);
        self
    }

    /// Adds a handler of plain HTTP for every path and method that no other one takes: it looks at the path
    /// itself, and says what is not there.
    #[must_use]
    pub fn otherwise(mut self, handler: Arc<dyn Handler>) -> Self {
        self.otherwise = Some(handler);
        self
    }

    /// The gRPC services that have a method here.
    pub(super) fn services(&self) -> Vec<String> {
        let paths = self.paths.iter().filter(|(_, methods)| methods.grpc.is_some());
        let services = paths.filter_map(|(path, _)| path.strip_prefix('/')?.rsplit_once('/'));
        let services: BTreeSet<_> = services.map(|(service, _)| service.to_owned()).collect();
        services.into_iter().collect()
    }

    pub(super) fn find(
        &self,
        head: &request::Parts,
        transport: Transport,
    ) -> Result<&Arc<dyn Handler>, Rejection> {
        let path = head.uri.path();
        let below = || {
            let at = path.rfind('/')? + 1;
            self.prefixes.get(path.get(..at)?).filter(|_| at < path.len())
        };
        let otherwise = self.otherwise.as_ref().filter(|_| transport == Transport::Http);
        let methods = self.paths.get(path).or_else(below);
        if let Some(handler) = otherwise
            && !methods.is_some_and(|it| it.http.iter().any(|(method, _)| *method == head.method))
        {
            return Ok(handler);
        }
        let Some(methods) = methods else {
            // A path may be long, and may hold what does not belong in a log.
            let message = "there is nothing at this path".to_owned();
            return Err(Rejection::new(StatusCode::NOT_FOUND, Code::Unimplemented, message));
        };
        match transport {
            Transport::Grpc => methods.grpc.as_ref().ok_or_else(|| {
                let message = "this path takes plain HTTP, not gRPC";
                Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, message)
            }),
            Transport::Http if methods.http.is_empty() => {
                let message = "this path takes gRPC, with the content type application/grpc";
                Err(Rejection::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    Code::InvalidArgument,
                    message,
                ))
            }
            Transport::Http => {
                let found = methods.http.iter().find(|(method, _)| *method == head.method);
                found.map(|(_, handler)| handler).ok_or_else(|| {
                    let known: Vec<&str> =
                        methods.http.iter().map(|(method, _)| method.as_str()).collect();
                    let known = known.join(", ");
                    let message = format!("this path takes {known} only");
                    let status = StatusCode::METHOD_NOT_ALLOWED;
                    let mut rejection = Rejection::new(status, Code::Unimplemented, message);
                    rejection.allow = Some(known);
                    rejection
                })
            }
        }
    }
}
