//! What the kernel lets this user do with perf events, by which setting, and what would grant more:
//! one place, so that the sampler's errors and `profpipe doctor` say the same.

use std::fs;

use profpipe_host::proc::Status;

/// Gives the program everything that profiling a whole host wants.
pub(crate) const GRANT_ALL: &str = "run as root, or: sudo setcap \
    cap_perfmon,cap_sys_ptrace,cap_syslog,cap_ipc_lock,cap_sys_nice+ep $(command -v profpipe)";

/// A capability of the kernel, by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Capability {
    DacOverride = 1,
    DacReadSearch = 2,
    IpcLock = 14,
    SysPtrace = 19,
    SysAdmin = 21,
    SysNice = 23,
    Syslog = 34,
    Perfmon = 38,
    CheckpointRestore = 40,
}

/// Whether this process has a capability; `CAP_SYS_ADMIN` counts as those that were taken out of it,
/// as it does for the kernel.
pub(crate) fn has(capability: Capability) -> bool {
    let status = Status::read(std::process::id()).unwrap_or_default();
    let set = status.capabilities.unwrap_or_default();
    let bit = |bit: u32| set >> bit & 1 != 0;
    let was_admin = matches!(
        capability,
        Capability::Perfmon | Capability::Syslog | Capability::CheckpointRestore
    );
    bit(capability as u32) || was_admin && bit(Capability::SysAdmin as u32)
}

/// A setting of the kernel that is a number; none if it is not there.
pub(crate) fn setting(name: &str) -> Option<i64> {
    fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

/// How much `perf_event_paranoid` forbids; none on a kernel without perf events.
pub(crate) fn paranoid() -> Option<i64> {
    setting("perf_event_paranoid")
}

/// Why not even this user's own processes may be sampled, and what grants it.
pub(crate) fn denied() -> String {
    denied_by(paranoid(), has(Capability::Perfmon))
}

fn denied_by(paranoid: Option<i64>, is_privileged: bool) -> String {
    match paranoid {
        None => "this kernel has no perf events; use another receiver".into(),
        Some(level) if level > 2 && !is_privileged => format!(
            "perf events are not permitted: kernel.perf_event_paranoid is {level}, with which this \
             user may sample nothing; `sudo sysctl kernel.perf_event_paranoid=1` grants this user's \
             processes, root or CAP_PERFMON the whole host"
        ),
        Some(level) => format!(
            "perf events are not permitted, although kernel.perf_event_paranoid is {level}: a \
             seccomp profile or a security module forbids perf_event_open; in a container, run with \
             --security-opt seccomp=unconfined or --cap-add PERFMON"
        ),
    }
}

/// Why rings cannot be mapped, not even small ones, and what grants it.
pub(crate) fn ring_memory() -> String {
    format!(
        "the memory that this user may lock for ring buffers is used up, by other recordings or \
         profilers: {}; end those, or raise it with `sudo sysctl kernel.perf_event_mlock_kb=8192` or \
         `ulimit -l unlimited`, or run as root or with CAP_IPC_LOCK",
        ring_memory_limits()
    )
}

/// What bounds the memory of rings.
pub(crate) fn ring_memory_limits() -> String {
    let allowed = setting("perf_event_mlock_kb").unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let own = limit.map_or("unlimited".into(), |bytes| (bytes >> 10).to_string());
    format!(
        "kernel.perf_event_mlock_kb is {allowed} per CPU for all of a user's processes, ulimit -l is {own}"
    )
}

/// Whether the memory of rings is limited for this process.
pub(crate) fn is_ring_memory_limited() -> bool {
    // At -1 the kernel does not look at the limit.
    !has(Capability::IpcLock) && paranoid().is_none_or(|level| level >= 0)
}

/// Why `/proc/kallsyms` has no addresses for this process, and what grants them.
pub(crate) fn hidden_kernel_symbols() -> (String, String) {
    hidden_by(setting("kptr_restrict").unwrap_or_default(), paranoid().unwrap_or_default())
}

fn hidden_by(restrict: i64, paranoid: i64) -> (String, String) {
    const CAPABILITY: &str = "run as root, or: sudo setcap cap_syslog+ep $(command -v profpipe)";
    let open = "sudo sysctl kernel.perf_event_paranoid=1";
    match restrict {
        0 if paranoid > 1 => (
            format!(
                "/proc/kallsyms hides addresses: kernel.perf_event_paranoid is {paranoid}, and \
                 without CAP_SYSLOG it must be 1 or less"
            ),
            format!("{open}; or {CAPABILITY}"),
        ),
        0 => ("/proc/kallsyms hides addresses".into(), CAPABILITY.into()),
        1 => {
            let also = if paranoid > 1 { " kernel.perf_event_paranoid=1" } else { "" };
            (
                "/proc/kallsyms hides addresses: kernel.kptr_restrict is 1, which asks for CAP_SYSLOG"
                    .into(),
                format!("{CAPABILITY}; or: sudo sysctl kernel.kptr_restrict=0{also}"),
            )
        }
        level => (
            format!(
                "/proc/kallsyms hides addresses from everybody: kernel.kptr_restrict is {level}"
            ),
            "sudo sysctl kernel.kptr_restrict=1, and run as root or with CAP_SYSLOG".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: every setting that hides the kernel's addresses.
    /// Guarantees: nothing is advised that is so already, and what is advised would help.
    #[test]
    fn advice_about_kernel_symbols() {
        for (restrict, paranoid) in [(0, 2), (0, 4), (1, 2), (1, 1), (2, 2), (2, -1)] {
            let (detail, grant) = hidden_by(restrict, paranoid);
            let is_advised = |what: &str| grant.contains(what);
            assert!(!is_advised("kptr_restrict=0") || restrict == 1, "{grant}");
            assert_eq!(is_advised("kptr_restrict=1"), restrict == 2, "{grant}");
            let lowers = is_advised("perf_event_paranoid=1");
            assert_eq!(lowers, paranoid > 1 && restrict < 2, "{restrict} {paranoid}: {grant}");
            assert!(!detail.contains("kptr_restrict is 0"), "{detail}");
        }
    }

    /// Scenario: perf events are refused by the setting, by something else, by their absence.
    /// Guarantees: the setting is blamed only where it is to blame.
    #[test]
    fn advice_about_perf_events() {
        assert!(denied_by(Some(3), false).contains("perf_event_paranoid=1"));
        for text in [denied_by(Some(2), false), denied_by(Some(4), true), denied_by(Some(-1), true)]
        {
            assert!(text.contains("seccomp") && !text.contains("sysctl"), "{text}");
        }
        assert!(denied_by(None, true).contains("no perf events"));
    }
}
