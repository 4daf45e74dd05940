//! What a process of this host is: the `process`, `container` and `systemd` detectors, and what the
//! fingerprint has of a process.
//!
//! Everything comes from small text files of the kernel. A process is known by its id and its start:
//! an id that was given to another process since the profile was taken describes nobody.

use std::collections::HashMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use profpipe_profile::Value;

use super::catalog::Detector;
use super::cgroup::{self, Groups, Limits, Throttling};
use super::config::Config;
use super::facts::Facts;
use super::files::{self, Files};
use super::making::BuildFacts;

/// The most processes remembered.
const MAX_PROCESSES: usize = 16_384;
/// The most control groups remembered.
const MAX_GROUPS: usize = 4096;
/// How many profiles of a process are looked through for how its files were made.
const MAX_ASKED: u32 = 16;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// The processes of this host, as far as profiles of them have passed.
#[derive(Debug)]
pub(super) struct Processes {
    /// `/proc` of our own namespace of process ids, which is the sampler's too.
    files: Files,
    /// The host's files.
    host: Files,
    known: HashMap<u32, Process>,
    groups: HashMap<Groups, Group>,
    /// When the host was started, in nanoseconds since 1970.
    booted: u64,
    ticks: u64,
}

#[derive(Debug)]
struct Process {
    /// Since the host was started, in the kernel's ticks.
    start: u64,
    executable: Option<String>,
    facts: Facts,
    /// The executable's build, from the first profile that had a frame in it.
    build: Option<Facts>,
    /// How its files were made, as far as that is known, and how often that was asked.
    made: BuildFacts,
    asked: u32,
    groups: Groups,
    read: Instant,
}

#[derive(Debug, Default)]
struct Group {
    limits: Limits,
    read: Option<Instant>,
    throttling: Option<Throttling>,
    /// What has happened between the last two windows.
    happened: Option<Throttling>,
    window: u64,
}

/// A process whose profile passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessQuery<'a> {
    pub(super) pid: u32,
    /// The path that the profile gives.
    pub(super) executable: Option<&'a str>,
    /// When the profile ends, in nanoseconds since 1970; 0 if it does not say.
    pub(super) end: u64,
    /// The number of the batch: control groups are read once for each.
    pub(super) window: u64,
    /// What the profile says of the executable's build.
    pub(super) build: Option<&'a Facts>,
}

/// What is known of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Described {
    pub(super) facts: Facts,
    /// What happened since the last window.
    pub(super) throttling: Option<Throttling>,
    /// How its files were made, if that is known or was asked often enough.
    pub(super) made: Option<Facts>,
}

impl Processes {
    pub(super) fn new(files: Files, host: Files) -> Self {
        let text = files.text("/proc/stat").unwrap_or_default();
        let booted = files::value(&text, "btime", ' ').and_then(|time| time.parse::<u64>().ok());
        Self {
            files,
            host,
            known: HashMap::new(),
            groups: HashMap::new(),
            booted: booted.unwrap_or(0).saturating_mul(SECOND),
            ticks: rustix::param::clock_ticks_per_second().max(1),
        }
    }

    /// Describes a process; nothing if it is gone and was not known.
    pub(super) fn describe(
        &mut self,
        wanted: ProcessQuery<'_>,
        config: &Config,
        now: Instant,
    ) -> Option<Described> {
        let stat = self.stat(wanted.pid);
        let known = self.known.get(&wanted.pid);
        let fresh = match (&stat, known) {
            (Some(stat), Some(known)) => {
                known.start == stat.start
                    && known.executable.as_deref() == wanted.executable
                    && now.saturating_duration_since(known.read) < config.refresh_interval.0
            }
            // It has ended: what was known of it is still true, if it is the same.
            (None, Some(known)) => known.executable.as_deref() == wanted.executable,
            (_, None) => false,
        };
        if !fresh {
            let stat =
                stat.filter(|stat| wanted.end == 0 || self.started(stat.start) <= wanted.end)?;
            let mut process = self.read(wanted, &stat, config, now);
            let same = self.known.get(&wanted.pid).filter(|known| known.start == process.start);
            if let Some(same) = same.filter(|known| known.executable == process.executable) {
                process.build.clone_from(&same.build);
                process.made = same.made.clone();
                process.asked = same.asked;
            }
            if self.known.len() >= MAX_PROCESSES {
                self.known.clear();
            }
            self.known.insert(wanted.pid, process);
        }
        let process = self.known.get_mut(&wanted.pid)?;
        process.build = wanted.build.cloned().or(process.build.take());
        let mut described =
            Described { facts: process.facts.clone(), throttling: None, made: None };
        if process.made.complete || process.asked >= MAX_ASKED {
            described.made = Some(process.made.facts.clone());
        }
        described.facts.merge(process.build.clone().unwrap_or_default());
        if config.has(Detector::Fingerprint) {
            let groups = process.groups.clone();
            self.add_limits(&mut described, groups, wanted.window, config, now);
        }
        Some(described)
    }

