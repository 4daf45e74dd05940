//! One account over everything: whatever happens to a gateway, what it answered with success is
//! delivered, in a queue, or among the dead letters, and it says so itself.

use std::path::Path;
use std::sync::Arc;

use profpipe::otlp;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::http::Connection;
use crate::ledger::{Ledger, Sums};
use crate::payload;
use crate::process::{Gateway, PATIENCE, configure, eventually, queue, with_exporter};
use crate::sink::{Mood, Sink};

const STEPS: usize = 40;
const SEEDS: u64 = 3;

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ number >> 31) % sides
    }
}

/// A gateway with one exporter of this name, which is another one after the next reload.
fn config(name: &str, sink: &Sink) -> String {
    with_exporter(&format!(
        "otlp_http/{name}: {{endpoint: \"http://{}\", timeout: 2s, \
         retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms}}, \
         sending_queue: {{storage: file_storage}}}}",
        sink.address
    ))
}

/// How a request is written.
fn dialect(id: u64, dice: &mut Dice) -> (&'static str, Vec<u8>, &'static str) {
    let request = payload::request(id);
    match dice.roll(3) {
        0 => ("protobuf", request, ""),
        1 => ("json", otlp::encode_json(&otlp::decode(&request).unwrap()), ""),
        _ => {
            use std::io::Write as _;
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&request).unwrap();
            ("protobuf", packed.finish().unwrap(), "content-encoding: gzip\r\n")
        }
    }
}

/// Sends some requests, each in a dialect of its own. Those that got these answers.
fn send(gateway: &Gateway, ledger: &Ledger, dice: &mut Dice) -> Vec<u16> {
    let mut connection = Connection::open(gateway.address, PATIENCE).unwrap();
    let mut answers = Vec::new();
    for _ in 0..=dice.roll(6) {
        let id = ledger.take();
        let (form, body, headers) = dialect(id, dice);
        ledger.sent(id);
        let answer = connection.post_as(form, &body, headers).unwrap();
        match answer.status {
            200 => ledger.promised(id),
            status => assert_eq!(status, 503, "{answer:?}"),
        }
        answers.push(answer.status);
    }
    answers
}

/// Batches that wait, by exporter, and dead letters, of the queue in `./queue`.
fn inspect(directory: &Path) -> (Vec<(String, u64)>, u64) {
    let said: serde_json::Value =
        serde_json::from_str(&queue(directory, &["inspect", "--format", "json"])).unwrap();
    let destinations = said["destinations"].as_array().unwrap();
    let waiting = destinations.iter().map(|one| {
        let id = one["id"].as_str().unwrap().to_owned();
        (id, one["pending"]["records"].as_u64().unwrap())
    });
    let dead = destinations.iter().map(|one| one["dead_letters"].as_u64().unwrap()).sum();
    (waiting.collect(), dead)
}

/// Stops the gateway, and compares what was promised with what became of it.
fn settle(gateway: Gateway, home: &Path, ledger: &Ledger) -> (Sums, u64) {
    let (status, said) = gateway.stop();
    assert!(status.success(), "{said}");
    let (waiting, dead) = inspect(home);
    let sums = ledger.sums();
    let queued: u64 = waiting.iter().map(|(_, records)| records).sum();
    assert_eq!(sums.promised as u64, (sums.arrived as u64) + queued + dead, "{sums:?}\n{said}");
    assert_eq!((sums.unasked, sums.duplicates), (0, 0), "{sums:?}");
    let last = said.lines().last().unwrap();
    let told = format!("{queued} batch");
    assert_eq!(last.contains(&told), queued > 0, "{told}: {last}");
    for (id, records) in waiting.iter().filter(|(_, records)| *records > 0) {
        let line = format!("exporters::{id}: of ");
        let line = said.lines().rfind(|said| said.contains(&line)).unwrap_or_default();
        assert!(line.contains(&format!("in {records} batches wait")), "{id}: {records}\n{said}");
    }
    (sums, queued)
}

fn limit_files(gateway: &Gateway, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(gateway.pid()), Resource::Fsize, limit).unwrap();
}

fn walk(seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Take);
    let mut dice = Dice(seed);
    let mut name = "a";
    configure(home, &config(name, &sink));
    let mut gateway = Gateway::start(home);
    for _ in 0..STEPS {
        match dice.roll(8) {
            0 => sink.be(Mood::Take),
            1 => sink.be(Mood::Refuse(503, None)),
            // For good: dead letters.
            2 => sink.be(Mood::Refuse(400, None)),
            3 => {
                // The exporter is another one, and what waits for the old one waits on.
                name = if name == "a" { "b" } else { "a" };
                configure(home, &config(name, &sink));
                let runs = |gateway: &Gateway| gateway.said().matches("tion runs").count();
                let before = runs(&gateway);
                gateway.signal(Signal::HUP);
                eventually("the reload", || (runs(&gateway) > before).then_some(()));
            }
            4 => {
                settle(gateway, home, &ledger);
                let (waiting, _) = inspect(home);
                gateway = Gateway::start(home);
                for (id, records) in waiting {
                    let line = format!("exporters::{id}: {records} batches");
                    let is_other = !id.ends_with(name) && records > 0;
                    assert_eq!(gateway.said().contains(&line), is_other, "{}", gateway.said());
                }
            }
            5 => {
                limit_files(&gateway, Some(1));
                let answers = send(&gateway, &ledger, &mut dice);
                limit_files(&gateway, None);
                assert!(answers.iter().all(|answer| *answer == 503), "{answers:?}");
            }
            6 => {
                let (queue, aside) = (home.join("queue"), home.join("aside"));
                std::fs::rename(&queue, &aside).unwrap();
                let answers = send(&gateway, &ledger, &mut dice);
                std::fs::rename(&aside, &queue).unwrap();
                assert!(answers.iter().all(|answer| *answer == 503), "{answers:?}");
            }
            _ => {
                let answers = send(&gateway, &ledger, &mut dice);
                assert!(answers.iter().all(|answer| *answer == 200), "{answers:?}");
            }
        }
        sink.check();
    }
    // Both names have their turn, and nothing waits any more.
    sink.be(Mood::Take);
    let dead = inspect(home).1;
    for name in ["a", "b"] {
        settle(gateway, home, &ledger);
        configure(home, &config(name, &sink));
        gateway = Gateway::start(home);
        eventually("the queue to be empty", || {
            let waiting = inspect(home).0;
            let of = |id: &str| id.ends_with(name);
            waiting.iter().all(|(id, records)| !of(id) || *records == 0).then_some(())
        });
    }
    let (sums, queued) = settle(gateway, home, &ledger);
    assert_eq!((queued, sums.missing as u64), (0, inspect(home).1));
    eprintln!("seed {seed}: {sums:?}, {} dead letters", inspect(home).1.max(dead));
}

/// Scenario: random walks, the same in every run: requests in protobuf, JSON and gzip; a backend that
/// takes, is away, refuses for good; reloads that rename the exporter; stops and starts; files that may not
/// grow; the queue's directory moved away and back.
/// Guarantees: at every stop, answered = delivered + queued + dead letters, to the batch, and the last
/// lines say so; what waits for a name that is gone is said at the start; nothing that could not be kept
/// was answered with success; in the end everything is delivered but the dead letters.
#[test]
fn nothing_acknowledged_disappears() {
    let seeds = std::env::var("PROFPIPE_ACCOUNT_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    for first in (0..seeds).step_by(3) {
        let threads: Vec<_> = (first..seeds.min(first + 3))
            .map(|seed| std::thread::spawn(move || walk(seed)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
