//! Batches of one service go on in the order in which they came.
//!
//! A batch that has its names must not overtake an older one of the same service that still waits:
//! who draws a service over time would see it go back. Batches of different services overtake each
//! other.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use profpipe_profile::attribute_names::{HOST_NAME, SERVICE_NAME};
use profpipe_profile::{Profiles, Resource};

/// The services whose profiles a batch holds, as hashes of what identifies them. Two that have the
/// same keep to an order that they need not keep to.
#[derive(Debug)]
pub(super) struct Services(Vec<u64>);

/// The services of batches that stay.
#[derive(Debug, Default)]
pub(super) struct Order(HashSet<u64>);

impl Services {
    /// Those of a batch.
    pub(super) fn of(profiles: &Profiles) -> Self {
        // The same for all batches of this process.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let text = |resource: &Resource, key| {
            resource.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
        };
        let hash = |resource: &Resource| {
            hasher.hash_one((text(resource, SERVICE_NAME), text(resource, HOST_NAME)))
        };
        let mut all: Vec<u64> = profiles.resources.iter().map(|of| hash(&of.resource)).collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

impl Order {
    /// Whether no older batch of these services stays.
    pub(super) fn is_free(&self, services: &Services) -> bool {
        !services.0.iter().any(|service| self.0.contains(service))
    }

    /// A batch of these services stays.
    pub(super) fn hold(&mut self, services: &Services) {
        self.0.extend(&services.0);
    }
}
