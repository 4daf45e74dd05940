//! Forwarding, beside the real OpenTelemetry Collector: `cargo bench --bench gateway [-- --pairs N
//! --megabytes M --payloads DIRECTORY]`.
//!
//! Prints the method beside each figure and compares within one run; asserts no figure, but stops when
//! the sink did not get exactly what was sent. Both programs run the same configuration text (OTLP/HTTP
//! in, `otlp_http` out, uncompressed), on the same CPU, one after the other in turns, fed by the same
//! requests over the same number of connections:
//! 1. with the sending queue in memory on both, success answered when the sink has it (`Through`);
//! 2. in memory on both, success answered at once (`Memory`);
//! 3. on disk on both, `fsync: true`: success is answered when the disk has it (`Disk`).
//!
//! The requests are recordings of profpipe itself, of programs in C, Go, Python and JavaScript, each at
//! several rates. CPU time is utime + stime of /proc/PID/stat from the first request to the last one's
//! arrival at the sink; memory is VmHWM at the end. The load comes as fast as it is taken: a program that
//! answers faster than it forwards holds a queue, and that is in its memory. Load generator and sink are this program, on the
//! other CPUs; it looks at contents after the measurement.
//!
//! Needs the Collector: tests/peers/build.

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
mod load;
mod payloads;
#[allow(dead_code, reason = "shared with tests/peers, which uses more of it")]
#[path = "../../tests/peers/process.rs"]
mod process;
mod server;
mod sink;

use std::time::Instant;

use content::Content;
use payloads::Payload;
use server::{Kind, Queue, Server};
use sink::Sink;

/// What one run of one program cost.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Samples forwarded by CPU second.
    samples: f64,
    /// Megabytes forwarded by CPU second.
    megabytes: f64,
    /// The most memory that was resident, MiB.
    memory: f64,
    /// Megabytes a second of the clock.
    speed: f64,
    /// The median time to an answer, milliseconds.
    answer: f64,
}

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
    let Some(collector) = built::peer("collector") else { return };
    let (pairs, megabytes) = (number("--pairs", 5), number("--megabytes", 300));
    let directory = tempfile::tempdir().unwrap();
    let payloads = match value("--payloads") {
        Some(directory) => payloads::read(directory.as_ref()),
        None => payloads::record(directory.path()),
    };
    let round = Round::new(&payloads, megabytes * 1_000_000);
    println!(
        "requests: {} different ones of {:.0} to {:.0} kB, {:.0} kB at the median; each run sends {} \
         ({:.0} MB, {} samples) over {} connections, after {} to warm up",
        payloads.len(),
        payloads.iter().map(|payload| payload.bytes.len()).min().unwrap_or(0) as f64 / 1e3,
        payloads.iter().map(|payload| payload.bytes.len()).max().unwrap_or(0) as f64 / 1e3,
        median(payloads.iter().map(|payload| payload.bytes.len() as f64)) / 1e3,
        round.order.len(),
        round.bytes as f64 / 1e6,
        round.samples,
        load::CONNECTIONS,
        payloads.len(),
    );
    for queue in [Queue::Through, Queue::Memory, Queue::Disk] {
        let mut figures: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
        for pair in 0..pairs {
            // In turns, and each first as often as the other.
            for position in [pair % 2, 1 - pair % 2] {
                let kind = [Kind::Profpipe, Kind::Collector][position];
                figures[position].push(round.run(kind, &collector, queue));
            }
        }
        report(queue, &figures);
    }
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

    fn run(&self, kind: Kind, collector: &std::path::Path, queue: Queue) -> Figures {
        let sink = Sink::start();
        let server = Server::start(kind, collector, queue, sink.address);
        let warmth: Vec<_> = (0..self.payloads.len()).collect();
        load::send(server.address, self.payloads, &warmth);
        sink.wait_for(self.expected.samples - self.samples, &server);
        let (before, began) = (server.cpu_seconds(), Instant::now());
        let answer = load::send(server.address, self.payloads, &self.order);
        sink.wait_for(self.expected.samples, &server);
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_seconds() - before);
        let memory = server.peak_mebibytes();
        drop(server);
        let arrived = sink.contents();
        assert!(
            arrived == self.expected,
            "{kind:?}, {queue:?}: the sink got something else than was sent"
        );
        Figures {
            samples: self.samples as f64 / cpu,
            megabytes: self.bytes as f64 / 1e6 / cpu,
            memory,
            speed: self.bytes as f64 / 1e6 / seconds,
            answer: median(answer.into_iter()) * 1e3,
        }
    }
}

fn report(queue: Queue, figures: &[Vec<Figures>; 2]) {
    println!("\nqueue {queue:?}, {} pairs, medians (least to most):", figures[0].len());
    let row = |what: &str, of: fn(&Figures) -> f64| {
        let text = figures.each_ref().map(|runs| {
            let values = runs.iter().map(of);
            let (least, most) = values.clone().fold((f64::MAX, 0_f64), |(least, most), value| {
                (least.min(value), most.max(value))
            });
            format!("{:.1} ({least:.1} to {most:.1})", median(values))
        });
        let pairs = figures[0].iter().zip(&figures[1]).map(|(ours, theirs)| of(ours) / of(theirs));
        println!(
            "  {what}: profpipe {}, Collector {}; ratio {:.2}",
            text[0],
            text[1],
            median(pairs)
        );
    };
    row("thousand samples by CPU second", |figures| figures.samples / 1e3);
    row("MB by CPU second", |figures| figures.megabytes);
    row("peak memory, MiB", |figures| figures.memory);
    row("MB by second", |figures| figures.speed);
    row("time to an answer, ms", |figures| figures.answer);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
