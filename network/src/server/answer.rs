//! Answers: as a plain HTTP response, or as the message and trailers of a gRPC call.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::refusal::Refusal;
use crate::grpc::{Code, Header, Status, headers};

/// What a handler answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status, for HTTP; a gRPC call that is answered is `OK`.
    pub status: StatusCode,
    /// Headers, for HTTP.
    pub headers: HeaderMap,
    /// The body, or the message.
    pub body: Bytes,
}

impl Reply {
    /// 200 with a body of this type.
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status: StatusCode::OK, headers, body: body.into() }
    }

    /// A refusal as HTTP, with a body of this type.
    pub fn refusal(refusal: &Refusal, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::new(content_type, body);
        reply.status = refusal.status;
        if let Some(after) = refusal.retry_after {
            // Whole seconds, and never "at once".
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if refusal.code == Code::Unauthenticated {
            reply.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic"));
        }
        let codings = refusal.accept_encoding.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(codings)) = codings {
            reply.headers.insert(ACCEPT_ENCODING, codings);
        }
        reply
    }

    /// A refusal as HTTP, as a line of text.
    pub fn text(refusal: &Refusal) -> Self {
        Self::refusal(refusal, "text/plain; charset=utf-8", format!("{}\n", refusal.message))
    }

    pub(super) fn into_http(self) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody { data: Some(self.body), trailers: None });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

const GRPC: HeaderValue = HeaderValue::from_static(headers::CONTENT_TYPE);

/// A gRPC call that succeeded: the message, then the status.
pub(super) fn grpc(message: &Bytes) -> Response<ReplyBody> {
    let header = Header { compressed: false, length: message.len() };
    let Some(header) = header.encode() else {
        return grpc_refusal(&Refusal::too_large("the answer is larger than gRPC allows"));
    };
    let mut data = BytesMut::with_capacity(header.len() + message.len());
    data.put_slice(&header);
    data.put_slice(message);
    let mut trailers = HeaderMap::new();
    Status::new(Code::Ok, "").write_to(&mut trailers);
    let body = ReplyBody { data: Some(data.freeze()), trailers: Some(trailers) };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A gRPC call that failed: only the status, which then stands in the header.
pub(super) fn grpc_refusal(refusal: &Refusal) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody { data: None, trailers: None });
    let map = response.headers_mut();
    map.insert(CONTENT_TYPE, GRPC);
    refusal.to_status().write_to(map);
    let codings = refusal.accept_encoding.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(codings)) = codings {
        map.insert(headers::ACCEPT_ENCODING, codings);
    }
    response
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct ReplyBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take().filter(|data| !data.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.as_ref().is_none_or(Bytes::is_empty) && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
