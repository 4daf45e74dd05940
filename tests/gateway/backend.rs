//! Backends that are down, slow, refuse, or go away in the middle of an answer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::ledger::{Ledger, Sums};
use crate::payload;
use crate::process::{Gateway, configure, eventually, forwarding, inspect, queue, with_exporter};
use crate::sender::{Load, Place};
use crate::sink::{Mood, Sink};

/// No numbers.
const NONE: [u64; 0] = [];

/// A gateway before one backend.
struct Chain {
    home: tempfile::TempDir,
    ledger: Arc<Ledger>,
    sink: Sink,
    gateway: Gateway,
}

impl Chain {
    fn start(mood: Mood) -> Self {
        Self::with(mood, forwarding)
    }

    fn with(mood: Mood, config: impl FnOnce(SocketAddr) -> String) -> Self {
        let home = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::default());
        let sink = Sink::start(&ledger, mood);
        configure(home.path(), &config(sink.address));
        let gateway = Gateway::start(home.path());
        Self { home, ledger, sink, gateway }
    }

    /// Sends so many requests, all of which are acknowledged.
    #[track_caller]
    fn send(&self, count: usize) {
        send(&self.gateway, &self.ledger, count);
    }

    /// Waits until the backend has everything that was promised.
    #[track_caller]
    fn arrive(&self) -> Sums {
        arrive(&self.ledger, &self.sink)
    }
}

#[track_caller]
fn send(gateway: &Gateway, ledger: &Arc<Ledger>, count: usize) {
    let answers = Load::start(4, count, &Place::at(gateway.address), ledger).finish();
    assert_eq!(answers.success.load(Ordering::Relaxed), count, "{answers:?}");
}

#[track_caller]
fn arrive(ledger: &Ledger, sink: &Sink) -> Sums {
    eventually("the backend to have everything", || {
        sink.check();
        (ledger.sums().missing == 0).then_some(())
    });
    ledger.sums()
}

/// The numbers that are dead letters of a destination.
fn dead(home: &Path, destination: &str) -> Vec<u64> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(home.join("queue/dead")).into_iter().flatten() {
        let folder = entry.unwrap().path();
        assert!(folder.to_str().unwrap().contains(destination), "{}", folder.display());
        for letter in std::fs::read_dir(folder).unwrap().map(|letter| letter.unwrap().path()) {
            if letter.extension().is_some_and(|extension| extension == "otlp") {
                ids.extend(payload::read(&std::fs::read(letter).unwrap()).into_keys());
            }
        }
    }
    ids.sort_unstable();
    ids
}

/// Scenario: a backend that answers 429 or 503 with and without Retry-After, other passing failures,
/// and statuses that refuse the gateway and not the data; then it takes everything.
/// Guarantees: senders have their success meanwhile; nothing is given up; everything arrives once.
#[test]
fn refusals_that_pass() {
    let chain = Chain::start(Mood::Take);
    let refusals =
        [(429, Some(1)), (503, Some(1)), (503, None), (502, None), (504, None)].into_iter();
    let ours = [401, 403, 404, 407, 302].map(|status| (status, None));
    for (status, after) in refusals.chain(ours) {
        chain.sink.be(Mood::Refuse(status, after));
        chain.send(10);
        eventually("a refusal", || (chain.sink.answered(status) > 0).then_some(()));
        assert!(chain.ledger.sums().missing > 0);
        chain.sink.be(Mood::Take);
        let sums = chain.arrive();
        assert_eq!(sums.duplicates, 0, "{status}: {sums:?}");
    }
    let (status, said) = chain.gateway.stop();
    assert!(status.success(), "{said}");
    assert_eq!(dead(chain.home.path(), "otlp_http"), NONE);
}

/// Scenario: a backend that answers 400 to every seventh request.
/// Guarantees: the others arrive, once; exactly those seventh are dead letters, as they were sent,
/// and arrive too once they are replayed and the backend has changed its mind.
#[test]
fn poison_blocks_nobody() {
    let chain = Chain::start(Mood::Poison(7));
    chain.send(100);
    let poison: Vec<u64> = (0..100).filter(|id| id % 7 == 0).collect();
    eventually("all but the poison", || {
        chain.sink.check();
        (chain.ledger.missing() == poison).then_some(())
    });
    let Chain { home, ledger, sink, gateway } = chain;
    eventually("the poison among the dead letters", || {
        (dead(home.path(), "otlp_http") == poison).then_some(())
    });
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    let told = inspect(home.path());
    assert_eq!(told["pending"]["records"], 0, "{told}");
    assert_eq!(told["dead_letters"], poison.len(), "{told}");
    queue(home.path(), &["replay"]);
    sink.be(Mood::Take);
    let _gateway = Gateway::start(home.path());
    let sums = arrive(&ledger, &sink);
    assert_eq!(sums.duplicates, 0, "{sums:?}");
    assert_eq!(dead(home.path(), "otlp_http"), NONE);
}

