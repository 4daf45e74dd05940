//! Names against the truth of compilers, and hostile files against the promise that only the
//! worker dies.
//!
//! The worker of these tests is this test program, started again with a variable set
//! (`support::worker`). Where a tool that makes a test's input is missing, the test says so and
//! passes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it was skipped"
)]

mod batches;
mod config;
mod faults;
mod fetched;
mod hostile;
mod lanes;
mod languages;
mod making;
mod pseudo;
mod ranges;
mod replaced;
pub(super) mod server;
mod sizeless;
mod sources;
mod split;
pub(crate) mod support;
mod swept;
mod tables;
mod units;
mod worker;
