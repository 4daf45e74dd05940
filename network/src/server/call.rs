//! A unary call: tonic reads its frame and writes its answer, from a body that is paid for.
//!
//! Nothing of a request's head is for tonic: compression and deadlines are handled here, so that the
//! memory budget holds while a message is decompressed.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use profpipe_engine::budget::Charge;
use tonic::Status;
use tonic::body::Body;
use tonic::server::Grpc;
use tower_service::Service;

use super::body::{Admission, Admitted, Coding, Limits};
use super::rejection::Rejection;
use crate::grpc::RawCodec;

/// Reads the message of a call, has it handled, and answers with what `handle` returns. A call that is not
/// well-formed is answered by tonic.
///
/// # Errors
/// If the body or `handle` is rejected.
pub(crate) async fn unary<B, F, A>(
    body: B,
    coding: Coding,
    limits: Limits,
    charge: Charge,
    handle: F,
) -> Result<Response<Body>, Rejection>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    F: FnOnce(Bytes, Charge) -> A,
    A: Future<Output = Result<Bytes, Rejection>>,
{
    let admission = Admission::new(charge);
    let body = Admitted::new(body, coding, limits, admission.clone());
    let mut handle = Some(handle);
    let service = Unary(|message| {
        let (handle, admission) = (handle.take(), admission.clone());
        async move {
            // tonic asks once.
            let Some(handle) = handle else { return Err(Status::internal("called twice")) };
            let handled = async {
                let (message, charge) = admission.message(message)?;
                handle(message, charge).await
            };
            let answer = handled.await.map_err(|rejection| admission.reject(rejection))?;
            Ok(tonic::Response::new(answer))
        }
    });
    let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(limits.size);
    let response = grpc.unary(service, Request::new(body)).await;
    match admission.rejection() {
        Some(rejection) => Err(rejection),
        None => Ok(response),
    }
}

/// A function as a service of tonic.
struct Unary<F>(F);

impl<F, A> Service<tonic::Request<Bytes>> for Unary<F>
where
    F: FnMut(Bytes) -> A,
    A: Future<Output = Result<tonic::Response<Bytes>, Status>>,
{
    type Response = tonic::Response<Bytes>;
    type Error = Status;
    type Future = A;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Bytes>) -> A {
        (self.0)(request.into_inner())
    }
}
