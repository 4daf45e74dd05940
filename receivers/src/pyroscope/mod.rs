//! The `pyroscope` receiver: what Pyroscope's clients, Grafana Alloy and older agents push.
//!
//! It answers success when every destination has the profiles, or when they survive a crash of
//! this process. A request is taken as a whole or refused as a whole: if it was refused, sending
//! it again counts nothing twice.

mod call;
mod config;
mod convert;
mod debuginfo;
mod dotnet;
mod handle;
mod labels;
mod multipart;
mod names;
mod push;
mod query;
mod scripting;
mod text;

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use profpipe_engine::Sender;
use profpipe_engine::component::{
    Error, Factory, Lifecycle, Receiver, Setup, Stability, SymbolStorage,
};
use profpipe_engine::settings::ByteSize;
use profpipe_network::debuginfo::{FINISHED, SHOULD_INITIATE, UPLOAD};
use profpipe_network::server::{Router, Server};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory = Factory::receiver::<Config>(
    "pyroscope",
    Stability::Alpha,
    "takes what Pyroscope's clients push",
);

/// The method that clients push to.
const PUSH: &str = "/push.v1.PusherService/Push";

struct Pyroscope {
    server: Server,
    limit: ByteSize,
    /// Where uploads of binaries go; without one they are not taken.
    symbols: Option<Arc<dyn SymbolStorage>>,
    setup: Setup,
}

impl Pyroscope {
    fn new(
        server: Server,
        limit: ByteSize,
        symbols: Option<Arc<dyn SymbolStorage>>,
        setup: &Setup,
    ) -> Self {
        Self { server, limit, symbols, setup: setup.clone() }
    }
}

#[async_trait]
impl Receiver for Pyroscope {
    async fn run(self: Box<Self>, out: Sender, life: Lifecycle) -> Result<(), Error> {
        let budget = out.budget();
        let metrics = &self.setup.services.metrics;
        let intake = Arc::new(handle::Intake::new(out, self.limit, metrics, &self.setup.id));
        let push = Arc::new(handle::Push(Arc::clone(&intake)));
        let ingest = Arc::new(handle::Ingest(intake));
        let ready = Arc::new(handle::Ready);
        let mut router = Router::new()
            .http(Method::POST, PUSH, push.clone())
            .grpc(PUSH, push)
            .http(Method::POST, "/ingest", ingest.clone())
            .http(Method::POST, "/pyroscope/ingest", ingest)
            .http(Method::GET, "/ready", ready.clone())
            .http(Method::GET, "/healthz", ready);
        if let Some(symbols) = self.symbols {
            let should_initiate = Arc::new(debuginfo::ShouldInitiate(Arc::clone(&symbols)));
            let finished = Arc::new(debuginfo::Finished(Arc::clone(&symbols)));
            router = router
                .http(Method::POST, SHOULD_INITIATE, should_initiate.clone())
                .grpc(SHOULD_INITIATE, should_initiate)
                .http(Method::POST, FINISHED, finished.clone())
                .grpc(FINISHED, finished)
                .http_below(Method::POST, UPLOAD, Arc::new(debuginfo::Upload(symbols)));
        }
        self.server.run(router, budget, life).await
    }
}

#[cfg(test)]
mod tests;
