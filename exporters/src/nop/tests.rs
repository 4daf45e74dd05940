#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_engine::Services;
use profpipe_engine::batch::{Batch, Outcome, Receipt};
use profpipe_engine::component::{ExporterConfig, Setup};

use super::Config;

/// Scenario: a batch of bytes that nobody could decode reaches `nop`.
/// Guarantees: it is accepted without being looked at, and its sender hears that it was delivered.
#[tokio::test]
async fn accepts_without_looking() {
    let setup = Setup::new("nop", Services::default());
    let mut exporter = Config::default().build(&setup).unwrap();
    let (receipt, acknowledgement) = Receipt::new();
    let mut batch = Batch::from_wire(vec![0xff, 0xff].into());
    batch.receipt = receipt;
    exporter.export(&batch).await.unwrap();
    drop(batch);
    assert_eq!(acknowledgement.wait().await, Outcome::Delivered);
}
