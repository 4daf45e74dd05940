#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup};
use profpipe_engine::{Sender, Services};

use super::Config;

/// Scenario: a `nop` receiver runs and is then told to stop.
/// Guarantees: it sends nothing and returns.
#[tokio::test]
async fn stops_when_told() {
    let setup = Setup::new("nop", Services::default());
    let receiver = Config::default().build(&setup).unwrap();
    let (out, mut batches) = Sender::detached(1);
    let (stopper, life) = Lifecycle::new();
    let running = tokio::spawn(receiver.run(out, life));
    stopper.stop(Duration::from_secs(1));
    running.await.unwrap().unwrap();
    assert!(batches.recv().await.is_none());
}
