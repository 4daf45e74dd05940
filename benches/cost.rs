//! What profiling costs: `cargo bench --bench cost [-- --rounds N --seconds S]`.
//!
//! Prints the method beside each figure and compares within one run; asserts nothing, because a busy
//! machine would decide. Three questions:
//! 1. the agent: CPU and memory of `profpipe run` while both CPUs are busy, and what it lost;
//! 2. a sample: CPU of `profpipe record -a` (unwinding and names included) by sample, against
//!    `perf record --call-graph dwarf` followed by `perf script --no-inline`, in turns, once with
//!    perf's own 8 KiB of stack a sample and once with the 32 KiB that profpipe copies;
//! 3. the profiled: CPU time of a fixed piece of work with and without the agent, in ABBA order.
//!
//! The load is the programs of the truth tests, as many of C, Python, Node and Go as can be run. What
//! else runs on the machine is sampled too and costs more: new programs have to be read. So each part
//! says how much of the CPU time was of others, and figures of a noisy run are not to be compared.
//! With the defaults this takes about five minutes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at what it did not expect"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROFPIPE: &str = env!("CARGO_BIN_EXE_profpipe");
/// Kernel clock ticks a second, as /proc counts CPU time (USER_HZ, fixed on Linux).
const TICKS: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let position = arguments.iter().position(|argument| argument == name);
        position.and_then(|position| arguments.get(position + 1)?.parse().ok()).unwrap_or(default)
    };
    if arguments.iter().any(|argument| argument == "--work") {
        return work(number("--work", 1));
    }
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("cost: measures for minutes; run it with cargo bench --bench cost");
        return;
    }
    let (rounds, seconds) = (number("--rounds", 3), number("--seconds", 20));
    let began = Instant::now();
    describe_machine();
    let directory = tempfile::tempdir().unwrap();
    let load = Load::prepare(directory.path());
    agent(&load, directory.path(), rounds, seconds);
    by_sample(&load, directory.path(), rounds, seconds.min(5));
    slowdown(directory.path(), rounds + 1);
    println!("took {} s", began.elapsed().as_secs());
}

fn describe_machine() {
    let first = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("unknown").to_owned();
        line.split_once(": ").map_or(line.clone(), |(_, value)| value.to_owned())
    };
    println!(
        "machine: {} CPUs, {}, {}; load average before {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        first("/proc/cpuinfo", "model name"),
        first("/proc/version", "Linux").split(" (").next().unwrap_or_default(),
        first("/proc/loadavg", "").split(' ').next().unwrap_or_default(),
    );
}

/// Programs that keep the CPUs busy.
struct Load {
    commands: Vec<Vec<String>>,
    truth: PathBuf,
}

impl Load {
    fn prepare(directory: &Path) -> Self {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/programs");
        let source = |name: &str| programs.join(name).to_string_lossy().into_owned();
        let binary = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let mut commands = Vec::new();
        let mut names = Vec::new();
        let mut missing = Vec::new();
        let succeeds = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let mut add = |name: &'static str, ready: bool, command: Vec<String>| {
            if ready {
                names.push(name);
                commands.push(command);
            } else {
                missing.push(name);
            }
        };
        let c = succeeds(Command::new("cc").args([
            "-O2",
            "-g",
            "-o",
            &binary("c"),
            &source("split.c"),
        ]));
        add("C", c, vec![binary("c")]);
        let go =
            succeeds(Command::new("go").args(["build", "-o", &binary("go"), &source("split.go")]));
        add("Go", go, vec![binary("go")]);
        let python =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let python = python.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let python = python.unwrap_or_default();
        add("Python", !python.is_empty(), vec![python.clone(), source("split.py")]);
        let node = succeeds(Command::new("node").arg("--version"));
        // Without --perf-basic-prof: node would leave a file in /tmp for each process.
        add("Node", node, vec!["node".into(), source("split.js")]);
        println!("load: {} at once, missing: {}", names.join(", "), or_none(&missing));
        Self { commands, truth: directory.join("truth.json") }
    }

    fn start(&self) -> Running {
        let start = |command: &Vec<String>| {
            Command::new(&command[0])
                .args(&command[1..])
                .arg(&self.truth)
                // Longer than any round by far, yet bounded: a benchmark that is killed leaves no load.
                .arg("120")
                .stdout(Stdio::null())
                .spawn()
                .expect("the load starts")
        };
        let running = Running(self.commands.iter().map(start).collect());
        std::thread::sleep(Duration::from_secs(1));
        running
    }
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Processes that end with this value.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The fields of /proc/PID/stat from the state (the third) on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A process and its children, such as the symbolizer's worker.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if stat(other).is_some_and(|fields| fields[1] == pid.to_string()) {
            family.push(other);
        }
    }
    family
}

