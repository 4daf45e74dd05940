//! One look at a thread: whether it waits, where, and for what.
//!
//! The kernel tells where a blocked thread left user mode and in which call. Its stack stands still as long
//! as it is blocked; that it was blocked all the while is known by how often it has run: the number is read
//! before the look and after it.

use std::ffi::c_long;
use std::fs::File;
use std::io::Read;

use super::wait::Wait;
use crate::perf::linux::runtimes::memory::ProcessMemory;

/// The longest file that a look reads.
const MAX_TEXT: usize = 8192;
/// The most frames of the kernel.
const MAX_KERNEL_FRAMES: usize = 32;

/// What the scheduler has counted of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// How long it has run, in nanoseconds.
    pub(super) run: u64,
    /// How long it was ready and had no CPU, in nanoseconds.
    pub(super) ready: u64,
    /// How often it has run.
    pub(super) slices: u64,
}

impl Schedule {
    /// Reads it; none if the thread has ended.
    pub(super) fn read(pid: u32, tid: u32) -> Option<Self> {
        let mut buffer = [0; 96];
        let text = read(pid, tid, "schedstat", &mut buffer)?;
        let mut fields = text.split_ascii_whitespace().map(|field| field.parse().ok());
        Some(Self { run: fields.next()??, ready: fields.next()??, slices: fields.next()?? })
    }
}

/// Where a thread is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) instruction: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) wait: Wait,
    /// The stack from its pointer up; empty if the thread went on meanwhile, so that it may be another's.
    pub(crate) stack: Box<[u8]>,
    /// It has gone on meanwhile.
    pub(crate) is_torn: bool,
    /// The functions of the kernel that it is in, innermost first.
    pub(crate) kernel: Vec<Box<str>>,
}

/// What a look saw.
pub(super) enum Seen {
    /// It runs, or would if it had a CPU.
    Running,
    Blocked(Blocked),
    /// It has ended, or may not be looked at.
    Nothing,
}

/// Looks at a thread; copies at most so much of its stack into a buffer of that size, and does what `also` is
/// to be done while it stands still.
pub(super) fn look(pid: u32, tid: u32, buffer: &mut [u8], also: impl FnOnce()) -> Seen {
    let Some(before) = Schedule::read(pid, tid) else { return Seen::Nothing };
    let mut text = [0; 256];
    let Some(line) = read(pid, tid, "syscall", &mut text) else { return Seen::Nothing };
    if line.starts_with("running") {
        return Seen::Running;
    }
    let Some(Call { call, second, stack_pointer, instruction }) = Call::parse(line) else {
        return Seen::Nothing;
    };
    let kernel = kernel_frames(pid, tid);
    let copied = ProcessMemory::of(pid).read_up(stack_pointer, buffer);
    also();
    let is_torn = Schedule::read(pid, tid).is_none_or(|after| after.slices != before.slices);
    let stack = if is_torn { &[] } else { buffer.get(..copied).unwrap_or_default() };
    Seen::Blocked(Blocked {
        instruction,
        stack_pointer,
        wait: Wait::of(call, second),
        stack: stack.into(),
        is_torn,
        kernel: if is_torn { Vec::new() } else { kernel },
    })
}

/// What `/proc/PID/task/TID/syscall` says.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// None: it is in no system call.
    call: Option<c_long>,
    second: u64,
    stack_pointer: u64,
    instruction: u64,
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let call: c_long = fields.next()?.parse().ok()?;
        let hex = |field: &str| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok();
        let values: Vec<u64> = fields.map(hex).collect::<Option<_>>()?;
        match (call, values.as_slice()) {
            (-1, [stack_pointer, instruction]) => Some(Self {
                call: None,
                second: 0,
                stack_pointer: *stack_pointer,
                instruction: *instruction,
            }),
            (call, [_, second, _, _, _, _, stack_pointer, instruction]) => Some(Self {
                call: Some(call),
                second: *second,
                stack_pointer: *stack_pointer,
                instruction: *instruction,
            }),
            _ => None,
        }
    }
}

/// The functions of the kernel that a thread is blocked in, innermost first: all of them, or the one that
/// everybody may see, or none.
fn kernel_frames(pid: u32, tid: u32) -> Vec<Box<str>> {
    let mut buffer = [0; MAX_TEXT];
    if let Some(text) = read(pid, tid, "stack", &mut buffer)
        && !text.is_empty()
    {
        return text.lines().filter_map(kernel_function).take(MAX_KERNEL_FRAMES).collect();
    }
    let name = read(pid, tid, "wchan", &mut buffer).unwrap_or_default().trim();
    if name.is_empty() || name == "0" { Vec::new() } else { vec![name.into()] }
}

/// The name in a line such as `[<0>] do_nanosleep+0x67/0x190`, perhaps with a module behind it.
fn kernel_function(line: &str) -> Option<Box<str>> {
    let (_, place) = line.split_once("] ")?;
    let name = place.split(['+', ' ']).next()?.trim();
    // Without the right to see symbols there are addresses, or zeros.
    (!name.is_empty() && !name.starts_with("0x")).then(|| name.into())
}

fn read<'b>(pid: u32, tid: u32, file: &str, buffer: &'b mut [u8]) -> Option<&'b str> {
    let mut file = File::open(format!("/proc/{pid}/task/{tid}/{file}")).ok()?;
    let mut length = 0;
    loop {
        let room = buffer.get_mut(length..)?;
        if room.is_empty() {
            break;
        }
        match file.read(room).ok()? {
            0 => break,
            read => length += read,
        }
    }
    std::str::from_utf8(buffer.get(..length)?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: what the kernel writes of a thread in a call, of one in a page fault, of one that runs, and
    /// what it never writes.
    /// Guarantees: the call and both addresses are found, or nothing.
    #[test]
    fn reads_where_a_thread_is() {
        let line = "230 0x1 0x0 0x7ffe1 0x0 0x0 0x8 0x7ffe0 0x7f00\n";
        let found = Call::parse(line).unwrap();
        let expected =
            Call { call: Some(230), second: 0, stack_pointer: 0x7ffe0, instruction: 0x7f00 };
        assert_eq!(found, expected);
        let found = Call::parse("-1 0x7ffe0 0x55aa").unwrap();
        assert_eq!((found.call, found.instruction), (None, 0x55aa));
        for nothing in ["", "running", "230 0x1", "-1 0x7ffe0", "230 1 2 3 4 5 6 7 8", "x 0x1 0x2"]
        {
            assert_eq!(Call::parse(nothing), None, "{nothing}");
        }
        assert_eq!(kernel_function("[<0>] do_sys_poll+0x4a/0x5f0").as_deref(), Some("do_sys_poll"));
        assert_eq!(kernel_function("[<0>] f+0x1/0x2 [ext4]").as_deref(), Some("f"));
        assert_eq!(kernel_function("[<0>] 0x0"), None);
        assert_eq!(kernel_function("nonsense"), None);
    }
}
