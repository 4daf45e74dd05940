//! What the `perf` receiver samples, as users write it: a name, or a name with options.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Percent};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The names of events.
const NAMES: [&str; 9] =
    ["cpu", "off_cpu", "wall", "page_faults", "heap", "calls", "block_io", "tracepoint", "counter"];
/// The most functions whose calls are counted: to end that takes the kernel a moment for each.
const MAX_FUNCTIONS: usize = 16;
/// The longest path of a socket.
const MAX_SOCKET_PATH: usize = 107;
/// A sample of the heap in so many bytes, where nothing is said.
const USUAL_INTERVAL: ByteSize = ByteSize(512 << 10);
/// The gaps between samples of the heap that may be asked for.
const INTERVALS: std::ops::RangeInclusive<u64> = 64..=1 << 40;
/// Bounds of the part of a budget that may be asked for.
const MIN_SHARE: f64 = 0.001;
const MAX_SHARE: f64 = 0.8;
/// The most looks a second that may be asked for.
const MAX_RATE: u32 = 2_000;

/// What to sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Where CPU time goes. Type `cpu:nanoseconds`, and `samples:count`.
    Cpu,
    /// Where threads wait, and for what. Type `off_cpu:nanoseconds`.
    OffCpu(OffCpu),
    /// Both, and their sum besides: `wall:nanoseconds`.
    Wall(OffCpu),
    /// Where memory is touched for the first time, or is read from a disk. Type `page_faults:count`, or
    /// `page_faults_major:count`.
    PageFaults(PageFaults),
    /// Where memory is allocated, and where that was allocated which is not freed, in programs that load the
    /// library. Types `alloc_space:bytes`, `alloc_objects:count`, `inuse_space:bytes` and
    /// `inuse_objects:count`.
    Heap(Heap),
    /// How often functions are called, exactly, and from where. Type `calls:count`.
    Calls(Calls),
    /// Where blocks of disks are read and written. Types `io_bytes:bytes` and `io_requests:count`.
    BlockIo(BlockIo),
    /// Where the kernel passes one of its tracepoints. The type is its name in `count`, or one of its
    /// fields.
    Tracepoint(Tracepoint),
    /// Where something happens that the processor or the kernel counts. The type is its name in `count`.
    Counter(Counter),
}

/// Options of `off_cpu` and `wall`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OffCpu {
    /// Looks at threads in a second, on this host in all: 1 to 2000. By default 100, and 400 in
    /// `profpipe record`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// What becomes of threads that have not run for ten seconds: their time is one row `[parked]` of
    /// their process (`sum`), they are looked at as others are (`keep`), or left out (`drop`). By default
    /// `sum`, and `keep` in `profpipe record`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
    /// The part of a budget that it may take, as `25%`; see `governor`. By default 25%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Whether it is an error that the host does not allow it. By default it is a warning, and the other
    /// events go on.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// What becomes of threads that have not run for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parked {
    /// Their time is one row of their process.
    Sum,
    /// They are looked at as others are.
    Keep,
    /// They are left out.
    Drop,
}

/// Options of `page_faults`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageFaults {
    /// A sample for so many faults; `auto` follows how many there are. Best a prime number, so that it
    /// does not keep step with what is sampled.
    #[serde(skip_serializing_if = "Every::is_auto")]
    pub every: Every,
    /// Which ones.
    #[serde(skip_serializing_if = "Faults::is_all")]
    pub kind: Faults,
    /// The part of a budget that it may take, as `25%`; see `governor`. By default a part of 10%, which all events beside
    /// `cpu` and `off_cpu` share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Whether it is an error that the host does not allow it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// Options of `heap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Heap {
    /// A sample in so many allocated bytes, in the mean. By default 512KiB; less shows more of a program
    /// that allocates little, and takes more of one that allocates much.
    #[serde(skip_serializing_if = "is_usual_interval")]
    pub interval: ByteSize,
    /// Whether what is not freed is shown, too; by default it is.
    #[serde(skip_serializing_if = "is_true")]
    pub live: bool,
    /// Whether that is told once, when a program or the recording ends, and not at the end of every window;
    /// as `profpipe record` has it. Off by default.
    #[serde(skip_serializing_if = "is_false")]
    pub at_end: bool,
    /// The socket at which programs hand over what they sample: a path, which they find in the variable
    /// `PROFPIPE_HEAP`. `profpipe record` makes one of its own. Every user who may enter its directory may
    /// be sampled, and nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<PathBuf>,
    /// Whether it is an error that it cannot be had.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

