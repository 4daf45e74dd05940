//! What became of everything that exporters took: delivered, waiting in a queue on disk, or dropped, and
//! why. Said when the program stops, and of exporters that a reload removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use profpipe::metric_names::exporters;
use profpipe::telemetry::{Metrics, names};
use profpipe_engine::OpenQueues;
use profpipe_queue::Pending;

/// What waits in queues on disk, by directory and exporter.
pub(crate) type Waiting = [(PathBuf, Vec<(String, Pending)>)];

/// Why samples that were taken are not delivered.
const DROPPED: [(&str, &str); 7] = [
    (names::EXPORTER_REFUSED_SAMPLES, "refused by the backend"),
    (names::EXPORTER_GIVEN_UP_SAMPLES, "given up"),
    (names::EXPORTER_STOPPED_SAMPLES, "cut off by the stop"),
    (names::EXPORTER_DEAD_SAMPLES, "dead letters"),
    (names::EXPORTER_EXPIRED_SAMPLES, "expired in the queue"),
    (names::EXPORTER_EVICTED_SAMPLES, "dropped from the queue to make room"),
    (names::EXPORTER_DAMAGED_SAMPLES, "damaged in the queue"),
];

/// Says it of the exporters that are wanted, a line for each; `component` is as in metrics.
pub(crate) fn say(metrics: &Metrics, queues: &OpenQueues, wanted: impl Fn(&str) -> bool) {
    queues.count_losses(metrics);
    let queues = &queues.destinations();
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
        } else if name == exporters::PROFILES_REJECTED && number > 0 {
            // What an exporter counts itself has its id alone.
            numbers.insert((format!("exporters::{component}"), name), number);
        }
    }
    let mut components: BTreeSet<String> = waiting.keys().cloned().collect();
    let is_of_account = |name: &str| {
        name == names::EXPORTER_ENQUEUED_SAMPLES || DROPPED.iter().any(|(known, _)| *known == name)
    };
    let taken = numbers.keys().filter(|(_, name)| is_of_account(name));
    components.extend(taken.map(|(component, _)| component.clone()));
    for component in components.iter().filter(|component| wanted(component)) {
        let of = |name| numbers.get(&(component.clone(), name)).copied().unwrap_or_default();
        let (waits, what) = waiting.get(component).cloned().unwrap_or_default();
        let (taken, sent) =
            (of(names::EXPORTER_ENQUEUED_SAMPLES), of(names::EXPORTER_SENT_SAMPLES));
        let dropped = DROPPED.map(|(name, why)| (of(name), why));
        let known = sent + waits + dropped.iter().map(|(count, _)| count).sum::<u64>();
        // What waits for an exporter that is not there was taken before its account began.
        let taken = taken.max(known);
        // There is nothing else that can become of it.
        let lost = (taken - known, "not accounted for");
        let bad: Vec<String> = dropped
            .iter()
            .chain([&lost])
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!(", {count} {why}"))
            .collect();
        // In requests that it took otherwise: of how many samples it does not say.
        let rejected = of(exporters::PROFILES_REJECTED);
        let mut line =
            format!("{component}: of {taken} samples {sent} delivered{what}{}", bad.concat());
        if rejected > 0 {
            line.push_str(&format!("; of what it took the backend rejected {rejected} profiles"));
        }
        // What waits is said at every level: nobody delivers it until the next start.
        if bad.is_empty() && rejected == 0 && waits == 0 {
            tracing::info!("{line}");
        } else {
            tracing::warn!("{line}");
        }
    }
}
