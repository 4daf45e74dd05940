#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use profpipe_engine::batch::{Acknowledgement, Batch, Outcome, Receipt};
use profpipe_engine::component::{Outbox, Processor};
use profpipe_engine::config::Section;
use profpipe_formats::otlp;
use profpipe_profile::{Profile, Profiles, Resource, ResourceProfiles, SampleRef, ScopeProfiles};

use super::Batching;

fn batching(text: &str) -> Batching {
    Batching::new(Section::from_yaml(text).unwrap().read_valid().unwrap(), Instant::now)
}

/// A batch of so many samples of a service, as it comes from the network.
fn batch(service: &str, values: &[i64]) -> Batch {
    let mut profiles = Profiles::new();
    let name = profiles.dictionary.strings.intern(service);
    let mut profile = Profile { time_unix_nano: 1, ..Profile::default() };
    profile.sample_type.kind = name;
    for value in values {
        profile.samples.push(SampleRef { values: &[*value], ..SampleRef::default() });
    }
    let mut resource = Resource::default();
    resource.set("service.name", service);
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    Batch::from_wire(Bytes::from(otlp::encode(&profiles)))
}

fn with_receipt(mut batch: Batch) -> (Batch, Acknowledgement) {
    let (receipt, acknowledgement) = Receipt::new();
    batch.receipt = receipt;
    (batch, acknowledgement)
}

fn of_tenant(mut batch: Batch, tenant: &str) -> Batch {
    batch.context.tenant = Some(tenant.into());
    batch
}

fn give(batching: &mut Batching, batch: Batch) -> Vec<Batch> {
    let mut out = Outbox::default();
    batching.process(batch, &mut out).unwrap();
    out.drain().collect()
}

fn tick(batching: &mut Batching, later: Duration) -> Vec<Batch> {
    let mut out = Outbox::default();
    batching.tick(Instant::now() + later, &mut out);
    out.drain().collect()
}

fn values(batch: &Batch) -> Vec<i64> {
    let profiles = batch.shared().unwrap();
    profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter().map(|s| s.weight())).collect()
}

/// Scenario: small batches until there are enough samples; one that is large by itself; one that
/// waits too long; one at the end.
/// Guarantees: all samples come out once, in order; one alone comes out as the bytes it was.
#[test]
fn batches_are_merged() {
    let mut batching = batching("{send_batch_size: 5, timeout: 1s}");
    assert!(give(&mut batching, batch("a", &[1, 2])).is_empty());
    assert!(give(&mut batching, batch("b", &[3])).is_empty());
    let out = give(&mut batching, batch("a", &[4, 5]));
    assert_eq!(out.len(), 1);
    // The same resource once, with all its profiles.
    assert_eq!(values(&out[0]), [1, 2, 4, 5, 3]);
    assert_eq!(out[0].shared().unwrap().resources.len(), 2);
    let large = batch("a", &[1; 9]);
    let bytes = large.to_otlp();
    let out = give(&mut batching, large);
    assert_eq!((out.len(), out[0].to_otlp()), (1, bytes));
    assert!(give(&mut batching, batch("a", &[7])).is_empty());
    assert!(tick(&mut batching, Duration::from_millis(500)).is_empty());
    assert_eq!(values(&tick(&mut batching, Duration::from_millis(1500))[0]), [7]);
    assert!(give(&mut batching, batch("a", &[8])).is_empty());
    let mut out = Outbox::default();
    batching.finish(Instant::now(), &mut out);
    assert_eq!(out.drain().map(|batch| values(&batch)).collect::<Vec<_>>(), [[8]]);
}

/// Scenario: three senders whose batches become one, which is cut in two, of which one is refused;
/// a batch that cannot be read among them.
/// Guarantees: every sender learns the worst that happened to its samples, and not before the last
/// part is through; the one that cannot be read is refused alone.
#[tokio::test]
async fn senders_are_answered_when_the_result_is() {
    let mut batching = batching("{send_batch_size: 4, send_batch_max_size: 4, timeout: 1s}");
    let (first, one) = with_receipt(batch("a", &[1, 2]));
    let (second, two) = with_receipt(batch("b", &[3]));
    let (third, three) = with_receipt(batch("c", &[4, 5, 6]));
    assert!(give(&mut batching, first).is_empty());
    assert!(
        batching
            .process(Batch::from_wire(Bytes::from_static(b"\xff")), &mut Outbox::default())
            .is_err()
    );
    assert!(give(&mut batching, second).is_empty());
    let mut parts = give(&mut batching, third);
    assert!(parts.len() >= 2 && parts.iter().all(|part| part.samples() <= 4));
    assert_eq!(parts.iter().flat_map(values).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    parts.pop().unwrap().receipt.settle(Outcome::Retry("later".into()));
    let waiting = tokio::spawn(one.wait());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(parts);
    let outcomes = [waiting.await.unwrap(), two.wait().await, three.wait().await];
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Retry("later".into())));
}

/// Scenario: batches of more tenants than may wait.
/// Guarantees: tenants are never merged, and the oldest goes out early.
#[test]
fn tenants_stay_apart() {
    let mut batching = batching("{send_batch_size: 3, timeout: 1s, metadata_cardinality_limit: 2}");
    assert!(give(&mut batching, of_tenant(batch("a", &[1]), "x")).is_empty());
    assert!(give(&mut batching, of_tenant(batch("a", &[2]), "y")).is_empty());
    let out = give(&mut batching, batch("a", &[3]));
    assert_eq!((values(&out[0]), out[0].context.tenant.as_deref()), (vec![1], Some("x")));
    let out = give(&mut batching, of_tenant(batch("a", &[4, 5]), "y"));
    assert_eq!((values(&out[0]), out[0].context.tenant.as_deref()), (vec![2, 4, 5], Some("y")));
    assert_eq!(tick(&mut batching, Duration::from_secs(2))[0].context.tenant, None);
}

/// Scenario: settings with which nothing waits, and wrong ones.
/// Guarantees: batches go out at once; the wrong ones are mistakes.
#[test]
fn nothing_waits_unless_wanted() {
    for text in ["timeout: 0s", "send_batch_size: 0"] {
        assert_eq!(give(&mut batching(text), batch("a", &[1])).len(), 1, "{text}");
    }
    let wrong = Section::from_yaml("{send_batch_size: 5, send_batch_max_size: 4}").unwrap();
    assert!((super::FACTORY.parse)(&wrong).is_err());
    let keys = Section::from_yaml("metadata_keys: [tenant]").unwrap();
    assert_eq!((super::FACTORY.advise)(&keys)[0].path, "metadata_keys");
}
