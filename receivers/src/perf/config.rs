//! What users type for the `perf` receiver.

use profpipe_engine::component::Config as ComponentConfig;
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::Event;

/// The most of a budget that events beside CPU time may ask for together.
const MAX_SHARES: f64 = 0.9;

/// The native sampler: what every CPU of this host, or of some processes, is busy with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Samples a second and CPU, 1 to 10000. An odd number avoids marching in step with timers.
    pub frequency: u32,
    /// The length of a window: one batch is sent at the end of each.
    pub interval: Duration,
    /// What to sample: names, or `{ name: { options } }`.
    pub events: Vec<Event>,
    /// How user stacks are unwound.
    pub unwind: Unwind,
    /// Who is sampled: `system`, `user` (all processes of the user that profpipe runs as),
    /// `{ pid: N }` (a process with its threads and its children, those it starts later too),
    /// `{ cgroup: PATH }`, `{ container: ID }`, or `{ match: { name: NAME, user: USER } }`. Where
    /// `system` is not permitted, `user` is used and a warning says so.
    pub scope: Scope,
    /// How much of a user stack is copied with every sample, up to `65528`. Deeper stacks are
    /// marked as truncated. Not used with `unwind: frame_pointers`.
    pub stack_size: ByteSize,
    /// The memory for samples under way, per CPU; rounded down to a power of two. Halved as often
    /// as necessary where the host allows less.
    pub buffer_size: ByteSize,
    /// The service name of every process. By default it is found by rule: the container, else the
    /// systemd unit, else the executable.
    pub service_name: Option<String>,
    /// Whether what OpenTelemetry SDKs publish about their process (its service's name and other
    /// attributes) goes into its resource.
    pub process_context: bool,
    /// What is shown of programs that an interpreter or a virtual machine runs.
    pub runtimes: Runtimes,
    /// Whether the time of every sample is kept: 8 bytes and its weight for each, and rows of equal
    /// stacks still become one.
    pub timestamps: bool,
}

/// What is shown of programs that an interpreter or a virtual machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtimes {
    /// Whether their functions are shown by their own names, with file and line. On by default; if
    /// off, the native functions of the interpreter are shown instead, and no memory of other
    /// programs is read for their names.
    pub enabled: bool,
    /// Whether the interpreter's own native functions are shown between those of the program. Off by
    /// default; on to find out what the interpreter itself spends its time with.
    pub internals: bool,
}

impl Config {
    /// Whether managed programs among chosen processes are to be read.
    pub(super) fn reads_chosen(&self) -> bool {
        self.runtimes.enabled && self.scope != Scope::System
    }
}

impl Default for Runtimes {
    fn default() -> Self {
        Self { enabled: true, internals: false }
    }
}

/// How user stacks are unwound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unwind {
    /// With the tables that compilers write for exceptions, and along frame pointers in code that
    /// has none, such as Go and just-in-time compiled code.
    Auto,
    /// With those tables only.
    Dwarf,
    /// Along frame pointers only: cheaper, and right only for programs compiled with them.
    FramePointers,
}

/// Who is sampled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every process of the host, and the kernel.
    System,
    /// Every process of the user that profpipe runs as.
    User,
    /// A process with its threads and its children, those it starts later too. The process may be
    /// one that has not yet called `exec`: it is under observation when the receiver is built.
    Pid(u32),
    /// What is in a control group and in those below, as `/system.slice/nginx.service`; what is begun
    /// there later too. The others cost nothing.
    Cgroup(String),
    /// What is in a container, by the beginning of its id.
    Container(String),
    /// Processes by name and user, and what they start; those that come later are found within two
    /// seconds.
    Match(Match),
}

/// Which processes are sampled; both must hold that are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The name of the process or of its executable; `*` stands for any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            frequency: 99,
            interval: Duration::from_secs(10),
            events: vec![Event::Cpu],
            unwind: Unwind::Auto,
            scope: Scope::System,
            stack_size: ByteSize(32 << 10),
            buffer_size: ByteSize::mib(4),
            service_name: None,
            process_context: true,
            runtimes: Runtimes::default(),
            timestamps: false,
        }
    }
}

impl ComponentConfig for Config {
    fn validate(&self, problems: &mut Problems) {
        if !(1..=10_000).contains(&self.frequency) {
            problems.push("frequency", "must be between 1 and 10000 samples a second");
        }
        if self.interval.0 < std::time::Duration::from_millis(100) {
            problems.push("interval", "must be at least 100ms");
        }
        if self.events.is_empty() {
            problems.push("events", "names no event; write `[cpu]`");
        }
        for (at, event) in self.events.iter().enumerate() {
            event.validate(at, problems);
            if self.events.iter().take(at).any(|before| before.identity() == event.identity()) {
                let text = format!("names `{event}` twice");
                problems.push("events", text);
            }
        }
        let shares: f64 = self.events.iter().filter_map(Event::share).sum();
        if shares > MAX_SHARES {
            let text = "ask for more than 90% of the budget by `share`: `cpu` needs some of it";
            problems.push("events", text);
        }
        if self.stack_size.0 > 65_528 || self.stack_size.0 < 512 {
            problems.push("stack_size", "must be between 512 and 65528 bytes");
        }
        if self.buffer_size.0 < 64 << 10 || self.buffer_size.0 > 1 << 30 {
            problems.push("buffer_size", "must be between 64KiB and 1GiB");
        }
        if self.scope == Scope::Match(Match::default()) {
            problems.push("scope::match", "names neither a `name` nor a `user`");
        }
        if self.scope == Scope::Pid(0) {
            problems.push("scope::pid", "0 is not a process");
        }
        if self.service_name.as_deref() == Some("") {
            problems.push("service_name", "is empty; leave it out to use the rule");
        }
    }
}
