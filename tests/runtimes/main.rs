//! Are the functions of managed programs shown by their own names, and is every stack that is shown the
//! one of its sample's instant?
//!
//! Layout: `java` is of HotSpot, all else of CPython. `programs/` the programs; `interpreters` finds those that this machine has; `recording` runs
//! profpipe over a program; `truth` holds the profile against what the program wrote down.
//!
//! **Why the figures are sound.** `numbers.py` runs another function every 0.1 to 0.4 ms and notes, by
//! the clock that the samples have, from when to when it was certainly in it. A stack that is read some
//! hundred microseconds late is that of another number with a chance of 47 in 48. No time is asserted,
//! only shares of samples, of which there are a thousand and more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and tells on stderr what it skipped"
)]

mod hostile;
mod interpreters;
mod java;
mod recording;
mod truth;

use std::sync::{Mutex, MutexGuard, PoisonError};

use interpreters::pythons;
use recording::{Recording, Target};
use truth::Verdicts;

/// Held by who records the whole host and by who runs programs that keep readers: the one would see the
/// others, and leave readers behind until there are no more.
static WHOLE_HOST: Mutex<()> = Mutex::new(());

/// Waits until nobody else has the host.
fn alone_on_the_host() -> MutexGuard<'static, ()> {
    WHOLE_HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What must hold of a recording: of what is shown, nearly all is right; so much is shown; and of that so
/// much reaches its root.
fn assert_true(name: &str, verdicts: &Verdicts, shown: f64, complete: f64) {
    eprintln!("{name}: {verdicts}");
    assert!(verdicts.samples() >= 400, "{name}: too few samples to say: {verdicts}");
    assert!(verdicts.early_share() <= 0.2, "{name}: {verdicts}");
    assert!(verdicts.right_share() >= 0.999, "{name}: {verdicts}: {:?}", verdicts.examples);
    assert!(verdicts.shown_share() >= shown, "{name}: {verdicts}");
    assert!(verdicts.complete_share() >= complete, "{name}: {verdicts}");
}

/// Scenario: every CPython of this machine runs functions that change all the time, started by
/// `record --`, with no flag and an environment that is not touched.
/// Guarantees: what is shown is what ran at that instant, in full and in order; nearly all is shown.
#[test]
fn a_command() {
    let pythons = pythons();
    if pythons.is_empty() {
        profpipe_testing::skip!("there is no CPython that is supported");
    }
    for python in pythons {
        let Some(verdicts) = Recording::of(&python, Target::Command).run() else { return };
        assert_true(&python.name, &verdicts, 0.98, 0.98);
    }
}

/// Scenario: a CPython that already runs is attached to.
/// Guarantees: as of a command.
#[test]
fn a_process_that_runs() {
    let Some(python) = pythons().pop() else {
        profpipe_testing::skip!("there is no CPython that is supported")
    };
    let Some(verdicts) = Recording::of(&python, Target::Attached).run() else { return };
    assert_true(&python.name, &verdicts, 0.98, 0.98);
}

/// Scenario: three threads beside the first, which take turns every few milliseconds.
/// Guarantees: every thread is shown with its own stack.
#[test]
fn threads() {
    for python in pythons().into_iter().rev().take(2) {
        let recording = Recording { threads: 3, ..Recording::of(&python, Target::Command) };
        let Some(verdicts) = recording.run() else { return };
        assert_true(&python.name, &verdicts, 0.98, 0.98);
    }
}

/// Scenario: the program forks, and parent and child go on with different functions at the same
/// addresses.
/// Guarantees: each is shown with its own stack.
#[test]
fn children() {
    let Some(python) = pythons().pop() else {
        profpipe_testing::skip!("there is no CPython that is supported")
    };
    let recording = Recording { children: 1, ..Recording::of(&python, Target::Command) };
    let Some(verdicts) = recording.run() else { return };
    // Both are found a little after they were born.
    assert_true(&python.name, &verdicts, 0.95, 0.98);
}

/// Scenario: the whole host is recorded while the program runs.
/// Guarantees: the same; readers come when the program is found.
#[test]
fn the_whole_host() {
    let _alone = alone_on_the_host();
    let Some(python) = pythons().pop() else {
        profpipe_testing::skip!("there is no CPython that is supported")
    };
    let Some(verdicts) = Recording::of(&python, Target::Host).run() else { return };
    assert_true(&python.name, &verdicts, 0.98, 0.98);
}

/// Scenario: a user without any privilege records a command of its own.
/// Guarantees: what is shown is right, however late it was read; of a thread that went on before it was
/// read nothing is shown.
#[test]
fn without_privileges() {
    let Some(python) = pythons().into_iter().find(|python| python.is_for_everybody()) else {
        profpipe_testing::skip!("there is no CPython that every user may run")
    };
    let Some(verdicts) = Recording::of(&python, Target::Unprivileged).run() else { return };
    eprintln!("{}: {verdicts}", python.name);
    assert!(verdicts.right_share() >= 0.999, "{verdicts}: {:?}", verdicts.examples);
    // Some threads go on before a reader without precedence runs.
    assert!(verdicts.shown_share() >= 0.8, "{verdicts}");
}
