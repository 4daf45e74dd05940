//! Control groups: what a process may use, and for how long it was kept from running.
//!
//! Both versions are read, also side by side as some systems have them. A limit of a group holds
//! for all groups in it, so what counts is the least from a group up to the root.

use super::files::{self, Files};

/// The deepest nesting that is looked at.
const MAX_DEPTH: usize = 32;

/// The groups that a process is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Groups {
    unified: Option<String>,
    cpu: Option<String>,
    memory: Option<String>,
    cpuset: Option<String>,
    /// The line that names the process's own group best.
    pub(super) line: Option<String>,
}

/// What a group may use.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Limits {
    /// CPU time per time: how many CPUs.
    pub(super) cpu: Option<f64>,
    /// The weight where groups compete, 1 to 10000; 100 unless somebody says otherwise.
    pub(super) weight: Option<i64>,
    /// CPUs that it may run on.
    pub(super) cpus: Option<i64>,
    /// Memory in bytes.
    pub(super) memory: Option<i64>,
}

/// How often and how long a group was kept from running by its limit, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Throttling {
    /// Periods in which it wanted to run.
    pub(super) periods: u64,
    /// Of these, those in which it was stopped.
    pub(super) throttled: u64,
    /// For how long in all, in nanoseconds; every CPU counts.
    pub(super) nanoseconds: u64,
}

impl Throttling {
    /// What has happened since an earlier reading.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(before.periods),
            throttled: self.throttled.saturating_sub(before.throttled),
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
        }
    }
}

impl Groups {
    /// Reads a `/proc/PID/cgroup` file.
    pub(super) fn parse(text: &str) -> Self {
        let mut groups = Self::default();
        let mut named = None;
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            // A group outside of what we see of the hierarchy cannot be looked at.
            let seen = path.starts_with('/') && path.split('/').all(|segment| segment != "..");
            let path = seen.then(|| path.trim_end_matches('/').to_owned());
            for controller in controllers.split(',') {
                match controller {
                    "" if number == "0" => groups.unified.clone_from(&path),
                    "cpu" => groups.cpu.clone_from(&path),
                    "memory" => groups.memory.clone_from(&path),
                    "cpuset" => groups.cpuset.clone_from(&path),
                    "name=systemd" => named = Some(line),
                    _ => {}
                }
            }
        }
        let in_group = |line: &&str| !line.ends_with(":/");
        let unified = text.lines().find(|line| line.starts_with("0::"));
        let any = text.lines().find(in_group);
        let best = unified.filter(in_group).or(named.filter(in_group)).or(any).or(unified);
        groups.line = best.map(str::to_owned);
        groups
    }

    /// What the groups may use.
    pub(super) fn limits(&self, files: &Files) -> Limits {
        let mut limits = Limits::default();
        for group in ancestors(self.unified.as_deref()) {
            for mount in UNIFIED {
                let read = |file: &str| files.line(&format!("{mount}{group}/{file}"));
                least(&mut limits.cpu, read("cpu.max").and_then(|text| quota(&text)));
                least(&mut limits.memory, read("memory.max").and_then(|text| bytes(&text)));
                let weight = || read("cpu.weight")?.parse().ok();
                limits.weight = limits.weight.or_else(weight);
                let cpus = || files::count(&read("cpuset.cpus.effective")?);
                limits.cpus = limits.cpus.or_else(cpus);
            }
        }
        for group in ancestors(self.cpu.as_deref()) {
            let read = |file| files.text(&format!("/sys/fs/cgroup/cpu{group}/{file}"));
            let quota = || {
                let quota: f64 = read("cpu.cfs_quota_us")?.parse().ok()?;
                let period: f64 = read("cpu.cfs_period_us")?.parse().ok()?;
                (quota > 0.0 && period > 0.0).then_some(quota / period)
            };
            least(&mut limits.cpu, quota());
        }
        for group in ancestors(self.memory.as_deref()) {
            let limit = files.text(&format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes"));
            least(&mut limits.memory, limit.and_then(|text| bytes(&text)));
        }
        for group in ancestors(self.cpuset.as_deref()) {
            let path = format!("/sys/fs/cgroup/cpuset{group}/cpuset.effective_cpus");
            let cpus = || files::count(&files.text(&path)?);
            limits.cpus = limits.cpus.or_else(cpus);
        }
        limits
    }

    /// How the groups were kept from running; none where nothing is counted.
    pub(super) fn throttling(&self, files: &Files) -> Option<Throttling> {
        let unified = ancestors(self.unified.as_deref())
            .flat_map(|group| UNIFIED.map(|mount| format!("{mount}{group}/cpu.stat")));
        let old = ancestors(self.cpu.as_deref())
            .map(|group| format!("/sys/fs/cgroup/cpu{group}/cpu.stat"));
        let mut sum: Option<Throttling> = None;
        for path in unified.chain(old) {
            let Some(one) = files.text(&path).and_then(|text| throttling(&text)) else { continue };
            let sum = sum.get_or_insert_default();
            // Periods of several levels are the same time; what is stopped is stopped at one.
            sum.periods = sum.periods.max(one.periods);
            sum.throttled += one.throttled;
            sum.nanoseconds += one.nanoseconds;
        }
        sum
    }
}

