//! What the SDK in a process says of it: the process context of OpenTelemetry (OTEP 4719).
//!
//! An SDK publishes a header in a mapping with a name, and the header points to a payload of
//! protobuf anywhere in its memory. Everything here was written by the process and may change at
//! any moment, so it is bounded, read as bytes, and believed only if the header was the same before
//! and after. What makes no sense is counted and never logged.

use profpipe_formats::otlp;
use profpipe_host::proc::Mapping;
use profpipe_profile::attribute_names::{
    CONTAINER_ID, HOST_NAME, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, PROCESS_PID,
    SERVICE_NAME,
};
use profpipe_profile::{KeyValue, Resource, Value};

/// The names that the mapping has, as far as the kernel lets the SDK choose.
const NAMES: [&str; 3] = ["[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]", "/memfd:OTEL_CTX"];
/// What is in all of them.
const NAME: &str = "OTEL_CTX";
const SIGNATURE: &[u8; 8] = b"OTEL_CTX";
const VERSION: u32 = 2;
/// The length of the header.
const HEADER: usize = 32;
/// The longest payload; SDKs write some hundred bytes.
const MAX_PAYLOAD: u32 = 64 << 10;
/// The most mappings with the name that are tried; there should be one.
const MAX_MAPPINGS: usize = 8;
/// How often a payload that changes while it is read is read again at once.
const MAX_TRIES: usize = 3;
/// The most attributes of a process, the longest key and the longest text, and the most values of
/// a list; what is longer is left out.
const MAX_ATTRIBUTES: usize = 128;
const MAX_KEY: usize = 256;
const MAX_TEXT: usize = 4096;
const MAX_VALUES: usize = 64;

/// The memory of a process.
pub(crate) trait Memory {
    /// Reads all of `into` from an address; false if it cannot be read.
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool;

    /// Reads pieces of equal length one after the other into `into`; how many could be read before
    /// the first that could not.
    fn read_pieces(&mut self, addresses: &[u64], length: usize, into: &mut [u8]) -> usize {
        let pieces = addresses.iter().zip(into.chunks_exact_mut(length.max(1)));
        let mut read = 0;
        for (address, piece) in pieces {
            if !self.read(*address, piece) {
                break;
            }
            read += 1;
        }
        read
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ContextReading {
    /// A context, published at this time of the process's own clock.
    Context { published: u64, attributes: Vec<KeyValue> },
    /// The same as the last time.
    Same,
    /// It is being changed.
    Changing,
    /// Not a context.
    Nothing(Rejection),
}

/// Why something that has the name is not a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It has not the header's signature, or a version that we do not know.
    Header,
    /// The memory cannot be read.
    Unreadable,
    /// The payload is longer than anything sensible, or empty.
    Length,
    /// The payload is not what it should be.
    Payload,
}

impl Rejection {
    /// Every reason, for counters.
    pub(crate) const ALL: [Self; 4] = [Self::Header, Self::Unreadable, Self::Length, Self::Payload];

    /// The value of a counter's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Unreadable => "unreadable",
            Self::Length => "length",
            Self::Payload => "payload",
        }
    }
}

/// The addresses of mappings in `/proc/PID/maps` that have the name.
pub(crate) fn candidates(maps: &str) -> Vec<u64> {
    let address = |line: &str| {
        // Few lines have the name somewhere: the others are not taken apart.
        let mapping = line.contains(NAME).then(|| Mapping::parse(line)).flatten()?;
        let is_named = NAMES.iter().any(|wanted| mapping.path.starts_with(wanted));
        (is_named && mapping.end - mapping.start >= HEADER as u64).then_some(mapping.start)
    };
    maps.lines().filter_map(address).take(MAX_MAPPINGS).collect()
}

/// The header, as far as it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    length: u32,
    published: u64,
    payload: u64,
}

