//! One account over all receivers and exporters at once: whatever happens to a gateway, what it answered
//! with success is delivered, in a queue, or dropped for a reason that is counted and said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http::Method;
use profpipe::{otlp, pprof};
use profpipe_network::server::Router;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::accounts::Dice;
use crate::destination::{Behavior, Place, Records, Target, rows_of_files};
use crate::process::{Gateway, configure, eventually};
use crate::traffic::{self, Answered, DIALECTS, Dialect, Inlets};
use crate::walk_account::{self, Account};

const STEPS: usize = 30;
const SEEDS: u64 = 3;

/// Rows by number and row, with how often they arrived.
type Rows = BTreeMap<(u64, u64), u64>;

/// An exporter under one name; it goes away and comes back.
struct Exporter {
    id: String,
    durable: bool,
    records: Arc<Records>,
    /// Where its backend is; none for files.
    place: Option<Place>,
    is_configured: bool,
    /// It was there in this life of the program, and may not come back before the next.
    is_spent: bool,
    /// What had arrived and was rejected when this life began.
    before: u64,
    /// Profiles that its backend had rejected then.
    rejected: u64,
    /// What left its queue by itself, in all lives of which there is an account.
    lost: u64,
}

/// A number that was sent.
struct Sent {
    answered: bool,
    to: BTreeSet<String>,
}

struct Walk {
    seed: u64,
    home: PathBuf,
    runtime: tokio::runtime::Runtime,
    dice: Dice,
    exporters: Vec<Exporter>,
    sent: Arc<Mutex<BTreeMap<u64, Sent>>>,
    grpc: SocketAddr,
    pyroscope: SocketAddr,
    target: Place,
    gateway: Option<Gateway>,
    /// It was killed, so that what was delivered last may come again.
    was_killed: bool,
    max_age: &'static str,
}

/// Kinds of exporters, and whether their queues are on the disk.
const KINDS: [(&str, bool); 8] = [
    ("otlp_http", true),
    ("otlp_http", false),
    ("otlp_grpc", true),
    ("otlp_grpc", false),
    ("pyroscope", true),
    ("pyroscope", false),
    ("file", true),
    ("file", false),
];

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn total(rows: &Rows) -> u64 {
    rows.values().sum()
}

impl Walk {
    fn new(seed: u64, home: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let sent: Arc<Mutex<BTreeMap<u64, Sent>>> = Arc::default();
        let scraped = Arc::clone(&sent);
        // A scrape promises nothing; what it brings may arrive anywhere.
        let next = move || {
            let mut sent = scraped.lock().unwrap();
            let id = sent.len() as u64;
            let to = KINDS.iter().enumerate().map(|(at, kind)| name_of(at, kind)).collect();
            sent.insert(id, Sent { answered: false, to });
            pprof::encode(&traffic::profiles(id)).unwrap()
        };
        let target = Arc::new(Target { next: Box::new(next) });
        let target = Place::serve(&runtime, Router::new().http(Method::GET, "/walk", target));
        let mut dice = Dice(seed);
        let exporters = KINDS.iter().enumerate().map(|(at, kind)| {
            let records = Records::new();
            let place = (kind.0 != "file").then(|| Place::open(&runtime, &records));
            Exporter {
                id: name_of(at, kind),
                durable: kind.1,
                records,
                place,
                is_configured: dice.roll(3) == 0,
                is_spent: false,
                before: 0,
                rejected: 0,
                lost: 0,
            }
        });
        let exporters = exporters.collect();
        let (grpc, pyroscope) = (free_address(), free_address());
        let (gateway, was_killed) = (None, false);
        let mut walk = Self {
            seed,
            home,
            runtime,
            dice,
            exporters,
            sent,
            grpc,
            pyroscope,
            target,
            gateway,
            was_killed,
            max_age: "0s",
        };
        walk.keep_one();
        walk.start();
        walk
    }

    /// A pipeline has an exporter.
    fn keep_one(&mut self) {
        if !self.exporters.iter().any(|one| one.is_configured) {
            self.exporters[0].is_configured = true;
        }
    }

    fn configured(&self) -> impl Iterator<Item = &Exporter> {
        self.exporters.iter().filter(|one| one.is_configured)
    }

