//! What the events beside CPU time cost and how true they are: `cargo bench --bench events [-- --rounds N]`.
//!
//! Prints the method beside each figure and compares within one run; asserts nothing, because a busy
//! machine would decide. Five questions:
//! 1. `off_cpu`: how much longer a switch of threads takes that are looked at, and traced by
//!    `perf record -e sched:sched_switch` (frame pointers, and a copy of the stack): alone, profpipe and
//!    perf in turns, medians; what the tool itself used, and wrote;
//! 2. `off_cpu`: how far shares of waiting are from what a program measured itself, and how late looks are;
//! 3. `off_cpu`: what looking costs beside 2,000 threads that never run;
//! 4. `page_faults`: how much longer a page fault takes, with profpipe and `perf record -e page-faults`;
//! 5. `heap`: how much longer a pair of `malloc` and `free` takes, with the library alone, with samples in
//!    512 KiB, and with `heaptrack`.
//!
//! `--minute` prints the second alone, of recordings of a minute; `--truth` prints for every event the mean
//! error of `--rounds` recordings against the truth of programs, alone and governed ([`truth`]).
//! `--only heap` asks the last one alone.
//!
//! Needs perf, offcputime (bcc), heaptrack and root for the comparison; what is missing is said. About four minutes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unsafe_code,
    reason = "a benchmark prints, stops at what it did not expect, and asks for the CPU time of children"
)]

mod truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROFPIPE: &str = env!("CARGO_BIN_EXE_profpipe");

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("events: measures for minutes; run it with cargo bench --bench events");
        return;
    }
    let rounds = arguments
        .iter()
        .position(|argument| argument == "--rounds")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(7);
    let home = tempfile::tempdir().unwrap();
    let bench = Bench { home: home.path().to_owned(), rounds };
    if arguments.iter().any(|argument| argument == "--truth") {
        return bench.truth();
    }
    if arguments.iter().any(|argument| argument == "--minute") {
        return bench.shares(60);
    }
    if !arguments.iter().any(|argument| argument == "--only") {
        bench.switches();
        bench.shares(5);
        bench.parked();
        bench.faults();
    }
    bench.pairs();
}

/// A way to run a program.
struct Way {
    name: &'static str,
    /// What stands before the program.
    before: Vec<String>,
    /// What it writes.
    file: &'static str,
}

impl Way {
    fn new(name: &'static str, before: &[&str], file: &'static str) -> Self {
        Self { name, before: before.iter().map(|it| (*it).to_owned()).collect(), file }
    }
}

/// What a run was like.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// What the program printed.
    figure: f64,
    /// CPU seconds of the tool: of all children, without what the program says it used.
    own: f64,
    /// Bytes written.
    bytes: u64,
}

struct Bench {
    home: PathBuf,
    rounds: usize,
}

impl Bench {
    fn compile(&self, source: &str) -> String {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let binary = self.home.join(source.file_stem().unwrap());
        let compiled = Command::new("cc")
            .args(["-O2", "-g", "-pthread", "-o"])
            .arg(&binary)
            .arg(source)
            .status();
        assert!(compiled.expect("a C compiler").success());
        binary.to_str().unwrap().to_owned()
    }

    fn run(&self, way: &Way, program: &[&str]) -> Option<Run> {
        let mut words = way.before.iter().map(String::as_str).chain(program.iter().copied());
        let before = children_cpu();
        let output = Command::new(words.next()?)
            .args(words)
            .current_dir(&self.home)
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // perf prints on standard output, too.
        let line = text.lines().find(|line| {
            let mut fields = line.split(' ').map(str::parse::<f64>);
            matches!(
                (fields.next(), fields.next(), fields.next()),
                (Some(Ok(_)), Some(Ok(_)), None)
            )
        })?;
        let mut fields = line.split(' ').filter_map(|field| field.parse::<f64>().ok());
        let (figure, program) = (fields.next()?, fields.next()?);
        let bytes = std::fs::metadata(self.home.join(way.file)).map_or(0, |file| file.len());
        Some(Run { figure, own: (children_cpu() - before - program).max(0.0), bytes })
    }

