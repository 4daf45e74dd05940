//! What tenants have uploaded, as the processor looks at it: whether anything has come since it last did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use profpipe_engine::component::SymbolStorage;

/// How often it is looked whether a tenant has uploaded something.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Tenants that are remembered; beyond, all are looked at afresh.
const MAX_TENANTS: usize = 65_536;

/// The uploads of all tenants.
#[derive(Debug)]
pub(super) struct Uploads {
    storage: Arc<dyn SymbolStorage>,
    /// When it was looked, and when the last file of the tenant came or went then.
    looked: HashMap<Arc<str>, (Instant, Option<SystemTime>)>,
}

impl Uploads {
    pub(super) fn new(storage: Arc<dyn SymbolStorage>) -> Self {
        Self { storage, looked: HashMap::new() }
    }

    /// Whether files of a tenant have come or gone since this was last asked.
    pub(super) fn have_changed(&mut self, tenant: &Arc<str>, now: Instant) -> bool {
        let before = self.looked.get(tenant).copied();
        if before.is_some_and(|(at, _)| now.saturating_duration_since(at) < LOOK_INTERVAL) {
            return false;
        }
        let changed_at = self.storage.changed_at(Some(&**tenant).filter(|name| !name.is_empty()));
        if self.looked.len() >= MAX_TENANTS && before.is_none() {
            self.looked.clear();
        }
        self.looked.insert(Arc::clone(tenant), (now, changed_at));
        before.is_some_and(|(_, before)| before != changed_at)
    }
}
