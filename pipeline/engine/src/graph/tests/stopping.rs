//! How an engine ends: in order, in time, and with the truth about what was not sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;

/// Keeps every batch until it is finished, and notes the order in which it was.
struct Hoard(&'static str, Vec<Batch>, Arc<Mutex<Vec<&'static str>>>);

impl Processor for Hoard {
    fn process(&mut self, batch: Batch, _: &mut Outbox) -> Result<(), Error> {
        self.1.push(batch);
        Ok(())
    }

    fn finish(&mut self, _: Instant, out: &mut Outbox) {
        self.2.lock().unwrap().push(self.0);
        self.1.drain(..).for_each(|batch| out.push(batch));
    }
}

/// Gives its last batch when it is asked to stop, and keeps a way in for longer than it may.
struct LastWord(Arc<Mutex<Option<Sender>>>);

#[async_trait]
impl Receiver for LastWord {
    async fn run(self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        life.stopping().await;
        out.send(batch(7).0).await.map_err(|closed| Error::new(closed.to_string()))?;
        *self.0.lock().unwrap() = Some(out);
        Ok(())
    }
}

/// Scenario: a receiver sends its last batch while stopping and leaks its sender; two processors
/// hold everything until the end.
/// Guarantees: the batch goes all the way, processors finish from first to last, the exporter is
/// closed after it, a late send fails with a receipt that says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_flushes_in_order() {
    let (leaked, order) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Vec::new())));
    let seen = Seen::default();
    let mut builder = Builder::default();
    builder.receiver("in", Box::new(LastWord(Arc::clone(&leaked))));
    builder.processor("first", Box::new(Hoard("first", Vec::new(), Arc::clone(&order))));
    builder.processor("second", Box::new(Hoard("second", Vec::new(), Arc::clone(&order))));
    builder.exporter("out", seen.sink(|_| Ok(())));
    let config = PROCESSED.replace("[p]", "[first, second]");
    let engine = start(builder, &config);
    engine.stop(GRACE).await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["first", "second"]);
    assert_eq!((seen.all(), seen.closed.load(Ordering::SeqCst)), (vec![7], 1));
    let sender = leaked.lock().unwrap().take().unwrap();
    let (late, acknowledgement) = batch(1);
    assert!(sender.send(late).await.is_err());
    assert!(matches!(acknowledgement.wait().await, Outcome::Retry(_)));
}

/// Never does what it should.
struct Stuck;

#[async_trait]
impl Receiver for Stuck {
    async fn run(self: Box<Self>, out: Sender, _: Lifecycle) -> Result<(), Error> {
        for _ in 0..2 {
            let _ = out.send(batch(1).0).await;
        }
        std::future::pending().await
    }
}

#[async_trait]
impl Exporter for Stuck {
    async fn export(&mut self, _: &Batch) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn close(&mut self, _: Instant) -> Result<(), Error> {
        std::future::pending().await
    }
}

/// Scenario: nothing ever ends by itself: a receiver, an exporter, its closing.
/// Guarantees: stopping takes about the grace and no more; what was not sent is not acknowledged.
#[tokio::test(start_paused = true)]
async fn stopping_is_bounded() {
    let (sender, receiver) = feed();
    let mut builder = Builder::default();
    builder.receiver("stuck", Box::new(Stuck)).receiver("in", receiver);
    builder.exporter("out", Box::new(Stuck));
    let config = ONE.replace("[in]", "[in, stuck]");
    let engine = start(builder, &config);
    let (one, first) = batch(1);
    let (two, second) = batch(1);
    sender.send(one).unwrap();
    sender.send(two).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let began = tokio::time::Instant::now();
    engine.stop(GRACE).await.unwrap();
    assert!(began.elapsed() <= GRACE + Duration::from_millis(200), "{:?}", began.elapsed());
    assert!(matches!(first.wait().await, Outcome::Retry(_)));
    assert!(matches!(second.wait().await, Outcome::Retry(_)));
}

/// Scenario: a destination is down when the engine stops.
/// Guarantees: the long wait is cut short, trying goes on within the grace, then the batch is
/// given up as not delivered.
#[tokio::test(start_paused = true)]
async fn stopping_cuts_waits_short() {
    let (sender, receiver) = feed();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let mut builder = Builder::default();
    builder.receiver("in", receiver);
    builder.exporter(
        "out",
        Seen::default().sink(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            retry("down")
        }),
    );
    let engine = start(builder, ONE);
    let (one, outcome) = batch(1);
    sender.send(one).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    engine.stop(GRACE).await.unwrap();
    assert_eq!(outcome.wait().await, Outcome::Retry("down".into()));
    assert!(attempts.load(Ordering::SeqCst) > 5);
}

/// Scenario: an engine is dropped without being stopped.
/// Guarantees: receivers are told, a batch that keeps failing is given up, the exporter is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_stops() {
    let (sender, receiver) = feed();
    let seen = Seen::default();
    let mut builder = Builder::default();
    builder.receiver("in", receiver).processor("p", Box::new(Passing));
    builder.exporter("out", seen.sink(|_| retry("down")));
    let engine = start(builder, PROCESSED);
    let (one, outcome) = batch(1);
    sender.send(one).unwrap();
    let taken = engine.metrics().counter(names::BATCHES_IN, "exporters::out");
    until(|| taken.get() == 1).await;
    drop(engine);
    assert_eq!(outcome.wait().await, Outcome::Retry("down".into()));
    until(|| sender.is_closed()).await;
    until(|| seen.closed.load(Ordering::SeqCst) == 1).await;
}
