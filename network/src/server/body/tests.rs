#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use profpipe_engine::budget::{Budget, Charge};
use proptest::prelude::*;

use super::{Coding, Limits, read};
use crate::grpc::Code;
use crate::server::Rejection;
use crate::server::call::unary;

const MIB: usize = 1 << 20;

fn limits(size: usize) -> Limits {
    Limits { size, time: Duration::from_secs(30), deadline: None, expected: None }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Identity => bytes.to_vec(),
        Coding::Gzip => gzip(bytes),
        Coding::Zlib => zlib(bytes),
        Coding::Zstd => zstd::bulk::compress(bytes, 1).unwrap(),
    }
}

/// In pieces of this size.
fn pieces(
    bytes: &[u8],
    size: usize,
) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + use<> {
    let pieces: Vec<_> =
        bytes.chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    StreamBody::new(stream::iter(pieces))
}

/// Reads the body of a request by plain HTTP.
async fn take(
    bytes: &[u8],
    piece: usize,
    coding: Coding,
    size: usize,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Charge), Rejection> {
    let charge =
        budget.try_admit(coding.state() + super::FIRST_BYTES).ok_or_else(Rejection::busy)?;
    read(pieces(bytes, piece), coding, limits(size), charge).await
}

/// Reads the message of a call; a call that tonic rejects is its status.
async fn message<B>(
    body: B,
    coding: Coding,
    size: usize,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Charge), Rejection>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    let charge =
        budget.try_admit(coding.state() + super::FIRST_BYTES).ok_or_else(Rejection::busy)?;
    let taken = Mutex::new(None);
    let handle = async |message, charge| {
        *taken.lock().unwrap() = Some((message, charge));
        Ok(Bytes::new())
    };
    let response = unary(body, coding, limits(size), charge, handle).await?;
    let status = tonic::Status::from_header_map(response.headers());
    taken.into_inner().unwrap().ok_or_else(|| {
        let status = status.unwrap();
        Rejection::new(StatusCode::BAD_REQUEST, status.code(), status.message())
    })
}

fn framed(message: &[u8], is_compressed: bool) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[u8::from(is_compressed)][..], &length, message].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: a body, compressed in each way, in pieces of any size, plain and as a message.
    /// Guarantees: it arrives whole, and the charge is its size.
    #[test]
    fn bodies_arrive(
        content in proptest::collection::vec(any::<u8>(), 0..3000),
        repeat in 1_usize..40,
        piece in 1_usize..5000,
    ) {
        let content = content.repeat(repeat);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let budget = Budget::new(64 * MIB);
            for coding in [Coding::Identity, Coding::Gzip, Coding::Zlib, Coding::Zstd] {
                let bytes = compressed(coding, &content);
                let plain = take(&bytes, piece, coding, MIB, &budget).await;
                let (body, charge) = plain.unwrap();
                assert!(body == content, "{coding:?}");
                assert_eq!((charge.bytes(), budget.used()), (content.len(), content.len()));
                drop(charge);
                let framed = framed(&bytes, coding != Coding::Identity);
                let taken = message(pieces(&framed, piece), coding, MIB, &budget).await;
                let (body, charge) = taken.unwrap();
                assert!(body == content, "{coding:?}");
                assert_eq!((charge.bytes(), budget.used()), (content.len(), content.len()));
                drop(charge);
                assert_eq!(budget.used(), 0);
            }
        });
    }

    /// Scenario: bytes that are not what they should be, or are damaged.
    /// Guarantees: no panic, nothing kept of the budget, a rejection without a hint to come again.
    #[test]
    fn damaged_bodies_are_rejected(
        content in proptest::collection::vec(any::<u8>(), 1..2000),
        at: prop::sample::Index,
        change in 1_u8..,
        cut: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let budget = Budget::new(64 * MIB);
            for coding in [Coding::Gzip, Coding::Zlib, Coding::Zstd] {
                let mut bytes = compressed(coding, &content);
                let at = at.index(bytes.len());
                if cut {
                    bytes.truncate(at);
                } else {
                    bytes[at] = bytes[at].wrapping_add(change);
                }
                match take(&bytes, 700, coding, MIB, &budget).await {
                    // zstd has no checksum here, and a cut may fall on nothing.
                    Ok(_) => {}
                    Err(rejection) => {
                        assert_eq!(rejection.status, StatusCode::BAD_REQUEST, "{rejection:?}");
                        assert_eq!(rejection.retry_after, None);
                    }
                }
                assert_eq!(budget.used(), 0);
            }
        });
    }
}