fn header(memory: &mut impl Memory, address: u64) -> Result<Header, Rejection> {
    let mut bytes = [0; HEADER];
    if !memory.read(address, &mut bytes) {
        return Err(Rejection::Unreadable);
    }
    // Host byte order: the process runs on this machine.
    let number = |at: usize| {
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map_or(0, u64::from_ne_bytes)
    };
    let half = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map_or(0, u32::from_ne_bytes)
    };
    if !bytes.starts_with(SIGNATURE) || half(8) != VERSION {
        return Err(Rejection::Header);
    }
    Ok(Header { length: half(12), published: number(16), payload: number(24) })
}

/// Reads the context whose header is at an address; `known` is when the one known was published.
pub(crate) fn read(memory: &mut impl Memory, address: u64, known: Option<u64>) -> ContextReading {
    for _ in 0..MAX_TRIES {
        let before = match header(memory, address) {
            Ok(header) => header,
            Err(refusal) => return ContextReading::Nothing(refusal),
        };
        if before.published == 0 {
            // Being written; the next look will see more.
            return ContextReading::Changing;
        }
        if known == Some(before.published) {
            return ContextReading::Same;
        }
        if before.length == 0 || before.length > MAX_PAYLOAD {
            return ContextReading::Nothing(Rejection::Length);
        }
        let mut payload = vec![0; before.length as usize];
        let readable = memory.read(before.payload, &mut payload);
        // All of the header and not only the time: reading it is not atomic either.
        match header(memory, address) {
            Ok(after) if after == before => {}
            Ok(_) => continue,
            Err(refusal) => return ContextReading::Nothing(refusal),
        }
        if !readable {
            return ContextReading::Nothing(Rejection::Unreadable);
        }
        return match otlp::decode_process_context(&payload) {
            Ok(resource) => ContextReading::Context {
                published: before.published,
                attributes: sensible(resource.attributes),
            },
            // The message may hold what the process wrote, and is of no use to anybody else.
            Err(_) => ContextReading::Nothing(Rejection::Payload),
        };
    }
    ContextReading::Changing
}

/// The attributes that are of sensible size and kind; the first of two with one key.
fn sensible(attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut kept: Vec<KeyValue> = Vec::new();
    for attribute in attributes {
        let KeyValue { key, value } = &attribute;
        let fits = !key.is_empty() && key.len() <= MAX_KEY && is_plain(value, true);
        if fits && kept.len() < MAX_ATTRIBUTES && kept.iter().all(|kept| kept.key != *key) {
            kept.push(attribute);
        }
    }
    kept
}

fn is_plain(value: &Value, lists: bool) -> bool {
    match value {
        Value::String(text) => text.len() <= MAX_TEXT && !text.chars().any(char::is_control),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => true,
        Value::Array(values) => {
            lists && values.len() <= MAX_VALUES && values.iter().all(|value| is_plain(value, false))
        }
        Value::Empty | Value::Bytes(_) | Value::Map(_) => false,
    }
}

/// Puts what a process says of itself into its resource.
///
/// What the kernel says is not overruled: which process, which executable, which container and
/// host. The service's name is, unless the configuration gives it (`fixed`) or the SDK does not
/// know it either.
pub(crate) fn apply(attributes: &[KeyValue], fixed: bool, resource: &mut Resource) {
    const OURS: [&str; 5] =
        [PROCESS_PID, PROCESS_EXECUTABLE_NAME, PROCESS_EXECUTABLE_PATH, CONTAINER_ID, HOST_NAME];
    for KeyValue { key, value } in attributes {
        let key = key.as_str();
        // These are ours to say, and others build on them.
        if OURS.contains(&key) || key.starts_with("profpipe.") {
            continue;
        }
        if key == SERVICE_NAME {
            let name = value.as_str().map(str::trim).unwrap_or_default();
            if fixed || name.is_empty() || name.starts_with("unknown_service") {
                continue;
            }
        }
        resource.set(key, value.clone());
    }
}
