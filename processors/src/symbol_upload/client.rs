//! Asks a gateway whether it wants a file, and sends it: Pyroscope's `debuginfo.v1alpha1`, which Pyroscope
//! takes, too.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use profpipe_engine::component::{Error, Extensions};
use profpipe_network::client::{
    Client, ClientError, Endpoint, Payload, Request, Response, printable, retry_after,
};
use profpipe_network::debuginfo::{
    FINISHED, FileMetadata, SHOULD_INITIATE, ShouldInitiateUploadRequest,
    ShouldInitiateUploadResponse, TYPE_EXECUTABLE_FULL, TYPE_EXECUTABLE_NO_TEXT, UPLOAD,
    UploadFinishedRequest,
};
use profpipe_network::settings::ClientSettings;
use prost::Message as _;

/// Bytes a second that a transfer has at least.
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;

/// A file that is offered.
#[derive(Debug, Clone)]
pub struct OfferedFile {
    /// Its content.
    pub file: Arc<File>,
    /// How many bytes it has.
    pub length: u64,
    /// Its GNU build id, in hex.
    pub build_id: String,
    /// Its name, for people.
    pub name: String,
    /// It is what runs; else it only has what is known about that.
    pub has_code: bool,
}

/// What came of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It was sent.
    Sent,
    /// It is not wanted, in the words of the gateway; perhaps it is after so long.
    Declined(String, Option<Duration>),
}

/// Why an offer failed.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct OfferError {
    /// What went wrong.
    pub cause: Error,
    /// The file itself is not taken: there is no use in offering it again.
    pub is_of_file: bool,
    /// When to come again, if the gateway says so.
    pub retry_after: Option<Duration>,
}

impl From<ClientError> for OfferError {
    fn from(error: ClientError) -> Self {
        Self { cause: Error::new(error.to_string()), is_of_file: false, retry_after: None }
    }
}

/// Offers files to one gateway.
#[derive(Debug, Clone)]
pub struct Uploader {
    client: Client,
    endpoint: Endpoint,
    timeout: Duration,
}

impl Uploader {
    /// To the endpoint of these settings; a request may take so long, beside what a file's size allows.
    ///
    /// # Errors
    /// If the endpoint is not one, certificates cannot be read or the extension for credentials is not there.
    pub fn new(
        settings: &ClientSettings,
        timeout: Duration,
        extensions: &Extensions,
    ) -> Result<Self, Error> {
        let of = |problem| Error::new(format!("the endpoint {problem}"));
        let endpoint = Endpoint::http(&settings.endpoint).map_err(of)?;
        let client = Client::builder(settings).build(extensions)?;
        Ok(Self { client, endpoint, timeout })
    }

    /// Offers a file, and sends it if it is wanted.
    ///
    /// # Errors
    /// If the gateway does not answer, or does not take it.
    pub async fn offer(&self, offered: &OfferedFile) -> Result<Offered, OfferError> {
        match self.ask(&offered.build_id, &offered.name, offered.has_code).await? {
            Some(declined) => Ok(declined),
            None => self.bring(offered).await.map(|()| Offered::Sent),
        }
    }

    /// Asks whether a file is wanted; none if it is.
    pub(super) async fn ask(
        &self,
        build_id: &str,
        name: &str,
        has_code: bool,
    ) -> Result<Option<Offered>, OfferError> {
        let kind = if has_code { TYPE_EXECUTABLE_FULL } else { TYPE_EXECUTABLE_NO_TEXT };
        let gnu_build_id = build_id.to_owned();
        let metadata = FileMetadata { gnu_build_id, name: name.to_owned(), kind };
        let request = ShouldInitiateUploadRequest { file: Some(metadata) };
        let body = self.call(SHOULD_INITIATE, request.encode_to_vec()).await?;
        let answer = ShouldInitiateUploadResponse::decode(body).map_err(|error| OfferError {
            cause: Error::new(format!("{} does not answer as it should: {error}", self.endpoint)),
            is_of_file: false,
            retry_after: None,
        })?;
        if !answer.should_initiate_upload {
            let again = Some(answer.offer_again_after_seconds).filter(|seconds| *seconds > 0);
            let reason = printable(answer.reason.as_bytes());
            return Ok(Some(Offered::Declined(reason, again.map(Duration::from_secs))));
        }
        Ok(None)
    }

    /// Sends a file that is wanted.
    pub(super) async fn bring(&self, offered: &OfferedFile) -> Result<(), OfferError> {
        let body = Payload::file(Arc::clone(&offered.file), offered.length);
        let path = format!("{UPLOAD}{}", offered.build_id);
        let more = Duration::from_secs(offered.length / MIN_BYTES_PER_SECOND);
        let octets = HeaderValue::from_static("application/octet-stream");
        self.send(&path, body, octets, self.timeout + more).await?;
        let finished = UploadFinishedRequest { gnu_build_id: offered.build_id.clone() };
        self.call(FINISHED, finished.encode_to_vec()).await.map(drop)
    }

    async fn call(&self, path: &str, message: Vec<u8>) -> Result<Bytes, OfferError> {
        let protobuf = HeaderValue::from_static("application/proto");
        let message = Bytes::from(message).into();
        Ok(self.send(path, message, protobuf, self.timeout).await?.body)
    }

    async fn send(
        &self,
        path: &str,
        body: Payload,
        content_type: HeaderValue,
        timeout: Duration,
    ) -> Result<Response, OfferError> {
        let uri = self.endpoint.uri(path).map_err(|cause| OfferError {
            cause: Error::with_source("the endpoint is not one", cause),
            is_of_file: false,
            retry_after: None,
        })?;
        let mut request = Request::post(uri, body);
        request.headers.insert(CONTENT_TYPE, content_type);
        request.timeout = Some(timeout);
        let response = self.client.send(request).await?;
        if response.status == StatusCode::OK {
            return Ok(response);
        }
        let text = printable(response.error_text().as_bytes());
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        let what = format!("{} answered {}{text}", self.endpoint, response.status);
        let is_of_file =
            matches!(response.status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE);
        let retry_after = retry_after(&response.headers, SystemTime::now());
        Err(OfferError { cause: Error::new(what), is_of_file, retry_after })
    }
}
