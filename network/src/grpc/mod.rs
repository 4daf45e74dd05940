//! The parts of gRPC that a unary call needs, for both of its ends, as pure functions: frames of
//! messages, status codes, their text and details, timeouts. The bytes travel over hyper's HTTP/2;
//! the reason not to use a framework is admission: memory must be granted before a body is read.
//!
//! Sources: `PROTOCOL-HTTP2.md` of gRPC, `google/rpc/{status,error_details,code}.proto`.

mod code;
mod frame;
mod status;
mod text;
mod timeout;

pub use code::Code;
pub use frame::{FrameError, HEADER_BYTES, Header, Message, UnaryReader};
pub use status::{BadStatus, Status};
pub use text::{decode_text, encode_text};
pub use timeout::{format_timeout, parse_timeout};

/// Names of headers and trailers, in lower case.
pub mod headers {
    /// The number of a [`super::Code`], in the trailers, or in the headers if there is no message.
    pub const STATUS: &str = "grpc-status";
    /// What happened, percent-encoded.
    pub const MESSAGE: &str = "grpc-message";
    /// A `google.rpc.Status` in base64.
    pub const DETAILS: &str = "grpc-status-details-bin";
    /// How the message is compressed.
    pub const ENCODING: &str = "grpc-encoding";
    /// How answers may be compressed.
    pub const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
    /// How long the caller waits.
    pub const TIMEOUT: &str = "grpc-timeout";
    /// The content type of requests and answers; also `application/grpc+proto`.
    pub const CONTENT_TYPE: &str = "application/grpc";
}

/// True for the content types of gRPC with protobuf messages.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc")
        || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

#[cfg(test)]
mod tests;
