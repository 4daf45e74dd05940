//! The bytes on disk: segments, records, footers and cursors. Pure functions; all numbers are
//! little endian. A decoder takes any bytes, answers `None` for what is not valid, and takes no
//! more memory than it was given bytes.

mod cursor;
mod fields;
mod footer;
mod head;
mod header;

pub(super) use cursor::{CURSOR_LIMIT, Slot, Unfinished};
pub(super) use footer::{FOOTER_LIMIT, Footer, TRAILER, Tally};
pub(super) use head::{HEAD, Head, Meta, padding};
pub(super) use header::{HEADER, Header, VERSION};

/// A file of the log's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileName {
    /// The segment whose records have this number or higher ones.
    Segment(u64),
    /// A cursor's slot.
    Cursor,
    /// Not ours.
    Foreign,
}

impl FileName {
    /// What a name says.
    pub(super) fn parse(name: &str) -> Self {
        if let Some(digits) = name.strip_prefix("seg-").and_then(|rest| rest.strip_suffix(".pq"))
            && digits.len() == 20
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(first) = digits.parse()
        {
            return Self::Segment(first);
        }
        if name.starts_with("cur-") && (name.ends_with(".a") || name.ends_with(".b")) {
            return Self::Cursor;
        }
        Self::Foreign
    }
}

/// The name of the segment that starts with this number.
pub(super) fn segment_name(first: u64) -> String {
    format!("seg-{first:020}.pq")
}

/// A file name for a destination's id: readable, and different for different ids.
pub(super) fn destination_name(id: &str) -> String {
    let readable: String = id
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    // FNV-1a: must be the same in every version.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{readable}-{hash:016x}")
}
