//! A unary gRPC call.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use profpipe_engine::component::{Error, Failure};

use super::body::Payload;
use super::compress::{compress_aside, decompress};
use super::error::{ClientError, ErrorKind};
use super::outcome::{printable, status_failure};
use super::request::{Client, Request, Response};
use crate::grpc::{Code, Header, Status, UnaryReader, format_timeout, headers, is_grpc};
use crate::settings::Compression;

/// How a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with a status that is not OK.
    #[error("{0}")]
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
    /// is compressed as the settings say. With a timeout the server is told of it.
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
        let message = compress_aside(message, compression, level).await.map_err(broken)?;
        let header = Header { compressed: compression.name().is_some(), length: message.len() };
        let header = header.encode().ok_or_else(|| {
            let cause = Error::new("a message of more than 4 GiB");
            ClientError::new(ErrorKind::Request, cause)
        })?;
        let body = Payload::two(Bytes::copy_from_slice(&header), message);
        let mut request = Request::post(self.at_authority(uri)?, body);
        request.headers = more;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(headers::CONTENT_TYPE));
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        insert(&mut request.headers, headers::ACCEPT_ENCODING, "identity,gzip,zstd");
        if let Some(name) = compression.name() {
            insert(&mut request.headers, headers::ENCODING, name);
        }
        if let Some(timeout) = timeout
            && let Ok(value) = HeaderValue::try_from(format_timeout(timeout))
        {
            request.headers.insert(HeaderName::from_static(headers::TIMEOUT), value);
        }
        request.timeout = timeout;
        answer(self.send(request).await?, super::MAX_RESPONSE)
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

fn insert(map: &mut HeaderMap, name: &'static str, value: &'static str) {
    map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

fn broken(cause: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    let cause = Error::with_source("cannot compress the message", cause);
    ClientError::new(ErrorKind::Request, cause)
}

/// The message in an answer.
fn answer(response: Response, limit: usize) -> Result<Bytes, CallError> {
    let status = Status::read_from(&response.trailers);
    // An answer without a message has its status where the headers are.
    let status = status.or_else(|| Status::read_from(&response.headers));
    let kind = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match status {
        Some(status) if status.code != Code::Ok => return Err(CallError::Status(status)),
        Some(_) if response.status.is_success() => {}
        _ if !response.status.is_success() || !is_grpc(kind) => {
            // What stands before the server has limits, too; the words are those of `outcome`.
            let code = match response.status.as_u16() {
                413 => Code::ResourceExhausted,
                status => Code::from_http(status),
            };
            let text = format!(
                "the server answered with HTTP status {} and no gRPC status: {}",
                response.status,
                printable(&response.body),
            );
            return Err(CallError::Status(Status::new(code, text)));
        }
        _ => {
            let cause = Error::new("the answer broke off before its status");
            return Err(ClientError::new(ErrorKind::Broken, cause).into());
        }
    }
    // The server has done what it was asked; an answer that cannot be read does not change that.
    let unread = |what: String| {
        tracing::debug!("an answer that cannot be read: {what}");
        Ok(Bytes::new())
    };
    let mut reader = UnaryReader::new(limit);
    let message = reader.push(response.body).and_then(|()| reader.finish());
    let message = match message {
        Ok(message) => message,
        Err(error) => return unread(error.to_string()),
    };
    let Some(message) = message else { return Ok(Bytes::new()) };
    if !message.compressed {
        return Ok(message.bytes);
    }
    let encoding = response.headers.get(headers::ENCODING).map(HeaderValue::as_bytes);
    let how = match encoding {
        Some(b"gzip") => Compression::Gzip,
        Some(b"zstd") => Compression::Zstd,
        _ => return unread("unknown compression".into()),
    };
    decompress(&message.bytes, how, limit).or_else(|error| unread(error.to_string()))
}
