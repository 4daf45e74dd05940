//! Asking a program on this host over its socket in the file system.

use std::path::Path;

use http::header::HOST;
use http::{Method, Request as HttpRequest};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use profpipe_engine::component::Error;
use tokio::net::UnixStream;

use super::body::Payload;
use super::request::{Response, read};

/// Gets `path` from the program that listens at `socket`, up to `max` bytes.
///
/// # Errors
/// If no program listens there, or what answers is not HTTP.
pub async fn get_over_socket(socket: &Path, path: &str, max: usize) -> Result<Response, Error> {
    let of = |cause: &dyn std::fmt::Display| {
        Error::new(format!("cannot ask {}: {cause}", socket.display()))
    };
    let stream = UnixStream::connect(socket).await.map_err(|cause| of(&cause))?;
    let handshake = http1::handshake::<_, Payload>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|cause| of(&cause))?;
    let connection = tokio::spawn(connection);
    let request = HttpRequest::builder().method(Method::GET).uri(path).header(HOST, "localhost");
    let request = request.body(Payload::default()).map_err(|cause| of(&cause))?;
    let response = sender.send_request(request).await.map_err(|cause| of(&cause))?;
    let answer = read(response, max, "the socket").await.map_err(|error| error.into_cause());
    connection.abort();
    answer
}
