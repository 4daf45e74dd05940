//! A server that echoes, and a client that speaks HTTP by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use profpipe_engine::Services;
use profpipe_engine::budget::Budget;
use profpipe_engine::component::{
    Error, Extension, Extensions, Identity, Lifecycle, ServerAuth, Setup, Stopper,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::server::{Handler, Rejection, Reply, Request, Router, Server};
use crate::settings::server::ServerSettings;

crate::server_config! {
    /// For tests.
    pub(super) struct Config: http("127.0.0.1:0") {}
}

/// Settings that listen at a free port of this host.
pub(super) fn settings() -> ServerSettings {
    Config::default().server()
}

/// Answers with what it was sent, its size in the budget, and its tenant.
#[derive(Default)]
pub(super) struct Echo {
    /// Requests that have begun wait here, if somebody set it.
    pub(super) gate: Option<Arc<Semaphore>>,
    /// Told about each that has begun.
    pub(super) begun: Notify,
    /// Says at once that it has nothing to send on.
    pub(super) early: bool,
}

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        self.begun.notify_one();
        let Request { body, charge, tenant, sending, .. } = request;
        if self.early {
            drop(sending);
        }
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let mut reply = Reply::new("text/plain", body);
        let headers = &mut reply.headers;
        headers.insert("x-charge", charge.bytes().into());
        if let Some(tenant) = tenant {
            headers.insert("x-tenant", tenant.parse().unwrap());
        }
        Ok(reply)
    }
}

/// A server at work.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) budget: Arc<Budget>,
    pub(super) stopper: Stopper,
    pub(super) task: tokio::task::JoinHandle<Result<(), Error>>,
}

pub(super) fn start(settings: ServerSettings) -> Running {
    start_with(settings, Arc::new(Echo::default()), &setup())
}

pub(super) fn start_with(settings: ServerSettings, echo: Arc<Echo>, setup: &Setup) -> Running {
    let server = Server::build(settings, setup).unwrap();
    let address = server.address();
    let budget = Budget::new(32 << 20);
    let (stopper, life) = Lifecycle::new();
    let router = Router::new()
        .http(Method::POST, "/echo", echo.clone())
        .http(Method::POST, "/test.Service/Echo", echo.clone())
        .grpc("/test.Service/Echo", echo.clone())
        .grpc("/test.Service/Only", echo);
    let task = tokio::spawn(server.run(router, Arc::clone(&budget), life));
    Running { address, budget, stopper, task }
}

/// Knows one sender, by the header `authorization: letmein`.
struct Doorman;

impl Extension for Doorman {
    fn server_auth(&self) -> Option<&dyn ServerAuth> {
        Some(self)
    }
}

impl ServerAuth for Doorman {
    fn authenticate(&self, authorization: &[&[u8]]) -> Result<Identity, Error> {
        match authorization {
            [b"letmein"] => Ok(Identity { tenant: Some("acme".into()) }),
            _ => Err(Error::new("the credentials are missing or wrong")),
        }
    }
}

/// Something that does not authenticate.
struct Bystander;

impl Extension for Bystander {}

/// With the extensions `doorman` and `bystander`.
pub(super) fn setup() -> Setup {
    let mut setup = Setup::new("test", Services::default());
    let doorman: Arc<dyn Extension> = Arc::new(Doorman);
    let bystander: Arc<dyn Extension> = Arc::new(Bystander);
    setup.extensions = Extensions::new(BTreeMap::from([
        ("doorman".to_owned(), doorman),
        ("bystander".to_owned(), bystander),
    ]));
    setup
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn code(&self) -> i32 {
        let status = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        status.unwrap().to_str().unwrap().parse().unwrap()
    }
}

pub(super) async fn collect(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}

pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> HttpRequest<Full<Bytes>> {
    let mut request = HttpRequest::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

/// Asks by HTTP/1.1.
pub(super) async fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    ask_over(stream, method, path, headers, body).await
}

pub(super) async fn ask_over<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: IO,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    collect(sender.send_request(request(method, path, headers, body)).await.unwrap()).await
}

/// A client of HTTP/2.
pub(super) async fn http2<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: IO,
) -> http2::SendRequest<Full<Bytes>> {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Calls by gRPC, with a message that is not compressed unless it is framed already.
pub(super) async fn call(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> Answer {
    let mut sender = http2(TcpStream::connect(to).await.unwrap()).await;
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    let mut headers = headers.to_vec();
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        headers.push(("content-type", "application/grpc+proto"));
    }
    let uri = format!("http://{to}{path}");
    collect(sender.send_request(request("POST", &uri, &headers, &body)).await.unwrap()).await
}

/// Sends these bytes and returns everything that comes back until the other end closes.
pub(super) async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // The other end may also just go.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