/// Scenario: gzip of several members and zstd of several frames; an empty body.
/// Guarantees: the contents follow each other; nothing is nothing.
#[tokio::test]
async fn several_members() {
    let budget = Budget::new(MIB * 8);
    for coding in [Coding::Gzip, Coding::Zstd] {
        let parts = [
            compressed(coding, b"one "),
            compressed(coding, b"two "),
            compressed(coding, b"three"),
        ];
        for piece in [1, 7, 1000] {
            let taken = take(&parts.concat(), piece, coding, 100, &budget).await;
            assert_eq!(&taken.unwrap().0[..], b"one two three");
        }
    }
    let nothing = take(b"", 1, Coding::Identity, 100, &budget).await;
    assert!(nothing.unwrap().0.is_empty());
}

/// Scenario: bodies at a limit and one byte past it, before and after decompression.
/// Guarantees: the first are taken; the others are too large, without a hint to come again.
#[tokio::test]
async fn sizes_are_exact() {
    let budget = Budget::new(64 * MIB);
    let noise: Vec<u8> = (0..40_000_usize).map(|at| (at / 3) as u8).collect();
    for coding in [Coding::Identity, Coding::Gzip, Coding::Zlib, Coding::Zstd] {
        let bytes = compressed(coding, &noise);
        let fits = take(&bytes, 999, coding, 40_000, &budget).await;
        assert_eq!(fits.unwrap().0.len(), 40_000);
        let rejection = take(&bytes, 999, coding, 39_999, &budget).await.unwrap_err();
        assert_eq!((rejection.status.as_u16(), rejection.retry_after), (413, None), "{coding:?}");
    }
}

/// Scenario: bombs of every kind against a limit of 20 MiB and against a small budget.
/// Guarantees: each is stopped at two hundred times its size, or when the budget is used up (and
/// may then come again); the budget holds all that was taken.
#[tokio::test]
async fn bombs_are_stopped() {
    let zeros = vec![0; 40 * MIB];
    for coding in [Coding::Gzip, Coding::Zlib, Coding::Zstd] {
        let bomb = compressed(coding, &zeros);
        let budget = Budget::new(128 * MIB);
        let rejection = take(&bomb, 16_384, coding, 20 * MIB, &budget).await.unwrap_err();
        assert_eq!((rejection.status.as_u16(), rejection.code), (413, Code::ResourceExhausted));
        assert_eq!((budget.used(), rejection.retry_after), (0, None));

        let budget = Budget::new(2 * MIB);
        let others = budget.try_admit(MIB).unwrap();
        let rejection = take(&bomb, 16_384, coding, 20 * MIB, &budget).await.unwrap_err();
        assert_eq!(rejection.status.as_u16(), 429, "{coding:?}: {rejection:?}");
        assert_eq!(rejection.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(budget.used(), MIB);
        drop(others);
    }
}

/// Scenario: zstd with a window of 128 MiB.
/// Guarantees: it is rejected; the message says what is taken.
#[tokio::test]
async fn large_windows_are_rejected() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&vec![7; 20 * MIB]).unwrap();
    let bytes = encoder.finish().unwrap();
    let budget = Budget::new(64 * MIB);
    let rejection = take(&bytes, 999, Coding::Zstd, 32 * MIB, &budget).await.unwrap_err();
    assert_eq!(rejection.status, StatusCode::BAD_REQUEST);
    assert!(rejection.message.contains("8 MiB"), "{rejection:?}");
}

/// Scenario: calls of gRPC whose frames are wrong.
/// Guarantees: the right status for each.
#[tokio::test]
async fn frames_are_checked() {
    let budget = Budget::new(64 * MIB);
    let cases: [(&[u8], Coding, Code); 8] = [
        (b"", Coding::Identity, Code::Internal),
        (b"\0\0\0", Coding::Identity, Code::Internal),
        (b"\0\0\0\0\x05", Coding::Identity, Code::Internal),
        (b"\0\0\0\0\x05abc", Coding::Identity, Code::Internal),
        (b"\0\0\0\0\x02abc", Coding::Identity, Code::Internal),
        (b"\x07\0\0\0\x02ab", Coding::Identity, Code::Internal),
        (b"\x01\0\0\0\x02ab", Coding::Identity, Code::Internal),
        (b"\0\x7f\0\0\0", Coding::Gzip, Code::ResourceExhausted),
    ];
    for (bytes, coding, code) in cases {
        for piece in [1, 3, 100] {
            let rejection =
                message(pieces(bytes, piece), coding, 1000, &budget).await.map(drop).unwrap_err();
            assert_eq!(
                (rejection.code, rejection.retry_after),
                (code, None),
                "{bytes:?}: {rejection:?}"
            );
            assert_eq!(budget.used(), 0);
        }
    }
    let plain = message(pieces(b"\0\0\0\0\x02ab", 2), Coding::Gzip, 1000, &budget).await;
    assert_eq!(&plain.unwrap().0[..], b"ab");
}

