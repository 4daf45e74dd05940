#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::VecDeque;

use profpipe_engine::Services;
use profpipe_formats::otlp;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::SERVICE_NAME;
use proptest::prelude::*;

use super::*;
use crate::testing;

/// What a server does with a request.
#[derive(Debug, Clone)]
enum Does {
    Accept,
    Retry,
    Hold,
    Reject,
    /// Takes no request, and never answers.
    Hang,
    Partial(u64, &'static str),
}

/// A server that follows a script, then accepts; and takes no more than so many bytes at once.
struct Script {
    encoding: Encoding,
    takes: usize,
    script: Arc<Mutex<VecDeque<Does>>>,
    accepted: Arc<Mutex<Vec<Bytes>>>,
    tried: Arc<Mutex<Vec<usize>>>,
}

#[async_trait]
impl Transport for Script {
    fn destination(&self) -> String {
        String::new()
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    async fn send(&self, request: Bytes) -> Result<PartialSuccess, Failure> {
        self.tried.lock().unwrap().push(request.len());
        let cause = Error::new("as the script says");
        if request.len() > self.takes {
            return Err(Failure::TooLarge { cause });
        }
        let does = self.script.lock().unwrap().pop_front().unwrap_or(Does::Accept);
        match does {
            Does::Accept => {}
            Does::Retry => return Err(Failure::retry(cause)),
            Does::Hold => return Err(Failure::Hold { cause }),
            Does::Reject => return Err(Failure::Reject { cause }),
            Does::Hang => std::future::pending().await,
            Does::Partial(rejected_profiles, message) => {
                self.accepted.lock().unwrap().push(request);
                return Ok(PartialSuccess { rejected_profiles, message: message.into() });
            }
        }
        self.accepted.lock().unwrap().push(request);
        Ok(PartialSuccess::default())
    }
}

struct Bench {
    exporter: Otlp<Script>,
    setup: Setup,
}

impl Bench {
    fn new(limit: usize, takes: usize, script: &[Does]) -> Self {
        Self::with(Encoding::Proto, limit, takes, script)
    }

    fn with(encoding: Encoding, limit: usize, takes: usize, script: &[Does]) -> Self {
        let script = Arc::new(Mutex::new(script.iter().cloned().collect()));
        let transport =
            Script { encoding, takes, script, accepted: Arc::default(), tried: Arc::default() };
        let setup = Setup::new("otlp_test", Services::default());
        Self { exporter: Otlp::new(transport, limit as u64, &setup), setup }
    }

    fn server(&self) -> &Script {
        &self.exporter.0.transport
    }

    fn accepted(&self) -> Vec<Bytes> {
        self.server().accepted.lock().unwrap().clone()
    }

