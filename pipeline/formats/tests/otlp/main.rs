//! The OTLP codecs and the operations over tables, against the generated types as the oracle.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod dialects;
mod edges;
mod generate;
mod json;
mod lenient;
mod normalize;
mod profcheck;
mod protobuf;
mod room;
mod tables;