/// Scenario: a message larger than the budget, which others use too, frame by frame from an endless
/// sender.
/// Guarantees: it is rejected as soon as a frame finds no room, with a hint to come again; no frame after
/// that is read, and what was kept is paid for all the time.
#[tokio::test]
async fn frames_are_paid_for_before_they_are_kept() {
    const PIECE: usize = 16 << 10;
    let budget = Budget::new(2 * MIB);
    let others = budget.try_admit(MIB).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let frames = {
        let (budget, sent) = (Arc::clone(&budget), Arc::clone(&sent));
        let head = Bytes::copy_from_slice(&framed(&vec![0; 16 * MIB], false)[..5]);
        let pieces = stream::repeat(Bytes::from_static(&[7; PIECE])).map(move |piece| {
            // Whoever asks for more has paid for what came before.
            let before = sent.fetch_add(1, Ordering::Relaxed) * PIECE;
            assert!(budget.used() >= MIB + before, "{} of {before}", budget.used());
            assert!(budget.used() <= 2 * MIB);
            piece
        });
        stream::once(std::future::ready(head)).chain(pieces)
    };
    let body =
        StreamBody::new(frames.map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(piece))));
    let rejection = message(body, Coding::Identity, 20 * MIB, &budget).await.map(drop).unwrap_err();
    assert_eq!((rejection.status.as_u16(), rejection.code), (429, Code::ResourceExhausted));
    assert_eq!(rejection.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(sent.load(Ordering::Relaxed), MIB / PIECE + 1);
    assert_eq!(budget.used(), MIB);
    drop(others);
}

/// Scenario: compressed bombs as messages that never end, against a limit of 20 MiB and against a small
/// budget.
/// Guarantees: each is stopped at two hundred times what has come of it, or when the budget is used up,
/// before the rest of it is read; nothing of it stays.
#[tokio::test(start_paused = true)]
async fn compressed_bombs_are_bounded() {
    let zeros = vec![0; 40 * MIB];
    for coding in [Coding::Gzip, Coding::Zlib, Coding::Zstd] {
        let mut bomb = framed(&compressed(coding, &zeros), true);
        bomb[1..5].copy_from_slice(&(10_u32 << 20).to_be_bytes());
        for (limit, used, expected) in [(128 * MIB, 0, 413), (2 * MIB, MIB, 429)] {
            let budget = Budget::new(limit);
            let others = budget.try_admit(used).unwrap();
            let pieces: Vec<_> = bomb.chunks(16_384).map(Bytes::copy_from_slice).collect();
            let pieces = stream::iter(pieces).chain(stream::pending());
            let frames = pieces.map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(piece)));
            let taken = message(StreamBody::new(frames), coding, 20 * MIB, &budget).await;
            let rejection = taken.map(drop).unwrap_err();
            assert_eq!(rejection.status.as_u16(), expected, "{coding:?}, {limit}: {rejection:?}");
            assert_eq!(rejection.retry_after.is_some(), expected == 429);
            assert_eq!(budget.used(), used);
            drop(others);
        }
    }
}

/// Scenario: a sender that stops in the middle, and one that sends a little for ever; turned clock.
/// Guarantees: both are rejected as too slow; one that keeps 16 KiB a second is not.
#[tokio::test(start_paused = true)]
async fn slow_senders_are_rejected() {
    let budget = Budget::new(64 * MIB);
    let drip = |bytes: usize, pause: u64| {
        let pieces = stream::iter(0..200).then(move |_| async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![1; bytes])))
        });
        StreamBody::new(Box::pin(pieces))
    };
    for (bytes, pause, status) in [(1, 1000, 408), (1000, 60_000, 408), (16_384, 990, 200)] {
        let charge = budget.try_admit(super::FIRST_BYTES).unwrap();
        let limits = limits(4 * MIB);
        let taken = read(drip(bytes, pause), Coding::Identity, limits, charge).await;
        let got = taken.map_or_else(|rejection| rejection.status.as_u16(), |_| 200);
        assert_eq!(got, status, "{bytes} bytes every {pause} ms");
        let head = Bytes::copy_from_slice(&framed(&vec![0; 200 * bytes], false)[..5]);
        let head = stream::once(std::future::ready(Ok(Frame::data(head))));
        let body = StreamBody::new(Box::pin(head.chain(drip(bytes, pause))));
        let taken = message(body, Coding::Identity, 4 * MIB, &budget).await;
        let got = taken.map_or_else(|rejection| rejection.status.as_u16(), |_| 200);
        assert_eq!(got, status, "a message, {bytes} bytes every {pause} ms");
    }
}

