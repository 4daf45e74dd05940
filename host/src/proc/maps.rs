//! `/proc/PID/maps`, line by line, without copying.

/// A mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The first address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// The offset in the file.
    pub offset: u64,
    /// The major number of the file's device.
    pub major: u32,
    /// The minor number of the file's device.
    pub minor: u32,
    /// The number of the file there; 0 for memory without a file.
    pub inode: u64,
    /// The path of the file, perhaps with ` (deleted)` after it, or what the kernel calls the memory;
    /// empty for anonymous memory.
    pub path: &'a str,
}

/// The executable mappings of a maps file; lines that make no sense are left out, and so are the
/// kernel's own pages, such as `[vsyscall]`.
pub fn executable(text: &str) -> impl Iterator<Item = Mapping<'_>> {
    // The rest of a line that is not executable is not read: they are by far the most.
    text.lines().filter_map(|text| line(text, |protection| protection.contains('x')))
}

impl<'a> Mapping<'a> {
    /// Reads a line; none if it makes no sense.
    pub fn parse(text: &'a str) -> Option<Self> {
        line(text, |_| true)
    }
}

fn line(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<Mapping<'_>> {
    let mut rest = text;
    let mut field = || {
        let (taken, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        (!taken.is_empty()).then_some(taken)
    };
    let (range, protection) = (field()?, field()?);
    if !is_wanted(protection) {
        return None;
    }
    let (offset, device, inode) = (field()?, field()?, field()?);
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let hex32 = |digits| u32::from_str_radix(digits, 16).ok();
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let (start, end) = (hex(start)?, hex(end)?);
    if end <= start || end > 1 << 63 {
        return None;
    }
    Some(Mapping {
        start,
        end,
        offset: hex(offset)?,
        major: hex32(major)?,
        minor: hex32(minor)?,
        inode: inode.parse().ok()?,
        path: rest.trim_start(),
    })
}
