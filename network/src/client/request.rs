//! One request and its answer.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use profpipe_engine::component::{Error, Extension, Extensions};

use super::body::Payload;
use super::connect::{AddressPolicy, ConnectError, Connector, Resolver};
use super::error::{ClientError, ErrorKind};
use super::tls::Trust;
use super::told::{Told, without_login};
use crate::endpoint::{Endpoint, Proxy, is_loopback, parse_proxy};
use crate::settings::{ClientSettings, Compression};

/// The most of an answer that is read, if the request says nothing else.
pub const MAX_RESPONSE: usize = 4 << 20;
/// The most of the text of an error that is read.
pub const MAX_ERROR_TEXT: usize = 64 << 10;

const AGENT: &str = concat!("profpipe/", env!("CARGO_PKG_VERSION"));

/// A client; clones share its connections.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) http: legacy::Client<Connector, Payload>,
    headers: HeaderMap,
    auth: Option<(String, Arc<dyn Extension>)>,
    proxy: Option<Proxy>,
    /// Credentials may cross a network unencrypted.
    insecure: bool,
    pub(super) compression: Compression,
    pub(super) level: i32,
    pub(super) authority: Option<http::uri::Authority>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What a client is made of.
pub struct Builder<'a> {
    settings: &'a ClientSettings,
    grpc: bool,
    policy: Option<Arc<dyn AddressPolicy>>,
    resolver: Option<Arc<dyn Resolver>>,
}

impl fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A request.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// With what: scheme, host, path.
    pub uri: Uri,
    /// Headers of this request, beside those of the settings, which win.
    pub headers: HeaderMap,
    /// What to send.
    pub body: Payload,
    /// How long the whole may take; the caller may also just stop waiting.
    pub timeout: Option<Duration>,
    /// How much of the answer is read.
    pub max_response: usize,
}

impl Request {
    /// A request for something.
    pub fn get(uri: Uri) -> Self {
        Self::new(Method::GET, uri, Payload::default())
    }

    /// A request that brings something.
    pub fn post(uri: Uri, body: impl Into<Payload>) -> Self {
        Self::new(Method::POST, uri, body.into())
    }

    fn new(method: Method, uri: Uri, body: Payload) -> Self {
        let headers = HeaderMap::new();
        Self { method, uri, headers, body, timeout: None, max_response: MAX_RESPONSE }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// How it went.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it was read.
    pub body: Bytes,
    /// The body was longer than what was read.
    pub truncated: bool,
    /// What came after the body.
    pub trailers: HeaderMap,
    /// What the server was told, and may repeat.
    pub(super) told: Arc<Told>,
}

impl<'a> Builder<'a> {
    /// Only HTTP/2, as gRPC wants it.
    #[must_use]
    pub fn grpc(self) -> Self {
        Self { grpc: true, ..self }
    }

    /// Connects only to addresses that the policy allows. It does not go with a proxy, which
    /// finds addresses itself.
    #[must_use]
    pub fn policy(self, policy: Arc<dyn AddressPolicy>) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Finds addresses in another way than the system's.
    #[must_use]
    pub fn resolver(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver: Some(resolver), ..self }
    }

