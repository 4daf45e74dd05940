//! What this host allows: every event and file that the sampler would like, tried once.

use std::fs;
use std::io;

use super::attr::{Choices, Clock, Kind};
use super::permission::{self, Capability, GRANT_ALL, has, setting};
use super::sys;
use super::target::Target;
use crate::perf::linux::looks::rights::{self, Limit};
use crate::perf::linux::processes::namespace::View;
use crate::perf::linux::runtimes;
use crate::perf::{Faults, Finding, Level, Unwind};

pub(crate) fn probe() -> Vec<Finding> {
    let mut findings = vec![kernel(), namespace(), paranoid()];
    findings.extend(events());
    findings.extend([waiting_threads(), page_faults(), heap()]);
    findings.extend(runtimes::rights::probe());
    findings.extend(capabilities());
    findings.extend([hidden_files(), kernel_symbols(), locked_memory(), open_files(), tracefs()]);
    findings
}

fn good(name: &'static str, detail: impl Into<String>) -> Finding {
    let (cost, grant) = (String::new(), String::new());
    Finding { name, level: Level::Good, detail: detail.into(), cost, grant }
}

fn lacking(
    name: &'static str,
    level: Level,
    detail: impl Into<String>,
    cost: &str,
    grant: &str,
) -> Finding {
    Finding { name, level, detail: detail.into(), cost: cost.into(), grant: grant.into() }
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let detail = format!(
        "{} {} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy()
    );
    good("kernel", detail)
}

fn namespace() -> Finding {
    let name = "PID namespace";
    let view = View::own();
    match (view.obstacle(), view.limit()) {
        (Some(obstacle), _) => lacking(
            name,
            Level::Missing,
            obstacle,
            "nothing can be sampled",
            "hostPID: true, or docker run --pid=host, or mount -t proc proc /proc",
        ),
        (None, Some(limit)) => lacking(
            name,
            Level::Limited,
            limit,
            "processes outside of it are not seen: a busy host looks idle",
            "hostPID: true, or docker run --pid=host",
        ),
        (None, None) => good(name, "that of the host"),
    }
}

fn paranoid() -> Finding {
    let name = "perf_event_paranoid";
    let Some(level) = permission::paranoid() else {
        return lacking(
            name,
            Level::Missing,
            "not there: this kernel has no perf events",
            "nothing can be sampled; use the `inprocess` or `pprof` receiver",
            "a kernel with CONFIG_PERF_EVENTS",
        );
    };
    if level <= 0 || has(Capability::Perfmon) {
        return good(name, format!("{level}, which does not bind this user"));
    }
    lacking(
        name,
        Level::Limited,
        format!("{level}"),
        match level {
            1 => "only this user's processes can be sampled",
            2 => "only this user's processes can be sampled, and not their time in the kernel",
            _ => "this user may sample nothing",
        },
        "sudo sysctl kernel.perf_event_paranoid=0",
    )
}

fn choices(clock: Clock, kernel: bool) -> Choices {
    Choices {
        clock,
        frequency: 99,
        stack: 0,
        user_chain: true,
        kernel,
        build_id: false,
        lost: false,
        inherit: false,
        sideband: false,
        watermark: 4096,
        count: false,
        wakeups: false,
    }
    .unwinding(Unwind::Auto, 32 << 10)
}