/// CPU time of the whole machine and of all that descend from this process, to tell what others use.
#[derive(Clone, Copy)]
struct Others {
    busy: f64,
    ours: f64,
}

impl Others {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
        Self { busy: busy / TICKS, ours: tree_cpu(std::process::id()) }
    }

    /// The share of the busy time since then that was of others, for people.
    fn since(self) -> String {
        let now = Self::now();
        let busy = (now.busy - self.busy).max(1.0 / TICKS);
        let others = (busy - (now.ours - self.ours)).max(0.0);
        let noisy = if others > busy * 0.05 { ": a noisy run" } else { "" };
        format!(
            "CPU time of programs that are not of this benchmark: {:.1} %{noisy}",
            others * 100.0 / busy
        )
    }
}

/// CPU seconds of a process and all its descendants, those included that were waited for.
fn tree_cpu(root: u32) -> f64 {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let processes: Vec<(u32, Vec<String>)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, stat(pid)?))
        })
        .collect();
    let mut tree = vec![root];
    let mut ticks = 0.0;
    let mut at = 0;
    while let Some(of) = tree.get(at).copied() {
        at += 1;
        for (pid, fields) in &processes {
            if *pid == of {
                let times = fields.iter().skip(11).take(4);
                ticks += times.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
            } else if fields[1] == of.to_string() {
                tree.push(*pid);
            }
        }
    }
    ticks / TICKS
}

/// CPU seconds of a process and its children, those included that it has waited for.
fn cpu_seconds(pid: u32) -> f64 {
    let ticks = |pid: &u32| {
        let fields = stat(*pid).unwrap_or_default();
        fields.iter().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
    };
    family(pid).iter().map(ticks).sum::<f64>() / TICKS
}

/// CPU seconds of the children that this process has waited for.
fn children_cpu() -> f64 {
    let fields = stat(std::process::id()).unwrap();
    fields[13..15].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}

/// Resident memory in MiB of each process of a family: all pages, and those that are its own.
fn memory(pid: u32) -> Vec<(f64, f64)> {
    let of = |pid: u32, key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>();
        kib.unwrap_or(0.0) / 1024.0
    };
    family(pid).into_iter().map(|pid| (of(pid, "VmRSS"), of(pid, "RssAnon"))).collect()
}

