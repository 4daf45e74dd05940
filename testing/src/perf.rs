//! Whether the kernel lets this process sample itself, asked by one system call: if it does, the
//! program must be able to, and a test that finds otherwise fails instead of being skipped.
#![allow(
    unsafe_code,
    reason = "the system call has no wrapper that the program does not use itself"
)]

use std::io::Error;

/// The first fields of `perf_event_attr`, as of its first version (64 bytes).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// A clock of the kernel (`PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_CPU_CLOCK`).
const SOFTWARE: u32 = 1;
/// `disabled`, `exclude_kernel` and `exclude_hv`.
const FLAGS: u64 = 1 | 1 << 5 | 1 << 6;

/// Whether this process may sample its own user code.
///
/// # Errors
/// What the kernel said.
pub fn sampling_is_permitted() -> Result<(), Error> {
    let attributes = Attributes {
        kind: SOFTWARE,
        size: size_of::<Attributes>() as u32,
        sample_period: 1_000_000,
        flags: FLAGS,
        ..Attributes::default()
    };
    let (this_process, any_cpu, no_group, no_flags) = (0, -1, -1, 0);
    // SAFETY: the kernel reads `size` bytes of the attributes, which live until it returns; it writes
    // nothing.
    let file = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            this_process,
            any_cpu,
            no_group,
            no_flags,
        )
    };
    let Ok(file) = i32::try_from(file) else { return Err(Error::last_os_error()) };
    if file < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and nobody else has it.
    unsafe { libc::close(file) };
    Ok(())
}
