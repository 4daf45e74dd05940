//! File names: `SERVICE-20261123T073000Z.pb.gz`, and `…Z.2.pb.gz` where that name is taken. Files of
//! collapsed stacks have their sample type in the name: `SERVICE-20261123T073000Z.cpu.folded`.
//!
//! Names of services and types come from whoever sends profiles. Whatever they are, the file name stays
//! in its directory, is short, visible and safe to type, and two service names never share one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::config::Format;

/// The service name of profiles that state none, as in the semantic conventions.
pub(super) const UNKNOWN_SERVICE: &str = "unknown_service";
/// Bytes of a service name that a file name keeps; with hash, time, number and extension a name
/// stays well below the 255 bytes that file systems allow.
const MAX_SERVICE: usize = 100;
/// Bytes of a sample type that a file name keeps.
const MAX_TYPE: usize = 60;
/// Hex digits of the hash that marks a changed name.
const HASH_DIGITS: usize = 10;
/// The length of `20261123T073000Z`.
const TIME_LENGTH: usize = 16;

/// The part of a file name that a window of a service determines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stem(String);

impl Stem {
    /// The stem for a service and the start of a window, to the second.
    pub(super) fn new(service: &str, start: SystemTime) -> Self {
        Self(format!("{}-{}", sanitize(service), compact_time(start)))
    }

    /// The stem of one sample type of a window.
    pub(super) fn of_type(&self, kind: &str) -> Self {
        Self(format!("{}.{}", self.0, sanitize_type(kind)))
    }

    /// The file name; numbers above 1 are for stems that are taken.
    pub(super) fn file_name(&self, number: u64, format: Format) -> String {
        let extension = format.extension();
        match number {
            0 | 1 => format!("{}{extension}", self.0),
            number => format!("{}.{number}{extension}", self.0),
        }
    }
}

impl Format {
    /// The extension, with its dot.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Pprof => ".pb.gz",
            Self::Otlp => ".otlp",
            Self::OtlpJson => ".otlp.json",
            Self::Folded => ".folded",
        }
    }
}

/// True for names that [`Stem::file_name`] gives, in any format.
pub(super) fn is_ours(name: &str) -> bool {
    let formats = [Format::Pprof, Format::OtlpJson, Format::Otlp, Format::Folded];
    let stem_of = |format: &Format| Some((name.strip_suffix(format.extension())?, *format));
    let Some((stem, format)) = formats.iter().find_map(stem_of) else { return false };
    let Some((service, rest)) = stem.rsplit_once('-') else { return false };
    let mut parts = rest.split('.');
    let time = parts.next().unwrap_or_default();
    let (kind, number) = match (parts.next(), parts.next(), parts.next()) {
        (_, _, Some(_)) => return false,
        (Some(kind), Some(number), None) => (Some(kind), Some(number)),
        (Some(kind), None, None) if format == Format::Folded => (Some(kind), None),
        (number, ..) => (None, number),
    };
    let is_kind = |kind: &str| {
        format == Format::Folded
            && (1..=MAX_TYPE + 1 + HASH_DIGITS).contains(&kind.len())
            && kind.bytes().all(is_type_byte)
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = time.len() == TIME_LENGTH
        && time.strip_suffix('Z').and_then(|time| time.split_once('T')).is_some_and(
            |(date, clock)| date.len() == 8 && digits(date) && clock.len() == 6 && digits(clock),
        );
    let is_service = is_safe(service) && service.len() <= MAX_SERVICE + 1 + HASH_DIGITS;
    is_time && kind.is_none_or(is_kind) && number.is_none_or(digits) && is_service
}

/// Nanoseconds since the epoch as a time, or `now` where they are 0, which means unknown.
pub(super) fn start_time(unix_nano: u64, now: SystemTime) -> SystemTime {
    if unix_nano == 0 { now } else { UNIX_EPOCH + Duration::from_nanos(unix_nano) }
}

/// `20261123T073000Z`: sorts by time, and has no character that a shell or a file system minds.
fn compact_time(time: SystemTime) -> String {
    let time = time.max(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time)
        .to_string()
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect()
}

/// A service name as part of a file name. A name that has to be changed gets a hash of itself, and
/// so does one that looks as if it had one.
fn sanitize(service: &str) -> String {
    let service = if service.is_empty() { UNKNOWN_SERVICE } else { service };
    if is_safe(service) && service.len() <= MAX_SERVICE && !ends_in_hash(service) {
        return service.to_owned();
    }
    let mut name: String = service
        .bytes()
        .take(MAX_SERVICE)
        .map(|byte| if is_safe_byte(byte) { char::from(byte) } else { '_' })
        .collect();
    if name.starts_with(['.', '-']) {
        name.replace_range(..1, "_");
    }
    name.push('_');
    name.push_str(&hash(service));
    name
}

/// A sample type as part of a file name, which has neither dots nor dashes.
fn sanitize_type(kind: &str) -> String {
    let kind = if kind.is_empty() { "unknown" } else { kind };
    if kind.len() <= MAX_TYPE && kind.bytes().all(is_type_byte) {
        return kind.to_owned();
    }
    let safe = |byte| if is_type_byte(byte) { char::from(byte) } else { '_' };
    let name: String = kind.bytes().take(MAX_TYPE).map(safe).collect();
    format!("{name}_{}", hash(kind))
}

fn is_type_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The digits that mark a changed name.
fn hash(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(HASH_DIGITS).collect()
}

/// True for names that need no change for what they are made of.
fn is_safe(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['.', '-']) && name.bytes().all(is_safe_byte)
}

fn is_safe_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// True for names that end in `_` and a hash, as changed names do.
fn ends_in_hash(name: &str) -> bool {
    name.rsplit_once('_').is_some_and(|(_, tail)| {
        tail.len() == HASH_DIGITS
            && tail.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
