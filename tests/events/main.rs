//! Are the events beside CPU time true? Programs that measured how long they waited, or had counted how
//! often they touched new memory, are recorded with the real binary.
//!
//! `programs/` are the programs. A figure of a recording is read from collapsed stacks, which
//! `profpipe convert` writes.
//!
//! **Why the bounds are no coin toss.** Given when a program waited where, looks at random moments are
//! independent of it: a class with a share p of n looks has a standard error of at most √(p(1-p)/n). With
//! 1000 looks a second at eight threads for 8 s n is above 6,000, and the error of the largest class (0.14)
//! below 0.5 points: 3 points are more than six of them, less than one false alarm in 10⁸ runs.
//! Samples of page faults are regular: one in 251 of 640,000 faults, of which a cycle has 64; the shares of
//! three functions are off by less than 251 / 640,000 for each phase that a cycle can have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod calls;
mod rights;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Compiles one of the programs; none, said, where nothing can be compiled or sampled.
fn program(home: &Path, name: &str, options: &[&str]) -> Option<PathBuf> {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events/programs").join(name);
    let binary = home.join(name.trim_end_matches(".c"));
    let compiled = Command::new("cc")
        .args(["-g", "-pthread", "-o"])
        .arg(&binary)
        .args(options)
        .arg(source)
        .output();
    match compiled {
        Ok(output) if output.status.success() => Some(binary),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => profpipe_testing::skip!("no C compiler: {error}"),
    }
}

fn profpipe(home: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .current_dir(home)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    output
}

/// The numbers that a program has written.
fn truth(home: &Path) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(home.join("truth")).unwrap();
    let number = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

/// The stacks of a sample type, each with its frames from the root and its weight.
fn stacks(home: &Path, file: &str, sample_type: &str) -> Vec<(Vec<String>, f64)> {
    profpipe(home, &["convert", file, "out.folded", "--type", sample_type]);
    let text = std::fs::read_to_string(home.join("out.folded")).unwrap();
    let stack = |line: &str| {
        let (frames, weight) = line.rsplit_once(' ')?;
        Some((frames.split(';').map(str::to_owned).collect(), weight.parse().ok()?))
    };
    text.lines().filter_map(stack).collect()
}

/// The weight of the stacks that a function is in.
fn weight_of(stacks: &[(Vec<String>, f64)], function: &str) -> f64 {
    let has = |frames: &[String]| frames.iter().any(|frame| frame == function);
    stacks.iter().filter(|(frames, _)| has(frames)).map(|(_, weight)| weight).sum()
}

fn all(stacks: &[(Vec<String>, f64)]) -> f64 {
    stacks.iter().map(|(_, weight)| weight).sum()
}

