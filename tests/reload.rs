//! Reloading under load, through the real program: senders that never stop, and a configuration that
//! changes all the time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stderr, reason = "what the load was, for whoever runs it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use profpipe::otlp;
use profpipe::profile::{Profile, Profiles, Resource, ResourceProfiles, SampleRef, ScopeProfiles};
use rustix::process::{Pid, Signal, kill_process};

/// How often the configuration changes.
const RELOADS: usize = 200;
const SENDERS: usize = 3;

/// A running `profpipe run`, killed if the test ends before it.
struct Running(Child, BufReader<ChildStderr>);

impl Running {
    fn start(directory: &Path, file: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args(["run", "--config", file])
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self(child, stderr);
        running.read_until("Ctrl-C stops");
        running
    }

    /// Reads what it says up to a line with this text.
    fn read_until(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.1.read_line(&mut line).unwrap() > 0, "it ended before saying `{text}`");
            let expected = ["INFO", "no pipeline uses it", "gateway.yaml:1:", "is not used"];
            if !expected.iter().any(|text| line.contains(text)) {
                eprint!("{line}");
            }
        }
        line
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(process, signal).unwrap();
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        self.read_until("stopped after ");
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A request with one sample, whose value tells it from all others.
fn request(value: i64) -> Vec<u8> {
    let mut profiles = Profiles::new();
    let strings = &mut profiles.dictionary.strings;
    let (kind, unit) = (strings.intern("samples"), strings.intern("count"));
    let mut profile = Profile { time_unix_nano: 1_000_000_000, ..Profile::default() };
    (profile.sample_type.kind, profile.sample_type.unit) = (kind, unit);
    profile.samples.push(SampleRef { values: &[value], ..SampleRef::default() });
    let mut resource = Resource::default();
    resource.set("service.name", "reloaded");
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    otlp::encode(&profiles)
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// Nobody listened.
    Refused,
    /// It was taken.
    Taken,
    /// It shall be sent again.
    Later,
    /// The connection ended without an answer: it shall be sent again, too.
    Cut,
}

/// Sends a request on a connection of its own.
fn send(to: SocketAddr, body: &[u8]) -> Answer {
    let Ok(mut stream) = TcpStream::connect(to) else { return Answer::Refused };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /v1development/profiles HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let whole = [head.as_bytes(), body].concat();
    let mut answer = String::new();
    if stream.write_all(&whole).is_err() || stream.read_to_string(&mut answer).is_err() {
        return Answer::Cut;
    }
    match answer.get(9..12) {
        Some("200") => Answer::Taken,
        Some("429" | "503") => Answer::Later,
        Some(_) => panic!("{answer}"),
        None => Answer::Cut,
    }
}

/// What senders saw: how often each answer came, and the values that were taken.
#[derive(Debug, Default)]
struct Seen {
    answers: BTreeMap<Answer, usize>,
    taken: Vec<i64>,
}

/// Sends until told to stop, each value until it is taken.
fn keep_sending(to: SocketAddr, next: &AtomicI64, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let value = next.fetch_add(1, Ordering::Relaxed);
        let body = request(value);
        loop {
            let answer = send(to, &body);
            *seen.answers.entry(answer).or_default() += 1;
            match answer {
                Answer::Taken => {
                    seen.taken.push(value);
                    break;
                }
                // Not to be mistaken for what takes a while: a sender that gets through at last.
                _ if stop.load(Ordering::Relaxed) => break,
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
    seen
}

/// How often each value is in the files of a directory.
fn arrived(directory: &Path) -> BTreeMap<i64, usize> {
    let mut values = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "otlp") {
            let profiles = otlp::decode(&std::fs::read(path).unwrap()).unwrap();
            for (_, _, profile) in profiles.iter() {
                for sample in profile.samples.iter() {
                    *values.entry(sample.weight()).or_default() += 1;
                }
            }
        }
    }
    values
}

/// Reloads `RELOADS` times while senders send. Returns what they saw.
fn under_load(directory: &Path, to: SocketAddr, config: impl Fn(usize) -> String) -> Seen {
    let file = directory.join("gateway.yaml");
    std::fs::write(&file, config(0)).unwrap();
    let mut gateway = Running::start(directory, "gateway.yaml");
    let (next, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            std::thread::spawn(move || keep_sending(to, &next, &stop))
        })
        .collect();
    let begun = Instant::now();
    for round in 1..=RELOADS {
        if round % 20 == 0 {
            // A wrong one in between changes nothing.
            std::fs::write(&file, "receivers: {otlp: {protocol: }}").unwrap();
            gateway.signal(Signal::HUP);
            gateway.read_until("the new configuration is not used");
        }
        std::fs::write(&file, config(round)).unwrap();
        gateway.signal(Signal::HUP);
        gateway.read_until("the new configuration runs");
    }
    eprintln!("{RELOADS} reloads in {:.1?}", begun.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut all = Seen::default();
    for sender in senders {
        let seen = sender.join().unwrap();
        for (answer, count) in seen.answers {
            *all.answers.entry(answer).or_default() += count;
        }
        all.taken.extend(seen.taken);
    }
    gateway.end();
    eprintln!("{:?}, {} taken", all.answers, all.taken.len());
    all
}

