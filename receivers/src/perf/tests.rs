//! Tests of the `perf` receiver.
