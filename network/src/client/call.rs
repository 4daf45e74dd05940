//! A unary gRPC call: `tonic` over this client's connections.
//!
//! tonic makes the request, reads the answer's frame and its status. What stays here is what it has no
//! notion of: messages are compressed at the level of the settings, and travel as they are instead of
//! as a copy in a frame of tonic's, which for uncompressed ones was a tenth of a gateway's time; an answer
//! is read as a whole, within limits; what is not gRPC gets the text of the page that a proxy sent; and a
//! request that the server accepted is accepted, whatever its answer looks like.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::BodyExt as _;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use profpipe_engine::component::{Error, Failure};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::body::Payload;
use super::compress::{compress_aside, decompress};
use super::error::{ClientError, ErrorKind};
use super::outcome::{printable, short, status_failure};
use super::request::{Client, MAX_RESPONSE, Request, Response};
use super::told::Told;
use crate::grpc::{Code, RawCodec, Status, headers, is_grpc};
use crate::settings::Compression;

/// Senders pad or not, as they like.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with a status that is not OK.
    #[error("{}", short(.0))]
    Status(Status),
    /// There is no answer.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Status(status) => status_failure(&status),
            CallError::Client(error) => error.into(),
        }
    }
}

impl Client {
    /// Calls the method at `uri` with one message, and returns the message of the answer. The message
    /// is compressed as the settings say. A timeout is sent to the server, too.
    ///
    /// # Errors
    /// If there is no answer, or its status is not OK.
    pub async fn call(
        &self,
        uri: Uri,
        message: Bytes,
        more: HeaderMap,
        timeout: Option<Duration>,
    ) -> Result<Bytes, CallError> {
        let (compression, level) = self.compression();
        let message = compress_aside(message, compression, level).await.map_err(|cause| {
            let cause = Error::with_source("cannot compress the message", cause);
            ClientError::new(ErrorKind::Request, cause)
        })?;
        let length = u32::try_from(message.len()).map_err(|_| {
            let cause = Error::new("a message of more than 4 GiB");
            ClientError::new(ErrorKind::Request, cause)
        })?;
        let frame = Payload::two(prefix(compression.name().is_some(), length), message);
        let uri = self.at_authority(uri)?;
        let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let mut origin = uri.into_parts();
        origin.path_and_query = Some(PathAndQuery::from_static("/"));
        let origin = Uri::from_parts(origin).map_err(|cause| {
            let cause = Error::with_source("not the address of a method", cause);
            ClientError::new(ErrorKind::Request, cause)
        })?;
        // The message goes beside tonic.
        let mut request = tonic::Request::new(Bytes::new());
        *request.metadata_mut() = MetadataMap::from_headers(more);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let client = self.clone();
        let exchange = Exchange { client, frame, timeout, outcome: Outcome::default() };
        let outcome = exchange.outcome.clone();
        let mut grpc = Grpc::with_origin(exchange, origin).max_decoding_message_size(MAX_RESPONSE);
        let answered = grpc.unary(request, path, RawCodec).await;
        let Known { error, is_accepted, coding, told } = std::mem::take(&mut *outcome.known());
        // The server has done what it was asked; an answer that cannot be read does not change that.
        let unread = |what: &str| {
            tracing::debug!("an answer that cannot be read: {what}");
            Ok(Bytes::new())
        };
        match (answered, error) {
            (_, Some(error)) => Err(error.into()),
            (Err(status), None) if is_accepted => unread(status.message()),
            (Err(status), None) => Err(CallError::Status(status)),
            (Ok(answer), None) => match coding {
                Coding::None => Ok(answer.into_inner()),
                Coding::Unknown => unread("unknown compression"),
                Coding::Known(how) => decompress(answer.get_ref(), how, MAX_RESPONSE)
                    .or_else(|error| unread(&error.to_string())),
            }
            .map(|message| told.taken_out_of_message(message)),
        }
    }

    /// The address under the name that the settings give the server.
    fn at_authority(&self, uri: Uri) -> Result<Uri, ClientError> {
        let Some(authority) = &self.0.authority else { return Ok(uri) };
        let mut parts = uri.into_parts();
        parts.authority = Some(authority.clone());
        Uri::from_parts(parts).map_err(|cause| {
            let cause = Error::with_source("`authority` is not host and port", cause);
            ClientError::new(ErrorKind::Request, cause)
        })
    }
}

/// What is known of an answer that tonic has no room for.
#[derive(Debug, Default)]
struct Known {
    /// Why there is none.
    error: Option<ClientError>,
    /// Its status is OK.
    is_accepted: bool,
    coding: Coding,
    /// What the server was told, and may repeat.
    told: Arc<Told>,
}

/// How the message of an answer is compressed.
#[derive(Debug, Default, Clone, Copy)]
enum Coding {
    #[default]
    None,
    Known(Compression),
    Unknown,
}

/// Shared with the call that waits for it.
#[derive(Debug, Default, Clone)]
struct Outcome(Arc<Mutex<Known>>);