fn check(seen: &Seen, arrived: &BTreeMap<i64, usize>) {
    assert_eq!(seen.answers.get(&Answer::Refused), None, "{:?}", seen.answers);
    assert!(seen.taken.len() > RELOADS / 4, "there was hardly any load: {:?}", seen.answers);
    let lost: Vec<i64> =
        seen.taken.iter().copied().filter(|value| !arrived.contains_key(value)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// A processor that comes and goes with the rounds.
fn processors(round: usize) -> &'static str {
    ["[]", "[resource]", "[batch]", "[resource, batch]"][round % 4]
}

/// Scenario: 200 reloads, with processors that come and go and wrong configurations in between,
/// while senders send through `otlp` into files.
/// Guarantees: no connection is refused, and everything that was acknowledged is in the files.
#[test]
fn nothing_is_lost_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let to = free_address();
    let seen = under_load(directory.path(), to, |round| {
        format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{to}'}}}}}}}}\n\
             processors: {{batch: {{timeout: 10ms}}, resource: {{attributes: [{{key: round, value: \
             {round}}}]}}}}\n\
             exporters: {{file: {{path: out, format: otlp}}}}\n\
             service: {{pipelines: {{profiles: {{receivers: [otlp], processors: {}, exporters: \
             [file]}}}}}}\n",
            processors(round)
        )
    });
    check(&seen, &arrived(&directory.path().join("out")));
}

/// Scenario: the same with a durable queue between the senders and another profpipe, which writes
/// files.
/// Guarantees: as above; what was still queued when the gateway ended is delivered by the next.
#[test]
fn queues_outlive_reloads() {
    let directory = tempfile::tempdir().unwrap();
    let (to, backend) = (free_address(), free_address());
    let sink = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{backend}'}}}}}}}}\n\
         exporters: {{file: {{path: out, format: otlp}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [otlp], exporters: [file]}}}}}}\n"
    );
    std::fs::write(directory.path().join("sink.yaml"), sink).unwrap();
    let sink = Running::start(directory.path(), "sink.yaml");
    let config = |round: usize| {
        format!(
            "extensions: {{file_storage: {{directory: queue}}}}\n\
             receivers: {{otlp: {{protocols: {{http: {{endpoint: '{to}'}}}}}}}}\n\
             processors: {{batch: {{timeout: 10ms}}, resource: {{attributes: [{{key: round, value: \
             {round}}}]}}}}\n\
             exporters: {{otlp_http: {{endpoint: 'http://{backend}', sending_queue: {{storage: \
             file_storage}}, retry_on_failure: {{initial_interval: 50ms}}}}}}\n\
             service: {{extensions: [file_storage], pipelines: {{profiles: {{receivers: [otlp], \
             processors: {}, exporters: [otlp_http]}}}}}}\n",
            processors(round)
        )
    };
    let seen = under_load(directory.path(), to, config);
    let out = directory.path().join("out");
    let gateway = Running::start(directory.path(), "gateway.yaml");
    let deadline = Instant::now() + Duration::from_secs(60);
    let missing = || {
        let arrived = arrived(&out);
        seen.taken.iter().filter(|value| !arrived.contains_key(value)).count()
    };
    while missing() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    gateway.end();
    sink.end();
    check(&seen, &arrived(&out));
}