    /// The services whose profiles the server has, sorted, as often as it has them.
    fn services(&self) -> Vec<String> {
        let mut services = Vec::new();
        for request in self.accepted() {
            let profiles = match self.server().encoding {
                Encoding::Proto => otlp::decode(&request),
                Encoding::Json => otlp::decode_json(&request),
            };
            for resource in &profiles.unwrap().resources {
                let name = resource.resource.get(SERVICE_NAME).unwrap().as_str().unwrap();
                services.push(name.to_owned());
            }
        }
        services.sort();
        services
    }
}

/// A batch of so many services: about 130 bytes each, and 300.
fn services(count: usize) -> Profiles {
    let mut profiles = Profiles::new();
    for at in 0..count {
        testing::add(&mut profiles, &format!("service-{at:04}"), 1_000 + at as u64);
    }
    profiles
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("service-{at:04}")).collect()
}

fn wire(profiles: &Profiles) -> Batch {
    Batch::from_wire(otlp::encode(profiles).into())
}

/// Scenario: a batch that is still bytes, with a field that we do not know, small enough.
/// Guarantees: the same bytes are sent, not a copy.
#[tokio::test]
async fn bytes_are_forwarded() {
    let mut request = otlp::encode(&services(3));
    request.extend([0xfa, 0x3f, 1, 42]);
    let request = Bytes::from(request);
    let mut bench = Bench::new(request.len(), usize::MAX, &[]);
    bench.exporter.export(&Batch::from_wire(request.clone())).await.unwrap();
    assert_eq!(bench.accepted()[0].as_ptr(), request.as_ptr());
    assert_eq!(bench.accepted(), [request]);
}

/// Scenario: batches of bytes and of tables that are larger than a request may be, in both encodings,
/// small and large enough to be encoded on another thread.
/// Guarantees: every request is within the limit, with only the rows it needs, and together they are
/// the batch.
#[tokio::test]
async fn large_batches_are_cut() {
    for (count, encoding) in
        [(100, Encoding::Proto), (3_000, Encoding::Proto), (100, Encoding::Json)]
    {
        let profiles = services(count);
        for batch in [wire(&profiles), Batch::new(profiles.clone())] {
            let limit = 8_000;
            let mut bench = Bench::with(encoding, limit, usize::MAX, &[]);
            bench.exporter.export(&batch).await.unwrap();
            assert_eq!(bench.services(), names(count));
            let requests = bench.accepted();
            assert!(requests.len() > 1);
            assert!(requests.iter().all(|request| request.len() <= limit), "{encoding:?}");
            if encoding == Encoding::Proto {
                let part = otlp::decode(&requests[0]).unwrap();
                let mut compact = part.clone();
                compact.compact();
                assert_eq!(otlp::encoded_len(&part), otlp::encoded_len(&compact));
            }
        }
    }
}

/// Scenario: the server fails in the middle of the parts of a batch, in each way that may pass, and
/// the batch is tried again, by a fork too.
/// Guarantees: the failure is the server's; what was accepted is not sent again.
#[tokio::test]
async fn accepted_parts_are_not_sent_again() {
    for fault in [Does::Retry, Does::Hold] {
        let mut bench =
            Bench::new(20_000, usize::MAX, &[Does::Accept, Does::Accept, fault.clone()]);
        let batch = wire(&services(300));
        let failure = bench.exporter.export(&batch).await.unwrap_err();
        match fault {
            Does::Hold => assert!(matches!(failure, Failure::Hold { .. })),
            _ => assert!(matches!(failure, Failure::Retry { .. })),
        }
        let accepted = bench.accepted().len();
        assert_eq!(accepted, 2);
        let mut fork = bench.exporter.fork().unwrap();
        // The batch comes back from a queue as other bytes of the same content.
        let again = Batch::from_wire(Bytes::copy_from_slice(batch.wire().unwrap()));
        fork.export(&again).await.unwrap();
        assert_eq!(bench.services(), names(300));
    }
}

/// Scenario: an attempt is cancelled while the server is silent about a part, as the engine does
/// when time is up.
/// Guarantees: the next attempt goes on after what was accepted.
#[tokio::test]
async fn cancelled_attempts_are_remembered() {
    let mut bench = Bench::new(20_000, usize::MAX, &[Does::Accept, Does::Hang]);
    let batch = wire(&services(300));
    let tried = Arc::clone(&bench.server().tried);
    let second_part = async {
        while tried.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        result = bench.exporter.export(&batch) => panic!("{result:?}"),
        () = second_part => {}
    }
    bench.exporter.export(&batch).await.unwrap();
    assert_eq!(bench.services(), names(300));
}

/// Scenario: two batches with the same content, both of which fail half way and are tried again.
/// Guarantees: the server has everything twice: nothing of the one is taken for the other.
#[tokio::test]
async fn equal_batches_are_two() {
    use Does::{Accept, Retry};
    let mut bench = Bench::new(20_000, usize::MAX, &[Accept, Retry, Retry, Accept, Accept, Retry]);
    let (one, two) = (wire(&services(600)), wire(&services(600)));
    for batch in [&one, &two, &two] {
        bench.exporter.export(batch).await.unwrap_err();
    }
    for batch in [&one, &two] {
        bench.exporter.export(batch).await.unwrap();
    }
    let mut twice = [names(600), names(600)].concat();
    twice.sort();
    assert_eq!(bench.services(), twice);
}

/// Scenario: the server takes less than it was thought to.
/// Guarantees: the batch arrives in smaller requests at once, and the next batch is cut from the
/// start.
#[tokio::test]
async fn the_limit_of_the_server_is_learned() {
    let mut bench = Bench::new(1 << 20, 40_000, &[]);
    bench.exporter.export(&wire(&services(1_000))).await.unwrap();
    assert_eq!(bench.services(), names(1_000));
    let tried = bench.server().tried.lock().unwrap().len();
    bench.exporter.export(&wire(&services(1_000))).await.unwrap();
    let sizes = bench.server().tried.lock().unwrap()[tried..].to_vec();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 40_000), "{sizes:?}");
}

