//! `/proc/PID/maps`, line by line.

/// An executable mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) inode: u64,
    /// Empty for anonymous memory.
    pub(super) path: &'a str,
}

/// The executable mappings of a maps file; lines that make no sense are left out.
pub(super) fn executable(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(line)
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut rest = text;
    let mut field = || {
        let (taken, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        (!taken.is_empty()).then_some(taken)
    };
    let (range, protection, offset) = (field()?, field()?, field()?);
    let (device, inode) = (field()?, field()?);
    if !protection.contains('x') {
        return None;
    }
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let hex32 = |digits| u32::from_str_radix(digits, 16).ok();
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let (start, end) = (hex(start)?, hex(end)?);
    // The kernel's own pages, such as [vsyscall], are not the process's.
    if end <= start || end > 1 << 63 {
        return None;
    }
    Some(Line {
        start,
        end,
        offset: hex(offset)?,
        major: hex32(major)?,
        minor: hex32(minor)?,
        inode: inode.parse().ok()?,
        path: rest.trim_start(),
    })
}
