//! The `pyroscope` exporter: pushes pprof to Grafana Pyroscope, Grafana Cloud, Alloy.
//!
//! It makes pprof itself (`series`) instead of sending OTLP, which Pyroscope takes, too, but
//! calls most profiles by other names and loses some. One request holds one profile: of a
//! request with several the server stores the good ones and answers with an error, so that trying
//! it again would count them twice.

mod answer;
mod config;
mod labels;
pub mod metric_names;
mod numbers;
mod pprof;
mod progress;
mod series;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Uri};
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Exporter, Factory, Failure, Setup, Stability};
use profpipe_engine::settings::Secret;
use profpipe_engine::telemetry::Counter;
use profpipe_network::client::{Client, Endpoint, Request, compress_aside, retry_after};

pub use config::{Config, LabelNames, LabelRules, SampleLabelRules, Unsymbolized};

use self::answer::Answer;
use self::progress::{Attempt, Progress, State};
use self::series::{Built, Push};

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::exporter::<Config>("pyroscope", Stability::Alpha, "pushes pprof to Grafana Pyroscope");

/// Where profiles go on a server.
const PATH: &str = "/push.v1.PusherService/Push";
/// The header that names the tenant.
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// An exporter; forks share everything.
struct Pyroscope(Arc<Shared>);

struct Shared {
    id: String,
    config: Config,
    client: Client,
    uri: Uri,
    /// The tenant of batches that have none, where the tenant is sent on.
    usual_tenant: Option<Secret>,
    progress: Arc<Progress>,
    rejected: Counter,
    left_out: Counter,
}

impl Pyroscope {
    fn build(config: Config, setup: &Setup) -> Result<Self, Error> {
        let endpoint = Endpoint::http(&config.endpoint)
            .map_err(|problem| Error::new(format!("the endpoint {problem}")))?;
        let uri = endpoint
            .uri(PATH)
            .map_err(|cause| Error::with_source("the endpoint is not one", cause))?;
        let mut settings = config.client();
        let mut usual_tenant = None;
        if config.tenant_from_context {
            // Headers of the settings win over those of a request.
            let headers = std::mem::take(&mut settings.headers);
            for (name, value) in headers.iter() {
                if name.eq_ignore_ascii_case(TENANT.as_str()) {
                    usual_tenant = Some(value.clone());
                } else {
                    settings.headers.insert(name, value.clone());
                }
            }
        }
        let metrics = &setup.services.metrics;
        Ok(Self(Arc::new(Shared {
            client: Client::builder(&settings).build(&setup.extensions)?,
            id: setup.id.clone(),
            // What one server has, another does not.
            progress: setup
                .services
                .carried
                .of_same(&format!("exporters::{}", setup.id), &uri.to_string()),
            config,
            uri,
            usual_tenant,
            rejected: metrics.counter(crate::metric_names::PROFILES_REJECTED, &setup.id),
            left_out: metrics.counter(metric_names::SAMPLES_LEFT_OUT, &setup.id),
        })))
    }
}

#[async_trait]
impl Exporter for Pyroscope {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch.shared().map_err(|cause| Failure::Reject {
            cause: Error::with_source("cannot read the batch", cause),
        })?;
        let shared = Arc::clone(&self.0);
        let built =
            profpipe_engine::overhead::aside(move || series::build(&profiles, &shared.config));
        let built = built
            .await
            .map_err(|cause| Failure::retry(Error::with_source("cannot make profiles", cause)))?;
        self.0.send(&built, batch.context.tenant.as_deref()).await
    }

    fn fork(&self) -> Option<Box<dyn Exporter>> {
        Some(Box::new(Self(Arc::clone(&self.0))))
    }
}

/// A batch under way, remembered if it is not finished, whatever ends it.
struct Kept<'a> {
    progress: &'a Progress,
    attempt: Option<Attempt>,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.progress.keep(attempt);
        }
    }
}

/// Why a batch is not finished.
struct Trouble {
    /// We are refused, not the batch.
    is_held: bool,
    after: Option<Duration>,
    message: String,
}