/// Scenario: one part is refused for good; a batch is too large however it is cut.
/// Guarantees: the other parts are sent; the batch is refused, so that it is kept for whoever looks
/// into it, and not tried again.
#[tokio::test]
async fn a_refused_part_does_not_keep_others_back() {
    let mut bench = Bench::new(20_000, usize::MAX, &[Does::Accept, Does::Reject]);
    let failure = bench.exporter.export(&wire(&services(300))).await.unwrap_err();
    assert!(matches!(failure, Failure::Reject { .. }));
    let text = failure.cause().chain();
    assert!(text.contains("1 parts") && text.contains("as the script says"), "{text}");
    let arrived = bench.services().len();
    assert!(arrived > 150 && arrived < 300, "{arrived}");

    let mut bench = Bench::new(1 << 20, 10, &[]);
    let failure = bench.exporter.export(&wire(&services(300))).await.unwrap_err();
    assert!(matches!(failure, Failure::Reject { .. }));
}

/// Scenario: bytes that are no request, too large to be sent as they are.
/// Guarantees: refused, with the reason.
#[tokio::test]
async fn what_cannot_be_read_cannot_be_cut() {
    let mut bench = Bench::new(16, usize::MAX, &[]);
    let batch = Batch::from_wire(Bytes::from(vec![0xff; 100]));
    let failure = bench.exporter.export(&batch).await.unwrap_err();
    assert!(matches!(failure, Failure::Reject { .. }));
}

/// Scenario: partial successes: some profiles rejected, a warning.
/// Guarantees: success, never tried again; what was rejected is counted.
#[tokio::test]
async fn partial_success_is_success() {
    let script = [Does::Partial(7, "no dictionary"), Does::Partial(0, "slow down"), Does::Accept];
    let mut bench = Bench::new(1 << 20, usize::MAX, &script);
    for _ in 0..3 {
        bench.exporter.export(&wire(&services(1))).await.unwrap();
    }
    assert_eq!(bench.accepted().len(), 3);
    let rejected =
        bench.setup.services.metrics.counter(crate::metric_names::PROFILES_REJECTED, "otlp_test");
    assert_eq!(rejected.get(), 7);
}

/// Scenario: answers in protobuf and JSON, of several servers, and what is none.
/// Guarantees: what they reject is read; nonsense says nothing.
#[test]
fn answers() {
    let partial = |rejected_profiles, message: &str| PartialSuccess {
        rejected_profiles,
        message: message.into(),
    };
    let proto = [0x0a, 0x06, 0x08, 0x05, 0x12, 0x02, b'n', b'o'];
    assert_eq!(PartialSuccess::decode(&proto), partial(5, "no"));
    assert_eq!(PartialSuccess::decode(&[]), partial(0, ""));
    assert_eq!(PartialSuccess::decode(&[0x0a, 0x00]), partial(0, ""));
    assert_eq!(PartialSuccess::decode(&[0xff; 9]), partial(0, ""));
    let negative = [0x0a, 0x0b, 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    assert_eq!(PartialSuccess::decode(&negative), partial(0, ""));
    let json = |text: &str| PartialSuccess::decode_json(text.as_bytes());
    let text = r#"{"partialSuccess":{"rejectedProfiles":"5","errorMessage":"no"}}"#;
    assert_eq!(json(text), partial(5, "no"));
    assert_eq!(json(r#"{"partialSuccess":{"rejectedProfiles":5}}"#), partial(5, ""));
    for nothing in ["", "{}", "[1]", r#"{"partialSuccess":null}"#, "{"] {
        assert_eq!(json(nothing), partial(0, ""), "{nothing}");
    }
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![3 => Just(Does::Accept), 1 => Just(Does::Retry), 1 => Just(Does::Hold)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: several batches, some equal, cut at any limit, taken by a server with any limit, which
    /// fails at any requests; each is tried until it is delivered, in turns.
    /// Guarantees: every sample of every batch arrives exactly as often as it was sent.
    #[test]
    fn everything_arrives_once(
        script in proptest::collection::vec(does(), 0..40),
        counts in proptest::collection::vec(1_usize..250, 1..4),
        limit in 17_000_usize..60_000,
        takes in 35_000_usize..80_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bench = Bench::new(limit, takes, &script);
        let mut waiting: VecDeque<Batch> =
            counts.iter().map(|count| wire(&services(*count))).collect();
        runtime.block_on(async {
            while let Some(batch) = waiting.pop_front() {
                match bench.exporter.export(&batch).await {
                    Ok(()) => {}
                    Err(Failure::Retry { .. } | Failure::Hold { .. }) => waiting.push_back(batch),
                    Err(failure) => panic!("{failure}"),
                }
            }
        });
        let mut expected: Vec<_> = counts.iter().flat_map(|count| names(*count)).collect();
        expected.sort();
        prop_assert_eq!(bench.services(), expected);
    }
}
