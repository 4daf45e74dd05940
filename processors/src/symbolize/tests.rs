//! Names against the truth of compilers, and hostile files against the promise that only the
//! worker dies.
//!
//! The worker of these tests is this test program, started again with a variable set
//! ([`worker`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it was skipped"
)]

mod support;

use support::*;

/// Scenario: a C program with `-g -O2` and an inlined function. Guarantees: every code address
/// has the function, file, line and inlined frames that the oracle states.
#[test]
fn dwarf_agrees_with_addr2line() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    check_against_oracle(&program, &program);
}