impl Shared {
    /// Sends what was not sent before, a few at a time, until all is done or the first trouble.
    async fn send(&self, built: &Built, tenant: Option<&str>) -> Result<(), Failure> {
        let tenant = self.tenant(tenant)?;
        let now = now();
        let attempt = self.progress.begin(&built.pushes, now);
        let mut kept = Kept { progress: &self.progress, attempt: Some(attempt) };
        let Some(attempt) = &mut kept.attempt else { return Ok(()) };
        self.refuse_old(attempt, now);
        let todo: Vec<_> = (0..)
            .zip(&built.pushes)
            .zip(attempt.times.clone())
            .zip(&attempt.states)
            .filter(|(_, state)| **state == State::Pending)
            .map(|(((at, push), time), _)| (at, push, time))
            .collect();
        let mut todo = todo.into_iter();
        let mut under_way = FuturesUnordered::new();
        let mut trouble: Option<Trouble> = None;
        loop {
            while trouble.is_none() && under_way.len() < self.config.concurrency {
                let Some((at, push, time)) = todo.next() else { break };
                let tenant = tenant.as_ref();
                under_way.push(async move { (at, self.push(push, time, tenant).await) });
            }
            let Some((at, answered)) = under_way.next().await else { break };
            let state: &mut State = match attempt.states.get_mut::<usize>(at) {
                Some(state) => state,
                None => continue,
            };
            match answered {
                Ok(()) => *state = State::Stored,
                Err(Failure::Reject { cause } | Failure::TooLarge { cause }) => {
                    *state = State::Refused(cause.chain());
                }
                Err(failure) => {
                    let (is_held, after) = match &failure {
                        Failure::Retry { after, .. } => (false, *after),
                        _ => (true, None),
                    };
                    // The first says most: the others were under way already.
                    trouble.get_or_insert_with(|| Trouble {
                        is_held,
                        after,
                        message: failure.cause().chain(),
                    });
                }
            }
        }
        match trouble {
            Some(Trouble { is_held: true, message, .. }) => {
                Err(Failure::Hold { cause: Error::new(message) })
            }
            Some(Trouble { after, message, .. }) => {
                Err(Failure::Retry { after, cause: Error::new(message) })
            }
            None => self.finish(built, attempt),
        }
    }

    /// Counts what was refused for good; a batch of which nothing was taken is refused.
    fn finish(&self, built: &Built, attempt: &Attempt) -> Result<(), Failure> {
        self.left_out.add(built.empty + built.negative);
        if built.negative > 0 || built.unlabelled > 0 {
            tracing::debug!(
                "exporters::{}: {} negative samples left out, {} without some of their labels",
                self.id,
                built.negative,
                built.unlabelled,
            );
        }
        let refused: Vec<(&str, u64)> = attempt
            .states
            .iter()
            .zip(&built.pushes)
            .filter_map(|(state, push)| match state {
                State::Refused(why) => Some((why.as_str(), push.samples)),
                _ => None,
            })
            .collect();
        let Some((why, _)) = refused.first() else { return Ok(()) };
        let (count, of) = (refused.len(), attempt.states.len());
        let samples: u64 = refused.iter().map(|(_, samples)| samples).sum();
        let message =
            format!("{count} of {of} profiles ({samples} samples) were refused, the first: {why}");
        if count == of {
            return Err(Failure::Reject { cause: Error::new(message) });
        }
        self.rejected.add(count as u64);
        tracing::warn!("exporters::{}: {message}", self.id);
        Ok(())
    }

    fn refuse_old(&self, attempt: &mut Attempt, now: u64) {
        let max_age = self.config.max_age.0;
        if max_age.is_zero() {
            return;
        }
        let oldest = now.saturating_sub(max_age.as_nanos() as u64);
        for (time, state) in attempt.times.iter().zip(&mut attempt.states) {
            if *time < oldest && *state == State::Pending {
                let max_age = self.config.max_age;
                *state = State::Refused(format!("it is older than {max_age} (`max_age`)"));
            }
        }
    }

    fn tenant(&self, tenant: Option<&str>) -> Result<Option<HeaderValue>, Failure> {
        if !self.config.tenant_from_context {
            return Ok(None);
        }
        let usual = self.usual_tenant.as_ref().map(Secret::expose);
        let Some(tenant) = tenant.or(usual) else { return Ok(None) };
        let value = HeaderValue::from_str(tenant).map_err(|_| Failure::Reject {
            cause: Error::new("the batch's tenant cannot be sent as a header"),
        })?;
        Ok(Some(value))
    }

    /// Sends one profile.
    async fn push(
        &self,
        push: &Push,
        time_nanos: u64,
        tenant: Option<&HeaderValue>,
    ) -> Result<(), Failure> {
        let labels = push.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let body = wire::push_request(labels, [&push.profile, &pprof::time(time_nanos)]);
        let (compression, level) = self.client.compression();
        let body = compress_aside(body.into(), compression, level).await;
        let body = body.map_err(|cause| Failure::Reject {
            cause: Error::with_source("cannot compress the profile", cause),
        })?;
        let mut request = Request::post(self.uri.clone(), body);
        let kind = HeaderValue::from_static("application/proto");
        request.headers.insert(CONTENT_TYPE, kind);
        if let Some(name) = compression.name() {
            request.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        if let Some(tenant) = tenant {
            request.headers.insert(TENANT, tenant.clone());
        }
        let response = self.client.send(request).await.map_err(Failure::from)?;
        match answer::read(response.status, &response.body) {
            Answer::Stored => Ok(()),
            Answer::Later(message) => {
                let after = retry_after(&response.headers, SystemTime::now());
                Err(Failure::Retry { after, cause: Error::new(message) })
            }
            Answer::Refused(message) => Err(Failure::Reject { cause: Error::new(message) }),
            Answer::Held(message) => Err(Failure::Hold { cause: Error::new(message) }),
        }
    }
}

/// In nanoseconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

#[cfg(test)]
mod tests;
