//! What waits in durable queues for nobody: exporters that were renamed or removed, and storages that no
//! exporter uses any more.
//!
//! Senders were told that it is safe, and it is; but nothing will deliver it until its exporter is there
//! again under its old name, or somebody drops it. So it is said when an engine starts, and shows in the
//! metrics as long as it is so.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::component::Extensions;
use crate::services::Services;
use crate::telemetry::names;
use profpipe_queue::{Pending, tools};

/// Says what waits for exporters that have no queue there; `served` are those that have one, with its
/// directory.
pub(super) fn report(
    served: &BTreeSet<(PathBuf, String)>,
    services: &Services,
    extensions: &Extensions,
) {
    let shown = [names::EXPORTER_LEFT_BEHIND_BATCHES, names::EXPORTER_LEFT_BEHIND_SAMPLES];
    services.metrics.forget_named(&shown);
    let mut open = BTreeSet::new();
    for (place, destinations) in services.queues.destinations() {
        for (id, pending) in destinations {
            if pending.records > 0 && !served.contains(&(place.clone(), id.clone())) {
                tell(services, &id, pending, &place.display().to_string());
            }
        }
        open.insert(place);
    }
    // A storage without a queue of this configuration may hold those of an earlier one.
    for (_, extension) in extensions.iter() {
        let Some(place) = extension.storage().filter(|place| !open.contains(&place.directory))
        else {
            continue;
        };
        // What cannot be read says so when it is used.
        let Ok(inspection) = tools::inspect(&place.directory) else { continue };
        for destination in inspection.destinations {
            if destination.pending.records > 0 {
                let place = place.directory.display().to_string();
                tell(services, &destination.id, destination.pending, &place);
            }
        }
    }
}

fn tell(services: &Services, id: &str, pending: Pending, place: &str) {
    let Pending { records, samples, .. } = pending;
    let component = format!("exporters::{id}");
    let set = |name, number| services.metrics.counter(name, &component).set(number);
    set(names::EXPORTER_LEFT_BEHIND_BATCHES, records);
    set(names::EXPORTER_LEFT_BEHIND_SAMPLES, samples);
    tracing::warn!(
        "{component}: {records} batches ({samples} samples) wait for it in {place}, and no exporter \
         of that name has its queue there; name it so again to deliver them, or drop them with \
         `profpipe queue drop --destination {id} {place}` while nothing runs"
    );
}
