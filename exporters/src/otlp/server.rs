//! A server of OTLP on a free port of the loopback, for tests: keeps what it was sent and answers as
//! the test says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A request as the server got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The value of a header; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Answers request number `n`, counted from 0, with `answer(n)`.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, keep) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, keep) = (Arc::clone(&answer), Arc::clone(&keep));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, keep) = (Arc::clone(&answer), Arc::clone(&keep));
                    async move {
                        let (head, body) = request.into_parts();
                        let seen = Seen {
                            version: head.version,
                            path: head.uri.path().to_owned(),
                            headers: head.headers,
                            body: body.collect().await.unwrap().to_bytes(),
                        };
                        let number = {
                            let mut all = keep.lock().unwrap();
                            all.push(seen);
                            all.len() - 1
                        };
                        Ok::<_, Infallible>(answer(number))
                    }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that leaves is what some tests are about.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen }
    }
}

/// An answer of this status, content type and body, with trailers.
pub(crate) fn answer(status: u16, kind: &str, body: &[u8], trailers: Option<HeaderMap>) -> Answer {
    let body = Some(Bytes::copy_from_slice(body)).filter(|body| !body.is_empty());
    let frames = body.map(Frame::data).into_iter().chain(trailers.map(Frame::trailers));
    let frames: Vec<_> = frames.map(Ok).collect();
    let answer = Response::builder().status(status).header("content-type", kind);
    answer.body(StreamBody::new(stream::iter(frames)).boxed()).unwrap()
}
