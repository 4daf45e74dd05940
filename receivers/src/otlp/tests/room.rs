//! Requests that decode, within a memory budget.

use std::sync::Arc;

use bytes::Bytes;
use profpipe_engine::Sender;
use profpipe_engine::budget::Budget;
use profpipe_engine::telemetry::Metrics;
use profpipe_formats::otlp;
use profpipe_network::server::Rejection;

use super::support::request;
use crate::otlp::export::{Admitted, Export, Form, TransportCounts, decode};

const MIB: usize = 1 << 20;

/// A sample, and so many empty locations, of two bytes each; tables have 21 for each.
fn swelling(locations: usize) -> Bytes {
    let rows = [2 << 3 | 2, 0].repeat(locations);
    let mut request = vec![1 << 3 | 2, 6, 2 << 3 | 2, 4, 2 << 3 | 2, 2, 2 << 3 | 2, 0, 2 << 3 | 2];
    let mut length = rows.len();
    while length >= 0x80 {
        request.push(length as u8 | 0x80);
        length >>= 7;
    }
    request.push(length as u8);
    request.extend(rows);
    request.into()
}

fn outcome(admitted: &Admitted) -> (u16, bool) {
    match admitted {
        Ok(_) => (200, false),
        Err(Rejection { status, retry_after, .. }) => (status.as_u16(), retry_after.is_some()),
    }
}

/// Scenario: requests whose tables fit into the budget, into what is left of it, or never.
/// Guarantees: they are let in; asked to come again; refused for good. The budget never has more
/// than its limit, and gets everything back.
#[test]
fn never_or_not_now() {
    let budget = Budget::new(10 * MIB);
    let take = |body: Bytes| {
        let charge = budget.try_admit(body.len()).unwrap();
        let admitted = decode(body, Form::Protobuf, charge);
        assert!(budget.used() <= budget.limit(), "{}", budget.used());
        admitted
    };
    let (fits, large) = (swelling(100_000), swelling(1_000_000));
    let admitted = take(fits.clone());
    assert_eq!(outcome(&admitted), (200, false));
    assert!(budget.used() > fits.len());
    drop(admitted);
    assert_eq!(budget.used(), 0);
    let never = take(large);
    assert_eq!(outcome(&never), (413, false));
    assert!(never.unwrap_err().message.contains("more than the whole memory budget"));
    assert_eq!(budget.used(), 0);
    let others = budget.try_admit(9 * MIB).unwrap();
    assert_eq!(outcome(&take(fits.clone())), (429, true));
    drop(others);
    assert_eq!(outcome(&take(fits)), (200, false));
    assert_eq!(budget.used(), 0);
}

/// Scenario: JSON, with room for it and its other form, and without.
/// Guarantees: as for protobuf; afterwards it costs what the other form does.
#[test]
fn json_is_paid_for() {
    let good = request(&[200]);
    let json: Bytes = otlp::encode_json(&otlp::decode(&good).unwrap()).into();
    let take = |budget: &Arc<Budget>| {
        decode(json.clone(), Form::Json, budget.try_admit(json.len()).unwrap())
    };
    let enough = |bytes: &usize| take(&Budget::new(*bytes)).is_ok();
    let needed = (json.len()..8 * json.len()).find(enough).unwrap();
    let budget = Budget::new(needed);
    let (batch, _, charge) = take(&budget).unwrap();
    assert!(batch.samples() == 200 && charge.bytes() >= batch.bytes(), "{}", charge.bytes());
    assert!(charge.bytes() < needed - json.len() + 1, "{} of {needed}", charge.bytes());
    drop(charge);
    let others = budget.try_admit(10).unwrap();
    assert_eq!(outcome(&take(&budget)), (429, true));
    drop(others);
    assert_eq!(outcome(&take(&Budget::new(needed - 1))), (413, false));
    assert_eq!(budget.used(), 0);
}

/// Scenario: tables of any size, and no sample.
/// Guarantees: that is success, and takes no memory.
#[tokio::test]
async fn tables_without_samples_are_nothing() {
    let (out, _batches) = Sender::detached(1);
    let export = Export::new(out, TransportCounts::new(&Metrics::default(), "otlp"));
    let body = swelling(1_000_000).slice(8..);
    let charge = Budget::new(body.len()).try_admit(body.len()).unwrap();
    let (batch, rejected, charge) = export.read(body, Form::Protobuf, charge).await.unwrap();
    assert_eq!((batch.samples(), rejected.profiles), (0, 0));
    assert!(charge.bytes() > 0);
}

/// Scenario: many large requests at a time, good and bad, some of whose senders do not wait.
/// Guarantees: each that is waited for is answered, the good ones with success; everything is given
/// back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_a_time() {
    let budget = Budget::new(16 * MIB);
    let (out, _batches) = Sender::detached(1);
    let export = Arc::new(Export::new(out, TransportCounts::new(&Metrics::default(), "otlp")));
    let mut answers = Vec::new();
    for at in 0..24 {
        let (body, good) = match at % 3 {
            0 => (swelling(100_000), true),
            1 => (swelling(1_000_000), false),
            _ => (Bytes::from(vec![0xff; 100_000]), false),
        };
        // The bodies alone shall have room.
        let charge = budget.try_admit(body.len().min(200_000)).unwrap();
        let export = Arc::clone(&export);
        let answer =
            tokio::spawn(async move { export.read(body, Form::Protobuf, charge).await.is_ok() });
        if at % 5 == 4 {
            answer.abort();
        } else {
            answers.push((answer, good));
        }
    }
    for (answer, good) in answers {
        assert_eq!(answer.await.unwrap(), good);
    }
    // What no sender waited for may still be at work.
    while budget.used() > 0 {
        tokio::task::yield_now().await;
    }
}
