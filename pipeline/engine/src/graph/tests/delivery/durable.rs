//! Durable queues, with the real log in a directory. Real time: the disk does not know another.

use super::*;

const QUICK: &str = "retry_on_failure: {initial_interval: 1ms, max_interval: 20ms}";

/// The configuration of an engine whose exporter keeps its queue in a directory.
fn config(directory: &std::path::Path, settings: &str, queue: &str) -> String {
    format!(
        "extensions: {{keep: {{directory: {}}}}}\n\
         exporters: {{to: {{{settings}, {QUICK}, sending_queue: {{storage: keep{queue}}}}}}}\n\
         service: {{extensions: [keep], pipelines: {{profiles: {{receivers: [in], exporters: \
         [to]}}}}}}",
        directory.display()
    )
}

/// An engine as after the start of a process, unless the services are those of another.
fn open(config: &str, services: &Services) -> (RunningEngine, mpsc::UnboundedSender<Batch>) {
    let (mut builder, sender) = builder();
    builder.services(services.clone());
    (start(builder, config), sender)
}

fn durable(count: usize) -> Vec<Outcome> {
    vec![Outcome::Durable; count]
}

/// Scenario: the destination is down while batches come, and comes back.
/// Guarantees: senders are answered without it; everything arrives exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_then_recovery() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-outage", |_| retry("down"));
    let config = config(directory.path(), "name: durable-outage", "");
    let (engine, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..100)).await, durable(100));
    until(|| backend.attempts() > 15).await;
    assert_eq!(backend.count(), 0);
    backend.set(|_| Ok(()));
    until(|| backend.count() == 100).await;
    until(|| count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES) == 0).await;
    assert_eq!(backend.once().len(), 100);
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: the engine stops while the destination is dead, and a new process starts when it is
/// back.
/// Guarantees: stopping is quick and drops nothing; the rest arrives, exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::new("durable-restart", |names| match &*names[0] {
        "0000" | "0001" => Ok(()),
        _ => retry("down"),
    });
    let config = config(directory.path(), "name: durable-restart", "");
    let services = Services::default();
    let (engine, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..50)).await, durable(50));
    until(|| backend.count() == 2).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    assert_eq!(count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES), 48);
    services.queues.close().await;
    drop(services);

    backend.set(|_| Ok(()));
    let services = Services::default();
    let (engine, _sender) = open(&config, &services);
    until(|| backend.count() == 50).await;
    assert_eq!(backend.once().len(), 50);
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: an engine replaces another while the destination is down; the old one still runs when
/// the new one starts.
/// Guarantees: the queue goes on where it was; only one engine sends at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_the_queue() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-reload", |_| retry("down"));
    let config = config(directory.path(), "name: durable-reload", ", num_consumers: 1");
    let (old, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..20)).await, durable(20));
    let (new, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 20..40)).await, durable(20));
    old.stop(GRACE).await.unwrap();
    backend.set(|_| Ok(()));
    until(|| backend.count() == 40).await;
    assert_eq!(backend.once().len(), 40);
    assert_eq!(backend.most_flying(), 1);
    new.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: every fifth batch is poison, and one makes the exporter panic.
/// Guarantees: all of these end among the dead letters, the panic after three attempts, and block
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_put_aside() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend =
        Backend::new("durable-poison", |names| match names[0].parse::<usize>().unwrap() % 5 {
            2 => Err(Failure::Reject { cause: Error::new("bad data") }),
            _ => Ok(()),
        });
    let config = config(directory.path(), "name: durable-poison", "");
    let (engine, sender) = open(&config, &services);
    let (panics, outcome) = named(&["panic"]);
    sender.send(panics).unwrap();
    assert_eq!(outcome.wait().await, Outcome::Durable);
    assert_eq!(outcomes(send_numbers(&sender, 0..50)).await, durable(50));
    until(|| count_of(&services.metrics, names::EXPORTER_DEAD_SAMPLES) == 11).await;
    until(|| count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES) == 0).await;
    assert_eq!(backend.once().len(), 40);
    assert_eq!(backend.attempts(), 53);
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: twenty batches, twice as many as there are consumers, fail again and again as if the
/// destination were down, while it is not.
/// Guarantees: all others get through; these stay until they do, also over a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_fail_alone_wait_alone() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-alone", |names| match &*names[0] {
        name if name < "0020" => retry("503"),
        _ => Ok(()),
    });
    let config = config(directory.path(), "name: durable-alone", "");
    let (engine, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..200)).await, durable(200));
    until(|| backend.count() == 180).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    let (engine, _sender) = open(&config, &services);
    let attempts = backend.attempts();
    until(|| backend.attempts() > attempts + 50).await;
    backend.set(|_| Ok(()));
    until(|| backend.count() == 200).await;
    assert_eq!(backend.once().len(), 200);
    until(|| count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES) == 0).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: a destination that refuses us; the engine is stopped and started meanwhile.
