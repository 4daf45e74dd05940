//! kill -9 under load, again and again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivered::Files;
use crate::ledger::Ledger;
use crate::process::{
    Gateway, PATIENCE, configure, eventually, forwarding, inspect, with_exporter,
};
use crate::sender::{Load, Place};
use crate::sink::{Mood, Sink};

const SENDERS: usize = 2;
const ROUNDS: u64 = 20;
/// The most that one kill may make arrive twice: what was delivered since the log last wrote down how
/// far it is, which it does at least every thousand records, and what ten consumers had in flight.
const TWICE: usize = 1000 + 10;

/// How often to kill in one test.
fn rounds() -> u64 {
    std::env::var("PROFPIPE_KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

/// A number between 0 and `below`, which looks random and is the same in every run.
fn moment(round: u64, below: u64) -> u64 {
    let mut state = round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^= state >> 31;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (state ^ state >> 29) % below
}

/// Starts, waits for the moment, kills; `rounds` times. Between two rounds `check` looks at what is there.
fn kill_under_load(
    directory: &Path,
    ledger: &Arc<Ledger>,
    rounds: u64,
    seed: u64,
    mut check: impl FnMut(u64),
) -> Gateway {
    let place = Place::default();
    let load = Load::start(SENDERS, usize::MAX, &place, ledger);
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let gateway = Gateway::start(directory);
        slowest = slowest.max(gateway.ready);
        place.set(Some(gateway.address));
        // The only wait for a time in here: the moment is what is tried.
        std::thread::sleep(Duration::from_millis(2 + moment(seed << 32 | round, 500)));
        gateway.kill();
        place.set(None);
        check(round);
    }
    let gateway = Gateway::start(directory);
    place.set(Some(gateway.address));
    let before = load.answers.success();
    eventually("a success after the last kill", || (load.answers.success() > before).then_some(()));
    let answers = load.stop();
    eprintln!("{rounds} kills in {:?}, slowest start {slowest:?}: {answers:?}", start.elapsed(),);
    gateway
}

/// Waits until everything that was promised has arrived, and checks all that is claimed.
#[track_caller]
fn settle(home: &Path, ledger: &Ledger, gateway: Gateway, rounds: u64, mut look: impl FnMut()) {
    let start = Instant::now();
    let mut before = ledger.sums();
    let mut moved = Instant::now();
    loop {
        look();
        let sums = ledger.sums();
        if sums.missing == 0 {
            break;
        }
        if (sums.missing, sums.duplicates) != (before.missing, before.duplicates) {
            (before, moved) = (sums, Instant::now());
        }
        assert!(moved.elapsed() < PATIENCE, "nothing arrives any more: {sums:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    let told = inspect(home);
    assert_eq!(told["dead_letters"], 0, "{told}");
    look();
    let sums = ledger.sums();
    eprintln!("drained in {:?}: {sums:?}", start.elapsed());
    assert!(sums.promised > 0);
    assert!(sums.duplicates <= TWICE * rounds as usize, "{sums:?}");
}

/// Scenario: load, and kill -9 at random moments; the same configuration again, with the queue on disk
/// and files as destination.
/// Guarantees: everything that was acknowledged is in the files in the end, nothing else is, and
/// what is there twice is no more than what was in flight at the kills.
#[test]
fn killed_with_files_as_destination() {
    let home = tempfile::tempdir().unwrap();
    let file = "file: {path: ./out, format: otlp, sending_queue: {storage: file_storage}}";
    configure(home.path(), &with_exporter(file));
    let ledger = Arc::new(Ledger::default());
    let mut files = Files::new(&home.path().join("out"));
    let gateway = kill_under_load(home.path(), &ledger, 6, 0, |_| files.look(&ledger));
    settle(home.path(), &ledger, gateway, 6, || files.look(&ledger));
}

/// Scenario: load, and kill -9 at random moments; the same configuration again. The destination is a
/// backend that answers, is slow, answers 502 and 503, cuts connections, and in some rounds is
/// silent.
/// Guarantees: as above, for each of several gateways.
#[test]
fn killed_with_a_backend_as_destination() {
    let all = rounds();
    // A thousand rounds are shared by four gateways.
    let gateways = if all > 100 { 4 } else { 1 };
    let threads = (0..gateways).map(|seed| {
        std::thread::spawn(move || {
            let rounds = all / gateways;
            let home = tempfile::tempdir().unwrap();
            let ledger = Arc::new(Ledger::default());
            let sink = Sink::start(&ledger, Mood::Anything);
            configure(home.path(), &forwarding(sink.address));
            let gateway = kill_under_load(home.path(), &ledger, rounds, seed, |round| {
                sink.check();
                sink.be(if round % 5 == 3 { Mood::Silent } else { Mood::Anything });
            });
            sink.be(Mood::Take);
            settle(home.path(), &ledger, gateway, rounds, || sink.check());
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}
