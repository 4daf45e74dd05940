//! Whether this host lets us look at threads that wait, and at whose.

use std::fs;

use crate::perf::linux::events::permission::{Capability, has, setting};
use crate::perf::linux::events::target::Target;
use crate::perf::linux::runtimes::memory::ProcessMemory;

/// What is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Nothing can be seen; why, and what grants it.
    Nothing(String),
    /// Less than was asked for can be seen; what not, and what grants it.
    Less(String),
}

/// What grants all of it.
const GRANT: &str = "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH";

/// What keeps this process from looking at the threads of a scope.
pub(crate) fn limit(target: &Target) -> Option<Limit> {
    if !fs::exists("/proc/self/syscall").unwrap_or(false) {
        let text = "this kernel does not tell where a thread is blocked (/proc/PID/syscall)";
        return Some(Limit::Nothing(text.into()));
    }
    let word = 1_u64;
    let mut copy = [0; 8];
    let address = std::ptr::from_ref(&word).addr() as u64;
    if ProcessMemory::of(std::process::id()).read_up(address, &mut copy) != copy.len() {
        let text = "a seccomp profile or this kernel forbids process_vm_readv; in a container, run with \
                    --security-opt seccomp=unconfined or --cap-add SYS_PTRACE";
        return Some(Limit::Nothing(text.into()));
    }
    let is_own_child = match target {
        Target::Tree(pid) => profpipe_host::proc::Stat::read(*pid)
            .is_some_and(|stat| stat.parent == std::process::id()),
        _ => false,
    };
    by_settings(
        target.is_per_cpu(),
        is_own_child,
        setting("yama/ptrace_scope").unwrap_or(0),
        has(Capability::SysPtrace),
        has(Capability::DacReadSearch) || has(Capability::DacOverride),
    )
}

fn by_settings(
    is_of_all: bool,
    is_own_child: bool,
    yama: i64,
    traces: bool,
    reads: bool,
) -> Option<Limit> {
    match (yama, traces) {
        (3.., _) => Some(Limit::Nothing(
            "kernel.yama.ptrace_scope is 3: nobody may look at another process until the next boot"
                .into(),
        )),
        (2, false) => Some(Limit::Nothing(format!(
            "kernel.yama.ptrace_scope is 2: only who has CAP_SYS_PTRACE may look at other processes; {GRANT}"
        ))),
        (1, false) if !is_own_child => Some(Limit::Nothing(format!(
            "kernel.yama.ptrace_scope is 1: this user may look at processes only that profpipe starts, as \
             `profpipe record -- CMD` does; `sudo sysctl kernel.yama.ptrace_scope=0`, or {GRANT}"
        ))),
        _ if is_of_all && !(traces && reads) => {
            Some(Limit::Less(format!("threads of other users that wait are not seen; {GRANT}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: every setting of Yama, with the capabilities and without, for the host, for a process that
    /// was started here and for another.
    /// Guarantees: only what is refused is called so, and what is advised would help.
    #[test]
    fn says_what_is_refused() {
        let is_nothing = |it: &Option<Limit>| matches!(it, Some(Limit::Nothing(_)));
        for yama in 0..=3 {
            for (is_of_all, is_child) in [(true, false), (false, true), (false, false)] {
                let without = by_settings(is_of_all, is_child, yama, false, false);
                let expected = match yama {
                    0 => false,
                    1 => !is_child,
                    _ => true,
                };
                assert_eq!(is_nothing(&without), expected, "{yama} {is_of_all} {is_child}");
                let with = by_settings(is_of_all, is_child, yama, true, true);
                assert_eq!(with.is_some(), yama == 3, "{yama} {is_of_all}");
            }
        }
        let only_traces = by_settings(true, false, 0, true, false);
        assert!(matches!(only_traces, Some(Limit::Less(text)) if text.contains("DAC_READ_SEARCH")));
        assert_eq!(by_settings(false, false, 0, false, false), None);
    }
}