/// Samples and lost samples of a file, by `profpipe top`.
fn samples_and_lost(file: &Path) -> (f64, f64) {
    let output = Command::new(PROFPIPE)
        .args(["top", "--format", "json", "-n", "1"])
        .arg(file)
        .output()
        .unwrap();
    let top: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let figure = |key: &str| top[key].as_f64().unwrap_or(f64::NAN);
    (figure("samples"), figure("lost"))
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The middle value.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn list(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ")
}

fn agent(load: &Load, directory: &Path, rounds: u64, seconds: u64) {
    println!(
        "\n1. the agent: `profpipe run`, its defaults (99 Hz a CPU, DWARF unwinding, names, pprof files)"
    );
    println!(
        "   CPU of it and its worker by /proc/PID/stat over {seconds} s, {rounds} rounds; start-up apart"
    );
    let (mut cpu, mut start_up, mut rss, mut memories) = (vec![], vec![], vec![], vec![]);
    let (mut samples, mut lost) = (0.0, 0.0);
    let others = Others::now();
    for round in 0..rounds {
        let home = directory.join(format!("agent-{round}"));
        std::fs::create_dir(&home).unwrap();
        let _busy = load.start();
        let mut agent = spawn_agent(&home);
        std::thread::sleep(Duration::from_secs(11));
        let (before, begin) = (cpu_seconds(agent.id()), Instant::now());
        start_up.push(before);
        std::thread::sleep(Duration::from_secs(seconds));
        cpu.push((cpu_seconds(agent.id()) - before) * 100.0 / begin.elapsed().as_secs_f64());
        let processes = memory(agent.id());
        let of_each: Vec<_> =
            processes.iter().map(|(all, own)| format!("{all:.1} ({own:.1} anonymous)")).collect();
        rss.push(processes.iter().map(|(all, _)| all).sum::<f64>());
        memories.push(of_each.join(" + "));
        interrupt(&mut agent);
        for file in files(&home.join("profiles")) {
            let (some, gone) = samples_and_lost(&file);
            samples += some;
            lost += gone;
        }
    }
    println!(
        "   own CPU, % of one core: median {:.2} (rounds: {}); wanted: at most 1.2",
        median(&cpu),
        list(&cpu, 2)
    );
    println!("   CPU of the first 11 s, start included, s: {}", list(&start_up, 2));
    println!("   RSS of it and its worker, MiB: median {:.1}; wanted: at most 64", median(&rss));
    println!("   by round, profpipe + worker: {}", memories.join("; "));
    println!("   samples {samples}, lost {lost}; wanted: none lost");
    println!("   {}", others.since());
}

fn spawn_agent(home: &Path) -> Child {
    Command::new(PROFPIPE)
        .arg("run")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("profpipe starts")
}

/// Ctrl-C, and the wait for the last files.
fn interrupt(agent: &mut Child) {
    let _ = Command::new("kill").args(["-INT", &agent.id().to_string()]).status();
    let status = agent.wait().unwrap();
    if !status.success() {
        println!("   profpipe run ended with {status}");
    }
}

/// CPU seconds that a command and all it started used.
fn cpu_of(command: &mut Command) -> f64 {
    let before = children_cpu();
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    children_cpu() - before
}

fn by_sample(load: &Load, directory: &Path, rounds: u64, seconds: u64) {
    println!(
        "\n2. CPU by sample, whole host, {seconds} s, {rounds} rounds in turns, by the kernel's account of children"
    );
    let has_perf =
        Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_perf {
        println!("   perf is missing: no comparison (Debian: apt install linux-perf)");
    }
    for frequency in ["99", "999"] {
        let (mut ours, mut our_samples, mut lost) = (Vec::new(), 0.0, 0.0);
        let mut theirs = DUMPS.map(|_| (Vec::new(), 0.0));
        let duration = seconds.to_string();
        let others = Others::now();
        for _ in 0..rounds {
            let _busy = load.start();
            let out = directory.join("record.pb.gz");
            let cpu = cpu_of(
                Command::new(PROFPIPE)
                    .args(["record", "-a", "-F", frequency, "-d", &duration, "-o"])
                    .arg(&out),
            );
            let (samples, gone) = samples_and_lost(&out);
            ours.push(cpu * 1e6 / samples);
            our_samples += samples;
            lost += gone;
            for ((dump, _), (costs, all)) in
                DUMPS.iter().zip(&mut theirs).take(if has_perf { 2 } else { 0 })
            {
                let data = directory.join("perf.data");
                let mut record = Command::new("perf");
                record.args(["record", "-q", "-a", "-F", frequency, "--call-graph", dump, "-o"]);
                let recording = cpu_of(record.arg(&data).args(["--", "sleep", &duration]));
                let (script, samples) = perf_script(&data);
                costs.push((recording + script) * 1e6 / samples);
                *all += samples;
            }
        }
        println!(
            "   {frequency:>3} Hz profpipe record -a (32 KiB; unwinding, names, lines, inlines): median {:.0} µs a \
            sample (rounds: {}), {our_samples} samples, {lost} lost",
            median(&ours),
            list(&ours, 0)
        );
        for ((dump, size), (costs, all)) in
            DUMPS.iter().zip(&theirs).take(if has_perf { 2 } else { 0 })
        {
            println!(
                "   {frequency:>3} Hz perf record --call-graph {dump} ({size}) + perf script --no-inline: median {:.0} \
                µs a sample (rounds: {}), {all} samples",
                median(costs),
                list(costs, 0)
            );
            let ratios: Vec<f64> =
                ours.iter().zip(costs).map(|(ours, theirs)| ours / theirs).collect();
            println!(
                "   {frequency:>3} Hz ratio to it, paired: median {:.3} (rounds: {}); wanted: at most 0.2",
                median(&ratios),
                list(&ratios, 3)
            );
        }
        println!("   {frequency:>3} Hz {}", others.since());
    }
}

/// What perf copies of a stack, as it is told and in words. With the smaller one deep stacks are cut,
/// which costs less and says less.
const DUMPS: [(&str, &str); 2] = [("dwarf", "8 KiB"), ("dwarf,32768", "32 KiB, as profpipe")];

/// CPU seconds of `perf script --no-inline`, and how many samples it printed.
fn perf_script(data: &Path) -> (f64, f64) {
    let before = children_cpu();
    let mut script = Command::new("perf");
    let output = script
        .args(["script", "--no-inline", "-i"])
        .arg(data)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // A sample's head is flush left, its frames are indented. perf indents the names of commands that
    // are shorter than its column too, but ends every head with the event's name and a colon.
    let samples = text.lines().filter(|line| line.trim_end().ends_with(':')).count();
    (children_cpu() - before, samples as f64)
}

/// A fixed piece of work that takes about `seconds` of CPU; prints the CPU time that it took.
fn work(seconds: u64) {
    let mut x = 42_u64;
    for _ in 0..seconds * 400_000_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    std::hint::black_box(x);
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    println!("{}", text.split(' ').next().unwrap_or_default());
}

fn slowdown(directory: &Path, pairs: u64) {
    println!(
        "\n3. CPU time of fixed work on each CPU, with `profpipe run` against without, {pairs} pairs, ABBA"
    );
    let this = std::env::current_exe().unwrap();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let once = || -> f64 {
        let start = || {
            Command::new(&this)
                .args(["--work", "3"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("the work starts")
        };
        let workers: Vec<Child> = (0..cpus).map(|_| start()).collect();
        let nanoseconds = |worker: Child| {
            let output = worker.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().unwrap()
        };
        workers.into_iter().map(nanoseconds).sum::<f64>() / 1e9
    };
    let profiled = |pair: u64| {
        let home = directory.join(format!("slow-{pair}"));
        std::fs::create_dir(&home).unwrap();
        let mut agent = spawn_agent(&home);
        std::thread::sleep(Duration::from_secs(3));
        let took = once();
        interrupt(&mut agent);
        took
    };
    let mut ratios = Vec::new();
    let others = Others::now();
    for pair in 0..pairs {
        let (with, without) = if pair % 2 == 0 {
            let without = once();
            (profiled(pair), without)
        } else {
            let with = profiled(pair);
            (with, once())
        };
        ratios.push(with / without);
    }
    let spread = ratios.iter().copied().fold(f64::MIN, f64::max)
        - ratios.iter().copied().fold(f64::MAX, f64::min);
    let slower = (median(&ratios) - 1.0) * 100.0;
    println!(
        "   ratio: median {:.4} ({slower:+.2} %), pairs: {}",
        median(&ratios),
        list(&ratios, 3)
    );
    println!("   {}", others.since());
    if slower.abs() < spread * 100.0 / 2.0 {
        println!(
            "   the pairs differ by {:.1} points among themselves: the slowdown is not resolved",
            spread * 100.0
        );
    }
}
