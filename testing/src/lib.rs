//! What the tests of several crates share; never part of the program.
//!
//! - [`skip!`]: a test that cannot be run here says so and ends; on CI it fails, because there
//!   everything that a test needs is installed and permitted. What a test asserts about the program
//!   itself never stands behind a skip: only what the host lacks does.
//! - [`sampling_is_permitted`]: whether the kernel lets us sample, found out without the program.

#![allow(
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it does nothing"
)]

mod perf;

pub use perf::sampling_is_permitted;

/// Says why the test does nothing here and returns from it (with the default of what it returns); on
/// CI the test fails instead.
///
/// ```
/// fn test() {
///     let Some(compiler) = std::env::var_os("NO_SUCH_COMPILER") else {
///         profpipe_testing::skip!("there is no compiler")
///     };
///     drop(compiler);
/// }
/// # if !profpipe_testing::is_ci() { test() }
/// ```
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        $crate::skipped(&format!($($why)*));
        return ::core::default::Default::default();
    }};
}

/// Says why something is not tested here; fails on CI.
///
/// # Panics
/// On CI.
#[track_caller]
pub fn skipped(why: &str) {
    assert!(!is_ci(), "cannot be skipped on CI: {why}");
    eprintln!("skipped: {why}");
}

/// Whether this is CI, where everything that a test needs is installed and permitted.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some()
}
