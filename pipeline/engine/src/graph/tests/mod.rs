//! The engine with components made for testing it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::batch::{Acknowledgement, Batch, Outcome, Receipt};
use crate::component::{Error, Exporter, Failure, Lifecycle, Outbox, Processor, Receiver};
use crate::config::Layers;
use crate::delivery::{Backoff, RetryPolicy};
use crate::sender::Sender;
use crate::services::Services;
use crate::telemetry::names;

mod delivery;
mod stopping;

const GRACE: Duration = Duration::from_secs(5);

/// Sends what a test gives it, until it is stopped.
struct Feed(mpsc::UnboundedReceiver<Batch>);

#[async_trait]
impl Receiver for Feed {
    async fn run(mut self: Box<Self>, out: Sender, mut life: Lifecycle) -> Result<(), Error> {
        loop {
            tokio::select! {
                biased;
                batch = self.0.recv() => match batch {
                    Some(batch) => out.send(batch).await.map_err(|closed| Error::new(closed.to_string()))?,
                    None => return Ok(()),
                },
                _ = life.stopping() => return Ok(()),
            }
        }
    }
}

fn feed() -> (mpsc::UnboundedSender<Batch>, Box<Feed>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Box::new(Feed(receiver)))
}

/// What an exporter does with a batch, by the number of the attempt.
type Act = Box<dyn FnMut(usize) -> Result<(), Failure> + Send>;

/// Keeps the sizes of batches that it accepts.
struct Sink {
    seen: Arc<Mutex<Vec<usize>>>,
    act: Act,
    attempts: usize,
    closed: Arc<AtomicUsize>,
}

#[async_trait]
impl Exporter for Sink {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.attempts += 1;
        (self.act)(self.attempts)?;
        self.seen.lock().unwrap().push(batch.bytes());
        Ok(())
    }

    async fn close(&mut self, _: Instant) -> Result<(), Error> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Seen {
    sizes: Arc<Mutex<Vec<usize>>>,
    closed: Arc<AtomicUsize>,
}

impl Seen {
    fn sink(&self, act: impl FnMut(usize) -> Result<(), Failure> + Send + 'static) -> Box<Sink> {
        Box::new(Sink {
            seen: Arc::clone(&self.sizes),
            act: Box::new(act),
            attempts: 0,
            closed: Arc::clone(&self.closed),
        })
    }

    fn all(&self) -> Vec<usize> {
        self.sizes.lock().unwrap().clone()
    }

