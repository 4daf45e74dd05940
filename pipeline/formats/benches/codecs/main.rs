//! The OTLP codec and the merge against the same through the generated prost structs.
//!
//! Method: both sides in one process and one run, on the same synthetic batch of an eBPF-like
//! host: 150 processes with 80 samples each, 6,000 stacks of 12 to 41 frames, 12,000 locations,
//! 9,000 functions, about 1.7 MB; eight hosts share about 80 % of their code. Before anything is
//! timed, both sides are checked to give the same content. The generated side's merge is the
//! straightforward one, with maps from owned rows to their numbers.
//!
//! The merge of more and more hosts is shown beside the cost of copying its result, which is the
//! control: what grows there too is fresh memory, and not the merge.
//!
//! `cargo bench -p profpipe-formats --bench codecs` prints the ratios and then criterion's
//! figures; the ratios are from the CPU time of the fastest of interleaved rounds of both sides.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use profpipe_formats::otlp;
use profpipe_profile::merge;
use prost::Message;

mod generated;
mod synthetic;

use generated::Request;

fn decode_all(hosts: &[Vec<u8>]) -> Vec<profpipe_profile::Profiles> {
    hosts.iter().map(|host| otlp::decode(host).unwrap()).collect()
}

fn generated_all(hosts: &[Vec<u8>]) -> Vec<Request> {
    hosts.iter().map(|host| Request::decode(&host[..]).unwrap()).collect()
}

/// The CPU time that this thread has used: unlike wall time it is hardly moved by other work on the
/// machine.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = cpu_time();
    black_box(run());
    cpu_time() - start
}

/// The fastest of interleaved rounds of each side.
fn fastest<A, B>(
    mut ours: impl FnMut() -> A,
    mut theirs: impl FnMut() -> B,
) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        best.0 = best.0.min(timed(&mut ours));
        best.1 = best.1.min(timed(&mut theirs));
    }
    best
}

fn ratios(hosts: &[Vec<u8>]) {
    println!(
        "\nmethod: CPU time of the fastest of interleaved rounds over 3 s, one thread, same process"
    );
    println!("{:34} {:>10} {:>10} {:>7}", "", "this crate", "generated", "ratio");
    let show = |what: &str, (ours, theirs): (Duration, Duration)| {
        println!(
            "{what:34} {:>7.2} ms {:>7.2} ms {:>6.1}x",
            ours.as_secs_f64() * 1e3,
            theirs.as_secs_f64() * 1e3,
            theirs.as_secs_f64() / ours.as_secs_f64()
        );
    };
    let host = &hosts[0];
    show("decode", fastest(|| otlp::decode(host).unwrap(), || Request::decode(&host[..]).unwrap()));
    show(
        "decode + encode",
        fastest(
            || otlp::encode(&otlp::decode(host).unwrap()),
            || Request::decode(&host[..]).unwrap().encode_to_vec(),
        ),
    );
    let hosts = &hosts[..8];
    show(
        "decode + merge 8 hosts + encode",
        fastest(
            || otlp::encode(&merge(decode_all(hosts))),
            || generated::merge(generated_all(hosts)).encode_to_vec(),
        ),
    );
}

fn linear(hosts: &[Vec<u8>]) {
    for count in [1, 2, 4, 8, 16] {
        let (mut best, mut copy) = (Duration::MAX, Duration::MAX);
        let mut bytes = 0;
        for _ in 0..8 {
            let inputs = decode_all(&hosts[..count]);
            let start = cpu_time();
            let merged = merge(inputs);
            best = best.min(cpu_time() - start);
            copy = copy.min(timed(|| merged.clone()));
            bytes = merged.memory();
        }
        let per_host = |time: Duration| time.as_secs_f64() * 1e3 / count as f64;
        println!(
            "{count:3} hosts {:8.2} ms  {:6.2} ms per host, {:6.2} ms per host to copy the result of {:5.1} MB",
            best.as_secs_f64() * 1e3,
            per_host(best),
            per_host(copy),
            bytes as f64 / 1e6
        );
    }
}

fn main() {
    let hosts: Vec<Vec<u8>> =
        (0..16).map(|host| synthetic::host(host, 400).encode_to_vec()).collect();
    let strangers: Vec<Vec<u8>> =
        (0..16).map(|host| synthetic::host(host, 9000).encode_to_vec()).collect();

    let ours = otlp::encode(&merge(decode_all(&hosts[..8])));
    let theirs = generated::merge(generated_all(&hosts[..8])).encode_to_vec();
    let same = Request::decode(&ours[..]).unwrap() == Request::decode(&theirs[..]).unwrap();
    println!(
        "{} bytes per host, {} merged; both sides have the same content: {same}",
        hosts[0].len(),
        ours.len()
    );
    assert!(same, "the merged content differs");

    ratios(&hosts);
    println!("\nmerge alone, CPU time of the fastest of 8 rounds; hosts that share nothing:");
    linear(&strangers);
    println!("hosts that share four fifths of their code:");
    linear(&hosts);

    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let host = &hosts[0];
    let tables = otlp::decode(host).unwrap();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(host.len() as u64));
    group.bench_function("summary", |bench| bench.iter(|| otlp::summary(host).unwrap()));
    let shared = bytes::Bytes::from(host.clone());
    group.bench_function("admit", |bench| {
        bench.iter(|| otlp::admit(shared.clone()).unwrap());
    });
    group.bench_function("decode", |bench| bench.iter(|| otlp::decode(host).unwrap()));
    group.bench_function("decode/generated", |bench| {
        bench.iter(|| Request::decode(&host[..]).unwrap());
    });
    group.bench_function("encode", |bench| bench.iter(|| otlp::encode(&tables)));
    group.bench_function("encode/generated", |bench| {
        let request = Request::decode(&host[..]).unwrap();
        bench.iter(|| request.encode_to_vec());
    });
    group.finish();

    let mut group = criterion.benchmark_group("merge");
    for count in [1, 2, 4, 8, 16] {
        group.throughput(Throughput::Bytes(
            strangers[..count].iter().map(|host| host.len() as u64).sum(),
        ));
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter_batched(
                || decode_all(&strangers[..count]),
                merge,
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
