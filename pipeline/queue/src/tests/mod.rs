//! Tests of the log: whole, at its limits, over a simulated disk that loses power, and with damaged files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells how to repeat it"
)]

mod damage;
mod limits;
mod model;
mod simulated;
mod whole;
