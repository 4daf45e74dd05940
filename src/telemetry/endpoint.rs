//! The metrics over HTTP, where Prometheus reads them.
//!
//! They belong to the program and not to one of its engines: a reload that does not change where
//! they are leaves them alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use profpipe::pipeline::component::{Error, Stopper};
use profpipe::pipeline::engine::{Budget, PrometheusEndpoint};
use profpipe::telemetry::{CONTENT_TYPE, Metrics, ProcessCost, Style, families, render};
use profpipe::{Lifecycle, Services, Setup};
use profpipe_network::server::{Handler, Refusal, Reply, Request, Router, Server};
use profpipe_network::server_config;
use tokio::task::JoinHandle;

use crate::usage::Usage;

/// For requests; they have no body.
const MEMORY: usize = 64 << 10;

server_config! {
    /// A server with the settings that all have.
    struct Listening: http("localhost:8888") {}
}

/// Where the metrics can be read now.
pub(crate) struct Endpoints {
    services: Services,
    started: Instant,
    running: Vec<Endpoint>,
}

struct Endpoint {
    settings: PrometheusEndpoint,
    /// Ends it when dropped.
    _stopper: Stopper,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoints {
    pub(crate) fn new(services: &Services) -> Self {
        Self { services: services.clone(), started: Instant::now(), running: Vec::new() }
    }

    /// Serves at these from now on, and nowhere else. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// If one of them cannot be listened at; the others are served.
    pub(crate) fn serve(&mut self, wanted: &[PrometheusEndpoint]) -> Result<(), Error> {
        self.running.retain(|endpoint| wanted.contains(&endpoint.settings));
        let mut result = Ok(());
        for settings in wanted {
            if self.running.iter().any(|endpoint| endpoint.settings == *settings) {
                continue;
            }
            match self.start(settings) {
                Ok(endpoint) => self.running.push(endpoint),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn start(&self, settings: &PrometheusEndpoint) -> Result<Endpoint, Error> {
        let host = match settings.host.as_str() {
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        let endpoint = format!("{host}:{}", settings.port);
        // Nothing here is a secret, and who configures a host means it.
        let listening = Listening { endpoint, insecure: true, ..Listening::default() };
        // Its sockets are its own: those of the services are closed when no engine wants them.
        let setup = Setup::new("service::telemetry::metrics", Services::default());
        let server = Server::build(listening.server(), &setup)?;
        tracing::info!("metrics are at http://{}/metrics", server.address());
        let style = Style {
            without_type_suffix: settings.without_type_suffix,
            without_units: settings.without_units,
        };
        let metrics = Arc::clone(&self.services.metrics);
        let handler: Arc<dyn Handler> =
            Arc::new(Exposition { metrics, style, started: self.started });
        let router = Router::new().http(Method::GET, "/metrics", handler);
        let (stopper, life) = Lifecycle::new();
        let task = tokio::spawn(async move {
            if let Err(error) = server.run(router, Budget::new(MEMORY), life).await {
                tracing::error!("service::telemetry::metrics: {}", error.chain());
            }
        });
        Ok(Endpoint { settings: settings.clone(), _stopper: stopper, task })
    }
}

struct Exposition {
    metrics: Arc<Metrics>,
    style: Style,
    started: Instant,
}

impl Exposition {
    fn text(&self) -> String {
        let cost = Usage::new().read();
        let process =
            ProcessCost { uptime: self.uptime(), cpu: cost.cpu, resident: cost.resident };
        render(&families(&self.metrics, process), self.style)
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

#[profpipe::async_trait]
impl Handler for Exposition {
    async fn handle(&self, _request: Request) -> Result<Reply, Refusal> {
        Ok(Reply::new(CONTENT_TYPE, self.text()))
    }
}
