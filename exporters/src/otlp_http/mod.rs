//! The `otlp_http` exporter: OTLP over HTTP, to any backend, Collector or other gateway.
//!
//! One POST for each request; what it means for the batch is decided by the specification's rules
//! (`network::client`). Cutting, partial success and what was already accepted: `crate::otlp`.

mod config;

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Uri};
use profpipe_engine::component::{Error, Factory, Failure, Setup, Stability};
use profpipe_network::client::{Client, Request, Response, compress_aside, http_failure};

pub use crate::otlp::Encoding;
use crate::otlp::{Otlp, PartialSuccess, Transport, VERSION_HEADER};
pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::exporter::<Config>("otlp_http", Stability::Beta, "sends profiles by OTLP over HTTP")
        .with_aliases(&["otlphttp"]);

/// Where profiles go on a server of OTLP.
const PATH: &str = "/v1development/profiles";

struct Http {
    client: Client,
    uri: Uri,
    encoding: Encoding,
}

impl Http {
    fn build(config: &Config, setup: &Setup) -> Result<Otlp<Self>, Error> {
        let client = Client::builder(&config.client()).build(&setup.extensions)?;
        let http = Self { client, uri: config.uri()?, encoding: config.encoding };
        Ok(Otlp::new(http, config.max_request_size.0, setup))
    }
}

#[async_trait]
impl Transport for Http {
    fn destination(&self) -> String {
        self.uri.to_string()
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    async fn send(&self, request: Bytes) -> Result<PartialSuccess, Failure> {
        let (compression, level) = self.client.compression();
        let body = compress_aside(request, compression, level).await.map_err(|cause| {
            Failure::Reject { cause: Error::with_source("cannot compress the request", cause) }
        })?;
        let mut request = Request::post(self.uri.clone(), body);
        let kind = match self.encoding {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(name) = compression.name() {
            request.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        let (name, version) = VERSION_HEADER;
        let response = self.client.send(request.header(name, version)).await;
        let response = response.map_err(Failure::from)?;
        match http_failure(&response, &response.error_text(), SystemTime::now()) {
            Some(failure) => Err(failure),
            None => Ok(partial_success(&response)),
        }
    }
}

fn partial_success(response: &Response) -> PartialSuccess {
    let kind = response.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if response.truncated || response.headers.contains_key(CONTENT_ENCODING) {
        return PartialSuccess::default();
    }
    match kind.split(|byte| *byte == b';').next() {
        Some(b"application/json") => PartialSuccess::decode_json(&response.message()),
        Some(b"application/x-protobuf" | b"application/protobuf" | b"") => {
            PartialSuccess::decode(&response.message())
        }
        _ => PartialSuccess::default(),
    }
}

#[cfg(test)]
mod tests;
