//! The ledger, the pacer and the control law.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod plant;
mod simulation;

use std::time::Duration;

use super::Pacer;

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

/// Scenario: an empty bucket.
/// Guarantees: it says how long to wait, and asks to come back where that would be for ever.
#[test]
fn waits_are_bounded() {
    let mut pacer = Pacer::new(0.0, 0);
    assert!(pacer.wait(1e6, Duration::MAX, 0) <= Duration::from_secs(5));
    pacer.set(0.01, 0.01, 0);
    assert!(pacer.wait(1e3, Duration::ZERO, 1_000_000_000).is_zero());
}
