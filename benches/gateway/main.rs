//! The gateway, beside the real OpenTelemetry Collector: `cargo bench --bench gateway [-- --pairs N
//! --megabytes M --pace MB/S --only closed,paced,outage,store --payloads DIRECTORY]`.
//!
//! Prints the method beside each figure and compares within one run; asserts no figure, but stops when
//! something else arrived than was sent. Both programs run the same configuration text (OTLP/HTTP
//! in, `otlp_http` out, uncompressed), on the same CPU, one after the other in turns, fed by the same
//! requests over the same number of connections. A sender is answered when the sink has the request
//! (`Through`), at once (`Memory`), when the operating system has it (`Os`) or when the disk has it,
//! `fsync: true` on both (`Disk`):
//! 1. `closed`: as fast as they take it, for CPU time and speed. A program that answers faster than it
//!    forwards holds a queue, and that is in its memory.
//! 2. `grpc`: the same over gRPC in and out, uncompressed and by gzip; two more profpipe processes, not
//!    measured, translate for the load generator and the sink.
//! 3. `paced`: the same rate offered to both, one that the Collector sustains, before queues of the same
//!    length: for memory and the time to an answer. Beside it what the disk itself does.
//! 4. `outage`: the sink is silent for a while, so queues of the same length fill: for memory.
//! 5. `store`: delivery into Pyroscope, in profpipe with an edit and a merge.
//!
//! The requests are recordings of profpipe itself, of programs in C, Go, Python and JavaScript, each at
//! several rates. CPU time is that of the process's CPU clock from the first request to the last one's
//! arrival; memory is VmHWM at the end. Load generator and sink are this program, on the other CPUs;
//! it looks at contents after the measurement.
//!
//! Needs the Collector and Pyroscope: tests/peers/build. With `--against` another build of profpipe takes
//! the Collector's place: before and after a change, in turns within one run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and stops at what it did not expect"
)]

#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/built.rs"]
mod built;
mod content;
mod disk;
#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/http.rs"]
mod http;
mod load;
mod payloads;
#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/pprof.rs"]
mod pprof;
#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/pyroscope.rs"]
mod pyroscope;
mod report;
mod server;
mod sink;
mod store;
#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/totals.rs"]
mod totals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use content::Content;
use load::Load;
use payloads::Payload;
use report::{Figures, Pairs, median, percentile};
use server::{Kind, Other, Queue, Server, Work};
use sink::Sink;
use store::Store;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1)
    };
    let number = |name: &str, default: usize| {
        value(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    // Only `cargo bench` passes this: `cargo test --all-targets` must not measure for minutes.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("gateway: measures for minutes; run it with cargo bench --bench gateway");
        return;
    }
    if cfg!(debug_assertions) {
        println!("profpipe is not optimized here: its figures mean nothing");
    }
    let against = value("--against").map(PathBuf::from);
    let collector = match &against {
        Some(_) => None,
        None => built::peer("collector"),
    };
    let other = match (&against, &collector) {
        (Some(build), _) => Other::Build(build),
        (None, Some(collector)) => Other::Collector(collector),
        (None, None) => return,
    };
    let (pairs, megabytes) = (number("--pairs", 5), number("--megabytes", 300));
    let directory = tempfile::tempdir().unwrap();
    let payloads = match value("--payloads") {
        Some(directory) => payloads::read(directory.as_ref()),
        None => payloads::record(directory.path()),
    };
    let round = Round::new(&payloads, megabytes * 1_000_000);
    println!(
        "requests: {} different ones of {:.0} to {:.0} kB, {:.0} kB at the median; each run sends {} \
         ({:.0} MB, {} samples), after {} to warm up",
        payloads.len(),
        payloads.iter().map(|payload| payload.bytes.len()).min().unwrap_or(0) as f64 / 1e3,
        payloads.iter().map(|payload| payload.bytes.len()).max().unwrap_or(0) as f64 / 1e3,
        median(payloads.iter().map(|payload| payload.bytes.len() as f64)) / 1e3,
        round.order.len(),
        round.bytes as f64 / 1e6,
        round.samples,
        payloads.len(),
    );
    let only =
        |name: &str| value("--only").is_none_or(|only| only.split(',').any(|one| one == name));
    if only("closed") {
        for queue in [Queue::Through, Queue::Memory, Queue::Disk] {
            let figures = in_turns(pairs, |kind| round.run(kind, other, queue, Load::CLOSED, 1000));
            let title = format!(
                "{queue:?}, as fast as it is taken over {} connections",
                Load::CLOSED.connections
            );
            report::print(&title, other.name(), &figures);
        }
    }
    if only("grpc") {
        for compression in ["none", "gzip"] {
            let figures = in_turns(pairs, |kind| round.run_grpc(kind, other, compression));
            let title = format!(
                "Through, gRPC in and out, compression {compression}, as fast as it is taken over {} \
                 connections",
                Load::CLOSED.connections
            );
            report::print(&title, other.name(), &figures);
        }
    }
    if only("paced") {
        // Less of it: the pace says how long it takes.
        let round = Round::new(&payloads, megabytes * 1_000_000 / 3);
        for pace in [number("--pace", 10), number("--pace", 10) * 3] {
            paced(&round, pace, pairs, other);
        }
        disk::measure(directory.path(), &payloads, &round.order);
    }
    if only("outage") {
        let load = Load { silence: Duration::from_secs(3), ..Load::CLOSED };
        let figures = in_turns(pairs, |kind| round.run(kind, other, Queue::Memory, load, 100));
        let title =
            "Memory, the sink silent for the first 3 s: a queue of 100 requests is full on both";
        report::print(title, other.name(), &figures);
    }
    if only("store") {
        let store = Store::new(&payloads, megabytes * 1_000_000 / 3);
        // Uncompressed as above, and as both do it by default.
        for compression in ["none", "gzip"] {
            let mut stored = Vec::new();
            let figures = in_turns(pairs, |kind| {
                let run = store.run(kind, other, compression);
                let (figures, contents) = run.expect("Pyroscope; see above");
                stored.push((kind, contents));
                figures
            });
            report::print(&store.title(compression), other.name(), &figures);
            stored.sort_by_key(|(kind, _)| *kind == Kind::Other);
            if let [(_, ours), .., (_, theirs)] = &stored[..] {
                store::compare(ours, theirs);
            }
        }
    }
}

