//! Gathers the windows of a recording.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use profpipe::{Batch, Exporter, Failure};
use profpipe_engine::component::Error;
use profpipe_profile::{
    self as profile, Profile, Profiles, ResourceProfiles, Scope, ScopeProfiles, ValueType,
};

/// Windows that are kept before they become one: uniting costs time, keeping costs memory.
const WINDOWS: usize = 16;

/// The windows so far, the older ones united in the first; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Collected(Arc<Mutex<Vec<Arc<Profiles>>>>);

impl Collected {
    /// Everything as one batch.
    pub(super) fn take(&self) -> Profiles {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        profile::aggregate(windows.drain(..).map(Arc::unwrap_or_clone))
    }
}

/// A profile of a recording in which nothing ran: the sample types, and no sample.
pub(super) fn nothing(frequency: u32, start: SystemTime, elapsed: Duration) -> Profiles {
    let mut profiles = Profiles::new();
    let strings = &mut profiles.dictionary.strings;
    let mut value_type =
        |kind, unit| ValueType { kind: strings.intern(kind), unit: strings.intern(unit) };
    let count = value_type("samples", "count");
    let cpu = value_type("cpu", "nanoseconds");
    let start = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let of = |sample_type| Profile {
        sample_type,
        time_unix_nano: start.as_nanos() as u64,
        duration_nano: elapsed.as_nanos() as u64,
        period_type: cpu,
        period: 1_000_000_000 / i64::from(frequency.max(1)),
        ..Profile::default()
    };
    let scope = Scope {
        name: "profpipe".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Scope::default()
    };
    let scope =
        ScopeProfiles { scope, profiles: vec![of(count), of(cpu)], ..ScopeProfiles::default() };
    let resource = ResourceProfiles { scopes: vec![scope], ..ResourceProfiles::default() };
    profiles.resources.push(resource);
    profiles
}

#[profpipe::async_trait]
impl Exporter for Collected {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch.shared().map_err(|cause| Failure::Reject {
            cause: Error::with_source("cannot read a window", cause),
        })?;
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.push(profiles);
        if windows.len() >= WINDOWS {
            let united = profile::aggregate(windows.drain(..).map(Arc::unwrap_or_clone));
            windows.push(Arc::new(united));
        }
        Ok(())
    }
}
