//! The `inprocess` receiver in an embedding program: profiles itself into a file, and does not
//! block what the program does meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use profpipe::pipeline::report::{Column, top};
use profpipe::{Engine, pprof, profile};

#[inline(never)]
fn mostly_here(until: Instant) -> u64 {
    let mut sum = 0_u64;
    while Instant::now() < until {
        for at in 0..100_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(at));
        }
    }
    sum
}

/// Allocates and frees, so that signals arrive in the allocator.
fn allocates(until: Instant) -> usize {
    let mut kept: HashMap<usize, String> = HashMap::new();
    let mut at = 0;
    while Instant::now() < until {
        at += 1;
        kept.insert(at % 100, "x".repeat(at % 5000));
    }
    kept.len()
}

/// Unwinds, so that signals arrive in the unwinder.
fn unwinds(until: Instant) -> u32 {
    let mut caught = 0;
    while Instant::now() < until {
        let result = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(1_u32)));
        caught += u32::from(result.is_err());
    }
    caught
}

/// Scenario: a program that computes, allocates and unwinds on three threads embeds the engine,
/// with the `inprocess` receiver at a high rate and the `file` exporter.
/// Guarantees: nothing blocks; files appear whose values are CPU time, in which the computing
/// function is found, with what it was called by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_profiles_itself() {
    let home = tempfile::tempdir().unwrap();
    let configuration = format!(
        "receivers: {{inprocess: {{frequency: 500, interval: 400ms, service_name: own}}}}\n\
         exporters: {{file: {{path: {}}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [inprocess], exporters: [file]}}}}}}\n",
        home.path().display()
    );
    let engine = Engine::builder().config_yaml(configuration).start().unwrap();
    let until = Instant::now() + Duration::from_millis(2000);
    let threads = [
        std::thread::spawn(move || u64::from(mostly_here(until) == 1)),
        std::thread::spawn(move || allocates(until) as u64),
        std::thread::spawn(move || u64::from(unwinds(until))),
    ];
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
    });
    tokio::time::timeout(Duration::from_secs(60), joined)
        .await
        .expect("a thread is blocked")
        .unwrap();
    tokio::time::timeout(Duration::from_secs(60), engine.stop(Duration::from_secs(30)))
        .await
        .expect("the engine is blocked")
        .unwrap();

    let mut windows = Vec::new();
    for entry in fs::read_dir(home.path()).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("own-"), "{path:?}");
        windows.push(pprof::decode(&fs::read(path).unwrap()).unwrap());
    }
    assert!(!windows.is_empty());
    let whole = profile::aggregate(windows);
    let report = top(&whole, None, Column::Total).unwrap();
    assert_eq!((report.profile_type.as_str(), report.unit.as_str()), ("cpu", "nanoseconds"));
    assert!(report.total > 100_000_000, "{}", report.total);
    let found = report.functions.iter().find(|one| one.name.contains("mostly_here"));
    let found = found.unwrap_or_else(|| panic!("{}", report.to_text(30)));
    // One of three busy threads, and of what names functions.
    assert!(found.total * 20 > report.total, "{}", report.to_text(30));
}