    async fn wait_for(&self, count: usize) {
        until(|| self.all().len() >= count).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn retry(text: &str) -> Result<(), Failure> {
    Err(Failure::Retry { after: None, cause: Error::new(text) })
}

/// A batch of so many bytes, with the future of its outcome.
fn batch(bytes: usize) -> (Batch, Acknowledgement) {
    let (receipt, acknowledgement) = Receipt::new();
    let mut batch = Batch::from_wire(Bytes::from(vec![0; bytes]));
    batch.receipt = receipt;
    (batch, acknowledgement)
}

fn start(builder: Builder, config: &str) -> RunningEngine {
    let document = Layers::new().text(None, config).load().unwrap();
    let plan = builder.plan(&document).unwrap();
    builder.start(&plan).unwrap()
}

const ONE: &str = "service: {pipelines: {profiles: {receivers: [in], exporters: [out]}}}";
const PROCESSED: &str = "\
service: {pipelines: {profiles: {receivers: [in], processors: [p], exporters: [out]}}}";

/// Scenario: two receivers and two exporters shared by two pipelines, one of them with a processor.
/// Guarantees: every pipeline gets every batch of its receivers, every exporter one from each of
/// its pipelines; edges count; closing is once for each exporter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_in_and_fan_out() {
    let (a, receiver_a) = feed();
    let (b, receiver_b) = feed();
    let (left, right) = (Seen::default(), Seen::default());
    let mut builder = Builder::default();
    builder.receiver("a", receiver_a).receiver("b", receiver_b);
    builder.exporter("left", left.sink(|_| Ok(()))).exporter("right", right.sink(|_| Ok(())));
    builder.processor("p", Box::new(Passing));
    let config = "\
service:
  pipelines:
    profiles: {receivers: [a, b], exporters: [left, right]}
    profiles/two: {receivers: [a], processors: [p], exporters: [right]}
";
    let mut engine = start(builder, config);
    let metrics = Arc::clone(engine.metrics());
    let (one, acknowledgement_one) = batch(10);
    let (two, acknowledgement_two) = batch(20);
    a.send(one).unwrap();
    b.send(two).unwrap();
    assert_eq!(acknowledgement_one.wait().await, Outcome::Delivered);
    assert_eq!(acknowledgement_two.wait().await, Outcome::Delivered);
    drop((a, b));
    engine.wait().await.unwrap();
    engine.stop(GRACE).await.unwrap();
    let sorted = |seen: &Seen| {
        let mut sizes = seen.all();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!((sorted(&left), sorted(&right)), (vec![10, 20], vec![10, 10, 20]));
    assert_eq!(left.closed.load(Ordering::SeqCst) + right.closed.load(Ordering::SeqCst), 2);
    assert_eq!(metrics.counter(names::BATCHES_IN, "exporters::right").get(), 3);
    assert_eq!(metrics.counter(names::BATCHES_OUT, "processors::p").get(), 1);
    assert_eq!(metrics.total(names::QUEUED_BYTES), 0);
}

struct Passing;

impl Processor for Passing {
    fn process(&mut self, batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        out.push(batch);
        Ok(())
    }
}

/// An exporter that takes a batch only when the test allows it.
struct Gate(Arc<Semaphore>);

#[async_trait]
impl Exporter for Gate {
    async fn export(&mut self, _: &Batch) -> Result<(), Failure> {
        self.0.acquire().await.unwrap().forget();
        Ok(())
    }
}

/// Scenario: an exporter stands still while a receiver goes on; one batch is larger than the whole
/// budget.
/// Guarantees: sending waits as soon as the budget is used, goes on when there is room, and what is
/// too large passes alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_waits_for_room() {
    let (sender, receiver) = feed();
    let gate = Arc::new(Semaphore::new(0));
    let mut builder = Builder::default();
    builder.receiver("in", receiver).exporter("out", Box::new(Gate(Arc::clone(&gate))));
    builder.memory_budget(1000);
    let engine = start(builder, ONE);
    let sent = engine.metrics().counter(names::BATCHES_OUT, "receivers::in");
    for _ in 0..4 {
        sender.send(batch(400).0).unwrap();
    }
    sender.send(batch(5000).0).unwrap();
    until(|| sent.get() == 2).await;
    // Nothing says when nothing happens; other tasks get their chance first.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((sent.get(), engine.bytes_in_flight()), (2, 800));
    gate.add_permits(1);
    until(|| sent.get() == 3).await;
    gate.add_permits(3);
    until(|| sent.get() == 5).await;
    assert_eq!(engine.bytes_in_flight(), 5000);
    gate.add_permits(1);
    until(|| engine.bytes_in_flight() == 0).await;
    engine.stop(GRACE).await.unwrap();
}

/// A processor that fails on batches of certain sizes.
struct Touchy;

impl Processor for Touchy {
    fn process(&mut self, batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        match batch.bytes() {
            1 => panic!("one is\na lonely number"),
            2 => return Err(Error::with_source("cannot do two", std::fmt::Error)),
            _ => {}
        }
        out.push(batch);
        Ok(())
    }

    fn tick(&mut self, _: Instant, _: &mut Outbox) {
        panic!("ticks make me nervous");
    }
}

/// Scenario: a processor and an exporter panic and fail on some batches; ticks panic too.
/// Guarantees: those batches are rejected with the reason, counted, and the next one passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_cost_one_batch() {
    let (sender, receiver) = feed();
    let seen = Seen::default();
    let mut builder = Builder::default();
    builder.receiver("in", receiver).processor("p", Box::new(Touchy));
    builder.exporter(
        "out",
        seen.sink(|attempt| match attempt {
            1 => panic!("the exporter panics"),
            2 => Err(Failure::Reject { cause: Error::new("not this one") }),
            _ => Ok(()),
        }),
    );
    let engine = start(builder, PROCESSED);
    let metrics = Arc::clone(engine.metrics());
    let mut outcomes = Vec::new();
    for bytes in 1..=5 {
        let (batch, acknowledgement) = batch(bytes);
        sender.send(batch).unwrap();
        outcomes.push(acknowledgement.wait().await);
    }
    let rejected = |text: &str| Outcome::Rejected(text.to_owned());
    assert_eq!(outcomes[0], rejected("it panicked: one is a lonely number"));
    assert!(matches!(&outcomes[1], Outcome::Rejected(why) if why.starts_with("cannot do two: ")));
    assert_eq!(outcomes[2], rejected("it panicked: the exporter panics"));
    assert_eq!(outcomes[3], rejected("not this one"));
    assert_eq!(outcomes[4], Outcome::Delivered);
    assert_eq!(seen.all(), [5]);
    assert!(metrics.counter(names::BATCHES_FAILED, "processors::p").get() >= 2);
    assert_eq!(metrics.counter(names::BATCHES_FAILED, "exporters::out").get(), 2);
    engine.stop(GRACE).await.unwrap();
}

