//! Which profiles of a target are asked for, and how.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use profpipe_engine::settings::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which profiles of a target are asked for. The names are Alloy's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfilesConfig {
    /// On-CPU time over `seconds`; on by default, at /debug/pprof/profile.
    pub process_cpu: ProfileConfig,
    /// Allocations since the last scrape, and memory in use; on by default, at
    /// /debug/pprof/allocs.
    pub memory: ProfileConfig,
    /// Time spent waiting on synchronisation since the last scrape; on by default, at
    /// /debug/pprof/block.
    pub block: ProfileConfig,
    /// Contention of mutexes since the last scrape; on by default, at /debug/pprof/mutex.
    pub mutex: ProfileConfig,
    /// Where goroutines are now; on by default, at /debug/pprof/goroutine.
    pub goroutine: ProfileConfig,
    /// Wall-clock time over `seconds`, of programs that serve felixge/fgprof at /debug/fgprof.
    pub fgprof: ProfileConfig,
    /// Allocations since the last request, of programs that serve godeltaprof at
    /// /debug/pprof/delta_heap; only one scraper may ask for these.
    pub godeltaprof_memory: ProfileConfig,
    /// Contention of mutexes since the last request, at /debug/pprof/delta_mutex.
    pub godeltaprof_mutex: ProfileConfig,
    /// Time spent waiting since the last request, at /debug/pprof/delta_block.
    pub godeltaprof_block: ProfileConfig,
    /// Other profiles, by name; each needs a `path`.
    pub custom: BTreeMap<String, ProfileConfig>,
}

/// How one profile is asked for; what is not said is as usual for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileConfig {
    /// Whether it is asked for.
    pub enabled: Option<bool>,
    /// Its path on the target.
    pub path: Option<String>,
    /// Ask with `?seconds=`: the target measures for that long and answers then.
    pub delta: Option<bool>,
    /// How long the target measures; unless set, a second less than the scrape interval.
    pub seconds: Option<Duration>,
    /// The values count from the start of the process: their difference to the last scrape is sent.
    /// Applies to the types alloc_objects, alloc_space, contentions and delay.
    pub cumulative: Option<bool>,
}

/// How a profile is asked for, with everything said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) enabled: bool,
    pub(super) path: String,
    pub(super) kind: Kind,
    seconds: Option<Duration>,
}

/// What a profile counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What happens while the request lasts.
    Window,
    /// What happened since the process started.
    Cumulative,
    /// How it is now, or since somebody asked last.
    Instant,
}

/// What is usual: name, enabled, path, kind.
const USUAL: [(&str, bool, &str, Kind); 9] = [
    ("process_cpu", true, "/debug/pprof/profile", Kind::Window),
    ("memory", true, "/debug/pprof/allocs", Kind::Cumulative),
    ("block", true, "/debug/pprof/block", Kind::Cumulative),
    ("mutex", true, "/debug/pprof/mutex", Kind::Cumulative),
    ("goroutine", true, "/debug/pprof/goroutine", Kind::Instant),
    ("fgprof", false, "/debug/fgprof", Kind::Window),
    ("godeltaprof_memory", false, "/debug/pprof/delta_heap", Kind::Instant),
    ("godeltaprof_mutex", false, "/debug/pprof/delta_mutex", Kind::Instant),
    ("godeltaprof_block", false, "/debug/pprof/delta_block", Kind::Instant),
];

impl ProfilesConfig {
    /// Every profile, asked for or not.
    pub(super) fn all(&self) -> Vec<Profile> {
        let own = [
            &self.process_cpu,
            &self.memory,
            &self.block,
            &self.mutex,
            &self.goroutine,
            &self.fgprof,
            &self.godeltaprof_memory,
            &self.godeltaprof_mutex,
            &self.godeltaprof_block,
        ];
        let known = USUAL
            .iter()
            .zip(own)
            .map(|((name, enabled, path, kind), config)| config.over(name, *enabled, path, *kind));
        let custom =
            self.custom.iter().map(|(name, config)| config.over(name, true, "", Kind::Instant));
        known.chain(custom).collect()
    }

    /// Where a profile stands in the configuration.
    pub(super) fn place(&self, name: &str) -> String {
        if USUAL.iter().any(|(usual, ..)| *usual == name) {
            format!("profiles::{name}")
        } else {
            format!("profiles::custom::{name}")
        }
    }

    /// Those that are asked for.
    pub(super) fn enabled(&self) -> impl Iterator<Item = Profile> {
        self.all().into_iter().filter(|profile| profile.enabled)
    }
}

impl ProfileConfig {
    fn over(&self, name: &str, enabled: bool, path: &str, usual: Kind) -> Profile {
        let window = self.delta.unwrap_or(usual == Kind::Window);
        let cumulative = self.cumulative.unwrap_or(usual == Kind::Cumulative);
        Profile {
            name: name.to_owned(),
            enabled: self.enabled.unwrap_or(enabled),
            path: self.path.clone().unwrap_or_else(|| path.to_owned()),
            kind: match (window, cumulative) {
                (true, _) => Kind::Window,
                (false, true) => Kind::Cumulative,
                (false, false) => Kind::Instant,
            },
            seconds: self.seconds,
        }
    }
}

impl Profile {
    /// For how long the target measures, in whole seconds.
    pub(super) fn seconds(&self, interval: StdDuration) -> u64 {
        let usual = interval.as_secs().saturating_sub(1).max(1);
        self.seconds.map_or(usual, |seconds| seconds.0.as_secs().max(1))
    }
}