/// Scenario: a message that never comes, of a caller that waits for a second; turned clock.
/// Guarantees: DEADLINE_EXCEEDED when that second is over, long before the time for a body is.
#[tokio::test(start_paused = true)]
async fn a_message_comes_within_the_timeout_of_its_call() {
    let budget = Budget::new(64 * MIB);
    let charge = budget.try_admit(super::FIRST_BYTES).unwrap();
    let start = tokio::time::Instant::now();
    let deadline = Some((start + Duration::from_secs(1)).into_std());
    let limits = Limits { deadline, ..limits(MIB) };
    let head = Bytes::from_static(b"\0\0\0\0\x02");
    let head =
        stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(Frame::data(head))));
    let body = StreamBody::new(head.chain(stream::pending()));
    let handle = async |_, _| Ok(Bytes::new());
    let answered = unary(body, Coding::Identity, limits, charge, handle).await;
    assert_eq!(answered.map(drop).unwrap_err().code, Code::DeadlineExceeded);
    assert!((1..5).contains(&start.elapsed().as_secs()));
    assert_eq!(budget.used(), 0);
}

/// Scenario: names of codings, and lists of those that are taken.
/// Guarantees: unknown ones and those not listed are rejected with what to use instead.
#[test]
fn codings_by_name() {
    let all: Vec<String> = crate::settings::server::default_codings();
    let of = |name: &str, taken: &[String]| {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-encoding", name.parse().unwrap());
        Coding::of_http(&headers, taken)
    };
    assert_eq!(of("GZIP", &all), Ok(Coding::Gzip));
    assert_eq!(of("identity", &["gzip".to_owned()]), Ok(Coding::Identity));
    assert_eq!(of("deflate", &all), Ok(Coding::Zlib));
    for rejected in [of("snappy", &all), of("gzip, gzip", &all), of("zstd", &["gzip".to_owned()])] {
        let rejection = rejected.unwrap_err();
        assert_eq!((rejection.status.as_u16(), rejection.code), (415, Code::Unimplemented));
        assert!(rejection.accept_encoding.unwrap().contains("gzip"));
    }
}

/// Scenario: fifty bombs at once on one budget of 16 MiB.
/// Guarantees: what they take together never exceeds it, unless one is alone.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bombs_share_the_budget() {
    let budget = Budget::new(16 * MIB);
    let bomb: Arc<[u8]> = compressed(Coding::Zstd, &vec![0; 18 * MIB]).into();
    // After a frame to be skipped, so that it may decompress so much, for its size.
    let skip = 100 * 1024_u32;
    let mut body = 0x184d_2a50_u32.to_le_bytes().to_vec();
    body.extend(skip.to_le_bytes());
    body.extend(vec![0; skip as usize]);
    body.extend(&bomb[..]);
    let body: Arc<[u8]> = body.into();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (budget, body) = (Arc::clone(&budget), Arc::clone(&body));
            tokio::spawn(async move {
                let taken = take(&body, 4096, Coding::Zstd, 20 * MIB, &budget).await;
                taken.map(|(bytes, _)| bytes.len()).map_err(|rejection| rejection.status.as_u16())
            })
        })
        .collect();
    let watching = {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move {
            let mut most = 0;
            for _ in 0..200 {
                most = most.max(budget.used());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            most
        })
    };
    for task in tasks {
        match task.await.unwrap() {
            Ok(length) => assert_eq!(length, 18 * MIB),
            Err(status) => assert_eq!(status, 429),
        }
    }
    // One that is alone may go past it: 20 MiB, a window of 8, and half of one for the decoder.
    assert!(watching.await.unwrap() <= 29 * MIB);
    assert_eq!(budget.used(), 0);
}

/// Scenario: a bomb that comes in one piece, within a budget that others use, and that has room for
/// little more than what may decompress of its first kilobytes.
/// Guarantees: it is rejected as a bomb: the budget is not used up before that is seen.
#[tokio::test]
async fn bombs_cost_little() {
    let bomb = gzip(&vec![0; 20 * MIB]);
    let budget = Budget::new(6 * MIB);
    let _others = budget.try_admit(1).unwrap();
    let taken = take(&bomb, bomb.len(), Coding::Gzip, 20 * MIB, &budget).await;
    let rejection = taken.map(drop).unwrap_err();
    assert_eq!(rejection.status, StatusCode::PAYLOAD_TOO_LARGE, "{rejection:?}");
    assert!(rejection.message.contains("200 times"), "{rejection:?}");
}