    /// Notes how the files of a process were made. Which these are shows in its stacks, so the first
    /// few profiles may each have more.
    pub(super) fn learn(&mut self, pid: u32, made: BuildFacts) -> Facts {
        let mut facts = made.facts;
        if let Some(process) = self.known.get_mut(&pid) {
            process.asked += 1;
            facts.merge(std::mem::take(&mut process.made.facts));
            // Without a C library in its stacks it may come yet.
            let complete = made.complete && facts.get("profpipe.environment.libc.name").is_some();
            process.made = BuildFacts { facts: facts.clone(), complete };
        }
        facts
    }

    /// Forgets processes that no profile has passed of for long.
    pub(super) fn forget(&mut self, now: Instant, after: Duration) {
        let old = |read: Instant| now.saturating_duration_since(read) > after;
        self.known.retain(|_, process| !old(process.read));
        self.groups.retain(|_, group| group.read.is_some_and(|read| !old(read)));
    }

    fn add_limits(
        &mut self,
        described: &mut Described,
        groups: Groups,
        window: u64,
        config: &Config,
        now: Instant,
    ) {
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&groups) {
            self.groups.clear();
        }
        let host = &self.host;
        let limits = groups.clone();
        let group = self.groups.entry(groups).or_default();
        let interval = config.refresh_interval.0;
        if group.read.is_none_or(|read| now.saturating_duration_since(read) >= interval) {
            group.limits = limits.limits(host);
            group.read = Some(now);
        }
        if group.window != window {
            group.window = window;
            let throttling = limits.throttling(host);
            let both = throttling.zip(group.throttling);
            group.happened = both.map(|(now, before)| now.since(before));
            group.throttling = throttling;
        }
        let mut facts = Facts::default();
        let Limits { cpu, weight, cpus, memory } = group.limits;
        facts.add("profpipe.environment.cgroup.cpu.limit", cpu.map(Value::Double));
        facts.add("profpipe.environment.cgroup.cpu.weight", weight);
        facts.add("profpipe.environment.cgroup.cpu.count", cpus);
        facts.add("profpipe.environment.cgroup.memory.limit", memory);
        facts.retain(|name| config.sets(Detector::Fingerprint, name));
        described.facts.merge(facts);
        // Without a limit there is nothing to tell.
        described.throttling = group.happened.filter(|_| cpu.is_some());
    }

    fn read(
        &self,
        wanted: ProcessQuery<'_>,
        stat: &Stat,
        config: &Config,
        now: Instant,
    ) -> Process {
        let pid = wanted.pid;
        let cgroup = self.files.text(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let groups = Groups::parse(&cgroup);
        let mut found = Facts::default();
        for detector in &config.detectors {
            let mut facts = Facts::default();
            match detector {
                Detector::Process => {
                    facts.text("process.owner", self.owner(pid));
                    facts.add("process.parent_pid", Some(stat.parent));
                    let started = self.started(stat.start);
                    facts.text("process.creation.time", (self.booted > 0).then(|| time(started)));
                    facts.text("process.linux.cgroup", groups.line.clone());
                    if config.sets(*detector, "process.command_line") {
                        facts.text("process.command_line", self.command_line(pid));
                    }
                }
                Detector::Container => {
                    if let Some((runtime, id)) = cgroup::container(&cgroup) {
                        facts.text("container.id", Some(id.to_owned()));
                        facts.text("container.runtime.name", runtime.map(str::to_owned));
                    }
                }
                Detector::Systemd => {
                    let unit = cgroup::unit(&cgroup).map(str::to_owned);
                    facts.text("profpipe.environment.systemd.unit", unit);
                }
                _ => {}
            }
            facts.retain(|name| config.sets(*detector, name));
            found.merge(facts);
        }
        Process {
            start: stat.start,
            executable: wanted.executable.map(str::to_owned),
            facts: found,
            build: None,
            made: BuildFacts::default(),
            asked: 0,
            groups,
            read: now,
        }
    }

    /// When a process was started, in nanoseconds since 1970.
    fn started(&self, ticks: u64) -> u64 {
        let since = u128::from(ticks) * u128::from(SECOND) / u128::from(self.ticks);
        self.booted.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        stat(&self.files.text(&format!("/proc/{pid}/stat"))?)
    }

    /// The user of a process: by name if the host knows it.
    fn owner(&self, pid: u32) -> Option<String> {
        let status = self.files.text(&format!("/proc/{pid}/status"))?;
        let user = files::value(&status, "Uid", ':')?.split_ascii_whitespace().nth(1)?.to_owned();
        let users = self.host.text("/etc/passwd").unwrap_or_default();
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == user && !name.is_empty()).then(|| name.to_owned())
        });
        Some(name.unwrap_or(user))
    }

    fn command_line(&self, pid: u32) -> Option<String> {
        let text = self.files.text(&format!("/proc/{pid}/cmdline"))?;
        Some(text.trim_end_matches('\0').replace('\0', " "))
    }
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: i64,
    pub(super) start: u64,
}

/// Reads a `/proc/PID/stat` line.
pub(super) fn stat(line: &str) -> Option<Stat> {
    // The name is in parentheses and may hold any character; after it come fields 3 and on.
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, start })
}

/// A time in UTC with milliseconds, from nanoseconds since 1970.
fn time(unix: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix / 1_000_000);
    humantime::format_rfc3339_millis(time).to_string()
}