/// Scenario: a backend that answers 413 to what is large.
/// Guarantees: it gets everything, in parts; no part twice.
#[test]
fn too_large_is_cut() {
    let chain = Chain::start(Mood::Small(28_000));
    chain.send(70);
    let sums = chain.arrive();
    assert!(chain.sink.answered(413) > 0, "nothing was too large");
    assert_eq!(sums.duplicates, 0, "{sums:?}");
    assert_eq!(dead(chain.home.path(), "otlp_http"), NONE);
}

/// Scenario: a backend whose answers end after N bytes, for every N from 0 to 200; each time it has
/// taken the request.
/// Guarantees: everything arrives; what is cut within the head is sent again, and only that.
#[test]
fn answers_cut_anywhere() {
    let chain = Chain::with(Mood::CutEach(200), |to| {
        forwarding(to)
            .replace("initial_interval: 20ms", "initial_interval: 1ms")
            .replace("max_interval: 100ms", "max_interval: 2ms")
    });
    chain.send(210);
    let sums = chain.arrive();
    eventually("the last answers", || (chain.sink.requests() > 200).then_some(()));
    assert!((100..=201).contains(&sums.duplicates), "{sums:?}");
    assert_eq!(dead(chain.home.path(), "otlp_http"), NONE);
}

/// Scenario: a backend that takes requests and never answers; then one that answers byte by byte.
/// Guarantees: an attempt ends with its timeout, and everything arrives once there are answers.
#[test]
fn silent_and_slow() {
    let impatient = |to| forwarding(to).replace("timeout: 2s", "timeout: 500ms");
    let chain = Chain::with(Mood::Silent, impatient);
    chain.send(30);
    eventually("attempts that got nowhere", || (chain.sink.requests() > 12).then_some(()));
    chain.sink.be(Mood::Slow(Duration::from_micros(100)));
    chain.arrive();
}

/// Scenario: the backend is down; the gateway is told to stop, and started again; then the backend
/// comes back.
/// Guarantees: senders have their success all the time, the stop is an orderly one, and everything
/// arrives exactly once.
#[test]
fn stopped_while_the_backend_is_down() {
    let Chain { home, ledger, sink, gateway } = Chain::start(Mood::Take);
    let address = sink.address;
    drop(sink);
    send(&gateway, &ledger, 50);
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    let told = inspect(home.path());
    assert_eq!(told["pending"]["records"], 50, "{told}");
    let gateway = Gateway::start(home.path());
    send(&gateway, &ledger, 50);
    assert_eq!(ledger.sums().missing, 100);
    let sink = Sink::start_at(address, &ledger, Mood::Take);
    let sums = arrive(&ledger, &sink);
    assert_eq!(sums, Sums { sent: 100, promised: 100, arrived: 100, ..Sums::default() });
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    // Nothing is left that a third start would send.
    let gateway = Gateway::start(home.path());
    send(&gateway, &ledger, 1);
    arrive(&ledger, &sink);
    assert_eq!(ledger.sums().duplicates, 0);
}

/// Scenario: two backends behind one queue, one of them down.
/// Guarantees: the other gets everything; when the first comes back, it does too.
#[test]
fn one_of_two_is_down() {
    let home = tempfile::tempdir().unwrap();
    let both = Arc::new(Ledger::default());
    let lively = Sink::start(&both, Mood::Take);
    let down = Sink::start(&both, Mood::Take);
    let address = down.address;
    drop(down);
    let exporter = |name: &str, to| {
        format!(
            "otlp_http/{name}: {{endpoint: \"http://{to}\", compression: none, \
             retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms}}, \
             sending_queue: {{storage: file_storage}}}}"
        )
    };
    let two = format!("{}, {}", exporter("lively", lively.address), exporter("down", address));
    let config = with_exporter(&two)
        .replace("exporters: [otlp_http/lively]", "exporters: [otlp_http/lively, otlp_http/down]");
    configure(home.path(), &config);
    let gateway = Gateway::start(home.path());
    send(&gateway, &both, 100);
    let sums = arrive(&both, &lively);
    assert_eq!((sums.arrived, sums.duplicates), (100, 0));
    let back = Sink::start_at(address, &both, Mood::Take);
    eventually("the second copy of everything", || {
        back.check();
        (both.sums().duplicates == 100).then_some(())
    });
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    assert_eq!(both.sums().duplicates, 100);
}
