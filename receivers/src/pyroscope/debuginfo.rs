//! `debuginfo.v1alpha1.DebuginfoService`: Pyroscope's protocol for uploads of binaries and debug files.
//!
//! What is taken goes to an extension that keeps symbols, to the sender's tenant. It is there as soon as
//! all of it has come and is what was said; `UploadFinished` only says whether that is so.
//! `ListDebuginfo` and `DeleteDebuginfo` are not here: files that nobody uses go by themselves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{StatusCode, request};
use profpipe_engine::component::{
    SymbolFile, SymbolOffer, SymbolStorage, SymbolStorageError, SymbolUpload,
};
use profpipe_network::debuginfo::{
    ShouldInitiateUploadRequest, ShouldInitiateUploadResponse, TYPE_EXECUTABLE_FULL,
    TYPE_EXECUTABLE_NO_TEXT, UPLOAD, UploadFinishedRequest,
};
use profpipe_network::grpc::Code;
use profpipe_network::server::{BodyStream, Handler, Rejection, Reply, Request};
use prost::Message;

use super::call::{self, Form};

/// How much of a file is handed to the disk at a time.
const WRITE_BYTES: usize = 256 << 10;
/// When a sender comes again for whom there is no room now.
const BUSY_PAUSE: Duration = Duration::from_secs(10);
/// `ShouldInitiateUpload`.
pub(super) struct ShouldInitiate(pub(super) Arc<dyn SymbolStorage>);

#[async_trait]
impl Handler for ShouldInitiate {
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        call::admit(head)
    }

    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let form = Form::of_request(&request);
        let (id, kind) = match form {
            Form::Json => offered_json(&request.body)?,
            Form::Protobuf | Form::GrpcWeb => {
                let body = call::message(form, &request.body)?;
                let file = decode::<ShouldInitiateUploadRequest>(&body)?.file.unwrap_or_default();
                (file.gnu_build_id, file.kind)
            }
        };
        let kind = match kind {
            TYPE_EXECUTABLE_FULL => SymbolFile::Executable,
            TYPE_EXECUTABLE_NO_TEXT => SymbolFile::Debuginfo,
            _ => return Err(Rejection::invalid("`file.type` must be one of an executable")),
        };
        let storage = Arc::clone(&self.0);
        let tenant = request.tenant;
        let offered = blocking(move || match id.is_empty() {
            true => Ok(None),
            false => storage.offer(tenant.as_deref(), &id, kind).map(Some),
        });
        let (should_initiate_upload, reason, pause) = match offered.await? {
            Some(SymbolOffer::Wanted) => (true, "not here yet; send it", None),
            Some(SymbolOffer::Present) => (false, "it is here already", None),
            Some(SymbolOffer::Pending(pause)) => (false, "somebody else sends it", Some(pause)),
            None => (false, "without a GNU build id nothing is kept", None),
        };
        let response = ShouldInitiateUploadResponse {
            should_initiate_upload,
            reason: reason.to_owned(),
            offer_again_after_seconds: pause.map_or(0, |pause| pause.as_secs().max(1)),
        };
        let text = serde_json::json!({
            "shouldInitiateUpload": should_initiate_upload,
            "reason": reason,
        });
        Ok(call::reply(form, response.encode_to_vec().into(), &text))
    }

    fn reject(&self, head: &request::Parts, rejection: &Rejection) -> Reply {
        call::reject(head, rejection)
    }
}

/// `UploadFinished`.
pub(super) struct Finished(pub(super) Arc<dyn SymbolStorage>);

#[async_trait]
impl Handler for Finished {
    fn admit(&self, head: &request::Parts) -> Result<(), Rejection> {
        call::admit(head)
    }

    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let form = Form::of_request(&request);
        let id = match form {
            Form::Json => text_of(&json(&request.body)?, "gnuBuildId", "gnu_build_id"),
            Form::Protobuf | Form::GrpcWeb => {
                let body = call::message(form, &request.body)?;
                decode::<UploadFinishedRequest>(&body)?.gnu_build_id
            }
        };
        let (storage, tenant) = (Arc::clone(&self.0), request.tenant);
        if !blocking(move || Ok(storage.has(tenant.as_deref(), &id))).await? {
            let message = "no file of this build id has come; send it first";
            let status = StatusCode::PRECONDITION_FAILED;
            return Err(Rejection::new(status, Code::FailedPrecondition, message));
        }
        Ok(call::reply(form, Bytes::new(), &serde_json::json!({})))
    }

    fn reject(&self, head: &request::Parts, rejection: &Rejection) -> Reply {
        call::reject(head, rejection)
    }
}

