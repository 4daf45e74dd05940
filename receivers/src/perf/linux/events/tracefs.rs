//! Tracepoints as the kernel describes them in tracefs: their numbers and the places of their fields.
//!
//! It is only read where it is mounted; nobody mounts it for us.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::perf::linux::records::block::BlockFields;
use crate::perf::linux::records::record::RawField;

/// Where it may be.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A tracepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracepoint {
    /// Its number.
    pub(crate) number: u64,
    /// The field that was asked for.
    pub(crate) value: Option<RawField>,
}

/// The directory of a tracepoint `SYSTEM:NAME`.
fn directory(name: &str) -> Result<PathBuf, String> {
    let Some((system, point)) = name.split_once(':') else {
        return Err(format!("`{name}` is not a tracepoint; write it as sched:sched_switch"));
    };
    let is_plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !is_plain(system) || !is_plain(point) {
        return Err(format!("`{name}` is not a tracepoint; write it as sched:sched_switch"));
    }
    let mounted = PLACES.iter().map(|place| PathBuf::from(place).join("events"));
    let Some(events) = mounted
        .into_iter()
        .find(|events| fs::read_dir(events).is_ok_and(|mut entries| entries.next().is_some()))
    else {
        let is_denied = |place: &&&str| {
            fs::read_dir(place).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        return Err(match PLACES.iter().find(is_denied) {
            Some(place) => format!(
                "{place} may not be read by this user; run as root, or with CAP_DAC_READ_SEARCH and \
                 CAP_PERFMON"
            ),
            None => {
                "tracefs is not mounted; as root: mount -t tracefs nodev /sys/kernel/tracing".into()
            }
        });
    };
    let directory = events.join(system).join(point);
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(format!("this kernel has no tracepoint `{name}`; look into {}", events.display()))
}

/// Finds a tracepoint, and a field of it if one is asked for.
pub(crate) fn find(name: &str, value: Option<&str>) -> Result<Tracepoint, String> {
    let directory = directory(name)?;
    let read = |file: &str| {
        fs::read_to_string(directory.join(file))
            .map_err(|error| format!("{}: {error}", directory.join(file).display()))
    };
    let number = read("id")?;
    let number = number.trim().parse().map_err(|_| format!("`{name}` has no number"))?;
    let value = match value {
        None => None,
        Some(value) => Some(field(&read("format")?, value).map_err(|fields| {
            format!("`{name}` has no field `{value}` that is a number; it has {fields}")
        })?),
    };
    Ok(Tracepoint { number, value })
}

/// Finds a tracepoint of requests for blocks, and where it has what they are.
pub(crate) fn find_blocks(name: &str) -> Option<(u64, BlockFields)> {
    let directory = directory(name).ok()?;
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    let number = read("id")?.trim().parse().ok()?;
    let format = read("format")?;
    let place = |wanted| field(&format, wanted).ok();
    let operation = format.lines().find(|line| line.contains(" rwbs["))?;
    let (_, offset) = operation.split_once("offset:")?;
    let fields = BlockFields {
        device: place("dev")?,
        sector: place("sector")?,
        sectors: place("nr_sector")?,
        operation: offset.split(';').next()?.parse().ok()?,
    };
    Some((number, fields))
}

/// The place of a field that is a number; else the names of those that are.
fn field(format: &str, wanted: &str) -> Result<RawField, String> {
    let mut known = Vec::new();
    for line in format.lines() {
        let Some((name, field)) = parse(line) else { continue };
        if name == wanted {
            return Ok(field);
        }
        if !name.starts_with("common_") {
            known.push(name);
        }
    }
    Err(known.join(", "))
}

/// The name and place in a line such as `field:long ret; offset:16; size:8; signed:1;`, with tabs between;
/// none where it is not one of a number.
fn parse(line: &str) -> Option<(&str, RawField)> {
    let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
    let value = |key: &str| -> Option<u16> {
        let (_, after) = rest.split_once(key)?;
        after.split(';').next()?.parse().ok()
    };
    let (offset, size) = (value("offset:")?, value("size:")?);
    let (kind, name) = declaration.rsplit_once([' ', '*'])?;
    let is_number =
        matches!(size, 1 | 2 | 4 | 8) && !name.ends_with(']') && !kind.contains("__data_loc");
    let size = u8::try_from(size).ok()?;
    is_number
        .then_some((name, RawField { offset, size, signed: value("signed:")? != 0, factor: 1 }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const FORMAT: &str = "name: sys_exit_write\nID: 700\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n\
        \tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;\n\
        \tfield:__data_loc char[] name;\toffset:40;\tsize:4;\tsigned:0;\n\
        \tfield:void * skbaddr;\toffset:48;\tsize:8;\tsigned:0;\n";

    /// Scenario: the format of a tracepoint with numbers, a text and a pointer; fields that are there, that
    /// are no numbers, that are not there.
    /// Guarantees: the place of a number is found; the error names those that there are.
    #[test]
    fn finds_fields() {
        let ret = field(FORMAT, "ret").unwrap();
        assert_eq!(ret, RawField { offset: 16, size: 8, signed: true, factor: 1 });
        assert_eq!(field(FORMAT, "common_pid").unwrap().offset, 4);
        assert_eq!(field(FORMAT, "skbaddr").unwrap().size, 8);
        for missing in ["comm", "comm[16]", "name", "nothing", ""] {
            assert_eq!(field(FORMAT, missing).unwrap_err(), "__syscall_nr, ret, skbaddr");
        }
    }

    /// Scenario: names that are none, or would lead out of the directory.
    /// Guarantees: an error that says how to write it.
    #[test]
    fn names_are_checked() {
        for name in ["", "sched", "sched:", ":x", "../..:x", "sched:../../x", "a b:c"] {
            let error = find(name, None).unwrap_err();
            assert!(error.contains("is not a tracepoint"), "{name}: {error}");
        }
    }
}
