//! What became of everything that exporters took: delivered, waiting in a queue on disk, or dropped, and
//! why. Said when the program stops, and of exporters that a reload removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use profpipe::telemetry::{Metrics, names};
use profpipe_queue::Pending;

/// What waits in queues on disk, by directory and exporter.
pub(crate) type Waiting = [(PathBuf, Vec<(String, Pending)>)];

/// Why samples that were taken are not delivered.
const DROPPED: [(&str, &str); 4] = [
    (names::EXPORTER_REFUSED_SAMPLES, "refused by the backend"),
    (names::EXPORTER_GIVEN_UP_SAMPLES, "given up"),
    (names::EXPORTER_STOPPED_SAMPLES, "cut off by the stop"),
    (names::EXPORTER_DEAD_SAMPLES, "dead letters"),
];

/// Says it of the exporters that are wanted, a line for each; `component` is as in metrics.
pub(crate) fn say(metrics: &Metrics, queues: &Waiting, wanted: impl Fn(&str) -> bool) {
    let mut waiting = BTreeMap::new();
    for (place, destinations) in queues {
        for (id, pending) in destinations {
            let Pending { records, samples, .. } = pending;
            let place = place.display();
            let what = format!(", {samples} samples in {records} batches wait in {place}");
            waiting.insert(format!("exporters::{id}"), (*samples, what));
        }
    }
    let mut numbers: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for (name, component, number) in metrics.snapshot() {
        if component.starts_with("exporters::") && number > 0 {
            numbers.insert((component, name), number);
        }
    }
    let mut components: BTreeSet<String> = waiting.keys().cloned().collect();
    let taken = numbers.keys().filter(|(_, name)| *name == names::EXPORTER_ENQUEUED_SAMPLES);
    components.extend(taken.map(|(component, _)| component.clone()));
    for component in components.iter().filter(|component| wanted(component)) {
        let of = |name| numbers.get(&(component.clone(), name)).copied().unwrap_or_default();
        let (waits, what) = waiting.get(component).cloned().unwrap_or_default();
        let (taken, sent) =
            (of(names::EXPORTER_ENQUEUED_SAMPLES), of(names::EXPORTER_SENT_SAMPLES));
        let dropped = DROPPED.map(|(name, why)| (of(name), why));
        let known = sent + waits + dropped.iter().map(|(count, _)| count).sum::<u64>();
        // What was too old, or damaged on the disk, left the queue by itself.
        let lost = (taken.saturating_sub(known), "expired or damaged in the queue");
        let bad: Vec<String> = dropped
            .iter()
            .chain([&lost])
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!(", {count} {why}"))
            .collect();
        let line =
            format!("{component}: of {taken} samples {sent} delivered{what}{}", bad.concat());
        if bad.is_empty() {
            tracing::info!("{line}");
        } else {
            tracing::warn!("{line}");
        }
    }
}