    fn configure(&self) {
        let exporters = self.configured().map(|one| {
            let place = match (&one.place, one.id.split_once('/').unwrap()) {
                (None, (_, name)) => format!(
                    "path: ./files-{name}, format: otlp, retention: {{max_age: 0s, max_bytes: 0}}"
                ),
                (Some(place), (kind, _)) => {
                    let plain = if kind == "otlp_grpc" { ", tls: {insecure: true}" } else { "" };
                    format!("endpoint: 'http://{}', timeout: 2s{plain}", place.address)
                }
            };
            let (limit, queue) = match one.durable {
                true => ("0s", "sending_queue: {storage: file_storage}"),
                false => ("300ms", "sending_queue: {enabled: true}"),
            };
            format!(
                "  {}: {{{place}, {queue}, retry_on_failure: {{initial_interval: 20ms, \
                 max_interval: 100ms, max_elapsed_time: {limit}}}}}\n",
                one.id
            )
        });
        let exporters = exporters.collect::<String>();
        let names: Vec<&str> = self.configured().map(|one| one.id.as_str()).collect();
        let off = ["process_cpu", "memory", "block", "mutex", "goroutine"]
            .map(|name| format!("{name}: {{enabled: false}}, "))
            .concat();
        configure(
            &self.home,
            &format!(
                "extensions: {{file_storage: {{directory: ./queue, max_age: {}}}}}\nreceivers:\n  \
                 otlp: {{protocols: {{grpc: {{endpoint: {}}}, http: {{endpoint: 127.0.0.1:1}}}}}}\n  \
                 pyroscope: {{endpoint: {}}}\n  pprof: {{scrape_interval: 2s, scrape_timeout: 2s, static_configs: \
                 [{{targets: ['{}']}}], profiles: {{{off}custom: {{walk: {{path: /walk}}}}}}}}\n\
                 exporters:\n{exporters}service:\n  extensions: [file_storage]\n  pipelines: \
                 {{profiles: {{receivers: [otlp, pyroscope, pprof], exporters: [{}]}}}}\n",
                self.max_age,
                self.grpc,
                self.pyroscope,
                self.target.address,
                names.join(", ")
            ),
        );
    }

