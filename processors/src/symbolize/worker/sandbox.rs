//! Takes everything from this process that reading names does not need.
//!
//! Each part is best effort: a kernel or container that does not allow one leaves the others, and
//! the processor logs what is missing. What remains is: reading and writing the socket, memory that
//! is not executable, the clock.

#![allow(unsafe_code, reason = "takes over standard input, sets signal actions")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::protocol::Limits;

/// Memory beside what the limits count: the stack, the program, buffers.
pub(super) const OVERHEAD: u64 = 192 << 20;

/// The socket that is standard input.
///
/// # Errors
/// If standard input is something else.
pub(super) fn standard_input() -> io::Result<OwnedFd> {
    // SAFETY: the worker's program calls this once, and reads standard input by no other way.
    let socket = unsafe { OwnedFd::from_raw_fd(0) };
    rustix::net::sockopt::socket_type(&socket)?;
    Ok(socket)
}

/// What holds for this thread and those it starts later; returns what this host does not allow.
pub(in super::super) fn enter_process(limits: Limits) -> Vec<String> {
    let mut missing = Vec::new();
    let mut note = |part: &str, done: bool| {
        if !done {
            missing.push(part.to_owned());
        }
    };
    note("a memory limit", lower(Resource::As, limits.address_space));
    let data = limits.memory.saturating_add(OVERHEAD);
    // Files are mapped read-only and do not count here.
    note("a memory limit", lower(Resource::Data, data) || !cfg!(target_os = "linux"));
    note("a limit of open files", lower(Resource::Nofile, 64));
    note("a ban on core files", lower(Resource::Core, 0));
    note("a ban on writing files", lower(Resource::Fsize, 0));
    #[cfg(target_os = "linux")]
    linux::enter_process(&mut note);
    #[cfg(not(target_os = "linux"))]
    note("a sandbox", false);
    missing
}

/// What holds for all threads, from the thread that reads binaries.
pub(in super::super) fn enter_thread() -> Vec<String> {
    #[cfg(target_os = "linux")]
    linux::restore_signals();
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::filter_system_calls() {
        return vec![format!("a filter of system calls ({error})")];
    }
    Vec::new()
}

/// Allows so many seconds of CPU time from now on; then the kernel ends this process, should the
/// processor not.
pub(super) fn renew_cpu_time(seconds: u64) {
    #[cfg(target_os = "linux")]
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
    #[cfg(not(target_os = "linux"))]
    let used = i64::MAX / 2;
    let soft = u64::try_from(used).unwrap_or_default().saturating_add(seconds).saturating_add(1);
    let maximum = getrlimit(Resource::Cpu).maximum;
    // The processor's deadline holds without it.
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(soft), maximum });
}

/// Lowers a limit, for good; true if it is that low now.
fn lower(resource: Resource, to: u64) -> bool {
    let old = getrlimit(resource);
    let to = old.maximum.map_or(to, |maximum| maximum.min(to));
    setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) }).is_ok()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
    use rustix::process::{DumpableBehavior, Signal};
    use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    /// `nobody`.
    const NOBODY: u32 = 65534;

    pub(super) fn enter_process(note: &mut impl FnMut(&str, bool)) {
        // When memory is short, this process is the one to end. Not worth a word if it fails.
        let _ = std::fs::write("/proc/self/oom_score_adj", "800");
        // The thread that started this process ends it too; the closed socket does so otherwise.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let quiet = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok();
        note("protection from debuggers", quiet);
        note("no new privileges", rustix::thread::set_no_new_privs(true).is_ok());
        drop_root();
        note("a drop of capabilities", drop_capabilities());
        note("landlock", forbid_files_and_network());
    }

    /// Root becomes nobody, where that is allowed: a user namespace may not have it.
    fn drop_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        let _ = rustix::thread::set_thread_groups(&[]);
        let _ = rustix::thread::set_thread_res_gid(group, group, group);
        let _ = rustix::thread::set_thread_res_uid(user, user, user);
        // A change of identity makes the kernel forget it.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }

    fn drop_capabilities() -> bool {
        let _ = rustix::thread::clear_ambient_capability_set();
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, none).is_ok()
    }

    fn forbid_files_and_network() -> bool {
        let enter = || {
            let rules = Ruleset::default()
                .handle_access(AccessFs::from_all(ABI::V7))?
                .handle_access(AccessNet::from_all(ABI::V7))?
                .scope(Scope::from_all(ABI::V7))?;
            rules.create()?.restrict_self()
        };
        enter().is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
    }

    /// Lets bad memory accesses kill again. Rust's runtime catches them to report overflown
    /// stacks; its handler needs a system call that is about to be refused, and would try for ever.
    pub(super) fn restore_signals() {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: the default action runs no code of this process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }

    /// Every system call but these fails. It fails, instead of killing, because libraries try some
    /// (the number of CPUs, a better clock) and do without.
    pub(super) fn filter_system_calls() -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in ALLOWED {
            rules.insert(*call, Vec::new());
        }
        let condition = |argument, length, operator, value| {
            SeccompCondition::new(argument, length, operator, value).map_err(|error| text(&error))
        };
        // Memory, but never code.
        let executable = libc::PROT_EXEC as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let masked = SeccompCmpOp::MaskedEq(executable);
            let data = condition(2, SeccompCmpArgLen::Dword, masked, 0)?;
            let rule = SeccompRule::new(vec![data]).map_err(|error| text(&error))?;
            rules.insert(call, vec![rule]);
        }
        // Its own CPU time.
        let own = condition(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)?;
        let cpu = libc::RLIMIT_CPU.into();
        let cpu = condition(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, cpu)?;
        let rule = SeccompRule::new(vec![own, cpu]).map_err(|error| text(&error))?;
        rules.insert(libc::SYS_prlimit64, vec![rule]);
        let architecture = std::env::consts::ARCH
            .try_into()
            .map_err(|error: seccompiler::BackendError| text(&error))?;
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)
            .map_err(|error| text(&error))?;
        let program: seccompiler::BpfProgram =
            filter.try_into().map_err(|error: seccompiler::BackendError| text(&error))?;
        seccompiler::apply_filter_all_threads(&program).map_err(|error| text(&error))
    }

    /// What reading, computing and answering need.
    const ALLOWED: &[i64] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_pread64,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_ppoll,
        libc::SYS_fstat,
        libc::SYS_close,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_exit,
        libc::SYS_exit_group,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
    ];
}