/// Guarantees: nothing is dropped, it is known as held, and all arrives once it accepts us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_stays() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let refusing = |_: &[String]| Err(Failure::Hold { cause: Error::new("401") });
    let backend = Backend::new("durable-held", refusing);
    let config = config(directory.path(), "name: durable-held", "");
    for round in 0..2 {
        let (engine, sender) = open(&config, &services);
        let numbers = round * 20..round * 20 + 20;
        assert_eq!(outcomes(send_numbers(&sender, numbers)).await, durable(20));
        until(|| count_of(&services.metrics, names::EXPORTER_HELD) == 1).await;
        engine.stop(GRACE).await.unwrap();
    }
    backend.set(|_| Ok(()));
    let (engine, _sender) = open(&config, &services);
    until(|| backend.count() == 40).await;
    assert_eq!(backend.once().len(), 40);
    assert_eq!(count_of(&services.metrics, names::EXPORTER_HELD), 0);
    until(|| count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES) == 0).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: the engine stops while attempts hang; large records are cut meanwhile.
/// Guarantees: what hung goes back and is sent after the next start; what is cut arrives once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_attempts_go_back() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-hanging", |names| match names.len() {
        0..4 => Ok(()),
        _ => Err(Failure::TooLarge { cause: Error::new("413") }),
    });
    backend.0.lock().unwrap().delay = Duration::from_secs(1 << 20);
    let config = config(directory.path(), "name: durable-hanging, timeout: 0", "");
    let (engine, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..20)).await, durable(20));
    let many: Vec<String> = (100..150).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (large, outcome) = named(&many);
    sender.send(large).unwrap();
    assert_eq!(outcome.wait().await, Outcome::Durable);
    until(|| backend.attempts() == 10).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    assert_eq!(count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES), 70);
    backend.0.lock().unwrap().delay = Duration::ZERO;
    let (engine, _sender) = open(&config, &services);
    until(|| backend.count() == 70).await;
    assert_eq!(backend.once().len(), 70);
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: a durable queue whose batches are put together, with poison among them.
/// Guarantees: everything but the poison arrives once, in fewer batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_batches_are_put_together() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend =
        Backend::new("durable-merge", |names| match names.iter().any(|name| name == "0050") {
            true => Err(Failure::Reject { cause: Error::new("bad data") }),
            false => Ok(()),
        });
    let batch = ", num_consumers: 1, batch: {min_size: 10, flush_timeout: 50ms}";
    let config = config(directory.path(), "name: durable-merge", batch);
    let (engine, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..100)).await, durable(100));
    until(|| backend.count() == 99).await;
    until(|| count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES) == 0).await;
    assert_eq!(backend.once().len(), 99);
    assert!(backend.batches().len() < 90, "{:?}", backend.batches());
    assert_eq!(count_of(&services.metrics, names::EXPORTER_DEAD_SAMPLES), 1);
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: a durable queue for three batches, before a destination that is down, beside another
/// durable one in the same storage.
/// Guarantees: the fourth batch is refused for the first and kept for the second; its sender is
/// told to try later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_durable_queues_say_so() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let down = Backend::new("durable-full", |_| retry("down"));
    let other = Backend::healthy("durable-other");
    let config = format!(
        "extensions: {{keep: {{directory: {}}}}}\n\
         exporters:\n\
         \x20 to: {{name: durable-full, {QUICK}, sending_queue: {{storage: keep, queue_size: 3}}}}\n\
         \x20 to/other: {{name: durable-other, sending_queue: {{storage: keep}}}}\n\
         service: {{extensions: [keep], pipelines: {{profiles: {{receivers: [in], exporters: \
         [to, to/other]}}}}}}",
        directory.path().display()
    );
    let (engine, sender) = open(&config, &services);
    for number in 0..3 {
        assert_eq!(outcomes(send_numbers(&sender, number..number + 1)).await, durable(1));
    }
    let refused = outcomes(send_numbers(&sender, 3..4)).await;
    assert_eq!(refused, [Outcome::Retry("the queue of to is full".into())]);
    assert_eq!(count_of(&services.metrics, names::EXPORTER_ENQUEUE_FAILED_SAMPLES), 1);
    until(|| other.count() == 4).await;
    down.set(|_| Ok(()));
    until(|| down.count() == 3).await;
    assert_eq!(outcomes(send_numbers(&sender, 4..5)).await, durable(1));
    until(|| down.count() == 4 && other.count() == 5).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: what waits for an exporter, when the next engine has another one with its queue there, none