impl Default for Heap {
    fn default() -> Self {
        Self { interval: USUAL_INTERVAL, live: true, at_end: false, listen: None, required: false }
    }
}

impl Heap {
    /// The mean gap between samples in bytes.
    pub fn interval(&self) -> u64 {
        self.interval.0
    }
}

/// Options of `calls`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// The functions, as `./app:parse`, `libz.so.1:inflate` or `/usr/bin/shop:main.checkout`: the file that
    /// each is in, and its name. At most 16.
    pub functions: Vec<String>,
    /// With more calls of a function in a second than this it is no longer counted, and a warning says so:
    /// each takes the program about half a microsecond, or twenty where the kernel cannot emulate the
    /// instruction. By default 200000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_hits: Option<u64>,
    /// A stack for so many calls; by default 61.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The part of a budget that it may take, as `25%`; see `governor`. By default as of
    /// `page_faults`; counting may take as much of a core from the programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Whether it is an error that the host does not allow it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// Options of `block_io`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockIo {
    /// A sample for so many requests; by default for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The part of a budget that it may take, as `25%`; see `governor`. By default as of
    /// `page_faults`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Whether it is an error that the host does not allow it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// Options of `tracepoint`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tracepoint {
    /// Its name, as `sched:sched_process_exec`.
    pub name: String,
    /// Which of its events: an expression in its fields, as the kernel's tracing has it:
    /// `common_pid != 1 && ret > 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The field whose values are summed up; by default events are counted. Values below zero count as
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The unit of that field; by default `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// A sample for so many events; by default for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The part of a budget that it may take, as `25%`; see `governor`. By default as of
    /// `page_faults`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Whether it is an error that the host does not allow it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// Options of `counter`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Counter {
    /// Its name, as `perf list` has it: `cache-misses`, `LLC-load-misses`, `context-switches`, or `r1b0` for
    /// a number of the processor's manual.
    pub name: String,
    /// A sample for so many; by default 100003 of what the processor counts, 61 of what the kernel does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The part of a budget that it may take, as `25%`; see `governor`. By default as of
    /// `page_faults`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Whether it is an error that the host does not have it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// Which page faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Faults {
    /// All of them: most are first touches of memory, each of which makes the process larger by a page.
    #[default]
    All,
    /// Those that had to wait for a disk.
    Major,
}

/// How often an event is sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Every {
    /// As often as is right for how many there are.
    #[default]
    Auto,
    /// Once in so many.
    Count(u64),
}

fn is_usual_interval(it: &ByteSize) -> bool {
    *it == USUAL_INTERVAL
}

fn is_true(it: &bool) -> bool {
    *it
}

fn is_false(it: &bool) -> bool {
    !it
}

impl Faults {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

impl Every {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Event {
    /// Its name, as users write it.
    pub fn name(&self) -> &'static str {
        let [cpu, off_cpu, wall, page_faults, heap, calls, block_io, tracepoint, counter] = NAMES;
        match self {
            Self::Cpu => cpu,
            Self::OffCpu(_) => off_cpu,
            Self::Wall(_) => wall,
            Self::PageFaults(_) => page_faults,
            Self::Heap(_) => heap,
            Self::Calls(_) => calls,
            Self::BlockIo(_) => block_io,
            Self::Tracepoint(_) => tracepoint,
            Self::Counter(_) => counter,
        }
    }

    /// The event of a name, with its defaults.
    fn of_name(name: &str) -> Option<Self> {
        let all = [
            Self::Cpu,
            Self::OffCpu(OffCpu::default()),
            Self::Wall(OffCpu::default()),
            Self::PageFaults(PageFaults::default()),
            Self::Heap(Heap::default()),
            Self::Calls(Calls::default()),
            Self::BlockIo(BlockIo::default()),
            Self::Tracepoint(Tracepoint::default()),
            Self::Counter(Counter::default()),
        ];
        all.into_iter().find(|event| event.name() == name)
    }

    /// Whether it is an error that the host does not allow it.
    pub fn is_required(&self) -> bool {
        match self {
            Self::Cpu => true,
            Self::OffCpu(options) | Self::Wall(options) => options.required,
            Self::PageFaults(options) => options.required,
            Self::Heap(options) => options.required,
            Self::Calls(options) => options.required,
            Self::BlockIo(options) => options.required,
            Self::Tracepoint(options) => options.required,
            Self::Counter(options) => options.required,
        }
    }

    /// The part of a budget that was asked for.
    pub fn share(&self) -> Option<f64> {
        let share = match self {
            Self::Cpu | Self::Heap(_) => None,
            Self::OffCpu(options) | Self::Wall(options) => options.share,
            Self::PageFaults(options) => options.share,
            Self::Calls(options) => options.share,
            Self::BlockIo(options) => options.share,
            Self::Tracepoint(options) => options.share,
            Self::Counter(options) => options.share,
        };
        share.map(|share| share.0)
    }

    /// Reads `NAME`, `NAME:key=value,…` or `calls=FILE:FUNCTION`, as on a command line.
    ///
    /// # Errors
    /// One line that says what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(function) = text.strip_prefix("calls=") {
            return Ok(Self::Calls(Calls { functions: vec![function.into()], ..Calls::default() }));
        }
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let mut map = serde_json::Map::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let Some((key, value)) = option.split_once('=') else {
                return Err(format!("`{option}` is not an option; write key=value"));
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            map.insert(key.to_owned(), value);
        }
        let value = match map.is_empty() {
            true => serde_json::Value::from(name),
            false => serde_json::json!({ name: map }),
        };
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// What tells it from others: there may be several tracepoints and counters.
    pub fn identity(&self) -> String {
        match self {
            Self::Calls(options) => format!("{} {}", self.name(), options.functions.join(" ")),
            Self::Tracepoint(options) => format!("{} {}", self.name(), options.name),
            Self::Counter(options) => format!("{} {}", self.name(), options.name),
            _ => self.name().to_owned(),
        }
    }

    /// What is wrong with its options.
    pub(super) fn validate(&self, at: usize, problems: &mut Problems) {
        if self.share().is_some_and(|share| !(MIN_SHARE..=MAX_SHARE).contains(&share)) {
            let path = format!("events::{at}::{}::share", self.name());
            problems.push(&path, "must be between 0.1% and 80% of the budget");
        }
        match self {
            Self::OffCpu(OffCpu { rate: Some(rate), .. })
            | Self::Wall(OffCpu { rate: Some(rate), .. })
                if !(1..=MAX_RATE).contains(rate) =>
            {
                let path = format!("events::{at}::{}::rate", self.name());
                problems.push(&path, "must be between 1 and 2000 looks a second");
            }
            Self::Heap(Heap { interval, listen, .. }) => {
                let path = |option| format!("events::{at}::heap::{option}");
                if !INTERVALS.contains(&interval.0) {
                    problems.push(&path("interval"), "must be between 64B and 1TiB");
                }
                if listen.as_ref().is_none_or(|path| path.as_os_str().len() > MAX_SOCKET_PATH) {
                    let text = "must be the path of a socket, of at most 107 bytes, that programs find in \
                                PROFPIPE_HEAP";
                    problems.push(&path("listen"), text);
                }
            }
            Self::Calls(Calls { functions, every, .. }) => {
                let path = |option| format!("events::{at}::calls::{option}");
                if functions.is_empty() || functions.len() > MAX_FUNCTIONS {
                    let text = format!("must name between 1 and {MAX_FUNCTIONS} functions");
                    problems.push(&path("functions"), text);
                }
                if *every == Some(0) {
                    problems.push(&path("every"), "must be at least 1");
                }
            }
            Self::BlockIo(BlockIo { every: Some(0), .. }) => {
                problems.push(&format!("events::{at}::block_io::every"), "must be at least 1");
            }
            Self::Tracepoint(Tracepoint { name, every, .. })
            | Self::Counter(Counter { name, every, .. }) => {
                let path = |option| format!("events::{at}::{}::{option}", self.name());
                if name.is_empty() {
                    problems.push(&path("name"), "is missing; name what is to be sampled");
                }
                if *every == Some(0) {
                    problems.push(&path("every"), "must be at least 1");
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if Self::of_name(self.name()).as_ref() == Some(self) {
            return serializer.serialize_str(self.name());
        }
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Cpu => {}
            Self::OffCpu(options) | Self::Wall(options) => {
                map.serialize_entry(self.name(), options)?;
            }
            Self::PageFaults(options) => map.serialize_entry(self.name(), options)?,
            Self::Heap(options) => map.serialize_entry(self.name(), options)?,
            Self::Calls(options) => map.serialize_entry(self.name(), options)?,
            Self::BlockIo(options) => map.serialize_entry(self.name(), options)?,
            Self::Tracepoint(options) => map.serialize_entry(self.name(), options)?,
            Self::Counter(options) => map.serialize_entry(self.name(), options)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMap;
        impl<'de> Visitor<'de> for NameOrMap {
            type Value = Event;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an event, or `{ name: { option: value } }`")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Event, E> {
                Event::of_name(name).ok_or_else(|| E::unknown_variant(name, &NAMES))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
                let Some(name) = map.next_key::<String>()? else {
                    return Err(A::Error::invalid_value(Unexpected::Map, &self));
                };
                let event = match Event::of_name(&name) {
                    None => return Err(A::Error::unknown_variant(&name, &NAMES)),
                    Some(Event::Cpu) => {
                        map.next_value::<NoOptions>()?;
                        Event::Cpu
                    }
                    Some(Event::OffCpu(_)) => Event::OffCpu(map.next_value()?),
                    Some(Event::Wall(_)) => Event::Wall(map.next_value()?),
                    Some(Event::PageFaults(_)) => Event::PageFaults(map.next_value()?),
                    Some(Event::Heap(_)) => Event::Heap(map.next_value()?),
                    Some(Event::Calls(_)) => Event::Calls(map.next_value()?),
                    Some(Event::BlockIo(_)) => Event::BlockIo(map.next_value()?),
                    Some(Event::Tracepoint(_)) => Event::Tracepoint(map.next_value()?),
                    Some(Event::Counter(_)) => Event::Counter(map.next_value()?),
                };
                match map.next_key::<String>()? {
                    None => Ok(event),
                    Some(other) => Err(A::Error::custom(format!(
                        "`{other}` stands in the entry of `{name}`; each event is an entry of its own"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(NameOrMap)
    }
}

/// The options of an event that has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// How an event is described in the schema.
#[derive(JsonSchema)]
#[schemars(untagged, rename = "Event")]
#[allow(dead_code, reason = "the schema is derived from it")]
enum EventSchema {
    Name(EventName),
    WithOptions(EventOptions),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "the schema is derived from it")]
enum EventName {
    Cpu,
    OffCpu,
    Wall,
    PageFaults,
    BlockIo,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "the schema is derived from it")]
enum EventOptions {
    OffCpu(OffCpu),
    Wall(OffCpu),
    PageFaults(PageFaults),
    Heap(Heap),
    Calls(Calls),
    BlockIo(BlockIo),
    Tracepoint(Tracepoint),
    Counter(Counter),
}

impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        EventSchema::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        EventSchema::json_schema(generator)
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => serializer.serialize_u64(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "`auto`, or a whole number from 1 to 16777216")]
        enum Text {
            Count(u64),
            Name(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Count(count @ 1..=0x0100_0000) => Ok(Self::Count(count)),
            Text::Name(name) if name == "auto" => Ok(Self::Auto),
            Text::Count(_) | Text::Name(_) => {
                Err(D::Error::custom("must be `auto`, or a whole number from 1 to 16777216"))
            }
        }
    }
}

impl JsonSchema for Every {
    fn schema_name() -> Cow<'static, str> {
        "Every".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "oneOf": [
                { "const": "auto" },
                { "type": "integer", "minimum": 1, "maximum": 16_777_216 },
            ]
        })
    }
}