impl Outcome {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tonic sends a request with.
struct Exchange {
    client: Client,
    /// The body, instead of tonic's.
    frame: Payload,
    timeout: Option<Duration>,
    outcome: Outcome,
}

impl Service<http::Request<Body>> for Exchange {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let frame = std::mem::take(&mut self.frame);
        let outcome = self.outcome.clone();
        Box::pin(async move {
            let (head, _) = request.into_parts();
            let (compression, _) = client.compression();
            let mut request = Request::post(head.uri, frame);
            request.headers = head.headers;
            request.timeout = timeout;
            insert(&mut request.headers, headers::ACCEPT_ENCODING, "identity,gzip,zstd");
            if let Some(name) = compression.name() {
                insert(&mut request.headers, headers::ENCODING, name);
            }
            match client.send(request).await {
                Ok(response) => read(response, &outcome),
                Err(error) => Err(outcome.ends(error)),
            }
        })
    }
}

impl Outcome {
    /// Remembers the error; the status only ends the call within tonic.
    fn ends(&self, error: ClientError) -> Status {
        self.known().error = Some(error);
        Status::unknown("")
    }
}

fn insert(map: &mut HeaderMap, name: &'static str, value: &'static str) {
    map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

/// What stands before a message.
fn prefix(is_compressed: bool, length: u32) -> Bytes {
    let [a, b, c, d] = length.to_be_bytes();
    Bytes::copy_from_slice(&[u8::from(is_compressed), a, b, c, d])
}

/// A frame as its prefix, with the flag taken out, and the message.
fn split(frame: &Bytes) -> (Bytes, Bytes) {
    match frame.split_first_chunk::<5>() {
        Some(([_, length @ ..], _)) => {
            (prefix(false, u32::from_be_bytes(*length)), frame.slice(5..))
        }
        None => (frame.clone(), Bytes::new()),
    }
}

/// An answer as tonic gets it.
fn read(response: Response, outcome: &Outcome) -> Result<http::Response<Body>, Status> {
    let Response { status: http_status, mut headers, body, mut trailers, told, .. } = response;
    if trailers.contains_key(headers::STATUS) {
        // An answer without a message has its status where the headers are; this one has it here.
        headers.remove(headers::STATUS);
    }
    let status = [&trailers, &headers].into_iter().find_map(|map| map.get(headers::STATUS));
    let is_ok = status.is_some_and(|status| status.as_bytes() == b"0");
    let is_success = http_status.is_success();
    if status.is_none() || is_ok && !is_success {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if is_success && is_grpc(kind) {
            let cause = Error::new("the answer broke off before its status");
            return Err(outcome.ends(ClientError::new(ErrorKind::Broken, cause)));
        }
        // What stands before the server has limits, too; the words are those of `outcome`.
        let code = match http_status.as_u16() {
            413 => Code::ResourceExhausted,
            status => code_from_http(status),
        };
        let text = format!(
            "the server answered with HTTP status {http_status} and no gRPC status: {}",
            printable(&body),
        );
        return Err(Status::new(code, text));
    }
    // What an error brings along says nothing.
    let body = if is_ok { body } else { Bytes::new() };
    let is_compressed = body.first() == Some(&1);
    let (prefix, message) = split(&body);
    let coding = match headers.remove(headers::ENCODING) {
        _ if !is_compressed => Coding::None,
        Some(name) if name == "gzip" => Coding::Known(Compression::Gzip),
        Some(name) if name == "zstd" => Coding::Known(Compression::Zstd),
        _ => Coding::Unknown,
    };
    {
        let mut known = outcome.known();
        known.is_accepted = is_ok;
        known.coding = coding;
        known.told = Arc::clone(&told);
    }
    make_readable(&mut headers, &told);
    make_readable(&mut trailers, &told);
    let body = Payload::two(prefix, message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = http::Response::new(Body::new(body));
    *response.status_mut() = http_status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Makes a status one that tonic can read: it panics at details that are not base64, and forgets the code
/// if the text is not UTF-8. What the server was told in secret is taken out of both.
fn make_readable(map: &mut HeaderMap, told: &Told) {
    if let Some(details) = map.remove(headers::DETAILS) {
        let details = BASE64
            .decode(details)
            .ok()
            .map(|details| STANDARD_NO_PAD.encode(told.taken_out_of_message(details.into())));
        if let Some(Ok(details)) = details.map(HeaderValue::try_from) {
            map.insert(headers::DETAILS, details);
        }
    }
    let text = map.get(headers::MESSAGE).map(|text| percent_decode(text.as_bytes()).collect());
    if let Some(text) = text.map(|text: Vec<u8>| told.taken_out_of(text.into())) {
        let text = String::from_utf8_lossy(&text);
        let text = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        if let Ok(text) = HeaderValue::try_from(text) {
            map.insert(headers::MESSAGE, text);
        }
    }
}

/// What an answer without a gRPC status means by its HTTP status: a proxy has answered, or there is no
/// gRPC at this address (`http-grpc-status-mapping.md`).
fn code_from_http(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}