/// with a queue, and the old one again.
/// Guarantees: metrics say how much is left behind for whom, until its exporter is there again and has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_behind_is_told() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-left", |_| retry("down"));
    let old = config(directory.path(), "name: durable-left", "");
    let (engine, sender) = open(&old, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..3)).await, durable(3));
    engine.stop(GRACE).await.unwrap();
    services.queues.close().await;
    let left = |services: &Services| {
        let batches = count_of(&services.metrics, names::EXPORTER_LEFT_BEHIND_BATCHES);
        (batches, count_of(&services.metrics, names::EXPORTER_LEFT_BEHIND_SAMPLES))
    };
    assert_eq!(left(&services), (0, 0));
    let renamed = old.replace("{to: {", "{to/new: {").replace("[to]", "[to/new]");
    let unused = old.replace("storage: keep", "enabled: false");
    for (next, wanted) in [(&renamed, (3, 3)), (&unused, (3, 3)), (&old, (0, 0))] {
        let (engine, _sender) = open(next, &services);
        assert_eq!(left(&services), wanted, "{next}");
        if *next == old {
            backend.set(|_| Ok(()));
            until(|| backend.count() == 3).await;
        }
        engine.stop(GRACE).await.unwrap();
        services.queues.close().await;
    }
}

/// Scenario: the storage has room for 64 KiB, and the destination is down; later it is back.
/// Guarantees: senders are told to try later once it is full; what was acknowledged arrives, and
/// nothing else; then there is room again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_storages_say_so() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-storage", |_| retry("down"));
    let config = config(directory.path(), "name: durable-storage", "");
    let config = config.replace("keep: {", "keep: {max_bytes: 65536, ");
    let (engine, sender) = open(&config, &services);
    let (mut kept, mut number) = (Vec::new(), 0);
    loop {
        match outcomes(send_numbers(&sender, number..number + 1)).await.remove(0) {
            Outcome::Durable => kept.push(format!("{number:04}")),
            Outcome::Retry(why) => {
                assert!(why.contains("full"), "{why}");
                break;
            }
            other => panic!("{other:?}"),
        }
        number += 1;
        assert!(number < 10_000, "it is never full");
    }
    assert!(kept.len() > 50, "{}", kept.len());
    // Both in bytes: the storage's limit is this queue's.
    assert_eq!(count_of(&services.metrics, names::EXPORTER_QUEUE_CAPACITY), 65536);
    let size = count_of(&services.metrics, names::EXPORTER_QUEUE_SIZE);
    assert!(size > 1000 && size <= 65536, "{size}");
    assert_eq!(count_of(&services.metrics, names::EXPORTER_ENQUEUE_FAILED_SAMPLES), 1);
    backend.set(|_| Ok(()));
    until(|| backend.count() == kept.len()).await;
    assert_eq!(backend.once(), kept);
    // Space is given back by whole segments, in the background.
    let mut again = 5000;
    while outcomes(send_numbers(&sender, again..again + 1)).await != durable(1) {
        again += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(again < 6000, "there is no room");
    }
    until(|| backend.count() == kept.len() + 1).await;
    engine.stop(GRACE).await.unwrap();
    balance(&services.metrics);
    services.queues.close().await;
}