/// Scenario: a program whose threads sleep, poll, read, wait for a lock and sleep below twenty calls of one
/// function, built without frame pointers and with them, is recorded for 8 s.
/// Guarantees: each place has its share of the time that the program measured, within 3 points, and its
/// kind of waiting; recursion is as deep as it is; nearly all stacks reach their root; on CPUs, ready and
/// waiting are together the time that all threads were there.
#[test]
fn waiting_is_where_it_is() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for options in [["-O2", "-fomit-frame-pointer"], ["-O1", "-fno-omit-frame-pointer"]] {
        let Some(binary) = program(home, "waits.c", &options) else { return };
        let event = "wall:rate=1000";
        let binary = binary.to_str().unwrap();
        let mut arguments = vec!["record", "-e", event, "-o", "w.otlp", "--"];
        arguments.extend([binary, "8", "truth"]);
        let recorded = profpipe(home, &arguments);
        let truth = truth(home);
        let off_cpu = stacks(home, "w.otlp", "off_cpu");
        let blocked = all(&off_cpu) - weight_of(&off_cpu, "[runnable]");
        for function in ["nap_short", "nap_long", "poll_it", "read_pipe", "lock_it", "deep"] {
            let (found, expected) = (weight_of(&off_cpu, function), truth[function]);
            let points = 100.0 * (found - expected) / blocked;
            assert!(
                points.abs() <= 3.0,
                "{options:?} {function}: {found} for {expected} of {blocked}: {points:.2} points"
            );
        }
        let calls = |frames: &[String]| frames.iter().filter(|frame| *frame == "deep").count();
        let deep = off_cpu.iter().filter(|(frames, _)| calls(frames) > 0);
        let wrong: f64 =
            deep.filter(|(frames, _)| calls(frames) != 21).map(|(_, weight)| weight).sum();
        assert!(wrong <= 0.01 * truth["deep"], "{options:?}: of other depth for {wrong} ns");
        let from_root = weight_of(&off_cpu, "clone3") + weight_of(&off_cpu, "main");
        assert!(from_root >= 0.98 * blocked, "{options:?}: {from_root} of {blocked}");
        let time = all(&stacks(home, "w.otlp", "wall"));
        let ratio = time / truth["lived"];
        // The first threads are listed a moment after they began.
        assert!((0.93..1.03).contains(&ratio), "{options:?}: {ratio} of the time of all threads");
        let said = String::from_utf8_lossy(&recorded.stderr).into_owned();
        assert!(said.contains("off_cpu: ") && said.contains("% sleep"), "{said}");

        let top = |wait: &str| {
            let output = profpipe(home, &["top", "w.otlp", "--wait", wait, "-n", "100"]);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        for (wait, function) in
            [("lock", "lock_it"), ("read", "read_pipe"), ("poll", "poll_it"), ("sleep", "nap_long")]
        {
            let text = top(wait);
            assert!(text.contains(function), "{wait}: {text}");
            let others = ["lock_it", "read_pipe", "poll_it", "nap_long"];
            let strangers = others.iter().filter(|other| **other != function);
            for stranger in strangers {
                assert!(!text.contains(stranger), "{wait}: {text}");
            }
        }
    }
}

/// Scenario: threads of a Python program sleep, wait for a lock and for data, each in a function of its own;
/// they are recorded with an event beside the looks, and by looks alone.
/// Guarantees: the time that each thread waited is in its own function, by its name, below the one that the
/// program began it with; nearly nothing of it is unnamed.
#[test]
fn python_waits_in_its_own_functions() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    std::fs::write(home.join("waits.py"), PYTHON).unwrap();
    if !Command::new("python3").arg("--version").output().is_ok_and(|it| it.status.success()) {
        profpipe_testing::skip!("there is no python3");
    }
    for event in ["off_cpu:rate=1000", "wall:rate=1000"] {
        profpipe(home, &["record", "-e", event, "-o", "p.otlp", "--", "python3", "waits.py"]);
        let found = stacks(home, "p.otlp", "off_cpu");
        for (function, seconds) in [("nap_some", 4.0), ("wait_for_data", 4.0), ("hold", 3.0)] {
            let waited = weight_of(&found, function) / 1e9;
            // What a thread waits before its interpreter is found has native functions only.
            assert!(waited > 0.8 * seconds && waited < 1.2 * 5.0, "{event} {function}: {waited} s");
        }
        let python = |frames: &[String]| {
            let at = |name: &str| frames.iter().position(|frame| frame.ends_with(name));
            at("nap_some").is_some_and(|leaf| at("naps").is_some_and(|caller| caller < leaf))
        };
        let ordered: f64 =
            found.iter().filter(|(frames, _)| python(frames)).map(|(_, weight)| weight).sum();
        assert!(ordered > 0.99 * weight_of(&found, "nap_some"), "{event}: {ordered}");
    }
}

const PYTHON: &str = "
import socket, threading, time
end = time.time() + 5
def nap_some(): time.sleep(0.03)
def naps():
    while time.time() < end: nap_some()
lock = threading.Lock()
def hold():
    while time.time() < end:
        with lock: time.sleep(0.02)
        time.sleep(0.005)
a, b = socket.socketpair()
def wait_for_data():
    while a.recv(1) != b'q': pass
threads = [threading.Thread(target=it) for it in (naps, hold, wait_for_data)]
for it in threads: it.start()
while time.time() < end:
    b.send(b'x')
    time.sleep(0.05)
b.send(b'q')
for it in threads: it.join()
";