    fn start(&mut self) {
        for at in 0..self.exporters.len() {
            self.exporters[at].is_spent = false;
            self.exporters[at].before = self.seen(&self.exporters[at]);
            self.exporters[at].rejected = self.exporters[at].records.rejected_profiles();
        }
        self.configure();
        self.gateway = Some(Gateway::start(&self.home));
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    fn reload(&self) {
        self.configure();
        let runs = || self.gateway().said().matches("the new configuration runs").count();
        let before = runs();
        self.gateway().signal(Signal::HUP);
        eventually("the reload", || (runs() > before).then_some(()));
    }

    fn arrived(&self, one: &Exporter) -> Rows {
        match one.place {
            Some(_) => one.records.rows(),
            None => {
                let (_, name) = one.id.split_once('/').unwrap();
                rows_of_files(&self.home.join(format!("files-{name}")))
            }
        }
    }

    /// All rows that an exporter's backend has answered with success, its partial ones too.
    fn seen(&self, one: &Exporter) -> u64 {
        total(&self.arrived(one)) + total(&one.records.rejected()) - one.records.late()
    }

    /// Sends some requests in dialects of their own; what was answered.
    fn send(&mut self) -> Vec<Answered> {
        let inlets =
            Inlets { http: self.gateway().address, grpc: self.grpc, pyroscope: self.pyroscope };
        let mut answers = Vec::new();
        for _ in 0..=self.dice.roll(4) {
            let dialect = DIALECTS[self.dice.roll(DIALECTS.len() as u64) as usize];
            let to: BTreeSet<String> = self.configured().map(|one| one.id.clone()).collect();
            let id = {
                let mut sent = self.sent.lock().unwrap();
                let id = sent.len() as u64;
                sent.insert(id, Sent { answered: false, to });
                id
            };
            let answer = inlets.send(&self.runtime, id, dialect);
            if dialect == Dialect::JsonOf18 {
                assert!(
                    matches!(&answer, Answered::Rejected(why) if why.contains("400")),
                    "{answer:?}"
                );
                self.sent.lock().unwrap().get_mut(&id).unwrap().to.clear();
                continue;
            }
            if answer == Answered::Success {
                self.sent.lock().unwrap().get_mut(&id).unwrap().answered = true;
            }
            answers.push(answer);
        }
        answers
    }

    /// Stops the program, and compares what it says with what was seen from outside.
    fn settle(&mut self) {
        let (status, said) = self.gateway.take().unwrap().stop();
        assert!(status.success(), "{said}");
        let accounts = Account::read(&said);
        let waiting = walk_account::waiting(&self.home);
        for at in 0..self.exporters.len() {
            let one = &self.exporters[at];
            let lines = accounts.get(&one.id).cloned().unwrap_or_default();
            let context = format!("seed {}, {}: {lines:?}\n{said}", self.seed, one.id);
            for line in &lines {
                let known = line.delivered + line.waiting + line.all_dropped();
                assert_eq!(line.taken, known, "{context}");
                assert!(!line.dropped.contains_key("not accounted for"), "{context}");
            }
            let delivered: u64 = lines.iter().map(|line| line.delivered).sum();
            assert_eq!(delivered, self.seen(one) - one.before, "delivered of {context}");
            let rejected: u64 = lines.iter().map(|line| line.rejected).sum();
            let here = one.records.rejected_profiles() - one.rejected;
            // What was rejected of one that was killed is in no account.
            assert!(rejected == here || one.records.late() > 0, "{here} rejected of {context}");
            let queued = lines.last().map_or(0, |line| line.waiting);
            assert_eq!(queued, waiting.get(&one.id).copied().unwrap_or(0), "queued of {context}");
            let lost: u64 = lines.iter().map(Account::lost_in_queue).sum();
            self.exporters[at].lost += lost;
            self.check_answered(&self.exporters[at], queued, &context);
        }
    }

    /// What was answered is there, waits, or is counted as lost.
    fn check_answered(&self, one: &Exporter, queued: u64, context: &str) {
        let mut there: Rows = self.arrived(one);
        if !self.was_killed {
            let twice: Vec<_> = there.iter().filter(|(_, count)| **count > 1).collect();
            assert!(twice.is_empty(), "twice: {twice:?} {context}");
        }
        there.extend(one.records.rejected());
        for letter in walk_account::dead(&self.home, &one.id) {
            there.extend(
                traffic::rows(&otlp::decode(&letter).unwrap()).into_iter().map(|row| (row, 1)),
            );
        }
        let sent = self.sent.lock().unwrap();
        let missing = |is_promised: bool| -> Vec<(u64, u64)> {
            let of = sent
                .iter()
                .filter(|(_, sent)| sent.to.contains(&one.id) && (sent.answered || !is_promised));
            let rows = of.flat_map(|(id, _)| (0..traffic::row_count(*id)).map(|row| (*id, row)));
            rows.filter(|row| !there.contains_key(row)).collect()
        };
        let promised = missing(true);
        let elsewhere = queued + one.lost;
        assert!(
            promised.len() as u64 <= elsewhere,
            "answered and nowhere, of {queued} queued and {} lost: {promised:?} {context}",
            one.lost
        );
        if !self.was_killed {
            let all = missing(false).len() as u64;
            assert!(
                all >= elsewhere,
                "{all} can be missing, {elsewhere} are said to be: {context}"
            );
        }
        if !one.durable {
            assert!(promised.is_empty(), "answered and not delivered: {promised:?} {context}");
        }
    }

    fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.gateway().pid()), Resource::Fsize, limit).unwrap();
    }

    fn step(&mut self) {
        let at = self.dice.roll(KINDS.len() as u64) as usize;
        match self.dice.roll(18) {
            0 | 1 => {
                let behaviors = [Behavior::Later, Behavior::Reject, Behavior::Partial];
                let behavior = behaviors[self.dice.roll(3) as usize];
                self.exporters[at].records.be(behavior);
            }
            2 => self.exporters[at].records.be(Behavior::Hang),
            3 => self.exporters.iter().for_each(|one| one.records.be(Behavior::Take)),
            4 | 5 => {
                // Added, removed, or both: what is renamed is another one.
                for at in [at, self.dice.roll(KINDS.len() as u64) as usize] {
                    let is_only = self.configured().count() == 1;
                    let one = &mut self.exporters[at];
                    if one.is_configured && !is_only {
                        (one.is_configured, one.is_spent) = (false, true);
                    } else if !one.is_spent {
                        one.is_configured = true;
                    }
                }
                self.reload();
            }
            6 => {
                // The backend moves.
                let one = &mut self.exporters[at];
                if one.place.is_some() {
                    one.place = Some(Place::open(&self.runtime, &one.records));
                    self.reload();
                }
            }
            7 | 8 => {
                self.settle();
                self.start();
            }
            9 => {
                self.gateway.take().unwrap().kill();
                self.was_killed = true;
                for one in &mut self.exporters {
                    one.records.outlive();
                    if one.place.is_some() {
                        one.place = Some(Place::open(&self.runtime, &one.records));
                    }
                }
                self.start();
            }
            10 => {
                self.limit_files(Some(1));
                let answers = self.send();
                self.limit_files(None);
                if self.configured().any(|one| one.durable || one.place.is_none()) {
                    assert!(!answers.contains(&Answered::Success), "{answers:?}");
                }
            }
            11 => {
                // For one life everything in the queue is too old at once.
                self.settle();
                self.max_age = "1ms";
                self.start();
                self.send();
                self.settle();
                self.max_age = "0s";
                self.start();
            }
            _ => drop(self.send()),
        }
    }

    /// Everything has its turn, and nothing waits any more.
    fn finish(&mut self) {
        self.settle();
        for one in &mut self.exporters {
            one.records.be(Behavior::Take);
            one.is_configured = true;
        }
        self.start();
        let answers = self.send();
        assert!(answers.iter().all(|answer| *answer == Answered::Success), "{answers:?}");
        eventually("the queues to be empty", || {
            walk_account::waiting(&self.home).values().all(|samples| *samples == 0).then_some(())
        });
        // What is scraped in good times arrives everywhere.
        let scraped = self.sent.lock().unwrap().len() as u64;
        eventually("a scrape", || {
            let has = |one: &Exporter| self.arrived(one).contains_key(&(scraped, 0));
            self.exporters.iter().all(has).then_some(())
        });
        self.settle();
        let sent = self.sent.lock().unwrap();
        let answered = sent.values().filter(|sent| sent.answered).count();
        eprintln!("seed {}: {} sent or scraped, {answered} answered", self.seed, sent.len());
    }
}