    /// Runs a program each way in turns; the medians, by way.
    fn in_turns(&self, ways: &[Way], program: &[&str]) -> Vec<Option<Run>> {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); ways.len()];
        for round in 0..self.rounds {
            for at in 0..ways.len() {
                // Another one begins each round.
                let at = (at + round) % ways.len();
                runs[at].extend(self.run(&ways[at], program));
            }
        }
        runs.into_iter().map(|runs| (!runs.is_empty()).then(|| median(&runs))).collect()
    }

    fn switches(&self) {
        println!(
            "1. a switch between two threads of one CPU that wake each other, {} rounds of 3 s in turns, \
                  medians",
            self.rounds
        );
        let program = self.compile("benches/events/switches.c");
        let ways = [
            Way::new("alone", &[], "none"),
            Way::new(
                "profpipe, 500 looks/s",
                &[PROFPIPE, "record", "-e", "off_cpu:rate=500", "-o", "p.otlp", "--"],
                "p.otlp",
            ),
            Way::new(
                "perf sched_switch -g",
                &["perf", "record", "-q", "-e", "sched:sched_switch", "-g", "-o", "p.data", "--"],
                "p.data",
            ),
            // It is told whom to trace, and does so while the program runs.
            Way::new(
                "offcputime",
                &["sh", "-c", "\"$@\" & p=$!; offcputime -p $p 3 >o.txt 2>&1; wait $p", "sh"],
                "o.txt",
            ),
            Way::new(
                "perf sched_switch dwarf",
                &[
                    "perf",
                    "record",
                    "-q",
                    "-e",
                    "sched:sched_switch",
                    "--call-graph",
                    "dwarf,8192",
                    "-o",
                    "d.data",
                    "--",
                ],
                "d.data",
            ),
        ];
        self.table(&ways, &[&program, "3"], "ns a switch");
    }

    fn faults(&self) {
        println!(
            "4. page faults, a sample for 251, {} rounds in turns, medians; the figure is CPU time of \
                  the program for 640,000 faults",
            self.rounds
        );
        let program = self.compile("tests/events/programs/touches.c");
        let ways = [
            Way::new("alone", &[], "none"),
            Way::new(
                "profpipe",
                &[PROFPIPE, "record", "-e", "page_faults", "-o", "f.otlp", "--"],
                "f.otlp",
            ),
            Way::new(
                "perf dwarf",
                &[
                    "perf",
                    "record",
                    "-q",
                    "-e",
                    "page-faults",
                    "-c",
                    "251",
                    "--call-graph",
                    "dwarf,8192",
                    "-o",
                    "f.data",
                    "--",
                ],
                "f.data",
            ),
        ];
        self.table(&ways, &[&program, "10000", "truth"], "ms of CPU");
    }

    fn pairs(&self) {
        println!(
            "5. a pair of malloc and free, 64 blocks at a time, 20 million pairs, {} rounds in turns, medians of \
                  medians; heaptrack has 1 million",
            self.rounds
        );
        let program = self.compile("benches/events/pairs.c");
        let library = self.home.join("libprofpipe_heap.so");
        std::fs::write(&library, profpipe_heap::LIBRARY).unwrap();
        let preload = format!("LD_PRELOAD={}", library.display());
        for size in ["32", "256", "4096"] {
            println!("   {size} bytes");
            let ways = [
                Way::new("alone", &[], "none"),
                Way::new("library alone", &["env", &preload], "none"),
                Way::new(
                    "profpipe",
                    &[PROFPIPE, "record", "-e", "heap", "-o", "h.otlp", "--"],
                    "h.otlp",
                ),
            ];
            self.table(&ways, &[&program, "20", size], "ps a pair");
            let ways = [
                Way::new("alone", &[], "none"),
                Way::new("heaptrack", &["heaptrack", "-r", "-o", "t"], "t.raw.zst"),
            ];
            self.table(&ways, &[&program, "1", size], "ps a pair");
        }
    }

    fn table(&self, ways: &[Way], program: &[&str], unit: &str) {
        let runs = self.in_turns(ways, program);
        let alone = runs.first().copied().flatten().unwrap_or_default().figure;
        println!("   {:<26} {:>14} {:>8} {:>14} {:>12}", "", unit, "ratio", "own CPU, s", "bytes");
        for (way, run) in ways.iter().zip(runs) {
            match run {
                None => println!("   {:<26} could not be run", way.name),
                Some(run) => println!(
                    "   {:<26} {:>14.0} {:>8.3} {:>14.2} {:>12}",
                    way.name,
                    run.figure,
                    run.figure / alone,
                    run.own,
                    run.bytes
                ),
            }
        }
    }

    fn shares(&self, seconds: u32) {
        let runs = self.rounds;
        println!(
            "2. shares of waiting against what a program measured of itself, {runs} recordings of {seconds} s \
                  at 400 looks/s: the error in points of all waiting, mean, root mean square and worst"
        );
        let seconds = seconds.to_string();
        let program = self.compile("tests/events/programs/waits.c");
        let functions = ["nap_short", "nap_long", "poll_it", "read_pipe", "lock_it", "deep"];
        let mut errors: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for _ in 0..runs {
            let record =
                ["record", "-e", "off_cpu", "-o", "w.otlp", "--", &program, &seconds, "truth"];
            let convert = ["convert", "w.otlp", "w.folded", "--type", "off_cpu"];
            for arguments in [&record[..], &convert[..]] {
                let status = Command::new(PROFPIPE)
                    .args(arguments)
                    .current_dir(&self.home)
                    .stderr(Stdio::null())
                    .status();
                assert!(status.unwrap().success());
            }
            let folded = std::fs::read_to_string(self.home.join("w.folded")).unwrap();
            let truth = std::fs::read_to_string(self.home.join("truth")).unwrap();
            let stacks = || folded.lines().filter_map(|line| line.rsplit_once(' '));
            let weight = |wanted: &str| -> f64 {
                let of = stacks().filter(|(frames, _)| frames.split(';').any(|it| it == wanted));
                of.filter_map(|(_, weight)| weight.parse::<f64>().ok()).sum()
            };
            let all: f64 = stacks().filter_map(|(_, weight)| weight.parse::<f64>().ok()).sum();
            for function in functions {
                let line = truth.lines().find_map(|line| line.strip_prefix(function)).unwrap();
                let measured: f64 = line.trim().parse().unwrap();
                errors
                    .entry(function)
                    .or_default()
                    .push(100.0 * (weight(function) - measured) / all);
            }
        }
        for (function, errors) in errors {
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            let square = errors.iter().map(|it| it * it).sum::<f64>() / errors.len() as f64;
            let worst = errors.iter().map(|it| it.abs()).fold(0.0, f64::max);
            println!("   {function:<12} {mean:>7.2} {:>7.2} {worst:>7.2}", square.sqrt());
        }
    }

    fn parked(&self) {
        println!(
            "3. own CPU beside 2,000 threads that never run and eight that do, 100 looks/s, 10 s, {} \
                  rounds",
            self.rounds.min(3)
        );
        let program = self.compile("benches/events/parked.c");
        for parked in ["sum", "keep"] {
            let event = format!("off_cpu:rate=100,parked={parked}");
            let way = Way::new(
                "profpipe",
                &[PROFPIPE, "record", "-e", &event, "-o", "q.otlp", "--"],
                "q.otlp",
            );
            let runs: Vec<Run> = (0..self.rounds.min(3))
                .filter_map(|_| self.run(&way, &[&program, "2000", "10"]))
                .collect();
            if runs.is_empty() {
                println!("   parked={parked}: could not be run");
                continue;
            }
            let run = median(&runs);
            println!(
                "   parked={parked}: {:.2} % of a core, start, names and end included",
                run.own * 10.0
            );
        }
    }
}

fn median(runs: &[Run]) -> Run {
    let of = |value: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Run {
        figure: of(|run| run.figure),
        own: of(|run| run.own),
        bytes: of(|run| run.bytes as f64) as u64,
    }
}

/// CPU seconds of all children that have ended, and of theirs.
fn children_cpu() -> f64 {
    // SAFETY: an all-zero rusage is valid, and the pointer outlives the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