/// Scenario: a program touches 640,000 new pages in cycles of 64, from three functions in turn.
/// Guarantees: the sum is what the kernel counted of the program, within what the loader touches; shares
/// are those of the functions, with which a number of samples that kept step with the cycle would have
/// nothing to do; a sample stands for 251 faults, or for as many as was asked for, and not for one.
#[test]
fn page_faults_are_where_they_are() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(binary) = program(home, "touches.c", &["-O2"]) else { return };
    let binary = binary.to_str().unwrap();
    let record = |event: &str| {
        profpipe(home, &["record", "-e", event, "-o", "f.otlp", "--", binary, "10000", "truth"]);
        let found = stacks(home, "f.otlp", "page_faults");
        let share = |function| weight_of(&found, function) / all(&found);
        (all(&found), [share("touch_forty"), share("touch_twenty"), share("touch_four")])
    };
    let (sum, shares) = record("page_faults");
    for (found, expected) in shares.iter().zip([0.625, 0.3125, 0.0625]) {
        assert!((found - expected).abs() <= 0.02, "{shares:?}");
    }
    check(home, sum, 251.0);
    let (sum, _) = record("page_faults:every=1021");
    check(home, sum, 1021.0);
}

/// Holds a recording of page faults against what the kernel counted of the program.
fn check(home: &Path, sum: f64, every: f64) {
    let counted = truth(home)["faults"];
    // Without rights only those in user mode are seen; all but some hundreds are.
    assert!((counted - sum).abs() <= 2_000.0, "{sum} of {counted}");
    let top = profpipe(home, &["top", "f.otlp", "--type", "page_faults"]);
    let top = String::from_utf8_lossy(&top.stdout).into_owned();
    let samples: f64 = top
        .split_once(" in ")
        .and_then(|(_, rest)| rest.split_once(" samples"))
        .and_then(|(count, _)| count.parse().ok())
        .unwrap_or_else(|| panic!("{top}"));
    assert!((samples * every / counted - 1.0).abs() < 0.02, "{samples} samples of {counted}");
}

/// Two control groups of version 2, removed at the end; none, said, where they cannot be made.
struct Groups {
    root: PathBuf,
    names: [String; 2],
}

impl Groups {
    fn make() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let second = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let Some(root) = second.and_then(|line| line.split(' ').nth(4)) else {
            profpipe_testing::skip!("there are no control groups of version 2");
        };
        let names = ["a", "b"].map(|name| format!("profpipe-test-{}-{name}", std::process::id()));
        let groups = Self { root: root.into(), names };
        for name in &groups.names {
            if let Err(error) = std::fs::create_dir(groups.root.join(name)) {
                profpipe_testing::skip!("no control group can be made: {error}");
            }
        }
        Some(groups)
    }

    /// Runs a command in a group.
    fn run(&self, group: usize, home: &Path, command: &str) -> Child {
        let list = self.root.join(&self.names[group]).join("cgroup.procs");
        let line = format!("echo $$ > {} && exec {command}", list.display());
        Command::new("sh").current_dir(home).args(["-c", &line]).spawn().unwrap()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for name in &self.names {
            // Only an empty one can be removed.
            let _ = std::fs::remove_dir(self.root.join(name));
        }
    }
}

