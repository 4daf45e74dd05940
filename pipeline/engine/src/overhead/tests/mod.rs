//! The ledger, the pacer and waiting windows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use super::{Overhead, Pacer, Stage};

/// Scenario: pieces of work of many sizes ask for their turn, one after the other, for a minute.
/// Guarantees: no second sees more than the share, plus what the last piece overdraws.
#[test]
fn no_second_is_overdrawn() {
    const SECOND: u64 = 1_000_000_000;
    for lump in [50_000.0, 400_000.0, 3_000_000.0, 5_000_000.0] {
        let share = 0.004;
        let mut pacer = Pacer::new(share, 0);
        let mut now = 0;
        let mut spent: Vec<(u64, f64)> = Vec::new();
        while now < 60 * SECOND {
            let wait = pacer.wait(lump, Duration::MAX, now);
            if wait.is_zero() {
                pacer.take(lump, now);
                spent.push((now, lump));
            } else {
                now += wait.as_nanos() as u64;
            }
        }
        for (at, (begin, _)) in spent.iter().enumerate() {
            let within = spent.iter().skip(at).take_while(|(time, _)| *time < begin + SECOND);
            let sum: f64 = within.map(|(_, took)| took).sum();
            assert!(sum <= share * 1e9 + lump, "{sum} in a second in pieces of {lump}");
        }
        let mean = spent.iter().map(|(_, took)| took).sum::<f64>() / 60.0;
        assert!(mean >= 0.25 * share * 1e9, "{mean} a second in pieces of {lump}");
    }
}

/// Scenario: small pieces ask for their turn as fast as they get it, for a minute; a share of a second
/// and a smaller one of ten.
/// Guarantees: no second and no ten seconds spend more than theirs, and the smaller one is used up but
/// for a tenth.
#[test]
fn a_share_is_used_up() {
    const SECOND: u64 = 1_000_000_000;
    let (second, ten, piece) = (0.008, 0.005, 200_000.0);
    let mut pacer = Pacer::new(second, 0);
    pacer.set(second, ten, 0);
    let mut now = 0;
    let mut spent: Vec<u64> = Vec::new();
    while now < 60 * SECOND {
        let wait = pacer.wait(piece, Duration::ZERO, now);
        if wait.is_zero() {
            pacer.take(piece, now);
            spent.push(now);
        }
        now += (wait.as_nanos() as u64).max(1_000_000);
    }
    for (length, share) in [(SECOND, second), (10 * SECOND, ten)] {
        for (at, begin) in spent.iter().enumerate() {
            let within = spent.iter().skip(at).take_while(|time| **time < begin + length).count();
            let most = share * length as f64;
            assert!(within as f64 * piece <= most, "{within} pieces in {length} ns");
        }
    }
    let mean = spent.len() as f64 * piece / 60e9;
    assert!(mean >= 0.9 * ten, "{mean}");
}

/// Scenario: a piece that is larger than a second's share.
/// Guarantees: it waits a little for room, then goes where nothing else was spent for a second, and
/// ten seconds pay for it.
#[test]
fn a_large_piece_gets_a_second_of_its_own() {
    let mut pacer = Pacer::new(0.01, 0);
    let (piece, patient) = (25e6, Duration::from_secs(3));
    assert!(!pacer.wait(piece, Duration::ZERO, 0).is_zero());
    assert!(pacer.wait(piece, patient, 0).is_zero());
    pacer.take(1e6, 0);
    assert!(!pacer.wait(piece, patient, 500_000_000).is_zero());
    assert!(pacer.wait(piece, patient, 1_100_000_000).is_zero());
    for turn in 0..4 {
        assert!(pacer.wait_for_ten(piece, 2_000_000_000 + turn).is_zero() == (turn < 3));
        pacer.take(piece, 2_000_000_000);
    }
}

/// Scenario: three windows end, and their profiles leave out of order.
/// Guarantees: the oldest that has not left is told, with what it waits for; a late one goes before
/// everything else; after the last none is.
#[test]
fn the_oldest_window_is_told() {
    let overhead = Arc::new(Overhead::default());
    let interval = Duration::from_secs(5);
    let ago = |seconds: u64| super::monotonic().saturating_sub(seconds * 1_000_000_000);
    assert_eq!(overhead.oldest_window(), None);
    let young = overhead.window_ended(ago(1), interval);
    let old = overhead.window_ended(ago(13), interval);
    let middle = overhead.window_ended(ago(3), interval);
    old.waits_for(Stage::Send);
    let oldest = overhead.oldest_window().unwrap();
    assert_eq!((oldest.age.as_secs(), oldest.stage), (13, Stage::Send));
    assert_eq!((oldest.windows_at(Stage::Send), oldest.windows_at(Stage::Aggregate)), (1, 2));
    assert!(oldest.is_late() && old.patience().is_zero() && !middle.patience().is_zero());
    drop(old);
    let oldest = overhead.oldest_window().unwrap();
    assert_eq!((oldest.age.as_secs(), oldest.is_late()), (3, false));
    drop((young, middle));
    assert_eq!(overhead.oldest_window(), None);
    // What has left since the last look counts for the controller.
    let now = super::monotonic();
    assert!(overhead.take_oldest_age(now) >= Duration::from_secs(13));
    assert_eq!(overhead.take_oldest_age(now), Duration::ZERO);
}

/// Scenario: a worker takes CPU time and is ended before it has answered.
/// Guarantees: what it took is in the ledger, as what workers of the symbolizer take is, and counted once.
#[test]
fn a_worker_that_is_ended_has_cost_something() {
    let overhead = Overhead::default();
    let mut worker =
        std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    overhead.worker_began(worker.id());
    // The kernel tells at its own pace what a thread has taken.
    for _ in 0..1000 {
        if overhead.worker_cpu() > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    overhead.worker_ends(worker.id());
    worker.kill().unwrap();
    worker.wait().unwrap();
    let cost = overhead.ledger().of(Stage::Symbolize);
    assert!(cost > 0);
    assert_eq!(overhead.worker_cpu(), cost);
    overhead.worker_ends(worker.id());
    assert_eq!(overhead.ledger().of(Stage::Symbolize), cost);
}

/// Scenario: nothing may be spent at all.
/// Guarantees: it says how long to wait, and asks to come back where that would be for ever.
#[test]
fn waits_are_bounded() {
    let mut pacer = Pacer::new(0.0, 0);
    assert!(pacer.wait(1e6, Duration::MAX, 0) <= Duration::from_secs(5));
    pacer.set(0.01, 0.01, 0);
    assert!(pacer.wait(1e3, Duration::ZERO, 1_000_000_000).is_zero());
}
