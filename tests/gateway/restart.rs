//! A start with much in the queue.

use std::sync::Arc;
use std::time::Instant;

use crate::ledger::Ledger;
use crate::payload::LARGE;
use crate::process::{Gateway, configure, eventually, forwarding};
use crate::sender::{Load, Place};
use crate::sink::{Mood, Sink};

/// How much to queue, in requests of half a megabyte or so.
fn requests() -> usize {
    let mebibytes: usize =
        std::env::var("PROFPIPE_QUEUE_MIB").map_or(32, |text| text.parse().unwrap());
    mebibytes * 4 / 3
}

/// Scenario: a queue of many megabytes, a kill, a start, and then a backend.
/// Guarantees: senders have success before any of the queue is sent; everything arrives, what was
/// sent last too. How long the start took is printed.
#[test]
fn start_with_a_long_queue() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::starting_at(LARGE));
    let sink = Sink::start(&ledger, Mood::Refuse(503, None));
    let config = forwarding(sink.address)
        .replace("{directory: ./queue}", "{directory: ./queue, max_bytes: 8GiB}");
    configure(home.path(), &config);
    let gateway = Gateway::start(home.path());
    let count = requests();
    let filling = Instant::now();
    let answers = Load::start(2, count, &Place::at(gateway.address), &ledger).finish();
    assert_eq!(answers.success(), count, "{answers:?}");
    let filling = filling.elapsed();
    gateway.kill();
    let queued: u64 = std::fs::read_dir(home.path().join("queue"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let gateway = Gateway::start(home.path());
    let ready = gateway.ready;
    let answers = Load::start(1, 1, &Place::at(gateway.address), &ledger).finish();
    assert_eq!(answers.success(), 1, "{answers:?}");
    let draining = Instant::now();
    sink.be(Mood::Take);
    eventually("the backend to have everything", || {
        sink.check();
        (ledger.sums().missing == 0).then_some(())
    });
    eprintln!(
        "a queue of {} MiB: filled in {filling:?}, ready in {ready:?}, drained in {:?}, peak {} MiB",
        queued >> 20,
        draining.elapsed(),
        gateway.peak() >> 20,
    );
    assert_eq!(ledger.sums().duplicates, 0);
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
}