/// Scenario: a receiver fails; another panics.
/// Guarantees: waiting ends with that error, and stopping still works.
#[tokio::test]
async fn a_failing_receiver_ends_the_engine() {
    struct Failing(bool);
    #[async_trait]
    impl Receiver for Failing {
        async fn run(self: Box<Self>, _: Sender, _: Lifecycle) -> Result<(), Error> {
            assert!(!self.0, "out of luck");
            Err(Error::new("no permission"))
        }
    }
    for (panics, expected) in
        [(false, "receivers::in: no permission"), (true, "receivers::in: it panicked: out of luck")]
    {
        let mut builder = Builder::default();
        builder.receiver("in", Box::new(Failing(panics)));
        builder.exporter("out", Seen::default().sink(|_| Ok(())));
        let mut engine = start(builder, ONE);
        assert_eq!(engine.wait().await.unwrap_err().to_string(), expected);
        engine.stop(GRACE).await.unwrap();
    }
}

/// Scenario: a destination fails twice, then works; another fails for ever. The clock is turned.
/// Guarantees: the first batch arrives, the second is given up after the time of the policy and its
/// receipt says that it may be sent again.
#[tokio::test(start_paused = true)]
async fn failures_are_retried() {
    let (sender, receiver) = feed();
    let seen = Seen::default();
    let mut builder = Builder::default();
    builder.receiver("in", receiver);
    let act = |attempt| if attempt == 3 { Ok(()) } else { retry("not now") };
    builder.exporter("out", seen.sink(act));
    let engine = start(builder, ONE);
    let began = tokio::time::Instant::now();
    let (first, delivered) = batch(1);
    let (second, lost) = batch(2);
    sender.send(first).unwrap();
    sender.send(second).unwrap();
    assert_eq!(delivered.wait().await, Outcome::Delivered);
    assert!(began.elapsed() >= Duration::from_millis(6250), "two waits with jitter");
    let began = tokio::time::Instant::now();
    assert_eq!(lost.wait().await, Outcome::Retry("not now".into()));
    let elapsed = began.elapsed();
    assert!((200..=300).contains(&elapsed.as_secs()), "{elapsed:?}");
    assert_eq!(seen.all(), [1]);
    assert_eq!(engine.metrics().counter(names::BATCHES_FAILED, "exporters::out").get(), 1);
    engine.stop(GRACE).await.unwrap();
}

/// Scenario: the same complaint many times, on a clock that a test turns.
/// Guarantees: the first is logged, then one in ten seconds with the number of those kept.
#[test]
fn complaints_are_few() {
    let (mut quiet, start) = (log_rate_limit::LogRateLimit::default(), Instant::now());
    let mut at = |seconds| quiet.pass(start + Duration::from_secs(seconds));
    assert_eq!(at(0), Some(String::new()));
    assert_eq!((at(1), at(9)), (None, None));
    assert_eq!(at(10), Some(" (and 2 times before)".into()));
    assert_eq!(at(20), Some(String::new()));
}

/// Scenario: the backoff of a policy, by hand.
/// Guarantees: the Collector's defaults; a destination that asks for more gets it.
#[test]
fn backoff_grows_and_ends() {
    let start = Instant::now();
    let mut backoff = Backoff::new(RetryPolicy::default(), start);
    let seconds = |wait: Option<Duration>| wait.map(|wait| wait.as_secs_f64());
    let middle = |backoff: &mut Backoff, at| seconds(backoff.after_failure(start + at, None, 0.5));
    assert_eq!(middle(&mut backoff, Duration::ZERO), Some(5.0));
    assert_eq!(middle(&mut backoff, Duration::ZERO), Some(7.5));
    for _ in 0..4 {
        middle(&mut backoff, Duration::ZERO);
    }
    assert_eq!(middle(&mut backoff, Duration::ZERO), Some(30.0));
    assert_eq!(seconds(backoff.after_failure(start, None, 0.0)), Some(15.0));
    assert_eq!(seconds(backoff.after_failure(start, None, 1.0)), Some(45.0));
    let asked = Some(Duration::from_secs(100));
    assert_eq!(seconds(backoff.after_failure(start, asked, 0.5)), Some(100.0));
    assert_eq!(middle(&mut backoff, Duration::from_secs(271)), None);
    let forever = RetryPolicy { max_elapsed_time: Duration::ZERO, ..RetryPolicy::default() };
    let mut backoff = Backoff::new(forever, start);
    assert!(middle(&mut backoff, Duration::from_secs(1 << 30)).is_some());
}

