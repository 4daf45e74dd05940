//! A server for receivers and endpoints: HTTP/1.1 and HTTP/2, with or without TLS, on one port.
//!
//! # What happens to a request
//! 1. Who sends it is found out ([`Setup::extensions`](profpipe_engine::component::Setup)), or it
//!    is rejected.
//! 2. The handler looks at its head ([`Handler::admit`]): versions, content types.
//! 3. Room in the memory budget is taken, before any of the body is read; without room it is rejected
//!    with a hint to come again.
//! 4. The body is read and decompressed at once, chunk by chunk, and every chunk is paid for before
//!    it is kept. What is too large, too slow, or decompresses like a bomb is rejected there and then.
//! 5. The handler gets the bytes together with what they cost ([`Request`]), and answers.
//!    One that has a [`Handler::stream_limit`] gets the body piece by piece instead, as it is.
//! 6. A rejection for good waits, if its address had many; nothing of the request is kept meanwhile.
//!
//! # What a handler does not need to know
//! Whether it is asked by HTTP or by gRPC: it answers with bytes or with a [`Rejection`], and the server
//! writes either as an HTTP response or as a message and trailers.
//!
//! # Health
//! A server with a gRPC method answers `grpc.health.v1.Health`, too, without credentials.
//!
//! # Stopping
//! [`Server::run`] returns when it takes no more connections and no handler has anything to send
//! any more. Answers that wait for what was sent are given by connections that live on for a
//! while. The socket itself stays open in [`Listeners`](profpipe_engine::Listeners), so
//! that the next configuration goes on with it.

mod answer;
mod body;
mod call;
mod connection;
mod cors;
mod health;
mod listen;
mod rejection;
mod route;
mod serve;
mod tarpit;
mod tls;

pub use answer::Reply;
pub use body::BodyStream;
pub use listen::Server;
pub use rejection::Rejection;
pub use route::{Handler, Request, Router, Sending, Transport};

#[cfg(test)]
mod tests;
