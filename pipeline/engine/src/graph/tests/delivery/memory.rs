//! Queues in memory. The clock is turned.

use super::*;

fn reject(text: &str) -> Result<(), Failure> {
    Err(Failure::Reject { cause: Error::new(text) })
}

fn hold(text: &str) -> Result<(), Failure> {
    Err(Failure::Hold { cause: Error::new(text) })
}

fn delivered(count: usize) -> Vec<Outcome> {
    vec![Outcome::Delivered; count]
}

/// Scenario: a destination is down for a minute while thirty batches come.
/// Guarantees: each arrives exactly once and is answered after that; while it was down it was tried
/// by one probe at a time; the counts balance.
#[tokio::test(start_paused = true)]
async fn outage_then_recovery() {
    let back = tokio::time::Instant::now() + Duration::from_secs(60);
    let backend = Backend::new("outage", move |_| {
        if tokio::time::Instant::now() < back { retry("down") } else { Ok(()) }
    });
    let (engine, sender) = engine("name: outage");
    let metrics = Arc::clone(engine.metrics());
    let outcomes = outcomes(send_numbers(&sender, 0..30)).await;
    assert_eq!(outcomes, delivered(30));
    assert_eq!(backend.once().len(), 30);
    let vain = backend.attempts() - 30;
    assert!((2..=25).contains(&vain), "ten at first, then one after every pause: {vain}");
    assert!(count_of(&metrics, names::EXPORTER_RETRIES) > 0);
    engine.stop(GRACE).await.unwrap();
    balance(&metrics);
    assert_eq!(count_of(&metrics, names::EXPORTER_SENT_SAMPLES), 30);
}

/// Scenario: many batches for a destination that takes a second for each.
/// Guarantees: as many consumers as the configuration says.
#[tokio::test(start_paused = true)]
async fn consumers_work_side_by_side() {
    for (settings, most) in [("", 10), (", sending_queue: {num_consumers: 3}", 3)] {
        let backend = Backend::healthy("wide").slow(Duration::from_secs(1));
        let (engine, sender) = engine(&format!("name: wide{settings}"));
        assert_eq!(outcomes(send_numbers(&sender, 0..40)).await, delivered(40));
        assert_eq!((backend.most_flying(), backend.once().len()), (most, 40));
        engine.stop(GRACE).await.unwrap();
    }
}

