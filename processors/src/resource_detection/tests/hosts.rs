//! Hosts that are made up: files below a directory, as kernels write them.

use std::path::Path;
use std::time::{Duration, Instant};

use profpipe_engine::config::Section;
use profpipe_profile::Value;
use tempfile::TempDir;

use super::super::catalog::KNOWN;
use super::super::cgroup::{self, Groups, Limits, Throttling};
use super::super::config::Config;
use super::super::facts::{Facts, clean};
use super::super::files::{Files, count};
use super::super::process::{Described, ProcessQuery, Processes, stat};
use super::super::{environment, fingerprint, system};

fn write(root: &TempDir, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn host(files: &[(&str, &str)]) -> (TempDir, Files) {
    let root = TempDir::new().unwrap();
    write(&root, files);
    let files = Files::new(root.path());
    (root, files)
}

fn text<'a>(facts: &'a Facts, key: &str) -> Option<&'a str> {
    facts.get(key).and_then(Value::as_str)
}

const LAPTOP: [(&str, &str); 19] = [
    (
        "/proc/cpuinfo",
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 142\nmodel name\t: \
         Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz\nstepping\t: 10\nmicrocode\t: 0xf4\nflags\t\t: \
         fpu vme sse\n\nprocessor\t: 1\nmodel name\t: another\n",
    ),
    ("/proc/meminfo", "MemTotal:       16243456 kB\nMemFree:  1 kB\n"),
    ("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
    ("/sys/devices/system/cpu/online", "0-7\n"),
    ("/sys/devices/system/cpu/smt/active", "1\n"),
    ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
    ("/sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "performance\n"),
    ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate\n"),
    ("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "4200000\n"),
    ("/sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
    ("/sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n"),
    ("/sys/devices/system/cpu/vulnerabilities/srbds", "Not affected\n"),
    ("/sys/devices/system/node/online", "0\n"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("/sys/class/dmi/id/sys_vendor", "LENOVO\n"),
    ("/sys/class/dmi/id/product_name", "20L7\u{1b}[31m\n"),
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("/etc/os-release", "NAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nPRETTY_NAME=Debian\n"),
    ("/etc/passwd", "root:x:0:0::/root:/bin/sh\nshop:x:1000:1000::/home:/bin/sh\n"),
];

/// Scenario: a laptop, a machine of a cloud that is otherwise the same, and one that tells nothing.
/// Guarantees: every value is what its file says; the identity is the same for the same host and
/// another when one value is; what is not told is left out; every attribute is in the catalogue.
#[test]
fn a_fingerprint_is_what_the_files_say() {
    let (root, files) = host(&LAPTOP);
    let facts = fingerprint::detect(&files);
    for (key, value) in [
        ("host.cpu.vendor.id", "GenuineIntel"),
        ("host.cpu.family", "6"),
        ("host.cpu.model.id", "142"),
        ("host.cpu.model.name", "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz"),
        ("host.cpu.stepping", "10"),
        ("profpipe.environment.cpu.microcode", "0xf4"),
        ("profpipe.environment.cpu.governor", "performance,powersave"),
        ("profpipe.environment.cpu.driver", "intel_pstate"),
        ("profpipe.environment.memory.huge_pages", "madvise"),
        ("profpipe.environment.virtualization", "none"),
        ("profpipe.environment.machine", "LENOVO 20L7 [31m"),
        ("profpipe.environment.kernel.release", "6.1.0-18-amd64"),
    ] {
        assert_eq!(text(&facts, key), Some(value), "{key}");
    }
    for (key, value) in [
        ("profpipe.environment.cpu.count", Value::Int(8)),
        ("profpipe.environment.cpu.smt", Value::Bool(true)),
        ("profpipe.environment.cpu.frequency.max", Value::Int(4_200_000_000)),
        ("profpipe.environment.cpu.boost", Value::Bool(false)),
        ("profpipe.environment.memory.size", Value::Int(16_243_456 * 1024)),
        ("profpipe.environment.numa.nodes", Value::Int(1)),
        (
            "profpipe.environment.kernel.mitigations",
            Value::Array(vec![Value::from("meltdown: PTI")]),
        ),
    ] {
        assert_eq!(facts.get(key), Some(&value), "{key}");
    }
    let known = |name: &str| KNOWN.iter().any(|known| known.name == name);
    let described = system::detect(&files);
    assert!(facts.iter().chain(described.iter()).all(|(name, _)| known(name)));
    assert_eq!(text(&described, "host.id"), Some("0123456789abcdef0123456789abcdef"));
    assert_eq!(text(&described, "os.name"), Some("Debian GNU/Linux"));
    assert_eq!(text(&described, "os.version"), Some("12"));

    let id = text(&facts, fingerprint::ID).map(str::to_owned);
    // It must stay what it is: profiles of today are compared with those of next year.
    assert_eq!(id.as_deref(), Some("442c2dfce45f0040"));
    assert_eq!(text(&fingerprint::detect(&files), fingerprint::ID), id.as_deref());
    write(&root, &[("/sys/devices/system/cpu/smt/active", "0\n")]);
    assert_ne!(text(&fingerprint::detect(&files), fingerprint::ID), id.as_deref());
    write(
        &root,
        &[
            ("/proc/cpuinfo", "flags : fpu hypervisor\n"),
            ("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n"),
        ],
    );
    let virtual_machine = fingerprint::detect(&files);
    assert_eq!(text(&virtual_machine, "profpipe.environment.virtualization"), Some("amazon"));
    let (_root, files) = host(&[("/etc/machine-id", "uninitialized\n")]);
    let nothing: Vec<_> =
        fingerprint::detect(&files).iter().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(nothing, [fingerprint::ID]);
    assert_eq!(text(&system::detect(&files), "host.id"), None);
}

/// Scenario: control groups of the second version with limits at several levels, of the first, of
/// both side by side, and groups that cannot be seen.
/// Guarantees: the least limit counts; throttling is summed; what cannot be seen has no limits.
#[test]
fn the_least_limit_counts() {
    let (_root, files) = host(&[
        ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
        ("/sys/fs/cgroup/a/memory.max", "1073741824\n"),
        (
            "/sys/fs/cgroup/a/cpu.stat",
            "usage_usec 9\nnr_periods 10\nnr_throttled 3\nthrottled_usec 5\n",
        ),
        ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
        ("/sys/fs/cgroup/a/b/cpu.weight", "39\n"),
        ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
        ("/sys/fs/cgroup/a/b/cpuset.cpus.effective", "0-1,4\n"),
        ("/sys/fs/cgroup/a/b/cpu.stat", "nr_periods 8\nnr_throttled 1\nthrottled_usec 2\n"),
        ("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "50000\n"),
        ("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n"),
        (
            "/sys/fs/cgroup/cpu/docker/x/cpu.stat",
            "nr_periods 4\nnr_throttled 2\nthrottled_time 7\n",
        ),
        ("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n"),
        ("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "4096\n"),
    ]);
    let unified = Groups::parse("0::/a/b\n");
    let limits =
        Limits { cpu: Some(1.5), weight: Some(39), cpus: Some(3), memory: Some(1_073_741_824) };
    assert_eq!(unified.limits(&files), limits);
    let throttling = Throttling { periods: 10, throttled: 4, nanoseconds: 7000 };
    assert_eq!(unified.throttling(&files), Some(throttling));
    assert_eq!(unified.line.as_deref(), Some("0::/a/b"));
    let old =
        Groups::parse("5:cpuacct,cpu:/docker/x\n4:memory:/docker/x\n1:name=systemd:/s\n0::/\n");
    let limits = Limits { cpu: Some(0.5), memory: Some(4096), ..Limits::default() };
    assert_eq!(old.limits(&files), limits);
    let throttling = Throttling { periods: 4, throttled: 2, nanoseconds: 7 };
    assert_eq!(old.throttling(&files), Some(throttling));
    assert_eq!(old.line.as_deref(), Some("1:name=systemd:/s"));
    for outside in ["0::/../../a/b\n", "0::a/b\n", "0\n", "\n::\n"] {
        assert_eq!(Groups::parse(outside).limits(&files), Limits::default(), "{outside}");
    }
    let deep = format!("0::{}", "/a".repeat(100_000));
    assert_eq!(Groups::parse(&deep).throttling(&files), None);
}

/// Scenario: the control groups that container runtimes and systemd make.
/// Guarantees: runtime, id and unit are found.
#[test]
fn containers_and_units_are_found() {
    let id = "0123456789abcdef".repeat(4);
    for (path, runtime) in [
        (format!("/docker/{id}"), Some("docker")),
        (format!("/system.slice/docker-{id}.scope"), Some("docker")),
        (format!("/kubepods.slice/x.slice/cri-containerd-{id}.scope"), Some("containerd")),
        (format!("/kubepods.slice/x.slice/crio-{id}.scope/container"), Some("cri-o")),
        (format!("/machine.slice/libpod-{id}.scope"), Some("podman")),
        (format!("/system.slice/k:cri-containerd:{id}"), Some("containerd")),
        (format!("/kubepods/burstable/pod1/{id}"), None),
    ] {
        let line = format!("0::{path}\n");
        assert_eq!(cgroup::container(&line), Some((runtime, id.as_str())), "{path}");
    }
    assert_eq!(cgroup::container(&format!("0::/libpod-conmon-{id}.scope\n")), None);
    assert_eq!(cgroup::unit("0::/system.slice/shop.service\n"), Some("shop.service"));
    let user = "0::/user.slice/user-1.slice/user@1.service/app.slice/x.service\n";
    assert_eq!(cgroup::unit(user), Some("x.service"));
    assert_eq!(cgroup::unit("0::/user.slice/user-1.slice/user@1.service\n"), None);
}

fn wanted(pid: u32, end: u64, window: u64) -> ProcessQuery<'static> {
    ProcessQuery { pid, executable: Some("/usr/bin/shop"), end, window, build: None }
}

/// Scenario: a process under a limit in two windows, after it has ended, under a new limit, and
/// another one under the same number that began after the profile.
/// Guarantees: it is described with its limits; what happened is what happened in between; the end
/// loses nothing; a limit is read again in time; the other is not taken for it.
#[test]
fn a_process_is_described_as_long_as_it_is_the_same() {
    let stat =
        |start: u64| format!("7 (a (b) c) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0");
    let cgroup = "0::/system.slice/shop.service\n";
    let group = "/sys/fs/cgroup/system.slice/shop.service";
    let (root, files) = host(&LAPTOP);
    write(
        &root,
        &[
            ("/proc/stat", "cpu 1 2\nbtime 1000000000\n"),
            ("/proc/7/stat", &stat(500)),
            ("/proc/7/status", "Name:\tx\nUid:\t0\t1000\t0\t0\n"),
            ("/proc/7/cgroup", cgroup),
            (&format!("{group}/cpu.max"), "50000 100000\n"),
            (&format!("{group}/cpu.stat"), "nr_periods 1\nnr_throttled 1\nthrottled_usec 10\n"),
        ],
    );
    let config: Config = Section::from_yaml("{}").unwrap().read_valid().unwrap();
    let mut processes = Processes::new(files.clone(), files);
    let now = Instant::now();
    let end = 1_000_000_010_000_000_000;
    let Described { facts, throttling, .. } =
        processes.describe(wanted(7, end, 1), &config, now).unwrap();
    assert_eq!(throttling, None);
    for (key, value) in [
        ("process.owner", "shop"),
        ("process.creation.time", "2001-09-09T01:46:45.000Z"),
        ("process.linux.cgroup", "0::/system.slice/shop.service"),
        ("profpipe.environment.systemd.unit", "shop.service"),
    ] {
        assert_eq!(text(&facts, key), Some(value), "{key}");
    }
    assert_eq!(facts.get("process.parent_pid"), Some(&Value::Int(3)));
    let limit = "profpipe.environment.cgroup.cpu.limit";
    assert_eq!(facts.get(limit), Some(&Value::Double(0.5)));
    let known = |name: &str| KNOWN.iter().any(|known| known.name == name);
    assert!(facts.iter().all(|(name, _)| known(name)));

    let stopped = "nr_periods 5\nnr_throttled 3\nthrottled_usec 110\n";
    write(&root, &[(&format!("{group}/cpu.stat"), stopped)]);
    std::fs::remove_dir_all(root.path().join("proc/7")).unwrap();
    for _ in 0..2 {
        let ended = processes.describe(wanted(7, end, 2), &config, now).unwrap();
        let happened = Throttling { periods: 4, throttled: 2, nanoseconds: 100_000 };
        assert_eq!(ended.throttling, Some(happened));
        assert_eq!(ended.facts, facts);
    }

    write(&root, &[(&format!("{group}/cpu.max"), "70000 100000\n")]);
    let soon = now + Duration::from_secs(59);
    let same = processes.describe(wanted(7, end, 3), &config, soon).unwrap();
    assert_eq!(same.facts.get(limit), Some(&Value::Double(0.5)));
    let later = now + Duration::from_secs(61);
    let other = processes.describe(wanted(7, end, 4), &config, later).unwrap();
    assert_eq!(other.facts.get(limit), Some(&Value::Double(0.7)));

    write(&root, &[("/proc/7/stat", &stat(2000)), ("/proc/7/cgroup", "0::/other\n")]);
    assert!(processes.describe(wanted(7, end, 5), &config, later).is_none());
    assert!(processes.describe(wanted(8, end, 5), &config, later).is_none());
    processes.forget(later + Duration::from_secs(3600), Duration::from_secs(240));
}

/// Scenario: `/proc/PID/stat` lines that make no sense, lists of CPUs that make no sense, texts that
/// are long or hold control characters.
/// Guarantees: nothing panics; values are one short line.
#[test]
fn nonsense_is_nothing() {
    for line in ["", ")", "1 (x) S", "1 (x) S a b c d e f g h i j k l m n o p q r s t u v"] {
        assert_eq!(stat(line), None, "{line}");
    }
    for list in ["", "x", "1-", "9223372036854775807-1,0-9223372036854775807", "3-1"] {
        assert_eq!(count(list), None, "{list}");
    }
    assert_eq!(count("0-3,6"), Some(5));
    assert_eq!(clean("a\nb\u{1b}c "), "a b c");
    assert_eq!(clean(&"ä".repeat(5000)).len(), 1024);
}

/// Scenario: the variables that the specification and manifests have, with escapes and nonsense.
/// Guarantees: `OTEL_SERVICE_NAME` goes before the list; escapes are resolved; the rest is left out.
#[test]
fn the_environment_is_read() {
    let facts = environment::detect(|name| match name {
        "OTEL_SERVICE_NAME" => Some("shop".into()),
        "OTEL_RESOURCE_ATTRIBUTES" => {
            Some("service.name=other, team=a%20b%C3%A4,bad,=x,empty=,half=%4,two=1=2,two=3".into())
        }
        _ => None,
    });
    let all: Vec<_> = facts.iter().map(|(key, value)| (key, value.as_str().unwrap())).collect();
    let expected = [("service.name", "shop"), ("team", "a bä"), ("half", "%4"), ("two", "1=2")];
    assert_eq!(all, expected);
    let facts = environment::kubernetes(|name| match name {
        "NODE_NAME" => Some("n".into()),
        "KUBE_NODE_NAME" => Some("k".into()),
        "POD_NAME" => Some("p".into()),
        _ => None,
    });
    let all: Vec<_> = facts.iter().map(|(key, value)| (key, value.as_str().unwrap())).collect();
    assert_eq!(all, [("k8s.node.name", "k"), ("k8s.pod.name", "p")]);
}
