//! Distributions: how long things took and how large they were, kept by OpenTelemetry's SDK.
//!
//! A counter stays an atomic of ours; what needs buckets is the SDK's. It is read on demand, so
//! that nothing runs while nobody asks, and sums are cumulative since the start. The one label is
//! the id of a component: a sender cannot make a series.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality,
};

use super::{Family, Labels, MetricKind, Point};

/// What there is a distribution of.
pub(crate) struct HistogramSpec {
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    label: &'static str,
    bounds: &'static [f64],
}

const SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const SAMPLES: &[f64] = &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
const BYTES: &[f64] = &[1024.0, 8192.0, 65536.0, 524_288.0, 4_194_304.0, 33_554_432.0];

/// How long one attempt of an exporter took.
pub(crate) const ATTEMPT: HistogramSpec = HistogramSpec {
    name: "profpipe_exporter_attempt_duration",
    help: "How long one attempt to send took.",
    unit: "seconds",
    label: "exporter",
    bounds: SECONDS,
};
/// How many samples an attempt carried.
pub(crate) const ATTEMPT_SAMPLES: HistogramSpec = HistogramSpec {
    name: "profpipe_exporter_attempt_samples",
    help: "How many samples one attempt to send carried.",
    unit: "",
    label: "exporter",
    bounds: SAMPLES,
};
/// How many bytes an attempt carried.
pub(crate) const ATTEMPT_BYTES: HistogramSpec = HistogramSpec {
    name: "profpipe_exporter_attempt_size",
    help: "How many bytes the batch of one attempt to send took in memory.",
    unit: "bytes",
    label: "exporter",
    bounds: BYTES,
};
const ALL: [&HistogramSpec; 3] = [&ATTEMPT, &ATTEMPT_SAMPLES, &ATTEMPT_BYTES];

/// The distribution of one component.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    instrument: opentelemetry::metrics::Histogram<f64>,
    labels: [KeyValue; 1],
}

impl Histogram {
    pub(crate) fn record(&self, value: f64) {
        self.instrument.record(value, &self.labels);
    }

    pub(crate) fn took(&self, time: Duration) {
        self.record(time.as_secs_f64());
    }
}

/// The distribution at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// The upper bounds; beyond the last is one more bucket.
    pub bounds: Vec<f64>,
    /// How many values are in each bucket, not cumulative.
    pub counts: Vec<u64>,
    /// The sum of the values.
    pub sum: f64,
    /// How many there are.
    pub count: u64,
}

/// Every distribution of one engine.
pub(super) struct Histograms {
    provider: SdkMeterProvider,
    reader: Reader,
    /// Exporters by id, and whether they are there: the SDK cannot forget those that are gone.
    shown: Mutex<BTreeMap<String, bool>>,
}

impl fmt::Debug for Histograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Histograms")
    }
}

impl Default for Histograms {
    fn default() -> Self {
        let reader = Reader(Arc::new(ManualReader::default()));
        let provider = SdkMeterProvider::builder().with_reader(reader.clone()).build();
        Self { provider, reader, shown: Mutex::default() }
    }
}

impl Histograms {
    /// The distribution of this component.
    pub(super) fn of(&self, spec: &HistogramSpec, id: &str) -> Histogram {
        self.shown().insert(id.to_owned(), true);
        let meter = self.provider.meter("profpipe");
        let instrument = meter.f64_histogram(spec.name).with_boundaries(spec.bounds.to_vec());
        Histogram {
            instrument: instrument.build(),
            labels: [KeyValue::new(spec.label, id.to_owned())],
        }
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows those of these exporters no more, until they are there again.
    pub(super) fn hide(&self, is_gone: impl Fn(&str) -> bool) {
        for (id, shown) in self.shown().iter_mut() {
            *shown &= !is_gone(&format!("exporters::{id}"));
        }
    }

    /// Those with a value.
    pub(super) fn families(&self) -> Vec<Family> {
        let mut collected = ResourceMetrics::default();
        if self.reader.collect(&mut collected).is_err() {
            return Vec::new();
        }
        let shown = self.shown();
        let metrics: Vec<_> = collected.scope_metrics().flat_map(|scope| scope.metrics()).collect();
        let family = |spec: &&HistogramSpec| {
            let metric = metrics.iter().find(|metric| metric.name() == spec.name)?;
            let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else {
                return None;
            };
            let mut points: Vec<Point> = histogram
                .data_points()
                .filter(|point| {
                    point
                        .attributes()
                        .all(|label| shown.get(&*label.value.as_str()) != Some(&false))
                })
                .map(|point| Point {
                    labels: point
                        .attributes()
                        .map(|label| (spec.label, label.value.as_str().into_owned()))
                        .collect::<Labels>(),
                    value: point.sum(),
                    buckets: Some(Buckets {
                        bounds: point.bounds().collect(),
                        counts: point.bucket_counts().collect(),
                        sum: point.sum(),
                        count: point.count(),
                    }),
                })
                .collect();
            points.sort_by(|left, right| left.labels.cmp(&right.labels));
            Some(Family {
                name: spec.name.to_owned(),
                help: spec.help,
                unit: spec.unit,
                sort: MetricKind::Histogram,
                points,
            })
        };
        ALL.iter().filter_map(family).collect()
    }
}

/// The SDK takes its reader; this one is shared with us.
#[derive(Debug, Clone)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
