//! Whether an agent keeps pace for as long as it runs: `cargo bench --bench soak`.
//!
//! Runs `profpipe run` beside each load at each budget, and prints how old the newest profile was, how
//! late each window left, what was lost, what it cost, and what it held. Everything is seen from
//! outside: ages by the times of files or arrivals, CPU by process clocks, memory and descriptors by
//! `/proc`. Only the counts of samples, losses and names are the agent's own, and what a sample costs
//! the kernel. `events` is `churn` with waiting threads and page faults beside CPU time.
//!
//! `-- --minutes M` for each run (3), `--loads loops,pair,churn,events,delivery` (all), `--budgets
//! off,5,1,0.5,0.1` in percent of one core (all; `delivery` has `off` and `1` only). Two hours of one
//! row: `--minutes 120 --loads churn --budgets 1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and stops at what it did not expect"
)]

mod run;

use std::time::Instant;

use run::{BOUND, FREQUENCY, HEADER, INTERVAL, Kind, Plan, START, STEADY};

const BUDGETS: &str = "off,5,1,0.5,0.1";
/// Budgets of [`Kind::Delivery`], where not the budget is in question but the way.
const DELIVERY: [Option<f64>; 2] = [None, Some(1.0)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("soak: measures for minutes; run it with cargo bench --bench soak");
        return;
    }
    let option = |name: &str, default: &str| {
        let position = arguments.iter().position(|argument| argument == name);
        let value = position.and_then(|position| arguments.get(position + 1));
        value.cloned().unwrap_or_else(|| default.to_owned())
    };
    let minutes: f64 = option("--minutes", "3").parse().unwrap();
    let seconds = (minutes * 60.0) as u64;
    assert!(seconds > STEADY.as_secs(), "a run must be longer than its start, {STEADY:?}");
    let plans = plans(
        &option("--loads", &Kind::ALL.map(Kind::name).join(",")),
        &option("--budgets", BUDGETS),
        seconds,
    );
    let began = Instant::now();
    explain(seconds, plans.len());
    println!("{HEADER}");
    let mut table = String::new();
    for plan in plans {
        let figures = match run::run(plan) {
            Ok(figures) => figures,
            Err(said) => panic!("nothing can be sampled here:\n{said}"),
        };
        let mut row = figures.to_string();
        let missed = figures.missed();
        if !missed.is_empty() {
            row.push_str(&format!("\n    MISSED: {}", missed.join("; ")));
        }
        println!("{row}\n    {}", figures.details());
        table.push_str(&row);
        table.push('\n');
    }
    println!("\n{HEADER}\n{table}took {} s", began.elapsed().as_secs());
}

/// What to run; what cannot be run here is said.
fn plans(loads: &str, budgets: &str, seconds: u64) -> Vec<Plan> {
    let loads = loads.split(',').map(|load| match Kind::named(load) {
        Some(kind) => kind,
        None => panic!("no load is called {load}"),
    });
    let budgets: Vec<Option<f64>> = budgets
        .split(',')
        .map(|budget| (budget != "off").then(|| budget.parse().expect("a budget in percent")))
        .collect();
    let mut plans = Vec::new();
    for kind in loads {
        match kind.lacks() {
            Some("python3") => println!("{}: without Python, which is not here", kind.name()),
            Some(program) => {
                println!("{}: left out, there is no {program}", kind.name());
                continue;
            }
            None => {}
        }
        let fits = |budget: &&Option<f64>| kind != Kind::Delivery || DELIVERY.contains(budget);
        plans.extend(budgets.iter().filter(fits).map(|budget| Plan {
            kind,
            budget: *budget,
            seconds,
        }));
    }
    plans
}

fn explain(seconds: u64, runs: usize) {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {cpus} CPUs; {runs} runs of {seconds} s");
    println!(
        "method: profpipe run (perf at {FREQUENCY} Hz at most in windows of {} s, governor unless off, \
         symbolize, files; in delivery otlp_http and pyroscope to servers here, through a durable \
         queue) beside each load; everything but CPU time is looked at every 5 s, from outside",
        INTERVAL.as_secs()
    );
    println!(
        "age: of the newest file or arrival, median and worst after {} s; lag: from the end of a \
         process's window until it left, median, 99 % and worst; order: windows that left after a later \
         one of their process; samples/s: taken, of CPU time of the host x {FREQUENCY} Hz; files: \
         before and after the stop (requests in delivery)",
        STEADY.as_secs()
    );
    println!(
        "% core: CPU time of agent and worker by process clocks each second, plus samples x what the \
         agent says that one costs the kernel (50 us where it does not say), mean after {} s; 10 s: \
         worst mean of ten seconds in % of the budget; start s: CPU seconds before that; MiB: anonymous, \
         from when it was steady to the end, and MiB in 10 min over the second half; descriptors: \
         first, most, last; named: of the frames that were asked for. Reading the metrics every 5 s is \
         part of the cost. Figures of a machine that is busy with other things are worse; each run \
         prints the load average",
        START.as_secs()
    );
    println!(
        "wanted: every lag at most {} s (two intervals and 10 s), nothing only at the stop, order kept",
        BOUND.as_secs()
    );
    println!("wanted: nothing lost");
    println!(
        "wanted: at most 1 MiB of growth in 10 min after minute 10 (judged in runs of 20 min)"
    );
    println!(
        "wanted: 70 to 100 % of the budget where there is more to sample, never over in any 10 s"
    );
}
