//! Connections: a name becomes addresses, these are checked, the first that answers is used, TLS is
//! put on it.
//!
//! The address that was checked is the one that is connected to: a name that answers differently
//! the next time does not get around the policy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use profpipe_engine::settings::ShownAddress;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use super::tls::Trust;
use crate::endpoint::{Proxy, bare};

/// How long connecting may take, with names, proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address of several may take.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long sent data may stay unacknowledged before the connection counts as dead; without it a
/// cut network is noticed after a quarter of an hour.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer of a proxy.
const MAX_PROXY_ANSWER_BYTES: usize = 8 << 10;

/// Decides which addresses may be connected to.
pub trait AddressPolicy: Send + Sync {
    /// Allows or forbids an address that the name `host` stands for.
    ///
    /// # Errors
    /// Why it is forbidden.
    fn check(&self, host: &str, address: IpAddr) -> Result<(), String>;
}

impl<F: Fn(&str, IpAddr) -> Result<(), String> + Send + Sync> AddressPolicy for F {
    fn check(&self, host: &str, address: IpAddr) -> Result<(), String> {
        self(host, address)
    }
}

/// Finds the addresses of a name.
pub trait Resolver: Send + Sync {
    /// The addresses of `host`, with the port.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// What makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) trust: Arc<Trust>,
    pub(super) proxy: Option<Proxy>,
    /// Where to connect, whatever name requests give the server.
    pub(super) at: Option<(String, u16)>,
    pub(super) policy: Option<Arc<dyn AddressPolicy>>,
    pub(super) resolver: Option<Arc<dyn Resolver>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot find the address of {host}")]
    Resolve {
        host: String,
        #[source]
        cause: io::Error,
    },
    #[error("{host} is at {address}, {why}")]
    Forbidden { host: String, address: IpAddr, why: String },
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("no TLS with {host}")]
    Tls {
        host: String,
        #[source]
        cause: io::Error,
    },
    #[error("the proxy {host} answered: {what}")]
    Proxy { host: String, what: String },
    #[error("no connection to {host} within {CONNECT_TIMEOUT:?}")]
    Timeout { host: String },
    #[error("{0} has no host")]
    NoHost(ShownAddress),
}

impl tower_service::Service<Uri> for Connector {
    type Response = HyperConnection;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<HyperConnection, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await })
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<HyperConnection, ConnectError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let tls = uri.scheme_str() == Some("https");
        let host =
            uri.host().map(bare).ok_or_else(|| ConnectError::NoHost(ShownAddress::of(&uri)))?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let connecting = async {
            let stream = match &self.proxy {
                None => {
                    let at = self.at.as_ref().map(|(host, port)| (host.as_str(), *port));
                    let (host, port) = at.unwrap_or((host, port));
                    self.tcp(host, port, deadline).await?
                }
                Some(proxy) => {
                    let at = &proxy.endpoint;
                    let mut stream = self.tcp(at.host(), at.port(), deadline).await?;
                    if tls {
                        tunnel(&mut stream, proxy, &authority(host, port)).await?;
                    }
                    stream
                }
            };
            if !tls {
                return Ok(HyperConnection::new(
                    Stream::Plain(stream),
                    false,
                    self.proxy.is_some(),
                ));
            }
            let of = |cause| ConnectError::Tls { host: host.to_owned(), cause };
            let stream = self.trust.handshake(host, stream).await.map_err(of)?;
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok(HyperConnection::new(Stream::Tls(Box::new(stream)), h2, false))
        };
        match timeout_at(deadline, connecting).await {
            Ok(connection) => connection,
            Err(_) => Err(ConnectError::Timeout { host: host.to_owned() }),
        }
    }

    /// A connection to the first of the host's addresses that answers.
    async fn tcp(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, ConnectError> {
        let resolved = match (host.parse::<IpAddr>(), &self.resolver) {
            (Ok(address), _) => Ok(vec![SocketAddr::new(address, port)]),
            (Err(_), Some(resolver)) => resolver.resolve(host.to_owned(), port).await,
            (Err(_), None) => tokio::net::lookup_host((host, port)).await.map(Iterator::collect),
        };
        let addresses =
            resolved.map_err(|cause| ConnectError::Resolve { host: host.to_owned(), cause })?;
        let mut problem = ConnectError::Resolve {
            host: host.to_owned(),
            cause: io::Error::other("the name has no address"),
        };
        let mut allowed = Vec::with_capacity(addresses.len());
        for address in addresses {
            let ip = address.ip().to_canonical();
            match self.policy.as_ref().map_or(Ok(()), |policy| policy.check(host, ip)) {
                Ok(()) => allowed.push(address),
                Err(why) => {
                    problem = ConnectError::Forbidden { host: host.to_owned(), address: ip, why };
                }
            }
        }
        let mut left = allowed.len();
        for address in allowed {
            left -= 1;
            let until =
                if left == 0 { deadline } else { deadline.min(Instant::now() + ADDRESS_TIMEOUT) };
            let cause = match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Ok(Err(cause)) => cause,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            problem = ConnectError::Connect { address, cause };
        }
        Err(problem)
    }
}

/// Settings of a socket, none of which is worth failing for.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_tcp_user_timeout(stream, ACKNOWLEDGE_TIMEOUT.as_millis() as u32);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Asks the proxy for a connection to `target`.
async fn tunnel(stream: &mut TcpStream, proxy: &Proxy, target: &str) -> Result<(), ConnectError> {
    let of = |what: String| ConnectError::Proxy { host: proxy.endpoint.host().to_owned(), what };
    let broken = |cause: io::Error| of(cause.to_string());
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credentials) = proxy.credentials.as_ref().map(HeaderValue::as_bytes) {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(broken)?;
    // Byte by byte: what follows the answer belongs to TLS. It is short, and once a connection.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_PROXY_ANSWER_BYTES {
            return Err(of("something that is too long".into()));
        }
        answer.push(stream.read_u8().await.map_err(broken)?);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let is_ok = line.starts_with(b"HTTP/1.") && line.get(8..12) == Some(b" 200");
    if is_ok { Ok(()) } else { Err(of(super::outcome::printable(line))) }
}

/// A connection as hyper wants it.
pub(super) struct HyperConnection {
    stream: TokioIo<Stream>,
    h2: bool,
    proxied: bool,
}

impl HyperConnection {
    fn new(stream: Stream, h2: bool, proxied: bool) -> Self {
        Self { stream: TokioIo::new(stream), h2, proxied }
    }
}

impl Connection for HyperConnection {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for HyperConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for HyperConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        hyper::rt::Write::is_write_vectored(&self.stream)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Hands a call to whichever stream it is.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