/// Scenario: the same program runs in two control groups, under two names; one of the groups is profiled,
/// then processes of a name, with waiting and page faults.
/// Guarantees: all samples are of that group, or of that name, and none of the others.
#[test]
fn only_the_chosen_are_seen() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(binary) = program(home, "waits.c", &["-O2"]) else { return };
    let Some(groups) = Groups::make() else { return };
    for name in ["chosen", "stranger"] {
        std::fs::copy(&binary, home.join(name)).unwrap();
    }
    let scopes =
        [format!("{{cgroup: /{}}}", groups.names[0]), "{match: {name: 'chos*'}}".to_owned()];
    for scope in scopes {
        let programs =
            [groups.run(0, home, "./chosen 8 truth"), groups.run(1, home, "./stranger 8 other")];
        let config = format!(
            "receivers: {{perf: {{interval: 1s, events: [wall, page_faults], scope: {scope}}}}}\n\
             exporters: {{file: {{path: out, format: folded}}}}\n\
             service: {{pipelines: {{profiles: {{receivers: [perf], exporters: [file]}}}}}}\n"
        );
        std::fs::write(home.join("c.yaml"), config).unwrap();
        let mut agent = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .current_dir(home)
            .args(["run", "--config", "c.yaml"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        for mut program in programs {
            assert!(program.wait().unwrap().success());
        }
        let pid = rustix::process::Pid::from_raw(agent.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut said = String::new();
        agent.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(agent.wait().unwrap().success(), "{said}");
        let files = std::fs::read_dir(home.join("out")).unwrap();
        let names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().any(|name| name.contains("off_cpu")), "{scope}: {names:?} {said}");
        for name in &names {
            assert!(name.starts_with("chosen"), "{scope}: {names:?} {said}");
        }
        std::fs::remove_dir_all(home.join("out")).unwrap();
    }
}

/// Scenario: in a namespace with tracefs, a command writes 300 times 1000 bytes; its writes are counted, those
/// of more than 2000 bytes are, and what they return is summed up.
/// Guarantees: both counts and the sum are exact; a filter or a field that there is not is said, with those
/// that there are.
#[test]
fn tracepoints_count() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let inside = |script: &str| {
        let mount = "mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null; \
                     test -d /sys/kernel/tracing/events/syscalls/sys_exit_write || exit 77; ";
        let output = Command::new("unshare")
            .current_dir(home)
            .args(["--mount", "sh", "-c", &format!("{mount}{script}")])
            .env("PROFPIPE", env!("CARGO_BIN_EXE_profpipe"))
            .output();
        match output {
            Ok(output) if output.status.code() != Some(77) => Some(output),
            _ => None,
        }
    };
    let writes = "dd if=/dev/zero of=/dev/null bs=1000 count=300 status=none";
    let record = |option: &str| {
        let event = format!("tracepoint:{option}");
        let script = format!("\"$PROFPIPE\" record -e '{event}' -o t.otlp -- {writes}");
        let output = inside(&script)?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let Some(_) = record("name=syscalls:sys_enter_write") else {
        profpipe_testing::skip!("there are no tracepoints, or no namespace to mount tracefs in");
    };
    assert_eq!(all(&stacks(home, "t.otlp", "syscalls:sys_enter_write")), 300.0);
    record("name=syscalls:sys_exit_write,value=ret,unit=bytes");
    assert_eq!(all(&stacks(home, "t.otlp", "ret")), 300_000.0);
    let said = record("name=syscalls:sys_enter_write,filter=count > 2000").unwrap();
    assert!(said.contains("no samples"), "{said}");
    let said = record("name=syscalls:sys_enter_write,filter=nothing > 2000").unwrap();
    assert!(said.contains("does not understand the filter `nothing > 2000`"), "{said}");
    let said = record("name=syscalls:sys_enter_write,value=nothing").unwrap();
    assert!(said.contains("it has __syscall_nr, fd, buf, count"), "{said}");
}

/// Scenario: a program writes and reads 300 blocks of a disk past the cache, one at a time.
/// Guarantees: the bytes and requests of each function are those that it made; what a request takes is not
/// longer than the program waited for it, and is told; what was done is a label.
#[test]
fn requests_for_blocks_are_counted() {
    // In memory there is no disk.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = home.path();
    let Some(binary) = program(home, "direct.c", &["-O2"]) else { return };
    let binary = binary.to_str().unwrap();
    let arguments =
        ["record", "-e", "block_io", "-o", "b.otlp", "--", binary, "300", "blocks", "truth"];
    let script = "mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null; exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .current_dir(home)
        .args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_profpipe")])
        .args(arguments);
    let output = beside_busy_cpus(|| command.output());
    let Ok(output) = output else { profpipe_testing::skip!("there is no `unshare`") };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(3) || said.contains("left out") || said.contains("no samples") {
        profpipe_testing::skip!("there is no disk, or it may not be seen: {said}");
    }
    assert!(output.status.success(), "{said}");
    let truth = truth(home);
    let [bytes, requests, time] =
        ["io_bytes", "io_requests", "io_time"].map(|kind| stacks(home, "b.otlp", kind));
    for (function, measured) in [("write_one", truth["written"]), ("read_one", truth["read"])] {
        assert_eq!(weight_of(&bytes, function), truth["bytes"], "{function}: {said}");
        assert_eq!(weight_of(&requests, function), 300.0, "{function}: {said}");
        let took = weight_of(&time, function);
        assert!(took > 0.0 && took <= measured, "{function}: {took} of {measured}");
    }
    let top = profpipe(home, &["top", "b.otlp", "--type", "io_time", "--format", "json"]);
    let top: serde_json::Value = serde_json::from_slice(&top.stdout).unwrap();
    assert!(top["samples"].as_i64() >= Some(600), "each request was done: {top}");
    assert!(said.contains("io_time: ") && said.contains("% read"), "{said}");
}

/// Keeps all CPUs busy meanwhile: the kernel tells nothing of what is done in an interrupt of an idle one.
fn beside_busy_cpus<T>(what: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = what();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

/// Scenario: counters of the kernel and one that a virtual processor does not have, beside CPU time.
/// Guarantees: what there is is counted, and what there is not is said and does not end the recording, unless
/// it is required.
#[test]
fn counters_count() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let Some(binary) = program(home, "touches.c", &["-O2"]) else { return };
    let binary = binary.to_str().unwrap();
    let mut arguments = vec!["record", "-e", "cpu", "-e", "counter:name=cpu-migrations,every=1"];
    arguments.extend([
        "-e",
        "counter:name=nonsense",
        "-o",
        "c.otlp",
        "--",
        binary,
        "10000",
        "truth",
    ]);
    let recorded = profpipe(home, &arguments);
    let said = String::from_utf8_lossy(&recorded.stderr).into_owned();
    assert!(said.contains("`nonsense` is not a counter"), "{said}");
    profpipe(home, &["top", "c.otlp", "--type", "cpu"]);
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .current_dir(home)
        .args(["record", "-e", "counter:name=nonsense,required=true", "-o", "x.otlp", "--", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot be had here"), "{said}");
}

/// Scenario: events with options that are wrong, on the command line and in a configuration.
/// Guarantees: one line that says what and where; nothing is started.
#[test]
fn mistakes_are_said() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for (event, expected) in [
        (
            "nonsense",
            "expected one of `cpu`, `off_cpu`, `wall`, `page_faults`, `heap`, `calls`, `block_io`, `tracepoint`, `counter`",
        ),
        ("off_cpu:rat=3", "unknown field `rat`"),
        ("off_cpu:rate", "`rate` is not an option; write key=value"),
        ("page_faults:every=0", "must be `auto`, or a whole number from 1 to 16777216"),
        ("off_cpu:share=much", "is not a share; write it in percent"),
        ("page_faults:share=90%", "must be between 0.1% and 80% of the budget"),
        ("off_cpu:rate=5000", "must be between 1 and 2000 looks a second"),
        ("cpu:rate=1", "unknown field `rate`"),
        ("heap:interval=1", "must be between 64B and 1TiB"),
        ("heap:interval=much", "`much` is not a size"),
        ("tracepoint", "tracepoint::name: is missing"),
        ("counter:name=cache-misses,every=0", "must be at least 1"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .current_dir(home)
            .args(["record", "-e", event, "-o", "x.pb.gz", "--", "touch", "started"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected), "{event}: {said}");
        assert_eq!(said.lines().count(), 1, "{event}: {said}");
        assert!(!output.status.success() && !home.join("started").exists(), "{event}");
    }
    let config = "receivers: {perf: {events: [cpu, cpu, {off_cpu: {rate: 0, share: 70%}}, {page_faults: {share: 30%}}]}}\n\
                  exporters: {debug: }\n\
                  service: {pipelines: {profiles: {receivers: [perf], exporters: [debug]}}}\n";
    std::fs::write(home.join("c.yaml"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .current_dir(home)
        .args(["validate", "--config", "c.yaml"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("names `cpu` twice"), "{said}");
    assert!(said.contains("must be between 1 and 2000"), "{said}");
    assert!(said.contains("ask for more than 90% of the budget"), "{said}");
}