/// Scenario: a queue for two batches before a consumer that is busy.
/// Guarantees: the fourth batch is refused at once, its sender told to try later; the others
/// arrive. Where overflow waits, all arrive.
#[tokio::test(start_paused = true)]
async fn full_queues_say_so_or_wait() {
    let backend = Backend::healthy("full").slow(Duration::from_secs(1));
    let queue = "name: full, sending_queue: {num_consumers: 1, queue_size: 2";
    let (engine_1, sender) = engine(&format!("{queue}}}"));
    let metrics = Arc::clone(engine_1.metrics());
    let mut waiting = send_numbers(&sender, 0..1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    waiting.extend(send_numbers(&sender, 1..4));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(count_of(&metrics, names::EXPORTER_QUEUE_SIZE), 2);
    assert_eq!(count_of(&metrics, names::EXPORTER_QUEUE_CAPACITY), 2);
    let last = waiting.pop().unwrap().wait().await;
    assert_eq!(last, Outcome::Retry("the queue of to is full".into()));
    assert_eq!(backend.count(), 0);
    assert_eq!(outcomes(waiting).await, delivered(3));
    assert_eq!(count_of(&metrics, names::EXPORTER_ENQUEUE_FAILED_SAMPLES), 1);
    engine_1.stop(GRACE).await.unwrap();
    balance(&metrics);

    let backend = Backend::healthy("full").slow(Duration::from_secs(1));
    let (engine, sender) = engine(&format!("{queue}, block_on_overflow: true}}"));
    assert_eq!(outcomes(send_numbers(&sender, 0..9)).await, delivered(9));
    assert_eq!(backend.once().len(), 9);
    engine.stop(GRACE).await.unwrap();
}

/// Scenario: queues that count samples and bytes, with a batch larger than the whole queue.
/// Guarantees: the size is kept; the large batch gets in alone.
#[tokio::test(start_paused = true)]
async fn queues_count_what_they_are_told() {
    for sizer in ["sizer: items, queue_size: 3", "sizer: bytes, queue_size: 200"] {
        let backend = Backend::healthy("sized").slow(Duration::from_secs(1));
        let settings = format!("name: sized, sending_queue: {{num_consumers: 1, {sizer}}}");
        let (engine, sender) = engine(&settings);
        let first = send_numbers(&sender, 0..1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let many: Vec<String> = (100..150).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (large, of_large) = named(&many);
        sender.send(large).unwrap();
        let refused = send_numbers(&sender, 1..2);
        assert!(matches!(outcomes(refused).await[..], [Outcome::Retry(_)]));
        assert_eq!(of_large.wait().await, Outcome::Delivered);
        assert_eq!(outcomes(first).await, delivered(1));
        assert_eq!(backend.once().len(), 51);
        engine.stop(GRACE).await.unwrap();
    }
}

/// Scenario: a queue that answers early, before a destination that never works.
/// Guarantees: senders hear *delivered* at once, and the loss is counted.
#[tokio::test(start_paused = true)]
async fn early_answers_where_asked_for() {
    Backend::new("early", |_| retry("down"));
    let (engine, sender) = engine("name: early, sending_queue: {wait_for_result: false}");
    let metrics = Arc::clone(engine.metrics());
    assert_eq!(outcomes(send_numbers(&sender, 0..20)).await, delivered(20));
    engine.stop(GRACE).await.unwrap();
    balance(&metrics);
    assert_eq!(count_of(&metrics, names::EXPORTER_STOPPED_SAMPLES), 20);
}

/// Scenario: every seventh batch is poison.
/// Guarantees: these are refused with the reason, the others arrive without delay.
#[tokio::test(start_paused = true)]
async fn poison_costs_itself() {
    let backend = Backend::new("poison", |names| match names[0].parse::<usize>().unwrap() % 7 {
        3 => reject("bad data"),
        _ => Ok(()),
    });
    let (engine, sender) = engine("name: poison");
    let metrics = Arc::clone(engine.metrics());
    let began = tokio::time::Instant::now();
    let outcomes = outcomes(send_numbers(&sender, 0..70)).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let expected = match number % 7 {
            3 => Outcome::Rejected("bad data".into()),
            _ => Outcome::Delivered,
        };
        assert_eq!(outcome, expected, "{number}");
    }
    assert_eq!(backend.once().len(), 60);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(count_of(&metrics, names::EXPORTER_REFUSED_SAMPLES), 10);
    engine.stop(GRACE).await.unwrap();
    balance(&metrics);
}

/// Scenario: one batch always fails as if the destination were down; hundreds of others do not.
/// Guarantees: only its first failures cost the others a pause.
#[tokio::test(start_paused = true)]
async fn who_fails_alone_waits_alone() {
    let backend = Backend::new("alone", |names| match &*names[0] {
        "0003" => retry("503"),
        _ => Ok(()),
    })
    .slow(Duration::from_millis(100));
    let (engine, sender) = engine("name: alone");
    let began = tokio::time::Instant::now();
    let mut waiting = send_numbers(&sender, 0..500);
    let stubborn = waiting.remove(3);
    assert_eq!(outcomes(waiting).await, delivered(499));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(stubborn.wait().await, Outcome::Retry("503".into()));
    assert!(began.elapsed() > Duration::from_secs(200));
    assert_eq!(backend.once().len(), 499);
    engine.stop(GRACE).await.unwrap();
}

/// Scenario: a destination refuses us for two minutes; another one for ever.
/// Guarantees: the first has everything in the end; the second is given up after the time of the
/// policy, and both are known as held while they are.
#[tokio::test(start_paused = true)]
async fn held_until_accepted() {
    let back = tokio::time::Instant::now() + Duration::from_secs(120);
    let backend =
        Backend::new(
            "held",
            move |_| {
                if tokio::time::Instant::now() < back { hold("401") } else { Ok(()) }
            },
        );
    let (engine_1, sender) = engine("name: held");
    let metrics = Arc::clone(engine_1.metrics());
    let waiting = send_numbers(&sender, 0..30);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(count_of(&metrics, names::EXPORTER_HELD), 1);
    assert_eq!(outcomes(waiting).await, delivered(30));
    assert_eq!(count_of(&metrics, names::EXPORTER_HELD), 0);
    assert_eq!(backend.once().len(), 30);
    engine_1.stop(GRACE).await.unwrap();
    balance(&metrics);

    Backend::new("held", |_| hold("404"));
    let (engine, sender) = engine("name: held, retry_on_failure: {max_elapsed_time: 100s}");
    let metrics = Arc::clone(engine.metrics());
    let began = tokio::time::Instant::now();
    let given_up = outcomes(send_numbers(&sender, 0..10)).await;
    assert_eq!(given_up, vec![Outcome::Retry("404".into()); 10]);
    assert!((50..=100).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    engine.stop(GRACE).await.unwrap();
    balance(&metrics);
}

/// Scenario: a destination that takes five samples at a time and never the one called poison.
/// Guarantees: a larger batch is cut until its parts fit; every sample arrives once. What cannot be
/// cut is refused, with the rest of its batch delivered and counted so.
#[tokio::test(start_paused = true)]
async fn too_large_is_cut() {
    let backend = Backend::new("halves", |names| {
        if names.len() > 5 || names.iter().any(|name| name == "poison") {
            return Err(Failure::TooLarge { cause: Error::new("413") });
        }
        Ok(())
    });
    let (engine, sender) = engine("name: halves");
    let metrics = Arc::clone(engine.metrics());
    let many: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (batch, outcome) = named(&many);
    sender.send(batch).unwrap();
    assert_eq!(outcome.wait().await, Outcome::Delivered);
    assert_eq!(backend.once(), many);
    let renamed: Vec<String> = many.iter().map(|name| format!("b{name}")).collect();
    many = renamed.iter().map(String::as_str).collect();
    many[37] = "poison";
    let (batch, outcome) = named(&many);
    sender.send(batch).unwrap();
    assert_eq!(outcome.wait().await, Outcome::Rejected("413".into()));
    assert_eq!(backend.once().len(), 199);
    assert_eq!(count_of(&metrics, names::EXPORTER_SENT_SAMPLES), 199);
    assert_eq!(count_of(&metrics, names::EXPORTER_REFUSED_SAMPLES), 1);
    engine.stop(GRACE).await.unwrap();
    balance(&metrics);
}

/// Scenario: small batches before a queue that puts them together, and one larger than allowed.
/// Guarantees: batches of the size, the rest after the time; large ones are cut, and each sender
/// has its own answer even when one of them sent poison.
#[tokio::test(start_paused = true)]
async fn batches_are_put_together_and_cut() {
    let act = |names: &[String]| match names.iter().any(|name| name == "poison") {
        true => reject("bad data"),
        false => Ok(()),
    };
    let backend = Backend::new("merge", act);
    let settings = "name: merge, sending_queue: {num_consumers: 1, batch: {min_size: 10, \
                    max_size: 20, flush_timeout: 3s}}";
    let (engine, sender) = engine(settings);
    let metrics = Arc::clone(engine.metrics());
    let began = tokio::time::Instant::now();
    assert_eq!(outcomes(send_numbers(&sender, 0..25)).await, delivered(25));
    assert_eq!((backend.batches(), began.elapsed().as_secs()), (vec![10, 10, 5], 3));
    assert_eq!(backend.once().len(), 25);

    let many: Vec<String> = (0..100).map(|number| format!("x{number:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (large, outcome) = named(&many);
    sender.send(large).unwrap();
    assert_eq!(outcome.wait().await, Outcome::Delivered);
    let cut = backend.batches().split_off(3);
    assert!(cut.len() <= 10 && cut.iter().all(|size| *size <= 20), "{cut:?}");

    let mut mixed = send_numbers(&sender, 100..105);
    let (poison, refused) = named(&["poison"]);
    sender.send(poison).unwrap();
    mixed.extend(send_numbers(&sender, 105..110));
    assert_eq!(outcomes(mixed).await, delivered(10));
    assert_eq!(refused.wait().await, Outcome::Rejected("bad data".into()));
    assert_eq!(backend.once().len(), 135);
    engine.stop(GRACE).await.unwrap();
    balance(&metrics);
}

/// Scenario: a limit in bytes that every single sample exceeds.
/// Guarantees: each sample is sent alone; nothing is tried for ever.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_cut_is_sent_as_it_is() {
    let backend = Backend::healthy("tiny");
    let settings = "name: tiny, sending_queue: {batch: {sizer: bytes, min_size: 1, max_size: 2}}";
    let (engine, sender) = engine(settings);
    let (batch, outcome) = named(&["a", "b", "c"]);
    sender.send(batch).unwrap();
    assert_eq!(outcome.wait().await, Outcome::Delivered);
    assert_eq!((backend.batches(), backend.once().len()), (vec![1, 1, 1], 3));
    engine.stop(GRACE).await.unwrap();
}

/// Scenario: one destination never answers, the other does.
/// Guarantees: the second has everything at once; the first is tried again after its timeout.
#[tokio::test(start_paused = true)]
async fn a_slow_destination_is_slow_alone() {
    let slow = Backend::healthy("slow").slow(Duration::from_secs(1 << 20));
    let fast = Backend::healthy("fast");
    let (builder, sender) = builder();
    let config = "\
exporters: {to: {name: slow, timeout: 2s}, to/fast: {name: fast}}
service: {pipelines: {profiles: {receivers: [in], exporters: [to, to/fast]}}}
";
    let engine = start(builder, config);
    let waiting = send_numbers(&sender, 0..50);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((fast.once().len(), slow.count()), (50, 0));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(slow.attempts() > 10, "{}", slow.attempts());
    slow.0.lock().unwrap().delay = Duration::ZERO;
    assert_eq!(outcomes(waiting).await, delivered(50));
    assert_eq!(slow.once().len(), 50);
    engine.stop(GRACE).await.unwrap();
}

/// Scenario: retrying is switched off; a destination asks for a pause of a minute.
/// Guarantees: one attempt each; the pause is kept to the second, for everybody.
#[tokio::test(start_paused = true)]
async fn retrying_is_as_asked() {
    let backend = Backend::new("asked", |_| retry("no"));
    let (engine_1, sender) = engine("name: asked, retry_on_failure: {enabled: false}");
    let once = outcomes(send_numbers(&sender, 0..5)).await;
    assert_eq!((once, backend.attempts()), (vec![Outcome::Retry("no".into()); 5], 5));
    engine_1.stop(GRACE).await.unwrap();

    let mut attempts = 0;
    let backend = Backend::new("asked", move |_| {
        attempts += 1;
        let after = Some(Duration::from_secs(60));
        if attempts > 1 { Ok(()) } else { Err(Failure::Retry { after, cause: Error::new("429") }) }
    });
    let settings = "name: asked, sending_queue: {num_consumers: 1}";
    let (engine, sender) = engine(settings);
    let began = tokio::time::Instant::now();
    assert_eq!(outcomes(send_numbers(&sender, 0..5)).await, delivered(5));
    assert_eq!((began.elapsed().as_secs(), backend.attempts()), (60, 6));
    engine.stop(GRACE).await.unwrap();
}