    /// Makes the client. Connections are made when they are needed.
    ///
    /// # Errors
    /// If certificates cannot be read or the extension for credentials is not there.
    pub fn build(self, extensions: &Extensions) -> Result<Client, Error> {
        let settings = self.settings;
        let proxy = match settings.proxy_url.is_empty() {
            true => None,
            false => Some(
                parse_proxy(settings.proxy_url.expose())
                    .map_err(|problem| Error::new(format!("`proxy_url` {problem}")))?,
            ),
        };
        if proxy.is_some() && self.policy.is_some() {
            return Err(Error::new("`proxy_url` does not go with a check of addresses here"));
        }
        let authority = settings.authority.as_str();
        let authority = (!authority.is_empty()).then(|| authority.parse()).transpose();
        let authority = authority
            .map_err(|cause| Error::with_source("`authority` is not host and port", cause))?;
        // Under a name that is not its own the server is still where the endpoint says.
        let endpoint = Endpoint::grpc(&settings.endpoint, settings.tls.insecure);
        let at = endpoint.ok().filter(|_| authority.is_some());
        let at = at.map(|endpoint| (endpoint.host().to_owned(), endpoint.port()));
        let protocols: &[&[u8]] = if self.grpc { &[b"h2"] } else { &[b"h2", b"http/1.1"] };
        let connector = Connector {
            trust: Arc::new(Trust::new(settings.tls.clone(), protocols)?),
            proxy: proxy.clone(),
            at,
            policy: self.policy,
            resolver: self.resolver,
        };
        let mut http = legacy::Client::builder(TokioExecutor::new());
        http.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
        http.http2_only(self.grpc);
        let idle = settings.idle_conn_timeout.0;
        http.pool_idle_timeout((idle > Duration::ZERO).then_some(idle));
        if settings.disable_keep_alives {
            http.pool_max_idle_per_host(0);
        } else if let Some(most) = settings.max_idle_conns {
            http.pool_max_idle_per_host(usize::try_from(most).unwrap_or(usize::MAX));
        }
        if let Some(keepalive) = settings.keepalive.as_ref().filter(|k| k.time.0 > Duration::ZERO) {
            http.http2_keep_alive_interval(keepalive.time.0);
            http.http2_keep_alive_timeout(keepalive.timeout.0);
            http.http2_keep_alive_while_idle(keepalive.permit_without_stream);
        }
        let auth = settings.auth.as_ref().map(|auth| extension(&auth.authenticator, extensions));
        Ok(Client(Arc::new(Inner {
            http: http.build(connector),
            headers: headers(settings)?,
            auth: auth.transpose()?,
            proxy,
            insecure: settings.tls.insecure,
            compression: settings.compression,
            level: settings.compression_params.level,
            authority,
        })))
    }
}

/// The extension for credentials.
fn extension(id: &str, extensions: &Extensions) -> Result<(String, Arc<dyn Extension>), Error> {
    let extension = extensions.get(id)?;
    if extension.client_auth().is_none() {
        let problem = format!("the extension `{id}` has no credentials for requests that we make");
        return Err(Error::new(problem));
    }
    Ok((id.to_owned(), Arc::clone(extension)))
}

fn headers(settings: &ClientSettings) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in settings.headers.iter() {
        let (name, value) = header(name, value.expose())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A header whose value is a secret.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let bad =
        || Error::new(format!("`{name}` is not a header, or its value is not one of a header"));
    let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok((HeaderName::try_from(name).map_err(|_| bad())?, value))
}

impl Client {
    /// Begins a client with these settings. Their endpoint says nothing here: requests have their
    /// own address.
    pub fn builder(settings: &ClientSettings) -> Builder<'_> {
        Builder { settings, grpc: false, policy: None, resolver: None }
    }

    /// How this client compresses, and the level.
    pub fn compression(&self) -> (Compression, i32) {
        (self.0.compression, self.0.level)
    }

    /// Sends a request and reads the answer. Any status but a redirect is an answer; of one that is
    /// no success at most [`MAX_ERROR_TEXT`] is read.
    ///
    /// # Errors
    /// If there is no answer, or it sends us elsewhere.
    pub async fn send(&self, request: Request) -> Result<Response, ClientError> {
        let (timeout, max_response) = (request.timeout, request.max_response);
        let host = request.uri.host().unwrap_or_default().to_owned();
        let request = self.prepare(request)?;
        let told = Told::of(&request);
        let answer = async {
            let response = self.0.http.request(request).await;
            let response = response.map_err(|error| no_answer(error, &host))?;
            let mut response = read(response, max_response, &host).await?;
            if !response.is_success() {
                response.body = match response.is_protobuf() {
                    true => told.taken_out_of_message(response.body),
                    false => told.taken_out_of(response.body),
                };
            }
            response.told = Arc::new(told);
            Ok(response)
        };
        let Some(timeout) = timeout else { return answer.await };
        tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
            let cause = Error::new(format!("{host} did not answer within {timeout:?}"));
            Err(ClientError::new(ErrorKind::Timeout, cause))
        })
    }

    pub(super) fn prepare(&self, request: Request) -> Result<http::Request<Payload>, ClientError> {
        let inner = &*self.0;
        let mut made = http::Request::new(request.body);
        *made.method_mut() = request.method;
        let mut headers = request.headers;
        for (name, value) in &inner.headers {
            headers.insert(name, value.clone());
        }
        if let Some((id, extension)) = &inner.auth {
            let credentials = extension.client_auth().map(|auth| auth.headers());
            let of = |cause| {
                let cause = Error::with_source(format!("no credentials from `{id}`"), cause);
                ClientError::new(ErrorKind::Credentials, cause)
            };
            for (name, value) in credentials.transpose().map_err(of)?.unwrap_or_default() {
                let (name, value) = header(&name, value.expose()).map_err(of)?;
                headers.insert(name, value);
            }
        }
        let (uri, login) = without_login(request.uri)?;
        if let Some(login) = login.filter(|_| !headers.contains_key(AUTHORIZATION)) {
            headers.insert(AUTHORIZATION, login);
        }
        let open = uri.scheme_str() != Some("https");
        let host = uri.host().map(crate::endpoint::bare).unwrap_or_default();
        let credentials = inner.auth.is_some() || headers.contains_key(AUTHORIZATION);
        if open && credentials && !inner.insecure && !is_loopback(host) {
            let problem = format!("credentials are not sent to {host} without TLS");
            return Err(ClientError::new(ErrorKind::Credentials, Error::new(problem)));
        }
        // Through a tunnel the proxy has got its credentials already.
        if open && let Some(credentials) = inner.proxy.as_ref().and_then(|p| p.credentials.clone())
        {
            headers.insert(PROXY_AUTHORIZATION, credentials);
        }
        headers.remove(HOST);
        *made.headers_mut() = headers;
        *made.uri_mut() = uri;
        Ok(made)
    }
}