/// Scenario: a reload that changes the level and the encoding of the log, and removes an exporter that has
/// delivered.
/// Guarantees: the level changes; it is said that the encoding waits for a restart; the series of the
/// exporter are gone.
#[test]
fn what_a_reload_can_and_cannot_do_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (to, metrics) = (free_address(), free_address());
    let config = |exporter: &str, logs: &str| {
        format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{to}'}}}}}}}}\n\
             exporters: {{file/{exporter}: {{path: {exporter}, format: otlp}}}}\n\
             service: {{telemetry: {{logs: {{{logs}}}, metrics: {{readers: [{{pull: {{exporter: \
             {{prometheus: {{host: 127.0.0.1, port: {}}}}}}}}}]}}}}, pipelines: {{profiles: \
             {{receivers: [otlp], exporters: [file/{exporter}]}}}}}}\n",
            metrics.port()
        )
    };
    let file = directory.path().join("gateway.yaml");
    std::fs::write(&file, config("one", "level: info")).unwrap();
    let mut gateway = Running::start(directory.path(), "gateway.yaml");
    assert_eq!(send(to, &request(7)), Answer::Taken);
    std::fs::write(&file, config("two", "level: warn, encoding: json")).unwrap();
    gateway.signal(Signal::HUP);
    gateway.read_until("a change of encoding needs a restart");
    // A line of the old level is not there any more; what is wrong still is.
    std::fs::write(&file, "receivers: {otlp: {protocol: }}").unwrap();
    gateway.signal(Signal::HUP);
    let mut said = String::new();
    while !said.contains("the new configuration is not used") {
        assert!(gateway.1.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    assert!(!said.contains("Ctrl-C stops"), "{said}");
    let series = || {
        let mut stream = TcpStream::connect(metrics).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while series().contains("file/one") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let now = series();
    assert!(now.contains("file/two") && !now.contains("file/one"), "{now}");
}

/// Scenario: reloads move a receiver and the metrics from one address of this host to all of IPv4, to all there
/// are and back, at one port, and change other settings of it; a sender sends after each, and others all the
/// time. Then the port of another program is asked for, and another configuration after that.
/// Guarantees: each runs, and no connection to the address that all have is refused; what cannot be listened at
/// is one line, and the old configuration goes on.
#[test]
fn servers_move_to_addresses_that_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let (to, metrics) = (free_address(), free_address());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |host: &str, port: u16, more: &str| {
        let bare = host.trim_matches(['[', ']']);
        format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{host}:{port}', insecure: true{more}}}}}}}}}\n\
             exporters: {{file: {{path: out, format: otlp}}}}\n\
             service: {{telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: \
             '{bare}', port: {}}}}}}}}}]}}}}, pipelines: {{profiles: {{receivers: [otlp], exporters: \
             [file]}}}}}}\n",
            metrics.port()
        )
    };
    let file = directory.path().join("gateway.yaml");
    std::fs::write(&file, config("127.0.0.1", to.port(), "")).unwrap();
    let mut gateway = Running::start(directory.path(), "gateway.yaml");
    let (next, stop) = (Arc::new(AtomicI64::new(1000)), Arc::new(AtomicBool::new(false)));
    let others = {
        let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
        std::thread::spawn(move || keep_sending(to, &next, &stop))
    };
    let reload = |gateway: &mut Running, config: String, said: &str| {
        std::fs::write(&file, config).unwrap();
        gateway.signal(Signal::HUP);
        gateway.read_until(said)
    };
    let hosts = ["0.0.0.0", "127.0.0.1", "[::]", "0.0.0.0", "[::]", "127.0.0.1", "0.0.0.0"];
    for (value, host) in (1..).zip(hosts) {
        reload(&mut gateway, config(host, to.port(), ""), "the new configuration runs");
        assert_eq!(send(to, &request(value)), Answer::Taken, "{host}");
        let beside = SocketAddr::from(([127, 0, 0, 2], to.port()));
        assert_eq!(TcpStream::connect(beside).is_ok(), host != "127.0.0.1", "{host}");
        let beside = SocketAddr::from(([127, 0, 0, 2], metrics.port()));
        let is_right = || TcpStream::connect(beside).is_ok() == (host != "127.0.0.1");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_right() {
            assert!(Instant::now() < deadline, "the metrics are not at {host}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(TcpStream::connect(metrics).is_ok(), "the metrics at {host}");
    }
    let same = config("0.0.0.0", to.port(), ", max_request_body_size: 1MiB");
    reload(&mut gateway, same, "the new configuration runs");
    assert_eq!(send(to, &request(11)), Answer::Taken);
    let port = taken.local_addr().unwrap().port();
    let line = reload(&mut gateway, config("127.0.0.1", port, ""), "going on with the old");
    assert!(line.contains("something else listens there"), "{line}");
    assert_eq!(send(to, &request(12)), Answer::Taken);
    reload(&mut gateway, config("127.0.0.1", to.port(), ""), "the new configuration runs");
    stop.store(true, Ordering::Relaxed);
    let mut seen = others.join().unwrap();
    seen.taken.extend((1..).zip(hosts).map(|(value, _)| value).chain([11, 12]));
    gateway.end();
    assert_eq!(seen.answers.get(&Answer::Refused), None, "{:?}", seen.answers);
    let arrived = arrived(&directory.path().join("out"));
    let lost: Vec<_> = seen.taken.iter().filter(|value| !arrived.contains_key(value)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
