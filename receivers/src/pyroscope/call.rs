//! How a unary call is written: by Connect in protobuf or JSON, by gRPC or gRPC-Web.

use bytes::{BufMut, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, request};
use profpipe_network::grpc::{Code, Status, connect_code_name, headers};
use profpipe_network::server::{Rejection, Reply, Request, Transport};

const PROTOBUF: &str = "application/proto";
const JSON: &str = "application/json";
const GRPC_WEB: &str = "application/grpc-web+proto";

/// How a call is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
    GrpcWeb,
}

impl Form {
    /// By the content type of a request, parameters aside.
    pub(super) fn of(head: &request::Parts) -> Option<Self> {
        let name = content_type(head).split(';').next().unwrap_or_default().trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match () {
            () if is(PROTOBUF) || is("application/grpc") || is("application/grpc+proto") => {
                Some(Self::Protobuf)
            }
            () if is(JSON) => Some(Self::Json),
            () if is("application/grpc-web") || is(GRPC_WEB) => Some(Self::GrpcWeb),
            () => None,
        }
    }

    /// The form of a request that was admitted.
    pub(super) fn of_request(request: &Request) -> Self {
        match request.transport {
            Transport::Grpc => Self::Protobuf,
            Transport::Http => Self::of(&request.head).unwrap_or(Self::Protobuf),
        }
    }
}

/// The content type of a request.
pub(super) fn content_type(head: &request::Parts) -> &str {
    head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Rejects what is no call.
pub(super) fn admit(head: &request::Parts) -> Result<(), Rejection> {
    if Form::of(head).is_some() {
        return Ok(());
    }
    let message = format!("the content type must be {PROTOBUF}, {JSON} or application/grpc");
    Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, message))
}

/// The message in the body of a call.
pub(super) fn message(form: Form, body: &Bytes) -> Result<Bytes, Rejection> {
    if form == Form::GrpcWeb { unframed(body) } else { Ok(body.clone()) }
}

/// The answer to a call.
pub(super) fn reply(form: Form, message: Bytes, json: &serde_json::Value) -> Reply {
    match form {
        Form::Protobuf => Reply::new(PROTOBUF, message),
        Form::Json => Reply::new(JSON, json.to_string()),
        Form::GrpcWeb => {
            let mut body = vec![0];
            body.put_u32(message.len() as u32);
            body.put_slice(&message);
            put_trailers(&mut body, Code::Ok, "");
            Reply::new(GRPC_WEB, body)
        }
    }
}

/// A rejection, as the protocol of the call writes it.
pub(super) fn reject(head: &request::Parts, rejection: &Rejection) -> Reply {
    match Form::of(head) {
        // gRPC-Web says everything in the body.
        Some(Form::GrpcWeb) => {
            let mut body = Vec::new();
            put_trailers(&mut body, rejection.code, &rejection.message);
            Reply::new(GRPC_WEB, body)
        }
        Some(Form::Protobuf | Form::Json) => connect(rejection),
        None => Reply::text(rejection),
    }
}

/// An error as Connect writes it.
pub(super) fn connect(rejection: &Rejection) -> Reply {
    let is_for_good = rejection.retry_after.is_none();
    let code = match rejection.code {
        // Clients would send it again and again.
        Code::ResourceExhausted if is_for_good => Code::InvalidArgument,
        code => code,
    };
    let body = serde_json::json!({ "code": connect_code_name(code), "message": rejection.message });
    Reply::rejection(rejection, JSON, body.to_string())
}

/// The message of a gRPC-Web call: one frame that is not compressed.
fn unframed(body: &Bytes) -> Result<Bytes, Rejection> {
    let wrong = || Rejection::invalid("not one uncompressed message of gRPC-Web");
    let (head, message) = body.split_first_chunk::<5>().ok_or_else(wrong)?;
    let [flags, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if flags != 0 || message.len() < length {
        return Err(wrong());
    }
    Ok(body.slice(5..5 + length))
}

/// Trailers as gRPC-Web puts them at the end of a body.
fn put_trailers(body: &mut Vec<u8>, code: Code, message: &str) {
    let message: String = message.chars().filter(|char| !char.is_control()).collect();
    let headers = Status::new(code, message).into_http::<()>().into_parts().0.headers;
    let mut trailers = Vec::new();
    for name in [headers::STATUS, headers::MESSAGE] {
        let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        trailers.extend([name.as_bytes(), b":", value, b"\r\n"].concat());
    }
    body.put_u8(0x80);
    body.put_u32(trailers.len() as u32);
    body.put_slice(&trailers);
}
