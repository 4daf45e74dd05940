//! The `otlp` receiver: profiles by gRPC and HTTP.
//!
//! It answers success when every destination has the profiles, or when they survive a crash of this
//! process; the sender may then forget them. It reads requests leniently
//! ([`otlp::admit`](profpipe_formats::otlp::admit)): a profile that points outside of its tables is
//! refused and counted in the answer, the rest goes on.

mod config;
mod export;
mod version;

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use profpipe_engine::Sender;
use profpipe_engine::component::{Error, Factory, Lifecycle, Receiver, Setup, Stability};
use profpipe_network::server::{Router, Server};

pub use config::{Config, GrpcConfig, HttpConfig, Protocols};
use export::{Export, TransportCounts};

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::receiver::<Config>("otlp", Stability::Alpha, "takes OTLP profiles by gRPC and HTTP");

/// The method of the service that takes profiles.
const METHOD: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

struct Otlp {
    grpc: Option<Server>,
    http: Option<Server>,
    path: String,
    counts: TransportCounts,
}

impl Otlp {
    fn new(grpc: Option<Server>, http: Option<Server>, path: String, setup: &Setup) -> Self {
        Self { grpc, http, path, counts: TransportCounts::new(&setup.services.metrics, &setup.id) }
    }
}

#[async_trait]
impl Receiver for Otlp {
    async fn run(self: Box<Self>, out: Sender, life: Lifecycle) -> Result<(), Error> {
        let Self { grpc, http, path, counts } = *self;
        let budget = out.budget();
        let export = Arc::new(Export::new(out, counts));
        let by_grpc = Router::new().grpc(METHOD, export.clone());
        let by_http = Router::new().http(Method::POST, &path, export);
        let serve = |server: Option<Server>, router| {
            let (budget, life) = (Arc::clone(&budget), life.clone());
            async move {
                match server {
                    Some(server) => server.run(router, budget, life).await,
                    None => Ok(()),
                }
            }
        };
        tokio::try_join!(serve(grpc, by_grpc), serve(http, by_http)).map(drop)
    }
}

#[cfg(test)]
mod tests;
