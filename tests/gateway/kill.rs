//! kill -9 under load, again and again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivered::Files;
use crate::ledger::Ledger;
use crate::process::{Gateway, eventually};
use crate::sender::{Load, Place};

const SENDERS: usize = 4;
const ROUNDS: u64 = 20;
/// How many requests one destination has in flight: the most that one kill may make arrive twice.
const CONSUMERS: usize = 10;

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
fn kill_under_load(directory: &Path, ledger: &Arc<Ledger>, mut check: impl FnMut(u64)) -> Gateway {
    let place = Place::default();
    let load = Load::start(SENDERS, usize::MAX, &place, ledger);
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds() {
        let gateway = Gateway::start(directory);
        slowest = slowest.max(gateway.ready);
        place.set(Some(gateway.address));
        // The only wait for a time in here: the moment is what is tried.
        std::thread::sleep(Duration::from_millis(2 + moment(round, 500)));
        gateway.kill();
        place.set(None);
        check(round);
    }
    let gateway = Gateway::start(directory);
    place.set(Some(gateway.address));
    let before = load.answers.success();
    eventually("a success after the last kill", || (load.answers.success() > before).then_some(()));
    let answers = load.stop();
    eprintln!(
        "{} kills in {:?}, slowest start {slowest:?}: {answers:?}",
        rounds(),
        start.elapsed(),
    );
    gateway
}

/// Scenario: load, and kill -9 at random moments; the same configuration again, with the queue on disk
/// and files as destination.
/// Guarantees: everything that was acknowledged is in the files in the end, nothing else is, and
/// what is there twice is no more than what was in flight at the kills.
#[test]
fn killed_with_files_as_destination() {
    let home = tempfile::tempdir().unwrap();
    let config = "\
extensions: {file_storage: {directory: ./queue}}
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:1}}}}
exporters: {file: {path: ./out, format: otlp, sending_queue: {storage: file_storage}}}
service:
  extensions: [file_storage]
  pipelines: {profiles: {receivers: [otlp], exporters: [file]}}
";
    std::fs::write(home.path().join("gateway.yaml"), config).unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut files = Files::new(&home.path().join("out"));
    let gateway = kill_under_load(home.path(), &ledger, |_| files.look(&ledger));
    let done = Instant::now();
    eventually("the queue to drain", || {
        files.look(&ledger);
        (ledger.sums().missing == 0).then_some(())
    });
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    files.look(&ledger);
    let sums = ledger.sums();
    eprintln!("drained in {:?}: {sums:?}", done.elapsed());
    assert_eq!(sums.missing, 0, "{:?}", ledger.missing());
    assert!(sums.promised > 0);
    assert!(sums.duplicates <= CONSUMERS * rounds() as usize, "{sums:?}");
}