/// Where the second version is mounted: alone, or beside the first.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A group and those around it, innermost first, the root (empty) last.
fn ancestors(path: Option<&str>) -> impl Iterator<Item = &str> {
    std::iter::successors(path, |path| path.get(..path.rfind('/')?)).take(MAX_DEPTH)
}

fn least<T: PartialOrd + Copy>(least: &mut Option<T>, new: Option<T>) {
    if let Some(new) = new
        && least.is_none_or(|old| new < old)
    {
        *least = Some(new);
    }
}

/// `cpu.max`: a quota and a period in microseconds.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// A limit in bytes; none where it says that there is none.
fn bytes(text: &str) -> Option<i64> {
    // The first version writes the largest number of pages.
    let limit: i64 = text.parse().ok()?;
    (limit < i64::MAX - (1 << 20)).then_some(limit)
}

/// `cpu.stat` of either version.
fn throttling(text: &str) -> Option<Throttling> {
    let get = |key: &str| files::value(text, key, ' ').and_then(|value| value.parse::<u64>().ok());
    let microseconds = || get("throttled_usec").map(|time| time.saturating_mul(1000));
    Some(Throttling {
        periods: get("nr_periods")?,
        throttled: get("nr_throttled")?,
        nanoseconds: get("throttled_time").or_else(microseconds)?,
    })
}

/// The container in a `/proc/PID/cgroup` file: its runtime as far as the path tells, and its id.
pub(super) fn container(text: &str) -> Option<(Option<&'static str>, &str)> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.into_iter().find_map(|path| {
        // The innermost counts: containers run in containers. `conmon` watches over one.
        path.rsplit('/').filter(|segment| !segment.contains("conmon")).find_map(|segment| {
            let name = segment.strip_suffix(".scope").unwrap_or(segment);
            let id = name.rsplit(['-', ':']).next()?;
            let is_id = id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_id.then(|| (runtime(path, name), id))
        })
    })
}

fn runtime(path: &str, name: &str) -> Option<&'static str> {
    let known = [
        ("cri-containerd", "containerd"),
        ("crio", "cri-o"),
        ("libpod", "podman"),
        ("docker", "docker"),
    ];
    let found = known
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix) || name.contains(&format!(":{prefix}:")));
    let docker = path.contains("/docker/").then_some("docker");
    found.map(|(_, runtime)| *runtime).or(docker)
}

/// The systemd unit in a `/proc/PID/cgroup` file; of the manager of a user's own services those
/// under it are meant.
pub(super) fn unit(text: &str) -> Option<&str> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.into_iter().find_map(|path| {
        let is_unit = |name: &&str| name.ends_with(".service") && !name.starts_with("user@");
        path.rsplit('/').find(is_unit)
    })
}