/// `Upload/GNU_BUILD_ID`.
pub(super) struct Upload(pub(super) Arc<dyn SymbolStorage>);

#[async_trait]
impl Handler for Upload {
    async fn handle(&self, _: Request) -> Result<Reply, Rejection> {
        Err(Rejection::invalid("a file comes as the body of a POST"))
    }

    fn stream_limit(&self) -> Option<u64> {
        Some(self.0.max_file_size())
    }

    async fn handle_stream(
        &self,
        request: Request,
        body: &mut BodyStream,
    ) -> Result<Reply, Rejection> {
        let path = request.head.uri.path();
        let id = path.strip_prefix(UPLOAD).unwrap_or_default().to_owned();
        let (storage, tenant) = (Arc::clone(&self.0), request.tenant.clone());
        let mut upload = blocking(move || storage.begin(tenant.as_deref(), &id)).await?;
        let mut gathered = BytesMut::with_capacity(WRITE_BYTES);
        while let Some(piece) = body.piece().await? {
            gathered.extend_from_slice(&piece);
            if gathered.len() >= WRITE_BYTES {
                upload = write(upload, gathered.split().freeze()).await?;
            }
        }
        let upload = write(upload, gathered.freeze()).await?;
        blocking(move || upload.keep()).await?;
        Ok(Reply::new("text/plain; charset=utf-8", Bytes::new()))
    }
}

async fn write(
    mut upload: Box<dyn SymbolUpload>,
    piece: Bytes,
) -> Result<Box<dyn SymbolUpload>, Rejection> {
    blocking(move || upload.write(&piece).map(|()| upload)).await
}

/// Does something that waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SymbolStorageError> + Send + 'static,
) -> Result<T, Rejection> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Rejection::unavailable("the server is stopping"))?.map_err(rejection)
}

fn rejection(error: SymbolStorageError) -> Rejection {
    let message = error.to_string();
    match error {
        SymbolStorageError::Invalid(_) | SymbolStorageError::Rejected(_) => {
            Rejection::invalid(message)
        }
        SymbolStorageError::NotOffered => {
            Rejection::new(StatusCode::PRECONDITION_FAILED, Code::FailedPrecondition, message)
        }
        SymbolStorageError::Busy => {
            let rejection = Rejection::new(StatusCode::CONFLICT, Code::Aborted, message);
            rejection.retry_after(BUSY_PAUSE)
        }
        SymbolStorageError::TooLarge(_) => Rejection::too_large(message),
        SymbolStorageError::Disk(_) => {
            tracing::warn!("pyroscope: {message}");
            Rejection::unavailable(message)
        }
    }
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Rejection> {
    M::decode(body.clone()).map_err(|error| Rejection::invalid(format!("not protobuf: {error}")))
}

fn json(body: &[u8]) -> Result<serde_json::Value, Rejection> {
    serde_json::from_slice(body).map_err(|error| Rejection::invalid(format!("not JSON: {error}")))
}

/// A field by the name that protobuf's mapping gives it, or by its own.
fn text_of(value: &serde_json::Value, name: &str, own: &str) -> String {
    let field = value.get(name).or_else(|| value.get(own));
    field.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

fn offered_json(body: &[u8]) -> Result<(String, i32), Rejection> {
    let request = json(body)?;
    let file = request.get("file").unwrap_or(&serde_json::Value::Null);
    let kind = match file.get("type") {
        Some(serde_json::Value::String(name)) => match name.as_str() {
            "TYPE_EXECUTABLE_FULL" => TYPE_EXECUTABLE_FULL,
            "TYPE_EXECUTABLE_NO_TEXT" => TYPE_EXECUTABLE_NO_TEXT,
            _ => 0,
        },
        Some(number) => number.as_i64().and_then(|it| i32::try_from(it).ok()).unwrap_or_default(),
        None => 0,
    };
    Ok((text_of(file, "gnuBuildId", "gnu_build_id"), kind))
}
