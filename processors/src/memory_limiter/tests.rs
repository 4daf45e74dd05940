#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use profpipe_engine::Services;
use profpipe_engine::component::{ProcessorConfig, Setup};
use profpipe_engine::config::Section;

use super::Config;

fn read(text: &str) -> Result<Config, String> {
    Section::from_yaml(text).unwrap().read_valid().map_err(|errors| format!("{errors:?}"))
}

/// Scenario: the Collector's snippets, limits that make no sense, none at all.
/// Guarantees: the budget is the limit without the spike, which is a fifth unless set; the rest are
/// mistakes.
#[test]
fn the_budget_is_the_limit_without_the_spike() {
    let mib = |text: &str| read(text).unwrap().bytes(1000 << 20).map(|bytes| bytes >> 20);
    assert_eq!(mib("{check_interval: 1s, limit_mib: 4000, spike_limit_mib: 800}"), Some(3200));
    assert_eq!(mib("{limit_mib: 100}"), Some(80));
    assert_eq!(mib("{limit_percentage: 50, spike_limit_percentage: 30}"), Some(200));
    assert_eq!(mib("{limit_percentage: 50}"), Some(400));
    assert_eq!(mib("{limit_mib: 10, limit_percentage: 50, spike_limit_percentage: 60}"), Some(8));
    assert_eq!(mib("{}"), None);
    for wrong in ["{limit_mib: 5, spike_limit_mib: 5}", "limit_percentage: 101", "limit_mib: -1"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    let wrong = read("{limit_percentage: 50, spike_limit_percentage: 60}").unwrap_err();
    assert!(wrong.contains("spike_limit_percentage"), "{wrong}");
}

/// Scenario: two of them in one configuration, and one that limits nothing.
/// Guarantees: the smaller limit wins; the other does not start.
#[test]
fn the_smaller_limit_wins() {
    let setup = Setup::new("memory_limiter", Services::default());
    assert_eq!(setup.memory.get(), None);
    for text in ["limit_mib: 100", "limit_mib: 50", "limit_mib: 70"] {
        read(text).unwrap().build(&setup).unwrap();
    }
    assert_eq!(setup.memory.get(), Some(40 << 20));
    assert!(read("{}").unwrap().build(&setup).is_err());
}
