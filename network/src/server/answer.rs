//! Answers: as a plain HTTP response, or as the message and trailers of a gRPC call.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};

use super::rejection::Rejection;
use crate::grpc::Code;

/// The body of an answer: bytes, or what tonic makes of a message and its status.
pub(super) type ReplyBody = Either<Full<Bytes>, tonic::body::Body>;

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

    /// A rejection as HTTP, with a body of this type.
    pub fn rejection(
        rejection: &Rejection,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut reply = Self::new(content_type, body);
        reply.status = rejection.status;
        if let Some(after) = rejection.retry_after {
            // Whole seconds, and never "at once".
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if rejection.code == Code::Unauthenticated {
            reply.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic"));
        }
        let codings = rejection.accept_encoding.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(codings)) = codings {
            reply.headers.insert(ACCEPT_ENCODING, codings);
        }
        let methods = rejection.allow.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(methods)) = methods {
            reply.headers.insert(ALLOW, methods);
        }
        reply
    }

    /// A rejection as HTTP, as a line of text.
    pub fn text(rejection: &Rejection) -> Self {
        Self::rejection(rejection, "text/plain; charset=utf-8", format!("{}\n", rejection.message))
    }

    pub(super) fn into_http(self) -> Response<ReplyBody> {
        let mut response = Response::new(Either::Left(Full::new(self.body)));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A gRPC call that failed: only the status, which then stands in the header.
pub(super) fn grpc_rejection(rejection: &Rejection) -> Response<ReplyBody> {
    rejection.to_call_status().into_http::<tonic::body::Body>().map(Either::Right)
}