fn paced(round: &Round<'_>, pace: usize, pairs: usize, other: Other<'_>) {
    let load = Load { connections: 4, pace: Some(pace as f64 * 1e6), silence: Duration::ZERO };
    let mut answers = Vec::new();
    for queue in [Queue::Through, Queue::Memory, Queue::Os, Queue::Disk] {
        let figures = in_turns(pairs, |kind| round.run(kind, other, queue, load, 100));
        let title = format!(
            "{queue:?}, {pace} MB/s offered to both over {} connections ({:.0} MB), queues of 100 requests",
            load.connections,
            round.bytes as f64 / 1e6
        );
        report::print(&title, other.name(), &figures);
        let of = [|figures: &Figures| figures.answer, |figures: &Figures| figures.late];
        answers.push((queue, of.map(|of| median(figures[0].iter().map(of)))));
    }
    if let Some(((_, fsync), others)) = answers.split_last() {
        for (queue, other) in others {
            println!(
                "profpipe's answer after fsync takes {:.2} times as long as that of {queue:?} at p50, {:.2} \
                 at p99",
                fsync[0] / other[0],
                fsync[1] / other[1],
            );
        }
    }
}

/// In turns, and each first as often as the other.
fn in_turns(pairs: usize, mut run: impl FnMut(Kind) -> Figures) -> Pairs {
    let mut figures = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        for position in [pair % 2, 1 - pair % 2] {
            figures[position].push(run([Kind::Profpipe, Kind::Other][position]));
        }
    }
    figures
}

/// The same requests for every run.
struct Round<'a> {
    payloads: &'a [Payload],
    order: Vec<usize>,
    bytes: usize,
    samples: usize,
    expected: Content,
}

impl<'a> Round<'a> {
    fn new(payloads: &'a [Payload], bytes: usize) -> Self {
        let each: usize = payloads.iter().map(|payload| payload.bytes.len()).sum();
        let count = payloads.len() * (bytes / each).max(1);
        let order: Vec<_> = (0..count).map(|request| request % payloads.len()).collect();
        let contents: Vec<_> = payloads.iter().map(|payload| Content::of(&payload.bytes)).collect();
        let mut expected = Content::default();
        for &index in order.iter().chain(&(0..payloads.len()).collect::<Vec<_>>()) {
            expected.add(&contents[index]);
        }
        Self {
            payloads,
            bytes: order.iter().map(|&index| payloads[index].bytes.len()).sum(),
            samples: order.iter().map(|&index| contents[index].samples).sum(),
            order,
            expected,
        }
    }

    fn run(&self, kind: Kind, other: Other<'_>, queue: Queue, load: Load, size: usize) -> Figures {
        let sink = Sink::start();
        let server = Server::start(kind, other, &Work::forward(queue, size, sink.address));
        let address = server.address;
        self.measure(&format!("{kind:?}, {queue:?}"), &sink, server, address, load)
    }

    fn run_grpc(&self, kind: Kind, other: Other<'_>, compression: &str) -> Figures {
        let to = |address, compression| {
            format!("endpoint: '{address}', tls: {{ insecure: true }}, compression: {compression}")
        };
        let sink = Sink::start();
        let options = format!("endpoint: 'http://{}', compression: none", sink.address);
        let back = Server::beside(&Work::translate("grpc", "otlp_http", &options));
        let work = Work::translate("grpc", "otlp_grpc", &to(back.address, compression));
        let server = Server::start(kind, other, &work);
        let work = Work::translate("http", "otlp_grpc", &to(server.address, compression));
        let front = Server::beside(&work);
        let what = format!("{kind:?}, gRPC, {compression}");
        self.measure(&what, &sink, server, front.address, Load::CLOSED)
    }

    fn measure(
        &self,
        what: &str,
        sink: &Sink,
        server: Server,
        address: SocketAddr,
        load: Load,
    ) -> Figures {
        let rest = server.peak_mebibytes();
        let warmth: Vec<_> = (0..self.payloads.len()).collect();
        load.send(address, self.payloads, &warmth);
        sink.wait_for(self.expected.samples - self.samples, &server);
        sink.be_silent(load.silence);
        let (before, began) = (server.cpu_seconds(), Instant::now());
        let answers = load.send(address, self.payloads, &self.order);
        let taken = began.elapsed().as_secs_f64();
        sink.wait_for(self.expected.samples, &server);
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_seconds() - before);
        let memory = server.peak_mebibytes();
        drop(server);
        let arrived = sink.contents();
        assert!(arrived == self.expected, "{what}: the sink got something else than was sent");
        let megabytes = self.bytes as f64 / 1e6;
        Figures {
            samples: self.samples as f64 / cpu,
            megabytes: megabytes / cpu,
            rest,
            memory,
            speed: megabytes / seconds,
            taken: megabytes / taken,
            answer: median(answers.iter().copied()) * 1e3,
            late: percentile(answers.iter().copied(), 99) * 1e3,
        }
    }
}
