//! The engine's part of an exporter's section, as users type it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::queue::{Batching, Queueing, Sizer};
use super::{Delivery, DeliveryDefaults};
use crate::config::Section;
use crate::delivery::RetryPolicy;

fn network(text: &str) -> Result<Delivery, Vec<String>> {
    let section = Section::from_yaml(text).unwrap();
    Delivery::of(&section, DeliveryDefaults::default()).map_err(|errors| {
        let place = |error: &crate::config::ConfigError| {
            format!("{}:{} {}: {}", error.line, error.column, error.path, error.message)
        };
        errors.iter().map(place).collect()
    })
}

fn usual() -> Queueing {
    Queueing {
        consumers: 10,
        wait_for_result: true,
        block_on_overflow: false,
        sizer: Sizer::Requests,
        capacity: Some(1000),
        storage: None,
        batch: None,
    }
}

/// Scenario: nothing, empty maps, nulls, and the Collector's defaults written out.
/// Guarantees: the Collector's defaults, but that senders wait for the result.
#[test]
fn defaults_are_the_collectors() {
    let written = "\
timeout: 5s
retry_on_failure: {enabled: true, initial_interval: 5s, randomization_factor: 0.5,
  multiplier: 1.5, max_interval: 30s, max_elapsed_time: 300s}
sending_queue: {enabled: true, num_consumers: 10, queue_size: 1000, sizer: requests,
  block_on_overflow: false, wait_for_result: true, storage: }
";
    let nulls = "timeout:\nretry_on_failure:\nsending_queue:\n";
    for text in ["", "sending_queue: {}", "retry_on_failure: {}", nulls, written] {
        let delivery = network(text).unwrap();
        assert_eq!(delivery.queue, usual(), "{text}");
        assert_eq!(delivery.timeout, Some(Duration::from_secs(5)), "{text}");
        assert_eq!(delivery.retry, Some(RetryPolicy::default()), "{text}");
        assert!(delivery.warnings.is_empty(), "{text}");
    }
    let off =
        network("timeout: 0\nretry_on_failure: {enabled: false}\nsending_queue: {enabled: false}");
    let off = off.unwrap();
    assert_eq!((off.timeout, off.retry, off.queue.capacity), (None, None, None));
}

/// Scenario: `batch` as nothing, empty, null and off; with the queue's sizer and its own.
/// Guarantees: as in the Collector; what is there is on.
#[test]
fn batching_is_on_where_it_is_written() {
    let batch = |text: &str| network(text).unwrap().queue.batch;
    let usual = Batching {
        flush_timeout: Duration::from_millis(200),
        min_size: 8192,
        max_size: None,
        sizer: Sizer::Items,
    };
    assert_eq!(batch("sending_queue: {}"), None);
    assert_eq!(batch("sending_queue: {batch: {}}"), Some(usual));
    assert_eq!(batch("sending_queue: {batch: }"), Some(usual));
    assert_eq!(batch("sending_queue: {batch: {enabled: false}}"), None);
    let bytes = Batching { sizer: Sizer::Bytes, ..usual };
    assert_eq!(batch("sending_queue: {sizer: bytes, queue_size: 100000, batch: {}}"), Some(bytes));
    let sized = Batching { min_size: 10, max_size: Some(20), ..bytes };
    let text = "sending_queue: {batch: {min_size: 10, max_size: 20, sizer: bytes}}";
    assert_eq!(batch(text), Some(sized));
}

/// Scenario: a durable queue; a queue that answers early; keys that nothing here can follow.
/// Guarantees: durable ones never give up and have no size of their own, unless they are told to;
/// warnings where the configuration is dangerous or without effect.
#[test]
fn durable_queues_do_not_give_up() {
    let durable = network("sending_queue: {storage: file_storage}").unwrap();
    assert_eq!(durable.queue.storage.as_deref(), Some("file_storage"));
    assert_eq!(
        (durable.queue.capacity, durable.retry.unwrap().max_elapsed_time),
        (None, Duration::ZERO)
    );
    let text = "retry_on_failure: {max_elapsed_time: 1h}\n\
                sending_queue: {storage: x, queue_size: 7, sizer: items, wait_for_result: false}";
    let told = network(text).unwrap();
    assert_eq!(told.queue.capacity, Some(7));
    assert_eq!(told.retry.unwrap().max_elapsed_time, Duration::from_secs(3600));
    assert!(told.warnings.is_empty());
    let warned = |text: &str| network(text).unwrap().warnings[0].0;
    assert_eq!(warned("sending_queue: {wait_for_result: false}"), "sending_queue::wait_for_result");
    let keys = "sending_queue: {batch: {partition: {metadata_keys: [a]}}}";
    assert_eq!(warned(keys), "sending_queue::batch::partition::metadata_keys");
}

/// Scenario: mistakes of every kind at once.
/// Guarantees: each with its place and what to do.
#[test]
fn mistakes_have_places() {
    let text = "\
timeout: soon
retry_on_failur: {}
retry_on_failure:
  max_elapsed_time: 1s
  multiplier: -1
  randomization_factor: 2
sending_queue:
  num_consumer: 1
  num_consumers: 0
  queue_size: 5
  storage: x
  wait_for_result: true
  batch: {sizer: requests, min_size: 10, max_size: 5, flush_timeout: 0s}
";
    let mut errors = network(text).unwrap_err();
    errors.sort();
    let expected = [
        "12:20 sending_queue::wait_for_result: cannot be with `storage`",
        "13:18 sending_queue::batch::sizer: use `items` or `bytes`",
        "13:38 sending_queue::batch::min_size: must not be more than `queue_size`",
        "13:52 sending_queue::batch::max_size: must not be less than `min_size`",
        "13:70 sending_queue::batch::flush_timeout: must be more than 0",
        "1:10 timeout: `soon` is not a duration",
        "2:1 retry_on_failur: unknown key; did you mean `retry_on_failure`?",
        "4:21 retry_on_failure::max_elapsed_time: must not be less than initial_interval (5s)",
        "5:15 retry_on_failure::multiplier: must not be negative",
        "6:25 retry_on_failure::randomization_factor: must be from 0 to 1",
        "8:3 sending_queue::num_consumer: unknown key; did you mean `num_consumers`?",
        "9:18 sending_queue::num_consumers: must be at least 1",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{expected}: {error}");
    }
    let errors = network("sending_queue: false").unwrap_err();
    assert_eq!(
        errors,
        ["1:16 sending_queue: expected a map, found `false`; write `{enabled: false}`"]
    );
}

/// Scenario: the queue of an exporter that writes to this host.
/// Guarantees: none of its own, until one is written.
#[test]
fn local_destinations_have_no_queue_unless_written() {
    let local = |text: &str| {
        Delivery::of(&Section::from_yaml(text).unwrap(), DeliveryDefaults::local()).unwrap()
    };
    assert_eq!((local("").timeout, local("").queue.capacity), (None, None));
    assert_eq!(local("sending_queue: {}").queue.capacity, Some(1000));
    assert_eq!(local("sending_queue: {storage: x}").queue.storage.as_deref(), Some("x"));
}