fn events() -> Vec<Finding> {
    let open = |choices: Choices, pid| {
        sys::open_event(&choices.sampling(Kind::Cpu, true), pid, 0).map(drop)
    };
    let report = |name, result: io::Result<()>, level, cost, grant| match result {
        Ok(()) => good(name, "available"),
        Err(error) => lacking(name, level, error.to_string(), cost, grant),
    };
    let own = open(choices(Clock::Timer, false), 0);
    let usable = own.is_ok();
    let extra = |name, choices: Choices, cost| {
        // Without permission for the plain event this one says nothing.
        let result = if usable { open(choices, 0) } else { Ok(()) };
        report(name, result, Level::Limited, cost, "a newer kernel")
    };
    let plain = choices(Clock::Timer, false);
    vec![
        report(
            "sampling own processes",
            own,
            Level::Missing,
            "nothing can be sampled; in a container the seccomp profile may forbid it",
            "sudo sysctl kernel.perf_event_paranoid=1, or --security-opt seccomp=unconfined",
        ),
        report(
            "sampling the whole host",
            open(choices(Clock::Timer, true), -1),
            Level::Limited,
            "only this user's processes are profiled",
            GRANT_ALL,
        ),
        report(
            "kernel stacks",
            open(choices(Clock::Timer, true), 0),
            Level::Limited,
            "time that programs spend in the kernel is not seen",
            "sudo sysctl kernel.perf_event_paranoid=1",
        ),
        report(
            "hardware cycle counter",
            open(choices(Clock::Cycles, usable && has(Capability::Perfmon)), 0),
            Level::Limited,
            "a kernel timer is used instead: code that runs with interrupts off is not seen",
            "a machine or virtual machine with a performance monitoring unit",
        ),
        extra(
            "exact counts of lost samples",
            Choices { lost: true, ..plain },
            "losses are counted by the ring buffer, which does not distinguish samples from other records",
        ),
        extra(
            "build ids of mappings",
            Choices { build_id: true, sideband: true, ..plain },
            "files replaced while they are mapped may not be recognised",
        ),
    ]
}

fn waiting_threads() -> Finding {
    let name = "looking at waiting threads";
    let cost = "`off_cpu` and `wall` do not show them";
    match rights::limit(&Target::Host) {
        None => good(name, "of all users"),
        Some(Limit::Less(text)) => lacking(
            name,
            Level::Limited,
            text,
            cost,
            "run as root, or: sudo setcap \
                cap_sys_ptrace,cap_dac_read_search+ep $(command -v profpipe)",
        ),
        Some(Limit::Nothing(text)) => lacking(name, Level::Limited, text, cost, "see there"),
    }
}

fn page_faults() -> Finding {
    let name = "page faults";
    let kind = Kind::PageFaults { kind: Faults::All, every: 61 };
    let open = |kernel, pid| {
        sys::open_event(&choices(Clock::Timer, kernel).sampling(kind, false), pid, 0).is_ok()
    };
    match (open(true, -1), open(false, 0)) {
        (true, _) => good(name, "of the whole host"),
        (false, true) => lacking(
            name,
            Level::Limited,
            "of own processes, in user mode",
            "`page_faults` shows neither those of other users nor those that happen in the kernel",
            GRANT_ALL,
        ),
        (false, false) => lacking(
            name,
            Level::Limited,
            "not permitted",
            "`page_faults` is not there",
            "sudo sysctl kernel.perf_event_paranoid=1",
        ),
    }
}

