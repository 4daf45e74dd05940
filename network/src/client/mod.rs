//! Calling others over HTTP and gRPC: for exporters, and for receivers that pull.
//!
//! [`Client`] makes one request at a time look simple: pooled connections (HTTP/1.1, HTTP/2), TLS
//! with certificates that are reloaded when they change, credentials from an extension, a proxy,
//! an answer of limited size, a deadline, no redirects. [`Client::call`] is a unary gRPC call over the
//! same. Nothing is retried here: the engine does that where [`Failure`] says that it may help.
//!
//! Values of headers are secrets: no error and no log has them.
//!
//! [`Failure`]: profpipe_engine::component::Failure

mod body;
mod call;
mod compress;
mod connect;
mod error;
mod outcome;
mod request;
mod socket;
mod stream;
mod tls;
mod told;

pub use crate::endpoint::{Endpoint, Proxy, parse_proxy};
pub use body::Payload;
pub use call::CallError;
pub use compress::{compress, compress_aside, decompress};
pub use connect::{AddressPolicy, Resolver};
pub use error::{ClientError, ErrorKind};
pub use outcome::{http_failure, printable, retry_after, status_failure};
pub use request::{Builder, Client, MAX_ERROR_TEXT, MAX_RESPONSE, Request, Response};
pub use socket::get_over_socket;
pub use stream::Stream;

#[cfg(test)]
mod tests;
