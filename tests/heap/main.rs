//! Is what is said of heaps true, and does the library that samples them leave programs as they are?
//! Programs that count what they allocate, or do with memory all that can be done, are recorded with the real
//! binary.
//!
//! `programs/` are the programs. A figure of a recording is read from collapsed stacks, which `profpipe
//! convert` writes.
//!
//! **Why the bounds are no coin toss.** A block of n bytes is sampled with the probability p = 1 − e^(−n/T),
//! independently of all others, and stands for n/p bytes: the variance of a sum of estimates is the sum of
//! n²(1−p)/p, which the programs add up besides what they allocate. With thousands of samples an estimate is
//! normal, and more than six standard errors off once in 5·10⁸ times; fewer than 200 are looked at in a run of
//! these tests, which makes less than one false alarm in 10⁶ runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says how far it was from that"
)]

mod languages;
mod recordings;
mod safety;
mod truth;
