//! The `health_check` extension: says over HTTP whether the pipelines run.
//!
//! It answers from a little memory of its own: a gateway that has none left to take profiles is
//! alive and must not be restarted for it.

mod config;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode};
use profpipe_engine::Health;
use profpipe_engine::budget::Budget;
use profpipe_engine::component::{Error, Extension, Factory, Lifecycle, Setup, Stability};
use profpipe_engine::settings::Duration;
use profpipe_network::server::{Handler, Rejection, Reply, Request, Router, Server};

pub use config::{Config, PipelineCheck, ResponseBody};

/// How the component is registered.
pub const FACTORY: Factory = Factory::extension::<Config>(
    "health_check",
    Stability::Beta,
    "says over HTTP whether the pipelines run",
);

/// For requests; they have no body.
const MEMORY: usize = 64 << 10;

struct HealthCheck {
    /// Taken when it runs.
    server: Mutex<Option<Server>>,
    path: String,
    answer: Arc<HealthHandler>,
}

impl HealthCheck {
    fn new(config: Config, setup: &Setup) -> Result<Self, Error> {
        let server = Server::build(config.listening(), setup)?;
        let health = Arc::clone(&setup.services.health);
        let answer = HealthHandler {
            health,
            body: config.response_body,
            started: Instant::now(),
            since: SystemTime::now(),
        };
        Ok(Self { server: Mutex::new(Some(server)), path: config.path, answer: Arc::new(answer) })
    }
}

#[async_trait]
impl Extension for HealthCheck {
    async fn run(self: Arc<Self>, life: Lifecycle) -> Result<(), Error> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(server) = server else { return Err(Error::new("it runs already")) };
        let mut router = Router::new();
        for method in [Method::GET, Method::HEAD] {
            router = router.http(method, &self.path, Arc::clone(&self.answer) as Arc<dyn Handler>);
        }
        server.run(router, Budget::new(MEMORY), life).await
    }
}

struct HealthHandler {
    health: Arc<Health>,
    body: Option<ResponseBody>,
    started: Instant,
    since: SystemTime,
}

impl HealthHandler {
    fn now(&self) -> Reply {
        let running = self.health.is_running();
        let mut reply = match &self.body {
            Some(body) => {
                let text = if running { &body.healthy } else { &body.unhealthy };
                Reply::new("text/plain; charset=utf-8", text.clone())
            }
            None => Reply::new("application/json", self.words(running)),
        };
        if !running {
            reply.status = StatusCode::SERVICE_UNAVAILABLE;
        }
        reply.headers.insert("cache-control", HeaderValue::from_static("no-store"));
        reply
    }

    /// What the Collector says.
    fn words(&self, running: bool) -> String {
        if !running {
            return serde_json::json!({ "status": "Server not available" }).to_string();
        }
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        serde_json::json!({
            "status": "Server available",
            "upSince": since.as_secs(),
            "uptime": Duration(self.started.elapsed()).to_string(),
        })
        .to_string()
    }
}

#[async_trait]
impl Handler for HealthHandler {
    async fn handle(&self, _request: Request) -> Result<Reply, Rejection> {
        Ok(self.now())
    }
}
