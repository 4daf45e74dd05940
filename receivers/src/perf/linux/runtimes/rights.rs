//! What this host allows of reading managed programs, for `profpipe doctor`.

use std::fs;

use crate::perf::linux::events::permission::{Capability, has};
use crate::perf::linux::thread::{Precedence, run_at_once};
use crate::perf::{Finding, Level};

/// Whose memory may be read, and how soon after a sample.
pub(crate) fn probe() -> [Finding; 2] {
    [memory(), precedence()]
}

fn memory() -> Finding {
    let name = "functions of Python and Java programs";
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    memory_by(name, has(Capability::SysPtrace), scope.trim())
}

fn memory_by(name: &'static str, is_privileged: bool, scope: &str) -> Finding {
    let (level, detail, cost, grant) = match (is_privileged, scope) {
        (true, _) => {
            let detail = "the memory of every process may be read";
            return Finding {
                name,
                level: Level::Good,
                detail: detail.into(),
                cost: String::new(),
                grant: String::new(),
            };
        }
        (false, "" | "0") => (
            Level::Limited,
            "the memory of this user's processes may be read",
            "programs of other users show the functions of their interpreter",
            "run as root, or: sudo setcap cap_sys_ptrace,cap_perfmon,cap_sys_nice+ep $(command -v profpipe)",
        ),
        (false, _) => (
            Level::Limited,
            "kernel.yama.ptrace_scope is set: only the memory of what `record -- CMD` starts may be read",
            "other programs show the functions of their interpreter",
            "sudo sysctl kernel.yama.ptrace_scope=0 for this user's processes; run as root for all",
        ),
    };
    Finding { name, level, detail: detail.into(), cost: cost.into(), grant: grant.into() }
}

/// Whether readers run before all ordinary threads here.
pub(crate) fn read_at_once() -> bool {
    possible_precedence() == Precedence::RealTime
}

fn possible_precedence() -> Precedence {
    // The thread is gone afterwards, and its precedence with it.
    std::thread::spawn(run_at_once).join().unwrap_or(Precedence::Ordinary)
}

fn precedence() -> Finding {
    let name = "reading before they go on";
    let found = possible_precedence();
    if found == Precedence::RealTime {
        return Finding {
            name,
            level: Level::Good,
            detail: "readers run before ordinary threads (SCHED_FIFO)".into(),
            cost: String::new(),
            grant: String::new(),
        };
    }
    let detail = match found {
        Precedence::ShortSlice => "readers run soon (a short slice), not before all others",
        _ => "readers run as any other thread",
    };
    Finding {
        name,
        level: Level::Limited,
        detail: detail.into(),
        cost:
            "on a busy host some stacks of Python programs come too late and show the functions of \
               the interpreter"
                .into(),
        grant: "run as root, or: sudo setcap cap_sys_nice+ep $(command -v profpipe)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: with and without the capability, with each setting of Yama.
    /// Guarantees: what is said to be readable is, and what lacks says how to grant it.
    #[test]
    fn whose_memory() {
        assert_eq!(memory_by("", true, "3").level, Level::Good);
        assert!(memory_by("", false, "0").detail.contains("this user's"));
        assert!(memory_by("", false, "").detail.contains("this user's"));
        assert!(memory_by("", false, "1").grant.contains("ptrace_scope=0"));
        assert!(!memory_by("", false, "1").cost.is_empty());
    }
}