/// Why a request got no answer.
pub(super) fn no_answer(error: legacy::Error, host: &str) -> ClientError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut kind = if error.is_connect() { ErrorKind::Connect } else { ErrorKind::Broken };
    while let Some(one) = cause {
        if let Some(ConnectError::Forbidden { .. }) = one.downcast_ref() {
            kind = ErrorKind::Forbidden;
        }
        cause = one.source();
    }
    // What hyper says about a connection that was not made says nothing.
    let of = format!("no answer from {host}");
    let cause = match error.is_connect() {
        true => match error.source() {
            Some(source) => Error::with_source(of, OwnedErrorChain::of(source)),
            None => Error::with_source(of, error),
        },
        false => Error::with_source(of, error),
    };
    ClientError::new(kind, cause)
}

/// What a chain of errors says, kept after the errors are gone.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OwnedErrorChain(String);

impl OwnedErrorChain {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self(text)
    }
}

/// Does not go where an answer sends us.
pub(super) fn refuse_redirect(head: &http::response::Parts, host: &str) -> Result<(), ClientError> {
    if !head.status.is_redirection() {
        return Ok(());
    }
    let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
    let to: Option<Uri> = to.parse().ok();
    // Only the host: what else the address holds may be a secret.
    let to = match to.as_ref().and_then(Uri::host) {
        Some(to) => format!("to {}", super::outcome::printable(to.as_bytes())),
        None => "to another path".to_owned(),
    };
    let problem = format!(
        "{host} redirects {to} (status {}), and redirects are not followed; correct the endpoint",
        head.status.as_u16()
    );
    Err(ClientError::new(ErrorKind::Redirect, Error::new(problem)))
}

/// Reads an answer.
pub(super) async fn read(
    response: http::Response<Incoming>,
    max_response: usize,
    host: &str,
) -> Result<Response, ClientError> {
    let (head, mut body) = response.into_parts();
    refuse_redirect(&head, host)?;
    let limit =
        if head.status.is_success() { max_response } else { max_response.min(MAX_ERROR_TEXT) };
    let mut response = Response {
        status: head.status,
        headers: head.headers,
        body: Bytes::new(),
        truncated: false,
        trailers: HeaderMap::new(),
        told: Arc::default(),
    };
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // The status says enough; its text is an extra.
            Err(_) if !response.status.is_success() => break,
            Err(cause) => {
                let cause = Error::with_source(format!("the answer of {host} broke off"), cause);
                return Err(ClientError::new(ErrorKind::Broken, cause));
            }
        };
        match frame.into_data() {
            Ok(mut data) => {
                let room = limit - response.body.len() - more.len();
                if data.len() > room {
                    data.truncate(room);
                    response.truncated = true;
                }
                if response.body.is_empty() && more.is_empty() {
                    response.body = data;
                } else {
                    if more.is_empty() {
                        more.put(std::mem::take(&mut response.body));
                    }
                    more.put(data);
                }
                if response.truncated {
                    break;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    response.trailers = trailers;
                }
            }
        }
    }
    if !more.is_empty() {
        response.body = more.freeze();
    }
    Ok(response)
}
