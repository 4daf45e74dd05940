//! How calls come: by Connect in protobuf or JSON, by gRPC, by gRPC-Web.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use profpipe_network::grpc::Code;
use profpipe_network::server::{Rejection, Reply, Request, Transport};
use profpipe_store::QueryError;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Failure, queries};
use crate::answer::Answer;
use crate::options::Options;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Protobuf,
    Json,
}

impl Codec {
    /// Reads a message.
    pub(super) fn decode<M: Message + Default + DeserializeOwned>(
        self,
        body: &[u8],
    ) -> Result<M, Failure> {
        let wrong = |what: String| {
            Failure::Query(QueryError::Invalid(format!("not a valid message: {what}")))
        };
        match self {
            Self::Protobuf => M::decode(body).map_err(|error| wrong(error.to_string())),
            Self::Json if body.trim_ascii().is_empty() => Ok(M::default()),
            Self::Json => serde_json::from_slice(body).map_err(|error| wrong(error.to_string())),
        }
    }

    /// Writes a message.
    pub(super) fn encode<M: Message + Serialize>(self, message: &M) -> Bytes {
        match self {
            Self::Protobuf => message.encode_to_vec().into(),
            // Messages cannot fail to be JSON.
            Self::Json => serde_json::to_vec(message).unwrap_or_default().into(),
        }
    }
}

/// The kind of a request's content, without parameters.
fn content_type(request: &Request) -> String {
    let value = request.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

pub(super) fn is_protobuf(request: &Request) -> bool {
    content_type(request) == "application/proto"
}

/// Answers a call.
pub(super) fn call(options: &Options, method: &str, request: &Request) -> Result<Reply, Rejection> {
    if request.transport == Transport::Grpc {
        let body = queries::answer(options, method, Codec::Protobuf, &request.body);
        return body.map(|body| Reply::new("application/grpc", body)).map_err(rejection);
    }
    let headers = &request.head.headers;
    if request.head.method != Method::POST {
        let message = "methods of this service take POST only";
        let answer = Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unimplemented", message);
        return Ok(answer.into_reply(headers));
    }
    let kind = content_type(request);
    let (codec, kind) = match kind.as_str() {
        "application/json" => (Codec::Json, "application/json"),
        "application/proto" => (Codec::Protobuf, "application/proto"),
        "application/grpc-web" | "application/grpc-web+proto" => {
            return Ok(web(options, method, request));
        }
        _ => {
            let message = "the content type must be application/json, application/proto, \
                           application/grpc or application/grpc-web";
            let answer =
                Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_argument", message);
            return Ok(answer.into_reply(headers));
        }
    };
    let answer = match queries::answer(options, method, codec, &request.body) {
        Ok(body) => Answer::new(kind, body),
        Err(failure) => failure.into(),
    };
    Ok(answer.into_reply(headers))
}

/// A failure of a gRPC call.
fn rejection(failure: Failure) -> Rejection {
    let (status, code, message) = match failure {
        Failure::Unimplemented(message) => {
            (StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, message)
        }
        Failure::Query(error) => {
            let (status, code) = match error {
                QueryError::NotFound(_) => (StatusCode::NOT_FOUND, Code::NotFound),
                QueryError::TooLarge(_) => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
                _ => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            };
            (status, code, error.to_string())
        }
    };
    Rejection::new(status, code, message).of_others()
}

/// A call by gRPC-Web: the message and the trailers are frames of the body.
fn web(options: &Options, method: &str, request: &Request) -> Reply {
    let answered = match unframed(&request.body) {
        Some(message) => queries::answer(options, method, Codec::Protobuf, message),
        None => {
            let what = "the body is not one frame without compression".to_owned();
            Err(Failure::Query(QueryError::Invalid(what)))
        }
    };
    let mut body = Vec::new();
    let trailers = match answered {
        Ok(message) => {
            push_frame(&mut body, 0, &message);
            "grpc-status: 0\r\n".to_owned()
        }
        Err(failure) => {
            let rejection = rejection(failure);
            let message: String = rejection.message.bytes().map(escaped).collect();
            format!("grpc-status: {}\r\ngrpc-message: {message}\r\n", rejection.code as i32)
        }
    };
    push_frame(&mut body, 0x80, trailers.as_bytes());
    let mut reply =
        Answer::new("application/grpc-web+proto", body).into_reply(&http::HeaderMap::new());
    reply.headers.remove(http::header::ETAG);
    reply
}

/// The message of a body that is one frame.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_first_chunk::<5>()?;
    let [flags, length @ ..] = head;
    (*flags == 0 && u32::from_be_bytes(*length) as usize == message.len()).then_some(message)
}

fn push_frame(body: &mut Vec<u8>, flags: u8, content: &[u8]) {
    body.push(flags);
    body.extend_from_slice(&(content.len() as u32).to_be_bytes());
    body.extend_from_slice(content);
}

/// A byte of a message in a trailer.
fn escaped(byte: u8) -> String {
    match byte {
        b'%' => "%25".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}
