#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use super::{Sampler, text};
use crate::testing;

/// Scenario: batches arrive in a burst, with two of each second to log and then one in three.
/// Guarantees: the first two pass, then every third; the next second begins anew.
#[test]
fn sampler_follows_the_collector() {
    let mut sampler = Sampler::new(2, 3);
    let start = Instant::now();
    let passed: Vec<_> = (0..8).map(|_| sampler.admits(start)).collect();
    assert_eq!(passed, [true, true, false, false, true, false, false, true]);
    assert!(sampler.admits(start + Duration::from_secs(1)));
}

/// Scenario: a batch is printed in detail.
/// Guarantees: type, total, resource, labels, names with file and line all appear, leaf first.
#[test]
fn detail_shows_samples() {
    let text = text::of(&testing::profiles("web", 1_700_000_000), true);
    assert!(text.starts_with("cpu/nanoseconds samples=1 total=10101010"), "{text}");
    assert!(text.contains("service.name=web"), "{text}");
    assert!(text.contains("  10101010 thread.name=worker\n"), "{text}");
    let (leaf, root) = (text.find("leaf app.c:7").unwrap(), text.find("main app.c:42").unwrap());
    assert!(leaf < root, "{text}");
}

/// Scenario: a service calls itself by escape sequences and a newline.
/// Guarantees: no control character reaches the log, and normal verbosity stays one line a profile.
#[test]
fn control_characters_are_escaped() {
    let text = text::of(&testing::profiles("a\n\u{1b}[2Jb", 1), false);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.trim_end().contains(|c: char| c.is_control()), "{text}");
}
