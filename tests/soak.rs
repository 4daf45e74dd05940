//! Whether an agent keeps pace: three runs of `cargo bench --bench soak`, as short as they can be and
//! still show it. Ages are asserted in intervals, growth by bounds that any machine keeps; what the
//! agent cost is printed and not asserted.
//!
//! Not proved here: what takes longer than a minute to show, and whether a budget is spent well. The
//! benchmark runs for as long as it is told to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says when it is skipped"
)]

#[path = "../benches/soak/run/mod.rs"]
mod run;

use std::sync::{Mutex, PoisonError};

use run::{BOUND, HEADER, INTERVAL, Kind, Plan};

/// Runs take turns: an agent beside another one would see it.
static TURN: Mutex<()> = Mutex::new(());

/// The most anonymous memory that an agent may gain from when it is steady to the end of a run that
/// lasts a minute. Caches fill meanwhile, so only what grows by a MiB a second is found.
const GROWTH_MIB: f64 = 24.0;
/// The most descriptors that it may gain beside one for each process that the host starts meanwhile:
/// the store of modules keeps programs open until it is full, to have names after they have gone.
const GROWTH_DESCRIPTORS: usize = 32;

/// What a budget is multiplied by where this is a debug build, whose code is several times slower.
const DEBUG: f64 = if cfg!(debug_assertions) { 5.0 } else { 1.0 };

/// Runs one and asserts what must hold of each.
fn soak(load: &str, budget: Option<f64>, seconds: u64) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let kind = Kind::named(load).unwrap();
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    if let Some(program) = kind.lacks() {
        profpipe_testing::skipped(&format!("{load}: there is no {program}"));
        // A C program alone is a load, too.
        if program == "cc" {
            return;
        }
    }
    let budget = budget.map(|percent| percent * DEBUG);
    let figures = run::run(Plan { kind, budget, seconds }).unwrap();
    let missed = figures.missed().join("; ");
    let seen = format!("\n{HEADER}\n{figures}\n{}\nmissed: {missed}\n", figures.details());
    eprintln!("{seen}");
    let bound = BOUND.as_secs_f64();
    let intervals = |seconds: f64| seconds / INTERVAL.as_secs_f64();
    assert_eq!(figures.ended, None, "ended by itself:{seen}");
    assert!(figures.windows > 0, "nothing has left:{seen}");
    assert_eq!(figures.unreadable, 0, "every file can be read:{seen}");
    assert_eq!(figures.lost, 0.0, "samples were lost:{seen}");
    assert_eq!(figures.disordered, 0, "a process's windows leave in order:{seen}");
    assert_eq!(figures.waited, 0, "windows left only at the stop:{seen}");
    let [_, _, lag] = figures.lag;
    assert!(
        lag <= bound,
        "a window left {:.1} intervals after its end, may {:.1}:{seen}",
        intervals(lag),
        intervals(bound)
    );
    // The newest may be as old as the next may be long and late.
    let [_, age] = figures.age;
    assert!(
        age <= figures.longest + bound,
        "the newest was {:.1} intervals old, may {:.1}:{seen}",
        intervals(age),
        intervals(figures.longest + bound)
    );
    let [first, last] = figures.usage;
    let grown = last.agent - first.agent;
    assert!(grown <= GROWTH_MIB, "{grown:.1} MiB more at the end:{seen}");
    let grown = last.descriptors.saturating_sub(first.descriptors);
    let started = last.forks.saturating_sub(first.forks);
    assert!(
        grown <= started + GROWTH_DESCRIPTORS,
        "{grown} descriptors more at the end, beside {started} new processes:{seen}"
    );
}

/// Scenario: programs that are compiled, run and thrown away, beside an agent that may use one percent
/// of a core (five in a debug build), for a minute.
/// Guarantees: every window leaves within two intervals and ten seconds of its end, each process's in
/// order, none only at the stop; nothing is lost; memory and descriptors stay within bounds.
#[test]
fn governed_beside_new_programs() {
    soak("churn", Some(1.0), 60);
}

/// Scenario: two programs with much to name, beside an agent that may use half a percent (2.5 in a debug
/// build).
/// Guarantees: the same.
#[test]
fn governed_beside_large_programs() {
    soak("pair", Some(0.5), 50);
}

/// Scenario: programs that are compiled, run and thrown away, beside an agent without a governor.
/// Guarantees: the same.
#[test]
fn without_a_governor() {
    soak("churn", None, 50);
}
