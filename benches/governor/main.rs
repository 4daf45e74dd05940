//! Whether the governor keeps its budget: `cargo bench --bench governor`.
//!
//! Runs `profpipe run` beside nine kinds of load, at several budgets and without a governor, and
//! prints what that cost in each second; `events` is the load `busy` with waiting threads and page faults
//! beside CPU time. What is printed is measured here and not taken from the
//! agent's ledger: CPU time of the agent and its worker by their process clocks, and the time that
//! the kernel took from the profiled as the number of samples times what one costs on this host.
//! Figures of a machine that is busy with other things are too high; the load average is printed.
//! How many samples there were in a second and what one costs is what the agent says. The number is
//! checked against the profiles that arrive, the cost against what a piece of work feels, at the end.
//!
//! By environment: `GOVERNOR_SECONDS` for each run (14; 6 without a governor),
//! `GOVERNOR_BUDGETS` (`1 0.5 0.1 off`), `GOVERNOR_LOADS` (all), `GOVERNOR_PAIRS` for the slowdown
//! (3), `GOVERNOR_SHOW` to print every second and keep the agent's logs. All of it takes less than ten
//! minutes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at what it did not expect"
)]

mod loads;
#[path = "../common/process.rs"]
mod process;
mod run;
#[path = "../common/sink.rs"]
mod server;
mod shares;
mod sink;

use std::process::Child;
use std::time::{Duration, Instant};

use run::{Agent, Run};

const LOADS: [&str; 9] =
    ["idle", "busy", "events", "step", "forks", "mappings", "deep", "crowd", "slow_exporter"];
/// The start of a program cannot be had for less: it is not counted.
const START: Duration = Duration::from_secs(3);
/// How long a run without a governor is at most.
const SECONDS_OFF: f64 = 6.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1)
    };
    if let (Some(load), Some(seconds)) = (after("--load"), after("--seconds")) {
        return loads::run(load, seconds.parse().unwrap());
    }
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("governor: measures for minutes; run it with cargo bench --bench governor");
        return;
    }
    let variable =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let seconds: f64 = variable("GOVERNOR_SECONDS", "14").parse().unwrap();
    let budgets = variable("GOVERNOR_BUDGETS", "1 0.5 0.1 off");
    let wanted = variable("GOVERNOR_LOADS", &LOADS.join(" "));
    let pairs: usize = variable("GOVERNOR_PAIRS", "3").parse().unwrap();
    let began = Instant::now();
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "machine: {} CPUs, load average before {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        average.split(' ').next().unwrap_or_default()
    );
    println!(
        "method: profpipe run (perf at 99 Hz at most, symbolize, otlp_http) for {seconds} s beside \
         each load, its first {} s apart; CPU time of agent and worker by their clocks each second, \
         plus samples x cost of a sample in the kernel, both as the agent says; {SECONDS_OFF} s where \
         the governor is off",
        START.as_secs()
    );
    println!(
        "told: the samples in the profiles that arrived, in percent of those the agent counts; biased: \
         parts whose share is off by more than three standard errors, and the largest distance"
    );
    println!(
        "wanted: at most 2 % of the seconds over the budget, no mean of 10 s over it, settled within \
         3 s"
    );
    let directory = tempfile::tempdir().unwrap();
    println!(
        "{:14}{:>7} {:>8} {:>9} {:>7} {:>7} {:>7} {:>8} {:>6} {:>9}  last state",
        "load",
        "budget",
        "over 1s",
        "over 10s",
        "mean",
        "max",
        "settle",
        "samples",
        "told",
        "biased"
    );
    for load in wanted.split_whitespace() {
        for budget in budgets.split_whitespace() {
            // There is nothing to settle without one.
            let seconds = if budget == "off" { seconds.min(SECONDS_OFF) } else { seconds };
            scenario(load, budget, seconds, directory.path());
        }
    }
    slowdown(pairs, directory.path());
    println!("took {} s", began.elapsed().as_secs());
}

