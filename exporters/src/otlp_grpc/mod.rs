//! The `otlp_grpc` exporter: OTLP over gRPC, to any backend, Collector or other gateway.
//!
//! One unary call for each request; what it means for the batch is decided by the specification's
//! rules (`network::client`). Cutting, partial success and what was already accepted:
//! `crate::otlp`.

mod config;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use profpipe_engine::component::{Error, Factory, Failure, Setup, Stability};
use profpipe_network::client::{Client, Endpoint};

use crate::otlp::{Encoding, Otlp, PartialSuccess, Transport, VERSION_HEADER};
pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::exporter::<Config>("otlp_grpc", Stability::Beta, "sends profiles by OTLP over gRPC")
        .with_aliases(&["otlp"]);

/// The method.
const PATH: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

struct Grpc {
    client: Client,
    uri: Uri,
}

impl Grpc {
    fn build(config: &Config, setup: &Setup) -> Result<Otlp<Self>, Error> {
        let settings = config.client();
        let endpoint = Endpoint::grpc(&settings.endpoint, settings.tls.insecure)
            .map_err(|problem| Error::new(format!("the endpoint {problem}")))?;
        let uri = endpoint.uri(PATH);
        let uri = uri.map_err(|cause| Error::with_source("the endpoint is not one", cause))?;
        let client = Client::builder(&settings).grpc().build(&setup.extensions)?;
        Ok(Otlp::new(Self { client, uri }, config.max_request_size.0, setup))
    }
}

#[async_trait]
impl Transport for Grpc {
    fn destination(&self) -> String {
        self.uri.to_string()
    }

    fn encoding(&self) -> Encoding {
        Encoding::Proto
    }

    async fn send(&self, request: Bytes) -> Result<PartialSuccess, Failure> {
        let (name, version) = VERSION_HEADER;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(version));
        let answer = self.client.call(self.uri.clone(), request, headers, None).await;
        let answer = answer.map_err(Failure::from)?;
        Ok(PartialSuccess::decode(&answer))
    }
}

#[cfg(test)]
mod tests;
