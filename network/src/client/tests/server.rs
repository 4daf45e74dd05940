//! A server on a free port of the loopback that answers as the test says and keeps what it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(super) type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// A request as the server got it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) version: Version,
    pub(super) uri: String,
    pub(super) method: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn url(&self, path: &str) -> http::Uri {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    /// Serves without TLS.
    pub(super) async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(None, answer).await
    }

    /// Serves with TLS, if there is a configuration.
    pub(super) async fn serve(
        tls: Option<rustls::ServerConfig>,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, keep) = (Arc::new(answer), Arc::clone(&seen));
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (answer, keep, tls) = (Arc::clone(&answer), Arc::clone(&keep), tls.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, keep) = (Arc::clone(&answer), Arc::clone(&keep));
                    async move {
                        let (head, body) = request.into_parts();
                        let seen = Seen {
                            connection,
                            version: head.version,
                            uri: head.uri.to_string(),
                            method: head.method.to_string(),
                            headers: head.headers,
                            body: body.collect().await.map(|b| b.to_bytes()).unwrap_or_default(),
                        };
                        keep.lock().unwrap().push(seen.clone());
                        Ok::<_, Infallible>(answer(&seen))
                    }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // Errors of a connection are what some tests are about.
                    let _ = match tls {
                        None => server.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => {
                                server.serve_connection(TokioIo::new(stream), service).await
                            }
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Self { address, seen }
    }
}

/// An answer with a body in these pieces, and trailers.
pub(super) fn pieces(pieces: Vec<Bytes>, trailers: Option<HeaderMap>) -> Answer {
    let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    let frames: Vec<_> = frames.chain(trailers.map(|map| Ok(Frame::trailers(map)))).collect();
    Response::new(StreamBody::new(stream::iter(frames)).boxed())
}

/// An answer of this status and body.
pub(super) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = pieces(vec![body.into()], None);
    *answer.status_mut() = status.try_into().unwrap();
    answer
}
