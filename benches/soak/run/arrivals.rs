//! What has left the agent, and when: read from its files or from what its exporters send. Nothing is
//! kept of a profile but how late it was, and of a process but its last window.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use profpipe::profile::attribute_names::{PROCESS_PID, SERVICE_NAME};
use profpipe::{Profiles, otlp, pprof};
use prost::Message;

/// What has left so far.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Files, or requests.
    pub(crate) pieces: usize,
    /// When the last of them left.
    pub(crate) newest: Option<SystemTime>,
    /// By window of a process: when it ended, and the seconds until it left.
    pub(crate) windows: Vec<(SystemTime, f32)>,
    /// Windows that left after a later one of the same process.
    pub(crate) disordered: usize,
    /// The first of them: how much earlier its window was, and how much later it left, in seconds.
    pub(crate) disorder: Option<[f64; 2]>,
    /// The longest window.
    pub(crate) longest: Duration,
    /// What could not be read.
    pub(crate) unreadable: usize,
    /// The start of the last window by process, and when that left.
    last: HashMap<u64, (u64, SystemTime)>,
    hasher: RandomState,
}

impl Arrivals {
    /// Notes what left together. Profiles of one process and time count once.
    fn note(&mut self, left: SystemTime, channel: &str, profiles: &Profiles) {
        self.pieces += 1;
        self.newest = self.newest.max(Some(left));
        let mut found = HashSet::new();
        for (resource, _, profile) in profiles.iter().filter(|(.., it)| it.time_unix_nano != 0) {
            let text = |key| resource.get(key).map(|value| format!("{value:?}"));
            let process = (channel, text(SERVICE_NAME), text(PROCESS_PID));
            let process = self.hasher.hash_one(process);
            found.insert((process, profile.time_unix_nano, profile.duration_nano));
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        for (process, start, length) in found {
            let length = Duration::from_nanos(length);
            let end = UNIX_EPOCH + Duration::from_nanos(start) + length;
            self.windows.push((end, seconds_between(end, left) as f32));
            self.longest = self.longest.max(length);
            let last = self.last.entry(process).or_insert((start, left));
            if start < last.0 {
                self.disordered += 1;
                let earlier = (last.0 - start) as f64 / 1e9;
                self.disorder.get_or_insert([earlier, seconds_between(last.1, left)]);
            } else {
                *last = (start, left);
            }
        }
    }
}

/// Seconds from one time of day to another; negative if that is earlier.
pub(crate) fn seconds_between(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(passed) => passed.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    }
}

/// A directory in which files appear and from which old ones vanish.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    /// Those that were read and are still there.
    known: HashSet<std::ffi::OsString>,
}

impl Files {
    pub(crate) fn new(home: &Path) -> Self {
        Self { directory: home.join("profiles"), known: HashSet::new() }
    }

    /// Reads those that are new, in the order in which they were written.
    pub(crate) fn read_new(&mut self, arrivals: &Mutex<Arrivals>) {
        let mut present = HashSet::new();
        let mut new = Vec::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().ends_with(".otlp") {
                continue;
            }
            if !self.known.contains(&name)
                && let Ok(written) = entry.metadata().and_then(|file| file.modified())
            {
                new.push((written, place(&name.to_string_lossy()), name.clone()));
            }
            present.insert(name);
        }
        self.known = present;
        new.sort_unstable();
        for (written, _, name) in new {
            let content = fs::read(self.directory.join(name)).unwrap_or_default();
            take(arrivals, written, "file", otlp::decode(&content).ok());
        }
    }
}

/// Where a file stands among those that were written within a tick of the clock: `SERVICE-TIME`, then
/// the number that tells files of one time apart.
fn place(name: &str) -> (String, usize, String) {
    let (stem, rest) = name.rsplit_once("Z.").unwrap_or((name, ""));
    (stem.to_owned(), rest.len(), rest.to_owned())
}

fn take(arrivals: &Mutex<Arrivals>, left: SystemTime, channel: &str, profiles: Option<Profiles>) {
    let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    match profiles {
        Some(profiles) => arrivals.note(left, channel, &profiles),
        None => arrivals.unreadable += 1,
    }
}

/// Notes an OTLP request that arrives now.
pub(crate) fn take_otlp(arrivals: &Mutex<Arrivals>, body: &[u8]) {
    take(arrivals, SystemTime::now(), "otlp", otlp::decode(body).ok());
}

/// Notes a push that arrives now, series by series. A series is of a service: processes share it.
pub(crate) fn take_push(arrivals: &Mutex<Arrivals>, body: &[u8]) {
    let left = SystemTime::now();
    let Ok(push) = Push::decode(body) else {
        return take(arrivals, left, "push", None);
    };
    for series in push.series {
        let labels = series.labels.iter().map(|label| format!("{}={} ", label.name, label.value));
        let channel = labels.collect::<String>();
        for sample in series.samples {
            take(arrivals, left, &channel, pprof::decode(&sample.raw_profile).ok());
        }
    }
}

/// `push.v1.PushRequest`.
#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

/// `push.v1.RawProfileSeries`.
#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Raw>,
}

/// `types.v1.LabelPair`.
#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `push.v1.RawSample`.
#[derive(Clone, PartialEq, Message)]
struct Raw {
    #[prost(bytes = "vec", tag = "1")]
    raw_profile: Vec<u8>,
}
