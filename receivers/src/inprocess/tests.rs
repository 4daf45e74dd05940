#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup};
use profpipe_engine::telemetry::names;
use profpipe_engine::{Sender, Services};
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::{PROCESS_PID, SERVICE_NAME, THREAD_NAME};

use super::Config;
use super::table::Shares;

/// Burns CPU; not inlined, so that it has a frame of its own.
#[inline(never)]
fn burn_cycles_here(until: Instant) -> u64 {
    let mut sum = 0_u64;
    while Instant::now() < until {
        for at in 0..200_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(at));
        }
    }
    sum
}

/// The names on the stacks of all samples, the thread, and the values of both types.
fn stacks(batch: &Profiles) -> Vec<(Vec<String>, String, i64, i64)> {
    let tables = &batch.dictionary;
    let [counts, times] = batch.resources[0].scopes[0].profiles.as_slice() else {
        panic!("two profiles are expected")
    };
    let text = |row| tables.strings.get(row);
    assert_eq!(
        (text(counts.sample_type.kind), text(counts.sample_type.unit)),
        ("samples", "count")
    );
    assert_eq!(
        (text(times.sample_type.kind), text(times.sample_type.unit)),
        ("cpu", "nanoseconds")
    );
    counts
        .samples
        .iter()
        .zip(times.samples.iter())
        .map(|(count, time)| {
            assert_eq!((count.stack, count.attributes), (time.stack, time.attributes));
            let lines = tables.stacks.get(count.stack).iter();
            let lines = lines.flat_map(|location| tables.locations.get(*location).lines);
            let names = lines.map(|line| text(tables.functions.get(line.function).name).to_owned());
            let thread = count.attributes.iter().find_map(|row| {
                let is_name = text(tables.attributes.key(*row)) == THREAD_NAME;
                tables.attributes.value(*row).as_str().filter(|_| is_name)
            });
            let thread = thread.unwrap_or_default().to_owned();
            (names.collect(), thread, count.weight(), time.weight())
        })
        .collect()
}

/// Scenario: a program profiles itself while a named thread burns CPU, over several windows; then a
/// second profiler is asked for.
/// Guarantees: the burning function is the hottest by far; values are the CPU time that was really
/// used; thread, service and process are named; the second is refused in one line.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_process_profiles_itself() {
    let services = Services::default();
    let setup = Setup::new("inprocess", services.clone());
    let config = Config {
        interval: "300ms".parse().unwrap(),
        service_name: Some("own".into()),
        ..Config::default()
    };
    let receiver = config.clone().build(&setup).unwrap();
    let Err(second) = config.build(&setup) else { panic!("there are two") };
    assert!(second.to_string().contains("only one"), "{second}");

    let (out, mut batches) = Sender::detached(16);
    let (stopper, life) = Lifecycle::new();
    let running = tokio::spawn(receiver.run(out, life));
    let burner = std::thread::Builder::new()
        .name("burner".into())
        .spawn(|| burn_cycles_here(Instant::now() + Duration::from_millis(1500)))
        .unwrap();
    tokio::task::spawn_blocking(|| burner.join().unwrap()).await.unwrap();
    stopper.stop(Duration::from_secs(5));
    running.await.unwrap().unwrap();

    let (mut windows, mut count, mut time) = (0, 0, 0);
    let (mut burner, mut burning) = (0, 0);
    while let Some(mut batch) = batches.recv().await {
        let batch = batch.profiles().unwrap();
        windows += 1;
        let resource = &batch.resources[0].resource;
        assert_eq!(resource.get(SERVICE_NAME).unwrap().as_str(), Some("own"));
        let pid = resource.get(PROCESS_PID).unwrap().as_int();
        assert_eq!(pid, Some(i64::from(std::process::id())));
        for (names, thread, of_count, of_time) in stacks(batch) {
            count += of_count;
            time += of_time;
            let shows = |part: &str| names.iter().any(|name| name.contains(part));
            assert!(!shows("perf_signal_handler"), "{names:?}");
            if thread == "burner" {
                // The receiver's own thread really runs that crate, which finds the names.
                assert!(!shows("pprof::"), "{names:?}");
                burner += of_time;
                burning += if shows("burn_cycles_here") { of_time } else { 0 };
            }
        }
    }
    assert!(windows >= 2, "{windows} windows");
    assert_eq!(services.metrics.total(names::SAMPLES), count as u64);
    assert!(burning * 10 > burner * 9, "{burning} of {burner} ns");
    // Naming functions in an unoptimized build is work of this process, too.
    assert!(burner * 4 > time, "{burner} of {time} ns");
    // The thread used some CPU time, and no more than there was on all CPUs.
    assert!(time > 100_000_000, "{time} ns of CPU time");
}

/// Scenario: CPU time is divided among samples, by counts that do not divide it.
/// Guarantees: parts are in proportion and add up exactly.
#[test]
fn shares_add_up() {
    let mut shares = Shares { total: 7, cpu: 100, seen: 0, given: 0 };
    let parts: Vec<_> = [1, 2, 4].into_iter().map(|count| shares.next(count)).collect();
    assert_eq!(parts.iter().sum::<u64>(), 100);
    assert_eq!(parts, [14, 28, 58]);
    let mut none = Shares { total: 0, cpu: 100, seen: 0, given: 0 };
    assert_eq!(none.next(0), 0);
}