/// Scenario: an engine is dropped without being stopped, while its destination is down; another
/// one starts.
/// Guarantees: nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_loses_nothing() {
    let (directory, services) = (tempfile::tempdir().unwrap(), Services::default());
    let backend = Backend::new("durable-dropped", |_| retry("down"));
    let config = config(directory.path(), "name: durable-dropped", "");
    let (engine, sender) = open(&config, &services);
    assert_eq!(outcomes(send_numbers(&sender, 0..30)).await, durable(30));
    drop(engine);
    backend.set(|_| Ok(()));
    let (engine, _sender) = open(&config, &services);
    until(|| backend.count() == 30).await;
    assert_eq!(backend.once().len(), 30);
    engine.stop(GRACE).await.unwrap();
    services.queues.close().await;
}

/// Scenario: five processes one after the other, with a destination that is busy, refuses us or
/// the batch, finds it too large, hangs or makes the exporter panic, all at random; then a healthy
/// one.
/// Guarantees: every sample that was acknowledged is delivered or among the dead letters, and the
/// counts balance in every process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = Arc::new(Mutex::new(1_u64));
    let random = move || {
        let mut state = state.lock().unwrap();
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize
    };
    let poisoned = |names: &[String]| names.iter().any(|name| name.ends_with('7'));
    let dice = random.clone();
    let backend = Backend::new("durable-random", move |names| match dice() % 20 {
        _ if poisoned(names) && names.len() <= 3 => {
            Err(Failure::Reject { cause: Error::new("400") })
        }
        _ if names.len() > 3 => Err(Failure::TooLarge { cause: Error::new("413") }),
        0..5 => retry("503"),
        5 => Err(Failure::Hold { cause: Error::new("401") }),
        _ => Ok(()),
    });
    let config = config(
        directory.path(),
        "name: durable-random, timeout: 20ms",
        ", num_consumers: 4, batch: {min_size: 4, flush_timeout: 5ms}",
    );
    let (mut acknowledged, mut dead) = (std::collections::BTreeSet::new(), 0);
    for round in 0..6 {
        let services = Services::default();
        let (engine, sender) = open(&config, &services);
        for number in 0..40 {
            let count = if number % 10 == 0 { 8 } else { 1 };
            let names: Vec<String> = (0..count)
                .map(|sample| format!("{round}-{number:02}-{sample}x{}", number % 10))
                .collect();
            let slices: Vec<&str> = names.iter().map(String::as_str).collect();
            let (batch, outcome) = named(&slices);
            sender.send(batch).unwrap();
            assert_eq!(outcome.wait().await, Outcome::Durable);
            acknowledged.extend(names);
            let slow = if random() % 10 == 0 { 50 } else { 0 };
            backend.0.lock().unwrap().delay = Duration::from_millis(slow);
        }
        backend.0.lock().unwrap().delay = Duration::ZERO;
        if round == 5 {
            until(|| count_of(&services.metrics, names::EXPORTER_PENDING_SAMPLES) == 0).await;
        }
        engine.stop(GRACE).await.unwrap();
        services.queues.close().await;
        balance(&services.metrics);
        dead += count_of(&services.metrics, names::EXPORTER_DEAD_SAMPLES);
    }
    let inner = backend.0.lock().unwrap();
    let missing: Vec<_> =
        acknowledged.iter().filter(|name| !inner.got.contains_key(*name)).collect();
    assert!(missing.iter().all(|name| name.ends_with('7')), "{missing:?}");
    assert_eq!((missing.len(), dead), (24, 24));
    assert!(inner.got.keys().all(|name| acknowledged.contains(name)));
}
