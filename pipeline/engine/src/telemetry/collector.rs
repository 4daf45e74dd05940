//! The counters as metrics for other programs: the Collector's names, and beside them our own.
//!
//! The Collector's are what its dashboards and alerts ask for. They are made here from what the
//! engine counts on the edges around every component, so that a component needs to count nothing for
//! them; a receiver that answers its senders counts itself what it has accepted and refused, by
//! transport.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Labels, Metrics, Reading, names};

/// A metric: one name, and a number for each set of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The name, without unit and type.
    pub name: String,
    /// What it is, in one line; may be empty.
    pub help: &'static str,
    /// Its unit: `seconds`, `bytes`, or nothing where it counts things.
    pub unit: &'static str,
    /// Whether it only grows.
    pub sort: MetricKind,
    /// Its numbers.
    pub points: Vec<Point>,
}

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Sum,
    /// It goes up and down.
    Gauge,
    /// How values are distributed.
    Histogram,
}

/// One number of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What it is the number of.
    pub labels: Labels,
    /// The number.
    pub value: f64,
    /// Its buckets, where it is a distribution.
    pub buckets: Option<super::Buckets>,
}

/// What the program itself costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessCost {
    /// How long it runs.
    pub uptime: Duration,
    /// Its CPU time.
    pub cpu: Duration,
    /// Its resident memory in bytes, where the system tells.
    pub resident: Option<u64>,
}

/// A metric of the Collector that is one of our counters under another name.
struct Renamed {
    ours: &'static str,
    theirs: &'static str,
    /// The section whose components have it, and the label that names the component.
    of: (&'static str, &'static str),
    sort: MetricKind,
    help: &'static str,
}

const RECEIVERS: (&str, &str) = ("receivers", "receiver");
const PROCESSORS: (&str, &str) = ("processors", "processor");
const EXPORTERS: (&str, &str) = ("exporters", "exporter");

const RENAMED: [Renamed; 11] = [
    Renamed {
        ours: names::RECEIVER_ACCEPTED_SAMPLES,
        theirs: "otelcol_receiver_accepted_profile_samples",
        of: RECEIVERS,
        sort: MetricKind::Sum,
        help: "Samples taken into a pipeline.",
    },
    Renamed {
        ours: names::RECEIVER_REFUSED_SAMPLES,
        theirs: "otelcol_receiver_refused_profile_samples",
        of: RECEIVERS,
        sort: MetricKind::Sum,
        help: "Samples that could not be taken now, because something further on refused them.",
    },
    Renamed {
        ours: names::RECEIVER_FAILED_SAMPLES,
        theirs: "otelcol_receiver_failed_profile_samples",
        of: RECEIVERS,
        sort: MetricKind::Sum,
        help: "Samples that the receiver itself could not take.",
    },
    Renamed {
        ours: names::SAMPLES_IN,
        theirs: "otelcol_processor_incoming_items",
        of: PROCESSORS,
        sort: MetricKind::Sum,
        help: "Samples that went into a processor.",
    },
    Renamed {
        ours: names::SAMPLES_OUT,
        theirs: "otelcol_processor_outgoing_items",
        of: PROCESSORS,
        sort: MetricKind::Sum,
        help: "Samples that came out of a processor.",
    },
    Renamed {
        ours: names::EXPORTER_SENT_SAMPLES,
        theirs: "otelcol_exporter_sent_profile_samples",
        of: EXPORTERS,
        sort: MetricKind::Sum,
        help: "Samples that the destination has.",
    },
    Renamed {
        ours: names::EXPORTER_SEND_FAILED_SAMPLES,
        theirs: "otelcol_exporter_send_failed_profile_samples",
        of: EXPORTERS,
        sort: MetricKind::Sum,
        help: "Samples that will not get to the destination.",
    },
    Renamed {
        ours: names::EXPORTER_ENQUEUE_FAILED_SAMPLES,
        theirs: "otelcol_exporter_enqueue_failed_profile_samples",
        of: EXPORTERS,
        sort: MetricKind::Sum,
        help: "Samples that the queue had no room for.",
    },
    Renamed {
        ours: names::EXPORTER_QUEUE_SIZE,
        theirs: "otelcol_exporter_queue_size",
        of: EXPORTERS,
        sort: MetricKind::Gauge,
        help: "How full the queue is, in what its sizer counts.",
    },
    Renamed {
        ours: names::EXPORTER_QUEUE_CAPACITY,
        theirs: "otelcol_exporter_queue_capacity",
        of: EXPORTERS,
        sort: MetricKind::Gauge,
        help: "How much fits into the queue; 0 without a limit of its own.",
    },
    Renamed {
        ours: names::EXPORTER_IN_FLIGHT,
        theirs: "otelcol_exporter_in_flight_requests",
        of: EXPORTERS,
        sort: MetricKind::Gauge,
        help: "Requests under way.",
    },
];

