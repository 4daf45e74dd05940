//! The gate of a destination, on a clock that a test turns.

use std::time::{Duration, Instant};

use super::gate::{Admission, Gate, REFUSED_RETRY, Ticket};
use crate::delivery::RetryPolicy;

const MIDDLE: f64 = 0.5;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn go(gate: &mut Gate, now: Instant) -> Ticket {
    match gate.admit(now) {
        Admission::Go(ticket) => ticket,
        other => unreachable!("not admitted: {other:?}"),
    }
}

/// Scenario: three attempts at once fail one after the other; later one goes ahead and fails, and
/// another one succeeds.
/// Guarantees: the first failure pauses everybody and the others make that no longer; after the
/// pause there is one probe; waits grow; a success opens for all and forgets the backoff.
#[test]
fn one_pause_for_all() {
    let start = Instant::now();
    let mut gate = Gate::new(RetryPolicy::default(), start);
    let tickets = [go(&mut gate, start), go(&mut gate, start), go(&mut gate, start)];
    let until = start + seconds(5);
    for ticket in tickets {
        assert_eq!(gate.failed(ticket, start, None, MIDDLE), until);
    }
    assert_eq!(gate.admit(start + seconds(4)), Admission::Wait(until));
    let probe = go(&mut gate, until);
    assert_eq!(gate.admit(until), Admission::WaitForProbe);
    assert_eq!(gate.failed(probe, until, None, MIDDLE), until + Duration::from_millis(7500));
    let later = until + seconds(8);
    let probe = go(&mut gate, later);
    // One from long ago says nothing about now.
    assert!(!gate.answered(tickets[0], later));
    assert_eq!(gate.admit(later), Admission::WaitForProbe);
    assert!(gate.answered(probe, later));
    let (one, two) = (go(&mut gate, later), go(&mut gate, later));
    assert!(!gate.answered(one, later));
    assert_eq!(gate.failed(two, later, None, MIDDLE), later + seconds(5));
}

/// Scenario: destinations that ask for nothing, for very little, for some time and for days.
/// Guarantees: what they ask for, from a second to ten minutes, and never less than the backoff;
/// one that asks while it is paused already is heard.
#[test]
fn wishes_are_granted_within_reason() {
    let start = Instant::now();
    let quick = RetryPolicy { initial_interval: Duration::from_millis(10), ..Default::default() };
    let wait = |policy, asked| {
        let mut gate = Gate::new(policy, start);
        let ticket = go(&mut gate, start);
        gate.failed(ticket, start, asked, MIDDLE).duration_since(start)
    };
    assert_eq!(wait(quick, None), Duration::from_millis(10));
    assert_eq!(wait(quick, Some(Duration::ZERO)), seconds(1));
    assert_eq!(wait(quick, Some(seconds(100))), seconds(100));
    assert_eq!(wait(quick, Some(seconds(1 << 40))), seconds(600));
    assert_eq!(wait(RetryPolicy::default(), Some(seconds(2))), seconds(5));
    let mut gate = Gate::new(quick, start);
    let (one, two) = (go(&mut gate, start), go(&mut gate, start));
    gate.failed(one, start, None, MIDDLE);
    assert_eq!(gate.failed(two, start, Some(seconds(60)), MIDDLE), start + seconds(60));
}

/// Scenario: a destination refuses us for an hour, is gone for a while, then refuses a batch.
/// Guarantees: a probe at least every thirty seconds all the time; it is held until it answers
/// about a batch.
#[test]
fn holding_probes() {
    let start = Instant::now();
    let patient = RetryPolicy { initial_interval: seconds(300), ..RetryPolicy::default() };
    let mut gate = Gate::new(patient, start);
    let mut now = start;
    let mut probes = 0;
    while now < start + seconds(3600) {
        let ticket = go(&mut gate, now);
        let until = gate.refused(ticket, now, 1.0);
        assert!(until - now <= REFUSED_RETRY && until > now);
        assert!(gate.is_held());
        now = until;
        probes += 1;
    }
    assert!(probes >= 120, "{probes}");
    let ticket = go(&mut gate, now);
    now = gate.failed(ticket, now, None, MIDDLE);
    assert!(gate.is_held());
    let ticket = go(&mut gate, now);
    assert!(gate.answered(ticket, now));
    assert!(!gate.is_held());
}

/// Scenario: the consumer with the probe goes away; the engine stops during a long pause.
/// Guarantees: the next one has the probe at once; after that no pause is long.
#[test]
fn probes_are_inherited_and_hurried() {
    let start = Instant::now();
    let mut gate = Gate::new(RetryPolicy::default(), start);
    let ticket = go(&mut gate, start);
    let mut now = gate.failed(ticket, start, None, MIDDLE);
    let probe = go(&mut gate, now);
    gate.abandoned(probe, now);
    let probe = go(&mut gate, now);
    assert_eq!(gate.admit(now), Admission::WaitForProbe);
    gate.failed(probe, now, Some(seconds(500)), MIDDLE);
    gate.hurry(now);
    let short = Duration::from_millis(200);
    assert_eq!(gate.admit(now), Admission::Wait(now + short));
    now += short;
    let ticket = go(&mut gate, now);
    assert_eq!(gate.failed(ticket, now, Some(seconds(500)), MIDDLE), now + short);
}
