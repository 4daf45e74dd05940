//! What other programs read.

use std::time::Duration;

use super::{ATTEMPT_SAMPLES, Metrics, ProcessCost, Style, families, names, render};

/// Scenario: what the engine counts around a receiver that counts itself, one that does not, a
/// processor and an exporter.
/// Guarantees: the Collector's names and labels, our own beside them, and Prometheus's text format
/// with names, types and escapes.
#[test]
fn prometheus_reads_the_collectors_names() {
    let metrics = Metrics::default();
    let http = [("transport", "http")];
    metrics.labelled(names::RECEIVER_ACCEPTED_SAMPLES, "otlp", &http).add(7);
    metrics.labelled(names::RECEIVER_ACCEPTED_SAMPLES, "otlp", &[("transport", "grpc")]).add(2);
    metrics.counter(names::SAMPLES_OUT, "receivers::otlp").add(9);
    metrics.counter(names::SAMPLES_OUT, "receivers::perf").add(5);
    metrics.counter(names::SAMPLES_IN, "processors::batch/\"a\\b\"").add(14);
    metrics.counter(names::EXPORTER_SENT_SAMPLES, "exporters::file").add(14);
    metrics.counter(names::EXPORTER_QUEUE_SIZE, "exporters::file").set(3);
    let cost = ProcessCost {
        uptime: Duration::from_millis(1500),
        cpu: Duration::from_millis(250),
        resident: Some(4096),
    };
    let all = families(&metrics, cost);
    let text = render(&all, Style::default());
    for line in [
        "# HELP otelcol_receiver_accepted_profile_samples_total Samples taken into a pipeline.",
        "# TYPE otelcol_receiver_accepted_profile_samples_total counter",
        "otelcol_receiver_accepted_profile_samples_total{receiver=\"otlp\",transport=\"http\"} 7",
        "otelcol_receiver_accepted_profile_samples_total{receiver=\"otlp\",transport=\"grpc\"} 2",
        "otelcol_receiver_accepted_profile_samples_total{receiver=\"perf\"} 5",
        "otelcol_processor_incoming_items_total{processor=\"batch/\\\"a\\\\b\\\"\",otel_signal=\"profiles\"} 14",
        "otelcol_exporter_sent_profile_samples_total{exporter=\"file\"} 14",
        "# TYPE otelcol_exporter_queue_size gauge",
        "otelcol_exporter_queue_size{exporter=\"file\"} 3",
        "profpipe_component_samples_out_total{component=\"receivers::perf\"} 5",
        "otelcol_process_uptime_seconds_total 1.5",
        "otelcol_process_cpu_seconds_total 0.25",
        "otelcol_process_memory_rss_bytes 4096",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("{receiver=\"otlp\"} 9"), "{text}");
    let types = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(types, all.len());
    let plain = render(&all, Style { without_type_suffix: true, without_units: true });
    assert!(plain.contains("\notelcol_process_uptime 1.5\n"), "{plain}");
    assert_eq!(metrics.total(names::RECEIVER_ACCEPTED_SAMPLES), 9);
    let row = (names::RECEIVER_ACCEPTED_SAMPLES, "otlp".to_owned(), 9);
    assert!(metrics.snapshot().contains(&row));
}

/// Scenario: three values of one exporter, one of them beyond the last bound.
/// Guarantees: cumulative buckets up to `+Inf`, sum and count, and no family without a value.
#[test]
fn prometheus_reads_distributions() {
    let metrics = Metrics::default();
    let none = render(&families(&metrics, ProcessCost::default()), Style::default());
    assert!(!none.contains("histogram"), "{none}");
    let samples = metrics.histogram(&ATTEMPT_SAMPLES, "file");
    [1.0, 50.0, 2e6].into_iter().for_each(|value| samples.record(value));
    let text = render(&families(&metrics, ProcessCost::default()), Style::default());
    for line in [
        "# TYPE profpipe_exporter_attempt_samples histogram",
        "profpipe_exporter_attempt_samples_bucket{exporter=\"file\",le=\"1\"} 1",
        "profpipe_exporter_attempt_samples_bucket{exporter=\"file\",le=\"100\"} 2",
        "profpipe_exporter_attempt_samples_bucket{exporter=\"file\",le=\"+Inf\"} 3",
        "profpipe_exporter_attempt_samples_sum{exporter=\"file\"} 2000051",
        "profpipe_exporter_attempt_samples_count{exporter=\"file\"} 3",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
    }
}

/// Scenario: a receiver and an exporter of one id count by their id alone; the exporter is gone.
/// Guarantees: its series end, and those of the receiver stay.
#[test]
fn series_of_one_id_end_with_their_kind() {
    let metrics = Metrics::default();
    metrics.counter("profpipe_exporter_rejected_profiles_total", "otlp").add(1);
    metrics.counter(names::RECEIVER_ACCEPTED_SAMPLES, "otlp").add(1);
    metrics.forget_components(|component| component == "exporters::otlp");
    let left: Vec<_> = metrics.snapshot().into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(left, [names::RECEIVER_ACCEPTED_SAMPLES]);
}