fn name_of(at: usize, (kind, durable): &(&str, bool)) -> String {
    format!("{kind}/{}{at}", if *durable { "disk" } else { "memory" })
}

fn walk(seed: u64) {
    let home = tempfile::tempdir().unwrap();
    let mut walk = Walk::new(seed, home.path().to_owned());
    for _ in 0..STEPS {
        walk.step();
    }
    walk.finish();
}

/// Scenario: random walks, the same in every run: requests by OTLP over gRPC and HTTP (protobuf, JSON, gzip,
/// JSON of 1.8), `/ingest` and `push.v1` of Pyroscope, scrapes; exporters `otlp_http`, `otlp_grpc`,
/// `pyroscope` and `file`, each with its queue on the disk and in memory, several at a time; backends that
/// take, are away, reject, reject in part, never answer, move; reloads that add, remove and rename
/// exporters; stops, kills, files that may not grow, a queue whose records are too old.
/// Guarantees: at every stop, what each exporter says it took is what it says was delivered, waits and was
/// dropped, by reason; delivered is what its backend took, to the sample, what waits is what
/// `queue inspect` shows; whatever was answered with success is there, waits, is a dead letter or is counted
/// as lost; nothing comes twice unless the program was killed; JSON of 1.8 and what cannot be kept is not
/// answered with success.
#[test]
fn whatever_was_answered_is_accounted_for() {
    if let Ok(seed) = std::env::var("PROFPIPE_WALK_SEED") {
        return walk(seed.parse().unwrap());
    }
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
