//! The metrics over HTTP, where Prometheus reads them, and where they are brought.
//!
//! They belong to the program and not to one of its engines: a reload that does not change where
//! they are leaves them alone.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::Method;
use profpipe::pipeline::component::Error;
use profpipe::pipeline::engine::{Budget, Listeners, OtlpPush, PrometheusEndpoint, Telemetry};
use profpipe::telemetry::{CONTENT_TYPE, Family, Metrics, ProcessCost, Style, families, render};
use profpipe::{Lifecycle, Services, Setup};
use profpipe_network::server::{Handler, Rejection, Reply, Request, Router, Server};
use profpipe_network::server_config;
use tokio::task::JoinHandle;

use super::push::Push;
use crate::usage::Usage;

/// For requests; they have no body.
const MEMORY: usize = 64 << 10;

server_config! {
    /// A server with the settings that all have.
    struct Listening: http("localhost:8888") {}
}

/// Where the metrics can be read now, and where they are brought.
pub(crate) struct Endpoints {
    source: Arc<Source>,
    /// Their own: those of the services are closed when no engine wants them.
    listeners: Arc<Listeners>,
    running: Vec<Endpoint>,
}

/// Where the numbers come from.
pub(super) struct Source {
    metrics: Arc<Metrics>,
    started: Instant,
    since: SystemTime,
}

impl Source {
    pub(super) fn families(&self) -> Vec<Family> {
        let cost = Usage::new().read();
        let uptime = self.started.elapsed();
        families(&self.metrics, ProcessCost { uptime, cpu: cost.cpu, resident: cost.resident })
    }

    /// Since when sums are counted.
    pub(super) fn since(&self) -> SystemTime {
        self.since
    }
}

#[derive(PartialEq)]
enum Settings {
    Pull(PrometheusEndpoint),
    Push(OtlpPush),
}

struct Endpoint {
    settings: Settings,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoints {
    pub(crate) fn new(services: &Services) -> Self {
        let source = Source {
            metrics: Arc::clone(&services.metrics),
            started: Instant::now(),
            since: SystemTime::now(),
        };
        Self { source: Arc::new(source), listeners: Arc::default(), running: Vec::new() }
    }

    /// Serves at these from now on, and nowhere else. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// If one of them cannot be listened at; then all is as it was before.
    pub(crate) fn serve(&mut self, wanted: &Telemetry) -> Result<(), Error> {
        let pulls = wanted.prometheus.iter().cloned().map(Settings::Pull);
        let wanted: Vec<Settings> =
            pulls.chain(wanted.otlp.iter().cloned().map(Settings::Push)).collect();
        if wanted.iter().eq(self.running.iter().map(|endpoint| &endpoint.settings)) {
            return Ok(());
        }
        self.listeners.begin();
        let started: Result<Vec<Endpoint>, Error> = wanted
            .into_iter()
            .map(|settings| {
                let task = match &settings {
                    Settings::Pull(pull) => self.start(pull),
                    Settings::Push(push) => {
                        let push = Push::new(push, Arc::clone(&self.source));
                        push.map(|push| tokio::spawn(push.run()))
                    }
                };
                task.map(|task| Endpoint { settings, task })
            })
            .collect();
        match started {
            Ok(endpoints) => {
                self.running = endpoints;
                self.listeners.release_unused();
                Ok(())
            }
            Err(error) => {
                self.listeners.release_new();
                Err(error)
            }
        }
    }

    fn start(&self, settings: &PrometheusEndpoint) -> Result<JoinHandle<()>, Error> {
        let host = match settings.host.as_str() {
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        let endpoint = format!("{host}:{}", settings.port);
        // Nothing here is a secret, and who configures a host means it.
        let listening = Listening { endpoint, insecure: true, ..Listening::default() };
        let services = Services { listeners: Arc::clone(&self.listeners), ..Services::default() };
        let setup = Setup::new("service::telemetry::metrics", services);
        let server = Server::build(listening.server(), &setup)?;
        tracing::info!("metrics are at http://{}/metrics", server.address());
        let style = Style {
            without_type_suffix: settings.without_type_suffix,
            without_units: settings.without_units,
        };
        let source = Arc::clone(&self.source);
        let handler: Arc<dyn Handler> = Arc::new(Exposition { source, style });
        let router = Router::new().http(Method::GET, "/metrics", handler);
        Ok(tokio::spawn(async move {
            // It is never told to stop; it ends with its task.
            let (_stopper, life) = Lifecycle::new();
            if let Err(error) = server.run(router, Budget::new(MEMORY), life).await {
                tracing::error!("service::telemetry::metrics: {}", error.chain());
            }
        }))
    }
}

struct Exposition {
    source: Arc<Source>,
    style: Style,
}

#[profpipe::async_trait]
impl Handler for Exposition {
    async fn handle(&self, _request: Request) -> Result<Reply, Rejection> {
        Ok(Reply::new(CONTENT_TYPE, render(&self.source.families(), self.style)))
    }
}
