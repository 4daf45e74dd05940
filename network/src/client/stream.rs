//! An answer that is too large to be kept in memory: its head, then its body piece by piece.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use profpipe_engine::component::Error;

use super::error::{ClientError, ErrorKind};
use super::request::{Client, Request, no_answer, refuse_redirect};

/// The head of an answer, whose body is still to be read.
#[derive(Debug)]
pub struct Stream {
    /// How it went.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    host: String,
}

impl Client {
    /// Sends a request and reads the head of the answer. `Request::timeout` is for that alone: how
    /// long the body may take, and how long it may be, is for the caller to watch. Any status but a
    /// redirect is an answer.
    ///
    /// # Errors
    /// If there is no answer, or it sends us elsewhere.
    pub async fn open(&self, request: Request) -> Result<Stream, ClientError> {
        let timeout = request.timeout.unwrap_or(Duration::MAX);
        let host = request.uri.host().unwrap_or_default().to_owned();
        let answer = self.exchange(request);
        let answer = tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
            let cause = Error::new(format!("{host} did not answer within {timeout:?}"));
            Err(ClientError::new(ErrorKind::Timeout, cause))
        })?;
        let (head, body) = answer.into_parts();
        refuse_redirect(&head, &host)?;
        Ok(Stream { status: head.status, headers: head.headers, body, host })
    }

    async fn exchange(&self, request: Request) -> Result<http::Response<Incoming>, ClientError> {
        let host = request.uri.host().unwrap_or_default().to_owned();
        let request = self.prepare(request)?;
        let answer = self.0.http.request(request).await;
        answer.map_err(|error| no_answer(error, &host))
    }
}

impl Stream {
    /// How long the body is, if the server says so.
    pub fn length(&self) -> Option<u64> {
        use http_body::Body as _;
        self.body.size_hint().exact()
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// If it breaks off before its end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let of = || format!("the answer of {} broke off", self.host);
            let frame = frame.map_err(|cause| {
                ClientError::new(ErrorKind::Broken, Error::with_source(of(), cause))
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
