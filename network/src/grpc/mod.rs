//! gRPC on `tonic`: its framing, codes, statuses and calls, with what this project adds to it.
//!
//! Messages travel as bytes ([`RawCodec`]): a gateway forwards them without decoding. Compression
//! stays below tonic on both sides: a server decompresses a message as it comes and pays the memory budget
//! for every chunk, a client keeps its level. Left here beside the
//! codec: names of codes, the one status detail that matters ([`retry_delay`]), the timeout of a
//! request, which tonic reads only in its own transport.
//!
//! Sources: `PROTOCOL-HTTP2.md` of gRPC, `google/rpc/{status,error_details,code}.proto`.

mod code;
mod codec;
mod status;
mod timeout;

pub use code::{code_name, connect_code_name};
pub use codec::RawCodec;
pub use status::{decode_status, encode_status, retry_delay, status, status_to_json};
pub use timeout::parse_timeout;
pub use tonic::{Code, Status};

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
