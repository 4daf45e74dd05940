//! What it costs to keep a record: the log beside a bare write and fdatasync of the same bytes.
//!
//! Method: for each size the same payloads go, interleaved round by round in one process and on one
//! disk (`PROFPIPE_BENCH_DIR`, else the build's folder): to a bare file, pwrite and fdatasync for each;
//! to a log with `durability: fsync`, one sender; the same with 16 senders at once, whose records
//! share syncs; and to a log with `durability: os`. Latency is from the call to its return. The destination
//! acknowledges nothing while the clock runs.
//!
//! `cargo bench -p profpipe-queue --bench queue`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use profpipe_queue::{Durability, Log, LogSettings, Record};

const ROUNDS: usize = 4;

fn payload(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    whole: Duration,
    bytes: usize,
}

impl Measured {
    fn print(&mut self, name: &str) {
        self.times.sort_unstable();
        let at = |share: f64| {
            let index = ((self.times.len() - 1) as f64 * share) as usize;
            self.times[index].as_secs_f64() * 1e3
        };
        println!(
            "  {name:<28} p50 {:7.2} ms  p99 {:7.2} ms  {:7.1} MB/s",
            at(0.5),
            at(0.99),
            self.bytes as f64 / self.whole.as_secs_f64() / 1e6
        );
    }
}

fn bare(directory: &Path, payloads: &[Bytes], measured: &mut Measured) {
    let file = std::fs::File::create(directory.join("bare")).unwrap();
    let start = Instant::now();
    let mut offset = 0;
    for payload in payloads {
        let before = Instant::now();
        file.write_all_at(payload, offset).unwrap();
        file.sync_data().unwrap();
        offset += payload.len() as u64;
        measured.times.push(before.elapsed());
    }
    measured.whole += start.elapsed();
    measured.bytes += offset as usize;
}

async fn log(
    directory: PathBuf,
    durability: Durability,
    senders: usize,
    payloads: &[Bytes],
    measured: &mut Measured,
) {
    let settings = LogSettings { durability, ..LogSettings::default() };
    let log = Log::open(&directory, settings).unwrap();
    let destination = log.destination("bench").unwrap();
    let start = Instant::now();
    let mut tasks = Vec::new();
    for sender in 0..senders {
        let mine: Vec<Bytes> = payloads.iter().skip(sender).step_by(senders).cloned().collect();
        let (log, id) = (Arc::clone(&log), destination.id());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for payload in mine {
                let before = Instant::now();
                let record = Record { payload, samples: 1, tenant: None, receiver: "bench".into() };
                log.append(record, std::slice::from_ref(&id)).await.unwrap();
                times.push(before.elapsed());
            }
            times
        }));
    }
    for task in tasks {
        measured.times.extend(task.await.unwrap());
    }
    measured.whole += start.elapsed();
    measured.bytes += payloads.iter().map(Bytes::len).sum::<usize>();
    log.close().await;
}

fn main() {
    let base = std::env::var_os("PROFPIPE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{ROUNDS} interleaved rounds on {}", base.display());
    for (size, count) in [(4 << 10, 200), (64 << 10, 100), (256 << 10, 60), (1 << 20, 40)] {
        let mut all: [Measured; 4] = Default::default();
        for round in 0..ROUNDS {
            let payloads: Vec<Bytes> =
                (0..count).map(|index| payload(size, (round * count + index) as u64)).collect();
            let directory = tempfile::tempdir_in(&base).unwrap();
            let [raw, one, many, os] = &mut all;
            bare(directory.path(), &payloads, raw);
            let place = |name: &str| directory.path().join(name);
            runtime.block_on(log(place("one"), Durability::Fsync, 1, &payloads, one));
            runtime.block_on(log(place("many"), Durability::Fsync, 16, &payloads, many));
            runtime.block_on(log(place("os"), Durability::Os, 1, &payloads, os));
        }
        println!("{} KiB, {} records each:", size >> 10, count * ROUNDS);
        let names = ["write + fdatasync", "fsync, 1 sender", "fsync, 16 senders", "os, 1 sender"];
        for (measured, name) in all.iter_mut().zip(names) {
            measured.print(name);
        }
    }
}