fn scenario(load: &str, budget: &str, seconds: f64, directory: &std::path::Path) {
    let sink = sink::Sink::start(load == "slow_exporter");
    let percent: Option<f64> = budget.parse().ok();
    let events = if load == "events" { "[cpu, off_cpu, page_faults]" } else { "[cpu]" };
    let mut agent = Agent::start(directory, percent, (99, events), sink.address);
    std::thread::sleep(START);
    let name = if matches!(load, "slow_exporter" | "events") { "busy" } else { load };
    let child = loads::start(name, seconds);
    let run = Run::measure(&agent, seconds);
    let truth = truth_of(child);
    agent.stop();
    let said = agent.said();
    let measured = run.with_kernel(&said);
    let shares = shares::Shares::of(&sink.bodies());
    let biased = shares.compare(&truth);
    // Without a governor there is no budget: the figures are in percent of a core.
    let unit = percent.unwrap_or(1.0) / 100.0 * 1e9;
    let costs: Vec<f64> = measured.iter().map(|cost| cost / unit).collect();
    let share_over = |length: usize| {
        let windows = costs.windows(length);
        let count = windows.len().max(1) as f64;
        let over = windows.filter(|window| window.iter().sum::<f64>() > length as f64).count();
        over as f64 * 100.0 / count
    };
    let step = match load {
        "step" => costs.len() / 2,
        "crowd" => costs.len() / 3,
        "forks" | "mappings" | "deep" => costs.len() / 4,
        _ => 0,
    };
    let good = |at: &usize| costs.iter().skip(*at).all(|cost| *cost <= 1.05);
    let settled = (step..costs.len()).find(good).map(|at| format!("{} s", at - step));
    let (over, long, settled) = match percent {
        Some(_) => (
            format!("{:.0} %", share_over(1)),
            format!("{:.0} %", share_over(10)),
            settled.unwrap_or_else(|| "no".into()),
        ),
        None => ("-".into(), "-".into(), "-".into()),
    };
    let mean = costs.iter().sum::<f64>() / costs.len().max(1) as f64;
    let samples = run::samples_of(&said);
    let max = costs.iter().copied().fold(0.0, f64::max);
    if std::env::var_os("GOVERNOR_SHOW").is_some() {
        let user: Vec<_> = run.user().iter().map(|user| format!("{:.2}", user / unit)).collect();
        let both: Vec<_> = costs.iter().map(|cost| format!("{cost:.2}")).collect();
        println!("by second: {}; agent and worker alone: {}", both.join(" "), user.join(" "));
        let _ = std::fs::write(format!("governor-{load}-{budget}.log"), &said);
    }
    println!(
        "{load:14}{:>7} {over:>8} {long:>9} {mean:>7.2} {max:>7.2} {settled:>7} {samples:>8} {:>4.0} % \
         {biased:>9}  {}",
        percent.map_or("off".into(), |percent| format!("{percent} %")),
        shares.samples * 100.0 / (samples as f64).max(1.0),
        shares.state
    );
}

/// What the load says of itself: CPU time by part.
fn truth_of(child: Child) -> Vec<(String, f64)> {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (part, took) = line.split_once(' ')?;
        Some((part.to_owned(), took.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Whether the ledger's part of the kernel is what the profiled feel, at a rate at which they feel
/// anything: CPU time of a fixed piece of work with and without, in ABBA order.
fn slowdown(pairs: usize, directory: &std::path::Path) {
    if pairs == 0 {
        return;
    }
    let fixed = || {
        let output = loads::start("fixed", 0.0).wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().unwrap()
    };
    let mut ratios = Vec::new();
    let mut costs = Vec::new();
    let hertz = 4000;
    for pair in 0..pairs {
        let sampled = || {
            let sink = sink::Sink::start(false);
            let mut agent = Agent::start(directory, Some(60.0), (hertz, "[cpu]"), sink.address);
            // The frequency rises by a quarter a second.
            std::thread::sleep(Duration::from_secs(14));
            let (before, began) = (agent.said().len(), Instant::now());
            let took = fixed();
            let passed = began.elapsed().as_secs_f64();
            agent.stop();
            let said = agent.said();
            let windows = run::windows_of(&said[before.min(said.len())..]);
            let samples: f64 = windows.iter().map(|window| window.samples).sum();
            let seconds: f64 = windows.iter().map(|window| window.seconds).sum();
            let busy: f64 = windows.iter().map(|window| window.busy * window.seconds).sum();
            // Samples of the work: its CPU's share of all that were taken.
            let of_work = samples / busy.max(1e-9) * (took / 1e9);
            let _ = (seconds, passed);
            (took, of_work, run::cost_of(&said))
        };
        let ((with, samples, cost), without) = if pair % 2 == 0 {
            let without = fixed();
            (sampled(), without)
        } else {
            let with = sampled();
            (with, fixed())
        };
        let felt = with - without;
        costs.push(felt / samples / 1000.0);
        ratios.push(samples * cost / felt);
    }
    let list = |values: &[f64]| {
        values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ")
    };
    ratios.sort_by(f64::total_cmp);
    println!(
        "honesty of the ledger: {pairs} pairs of a fixed piece of work with and without up to {hertz} \
         Hz; felt by the work, us a sample: {}; ledger / felt: {} (median {:.2}; wanted 1.0 to 1.5)",
        list(&costs),
        list(&ratios),
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    );
}
