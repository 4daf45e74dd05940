//! Bombs, drips and nonsense beside an honest sender.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::attack::Attack;
use crate::ledger::Ledger;
use crate::process::{Gateway, configure, eventually, forwarding};
use crate::sender::{Load, Place};
use crate::sink::{Mood, Sink};

const CONNECTIONS: usize = 200;
/// What may be in flight, by default.
const BUDGET: u64 = 64 << 20;
/// What everything else may take.
const REST: u64 = 64 << 20;

/// Scenario: 200 connections: gzip and zstd bombs, senders of one byte a second, malformed requests;
/// beside them honest ones.
/// Guarantees: every honest request is acknowledged, at the latest when it is repeated as asked for,
/// and arrives; the process never has more memory than its budget and 64 MiB.
#[test]
fn honest_beside_hostile() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Take);
    configure(home.path(), &forwarding(sink.address));
    let gateway = Gateway::start(home.path());
    let place = Place::at(gateway.address);
    let attack = Attack::start(CONNECTIONS, gateway.address);
    eventually("the attack to begin", || {
        (attack.tries.load(Ordering::Relaxed) > CONNECTIONS).then_some(())
    });
    let before = attack.tries.load(Ordering::Relaxed);
    let load = Load::start(2, usize::MAX, &place, &ledger);
    eventually("a hundred honest requests during the attack", || {
        let tries = attack.tries.load(Ordering::Relaxed) - before;
        (load.answers.success() > 100 && tries > 3 * CONNECTIONS).then_some(())
    });
    let answers = load.stop();
    let tries = attack.tries.load(Ordering::Relaxed);
    attack.stop();
    assert_eq!(answers.broken.load(Ordering::Relaxed), 0, "{answers:?}");
    assert_eq!(answers.other.load(Ordering::Relaxed), 0, "{answers:?}");
    eventually("the backend to have everything", || {
        sink.check();
        (ledger.sums().missing == 0).then_some(())
    });
    let peak = gateway.peak();
    eprintln!("{tries} attacks, peak {} MiB, honest: {answers:?}", peak >> 20);
    assert!(peak <= BUDGET + REST, "{peak} bytes");
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
}

/// Scenario: an honest sender for some seconds alone, for some seconds beside the attack, by turns.
/// Guarantees: none; prints both rates and their relation. `PROFPIPE_GOODPUT` has the seconds of a turn
/// (10).
#[test]
#[ignore = "a measurement; run it with --ignored --nocapture"]
fn goodput_beside_an_attack() {
    let seconds = std::env::var("PROFPIPE_GOODPUT").map_or(10, |text| text.parse().unwrap());
    let turn = Duration::from_secs(seconds);
    let home = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Take);
    configure(home.path(), &forwarding(sink.address));
    let gateway = Gateway::start(home.path());
    let place = Place::at(gateway.address);
    // Two who send as fast as they can, or twenty who send twice a second each.
    for (senders, every) in [(2, 0), (20, 500)] {
        let every = Duration::from_millis(every);
        let rate = || {
            let load = Load::paced(senders, usize::MAX, every, &place, &ledger);
            let start = Instant::now();
            std::thread::sleep(turn);
            let answers = load.stop();
            (answers.success() as f64 / start.elapsed().as_secs_f64(), answers.later())
        };
        rate();
        let mut relations = Vec::new();
        for _ in 0..5 {
            let (alone, _) = rate();
            let attack = Attack::start(CONNECTIONS, gateway.address);
            let (beside, later) = rate();
            let tries = attack.tries.load(Ordering::Relaxed);
            attack.stop();
            relations.push(beside / alone);
            eprintln!(
                "alone {alone:.0}/s, beside {tries} attacks {beside:.0}/s with {later} refusals: {:.0} %",
                100.0 * beside / alone
            );
        }
        relations.sort_by(f64::total_cmp);
        let median = 100.0 * relations[2];
        eprintln!(
            "{senders} senders: the median is {median:.0} %, peak {} MiB",
            gateway.peak() >> 20
        );
    }
}