/// Whether heaps of programs can be sampled: by a library that they load, through memory that they share.
fn heap() -> Finding {
    let name = "event heap";
    let cost = "`record -e heap` does not see what is allocated";
    let lacks = |what: String, grant| lacking(name, Level::Missing, what, cost, grant);
    if profpipe_heap::LIBRARY.is_empty() {
        return lacks("there is no library for this kind of machine".into(), "");
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    if let Err(error) = rustix::fs::memfd_create("profpipe", flags) {
        return lacks(format!("memfd_create: {error}"), "a sandbox that allows it");
    }
    let variables = ["XDG_RUNTIME_DIR", "TMPDIR"].map(|name| std::env::var(name).ok());
    let usual = ["/tmp", "/dev/shm"].map(|place| Some(place.to_owned()));
    let is_executable = |place: &String| {
        rustix::fs::statvfs(place.as_str())
            .is_ok_and(|it| !it.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    };
    match variables.into_iter().chain(usual).flatten().find(is_executable) {
        Some(place) => {
            good(name, format!("of programs that record starts; the library goes to {place}"))
        }
        None => lacks(
            "every directory for temporary files is mounted noexec".into(),
            "TMPDIR=DIR, a directory that programs may be loaded from",
        ),
    }
}

fn capabilities() -> Vec<Finding> {
    let wanted = [
        (Capability::Perfmon, "CAP_PERFMON", "only this user's processes are profiled"),
        (
            Capability::SysPtrace,
            "CAP_SYS_PTRACE",
            "the mappings and files of other users' processes cannot be read: their stacks end early",
        ),
        (Capability::Syslog, "CAP_SYSLOG", "kernel functions may stay without names"),
        (
            Capability::IpcLock,
            "CAP_IPC_LOCK",
            "ring buffers are smaller: samples may be lost under load",
        ),
        (
            Capability::SysNice,
            "CAP_SYS_NICE",
            "the sampler has no precedence over other threads: samples may be lost under load",
        ),
    ];
    let finding = |(capability, name, cost)| {
        if has(capability) {
            good(name, "effective")
        } else {
            lacking(name, Level::Limited, "not effective", cost, GRANT_ALL)
        }
    };
    wanted.map(finding).into()
}

fn kernel_symbols() -> Finding {
    use std::io::Read;
    let name = "kernel symbols";
    let cost = "kernel frames have addresses only";
    let mut start = String::new();
    let read = fs::File::open("/proc/kallsyms")
        .and_then(|file| file.take(4096).read_to_string(&mut start));
    if let Err(error) = read {
        return lacking(name, Level::Limited, error.to_string(), cost, "run as root");
    }
    let addresses = start.lines().filter_map(|line| line.split(' ').next());
    if addresses.into_iter().any(|address| address.bytes().any(|digit| digit != b'0')) {
        return good(name, "/proc/kallsyms has addresses");
    }
    let (detail, grant) = permission::hidden_kernel_symbols();
    lacking(name, Level::Limited, detail, cost, &grant)
}

/// Whether files can be opened that their path does not lead to any more, or not this user.
fn hidden_files() -> Finding {
    let name = "files out of reach";
    let reads_links = has(Capability::CheckpointRestore) && has(Capability::SysPtrace);
    let reads_all = has(Capability::DacReadSearch) || has(Capability::DacOverride);
    if reads_links && reads_all {
        return good(name, "can be opened");
    }
    let missing = match (reads_links, reads_all) {
        (false, false) => "CAP_CHECKPOINT_RESTORE with CAP_SYS_PTRACE, and CAP_DAC_READ_SEARCH",
        (false, true) => "CAP_CHECKPOINT_RESTORE with CAP_SYS_PTRACE",
        _ => "CAP_DAC_READ_SEARCH",
    };
    lacking(
        name,
        Level::Limited,
        format!("{missing} not effective"),
        "libraries that were deleted or replaced, or lie in directories that this user may not enter, \
         have no names and end stacks; executables are found all the same",
        "run as root, or add cap_checkpoint_restore,cap_dac_read_search to the capabilities of \
         profpipe: with them it may read every file",
    )
}

fn locked_memory() -> Finding {
    let name = "ring buffer memory";
    let allowed = setting("perf_event_mlock_kb").unwrap_or_default();
    if !permission::is_ring_memory_limited() {
        return good(name, "not limited");
    }
    if allowed >= 4100 {
        return good(name, format!("{allowed} KiB per CPU"));
    }
    lacking(
        name,
        Level::Limited,
        permission::ring_memory_limits(),
        "ring buffers are smaller: samples may be lost under load, and several recordings at a time \
         get less still",
        "sudo sysctl kernel.perf_event_mlock_kb=4100",
    )
}

fn open_files() -> Finding {
    let name = "open files";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match limit {
        Some(most) if most < 4096 => lacking(
            name,
            Level::Limited,
            format!("at most {most}"),
            "programs with many libraries or threads may not be profiled in full",
            "ulimit -Hn 65536 as root, or LimitNOFILE=65536 in the systemd unit",
        ),
        most => good(name, most.map_or("not limited".into(), |most| format!("at most {most}"))),
    }
}

fn tracefs() -> Finding {
    let name = "tracefs";
    let places = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    match places.iter().find(|place| fs::read_dir(place).is_ok_and(|mut all| all.next().is_some()))
    {
        Some(place) => good(name, *place),
        None => lacking(
            name,
            Level::Limited,
            "not mounted or not readable",
            "tracepoints cannot be sampled; CPU profiles do not need them",
            "sudo mount -t tracefs nodev /sys/kernel/tracing",
        ),
    }
}