/// Every metric there is now: the Collector's, our own, and the cost of the process.
pub fn families(metrics: &Metrics, process: ProcessCost) -> Vec<Family> {
    let readings = metrics.readings();
    let mut families = BTreeMap::new();
    for renamed in &RENAMED {
        let points: Vec<Point> =
            readings.iter().filter_map(|reading| renamed.point(reading)).collect();
        if !points.is_empty() {
            let family = Family {
                name: renamed.theirs.to_owned(),
                help: renamed.help,
                unit: "",
                sort: renamed.sort,
                points,
            };
            families.insert(renamed.theirs, family);
        }
    }
    accepted_by_edges(&readings, &mut families);
    for reading in &readings {
        if reading.name.starts_with("otelcol_") {
            continue;
        }
        let (name, sort) = match reading.name.strip_suffix("_total") {
            Some(name) => (name, MetricKind::Sum),
            None => (reading.name, MetricKind::Gauge),
        };
        let family = families.entry(reading.name).or_insert_with(|| Family {
            name: name.to_owned(),
            help: "",
            unit: "",
            sort,
            points: Vec::new(),
        });
        let mut labels = vec![("component", reading.component.clone())];
        labels.extend(reading.labels.iter().cloned());
        family.points.push(Point { labels, value: reading.value as f64, buckets: None });
    }
    let histograms = metrics.histograms.families();
    families.into_values().chain(histograms).chain(of_process(process)).collect()
}

impl Renamed {
    fn point(&self, reading: &Reading) -> Option<Point> {
        if reading.name != self.ours {
            return None;
        }
        let (section, label) = self.of;
        let id = match reading.component.split_once("::") {
            Some((of, id)) => (of == section).then_some(id)?,
            // A component that counts itself; the name says of which kind it is.
            None => reading.component.as_str(),
        };
        let mut labels = vec![(label, id.to_owned())];
        if section == "processors" {
            labels.push(("otel_signal", "profiles".to_owned()));
        }
        labels.extend(reading.labels.iter().cloned());
        Some(Point { labels, value: reading.value as f64, buckets: None })
    }
}

/// What receivers have accepted that do not count it themselves, because nobody waits for their
/// answer: what came out of them.
fn accepted_by_edges(readings: &[Reading], families: &mut BTreeMap<&'static str, Family>) {
    const NAME: &str = "otelcol_receiver_accepted_profile_samples";
    let count_themselves: BTreeSet<&str> = readings
        .iter()
        .filter(|reading| reading.name == names::RECEIVER_ACCEPTED_SAMPLES)
        .map(|reading| reading.component.as_str())
        .collect();
    let points = readings.iter().filter(|reading| reading.name == names::SAMPLES_OUT);
    let points = points.filter_map(|reading| {
        let id = reading.component.strip_prefix("receivers::")?;
        let labels = vec![("receiver", id.to_owned())];
        let point = Point { labels, value: reading.value as f64, buckets: None };
        (!count_themselves.contains(id)).then_some(point)
    });
    let points: Vec<Point> = points.collect();
    if points.is_empty() {
        return;
    }
    let family = families.entry(NAME).or_insert_with(|| Family {
        name: NAME.to_owned(),
        help: "Samples taken into a pipeline.",
        unit: "",
        sort: MetricKind::Sum,
        points: Vec::new(),
    });
    family.points.extend(points);
}

fn of_process(process: ProcessCost) -> impl Iterator<Item = Family> {
    let family = |name: &str, help, unit, sort, value| Family {
        name: name.to_owned(),
        help,
        unit,
        sort,
        points: vec![Point { labels: Labels::new(), value, buckets: None }],
    };
    let uptime = process.uptime.as_secs_f64();
    let uptime =
        family("otelcol_process_uptime", "How long it runs.", "seconds", MetricKind::Sum, uptime);
    let cpu = process.cpu.as_secs_f64();
    let cpu =
        family("otelcol_process_cpu_seconds", "Its CPU time.", "seconds", MetricKind::Sum, cpu);
    let memory = process.resident.map(|bytes| {
        let (name, help) = ("otelcol_process_memory_rss", "Its resident memory.");
        family(name, help, "bytes", MetricKind::Gauge, bytes as f64)
    });
    [Some(uptime), Some(cpu), memory].into_iter().flatten()
}