/// Scenario: three hundred batches against a small budget, through a processor that panics and an
/// exporter that panics, refuses and needs retries; the engine is stopped in the middle.
/// Guarantees: every receipt resolves, and *delivered* is said of exactly what was delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_receipt_lies() {
    let (sender, receiver) = feed();
    let seen = Seen::default();
    let mut builder = Builder::default();
    builder.receiver("in", receiver).processor("p", Box::new(Touchy)).memory_budget(2000);
    builder.retry(RetryPolicy {
        initial_interval: Duration::from_micros(100),
        max_elapsed_time: Duration::from_millis(1),
        ..RetryPolicy::default()
    });
    let act = |attempt: usize| match attempt % 10 {
        3 => panic!("every tenth time"),
        5 => Err(Failure::Reject { cause: Error::new("no") }),
        7 | 8 => retry("later"),
        _ => Ok(()),
    };
    builder.exporter("out", seen.sink(act));
    let engine = start(builder, PROCESSED);
    let acknowledgements: Vec<_> = (1..=300)
        .map(|bytes| {
            let (batch, acknowledgement) = batch(bytes);
            // After the stop nobody takes batches any more; their receipts resolve all the same.
            if let Err(mpsc::error::SendError(batch)) = sender.send(batch) {
                batch.receipt.settle(Outcome::Retry("not taken".into()));
            }
            (bytes, acknowledgement)
        })
        .collect();
    seen.wait_for(50).await;
    engine.stop(GRACE).await.unwrap();
    // What the receiver never took out of its own queue is dropped there, not by the engine.
    let taken = seen.all();
    let last = taken.iter().copied().max().unwrap_or_default();
    for (bytes, acknowledgement) in acknowledgements.into_iter().filter(|(at, _)| *at <= last) {
        let delivered = acknowledgement.wait().await == Outcome::Delivered;
        assert_eq!(delivered, taken.contains(&bytes), "batch {bytes}");
    }
}

/// Emits what it holds at ticks.
struct Parking(Option<Batch>);

impl Processor for Parking {
    fn process(&mut self, batch: Batch, _: &mut Outbox) -> Result<(), Error> {
        self.0 = Some(batch);
        Ok(())
    }

    fn tick(&mut self, _: Instant, out: &mut Outbox) {
        if let Some(batch) = self.0.take() {
            out.push(batch);
        }
    }
}

/// Scenario: a processor parks a batch and gives it at a tick.
/// Guarantees: ticks come without any batch, and what they emit goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_emit() {
    let (sender, receiver) = feed();
    let seen = Seen::default();
    let mut builder = Builder::default();
    builder.receiver("in", receiver).processor("p", Box::new(Parking(None)));
    builder.exporter("out", seen.sink(|_| Ok(())));
    let engine = start(builder, PROCESSED);
    sender.send(batch(3).0).unwrap();
    seen.wait_for(1).await;
    engine.stop(GRACE).await.unwrap();
    assert_eq!(seen.all(), [3]);
}

/// Scenario: a plan of two pipelines that share both ends, one without processors, drawn.
/// Guarantees: every component that runs is a node, every edge is there, ids are quoted.
#[test]
fn plans_are_drawn() {
    let mut builder = Builder::default();
    builder.receiver("in", feed().1).processor("p", Box::new(Passing));
    builder.exporter("out/\"x\"", Seen::default().sink(|_| Ok(())));
    let config = "service: {pipelines: {profiles: {receivers: [in], processors: [p], exporters: \
                  ['out/\"x\"']}, profiles/raw: {receivers: [in], exporters: ['out/\"x\"']}}}";
    let document = Layers::new().text(None, config).load().unwrap();
    let dot = builder.plan(&document).unwrap().to_dot();
    assert_eq!(
        dot,
        r#"digraph profpipe {
  rankdir=LR;
  node [shape=box, style=rounded, fontname="sans-serif"];
  subgraph cluster_0 {
    label="profiles";
    "profiles p" [label="p"];
  }
  "receivers in" -> "profiles p";
  "profiles p" -> "exporters out/\"x\"";
  subgraph cluster_1 {
    label="profiles/raw";
    "profiles/raw" [shape=point];
  }
  "receivers in" -> "profiles/raw";
  "profiles/raw" -> "exporters out/\"x\"";
  "exporters out/\"x\"" [label="out/\"x\"", style="rounded,bold"];
  "receivers in" [label="in", style="rounded,bold"];
}
"#
    );
}
