//! The metrics by OTLP: the same numbers that Prometheus reads, brought where the configuration says.
//!
//! The counters are the engine's own, the histograms those that OpenTelemetry's SDK keeps for it; both
//! come as families, and become messages here. A push that fails is not repeated: the next one has the same sums.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Uri;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use profpipe::pipeline::component::{Error, Extensions};
use profpipe::pipeline::engine::OtlpPush;
use profpipe::pipeline::settings::ShownAddress;
use profpipe::telemetry::{Family, MetricKind};
use profpipe_network::client::{Client, Endpoint, Request};
use profpipe_network::http_client_config;
use profpipe_network::settings::Compression;
use prost::Message as _;

use super::endpoint::Source;

/// The path, where the address has none.
const PATH: &str = "/v1/metrics";

http_client_config! {
    /// A client with the settings that all have.
    pub struct Connecting { endpoint: "", compression: Compression::None; }
}

/// Brings the metrics somewhere, again and again.
pub(super) struct Push {
    client: Client,
    uri: Uri,
    timeout: Duration,
    interval: Duration,
    source: Arc<Source>,
}

impl Push {
    pub(super) fn new(settings: &OtlpPush, source: Arc<Source>) -> Result<Self, Error> {
        let of = |problem| Error::new(format!("the endpoint {problem}"));
        let endpoint = Endpoint::http(&settings.endpoint).map_err(of)?;
        let path = if endpoint.path().trim_matches('/').is_empty() { PATH } else { "" };
        let uri = endpoint.uri(path).map_err(|cause| {
            let shown = ShownAddress::of(&settings.endpoint);
            Error::with_source(format!("`{shown}` is not an address"), cause)
        })?;
        let mut connecting = Connecting::default().client();
        connecting.endpoint = settings.endpoint.clone();
        for (name, value) in &settings.headers {
            connecting.headers.insert(name.clone(), value.clone());
        }
        let client = Client::builder(&connecting).build(&Extensions::default())?;
        Ok(Self { client, uri, timeout: settings.timeout, interval: settings.interval, source })
    }

    /// Brings them until dropped.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut failing = false;
        loop {
            ticks.tick().await;
            let result = self.push().await;
            match (&result, failing) {
                (Err(why), false) => {
                    tracing::warn!("service::telemetry::metrics: they were not taken: {why}");
                }
                (Ok(()), true) => tracing::info!("service::telemetry::metrics: they are taken"),
                _ => {}
            }
            failing = result.is_err();
        }
    }

    async fn push(&self) -> Result<(), String> {
        let message = message(&self.source.families(), self.source.since(), SystemTime::now());
        let mut request =
            Request::post(self.uri.clone(), bytes::Bytes::from(message.encode_to_vec()))
                .header("content-type", "application/x-protobuf");
        request.timeout = Some(self.timeout);
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| error.into_cause().chain())?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(format!("the response is {}", answer.status)),
        }
    }
}

/// The metrics as OTLP has them.
fn message(families: &[Family], since: SystemTime, now: SystemTime) -> ExportMetricsServiceRequest {
    let nanos = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    };
    let (start, now) = (nanos(since), nanos(now));
    let metrics = families.iter().map(|family| metric_of(family, start, now)).collect();
    let scope = InstrumentationScope {
        name: "profpipe".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![
            attribute("service.name", "profpipe"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
            attribute("service.instance.id", &std::process::id().to_string()),
        ],
        ..Resource::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric_of(family: &Family, start: u64, now: u64) -> Metric {
    let numbers = family.points.iter().map(|point| NumberDataPoint {
        attributes: point.labels.iter().map(|(key, value)| attribute(key, value)).collect(),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(Number::AsDouble(point.value)),
        ..NumberDataPoint::default()
    });
    let distributions = family.points.iter().filter_map(|point| {
        let buckets = point.buckets.as_ref()?;
        Some(HistogramDataPoint {
            attributes: point.labels.iter().map(|(key, value)| attribute(key, value)).collect(),
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: buckets.count,
            sum: Some(buckets.sum),
            bucket_counts: buckets.counts.clone(),
            explicit_bounds: buckets.bounds.clone(),
            ..HistogramDataPoint::default()
        })
    });
    let data = match family.sort {
        MetricKind::Histogram => metric::Data::Histogram(Histogram {
            data_points: distributions.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }),
        MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers.collect() }),
        MetricKind::Sum => metric::Data::Sum(Sum {
            data_points: numbers.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
    };
    Metric {
        name: family.name.clone(),
        description: family.help.to_owned(),
        // In the symbols of UCUM.
        unit: match family.unit {
            "seconds" => "s",
            "bytes" => "By",
            _ => "1",
        }
        .to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}
