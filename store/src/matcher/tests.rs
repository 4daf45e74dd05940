#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

use super::*;

fn matches(selector: &str, name: &str, value: &str) -> bool {
    let matchers = Matchers::parse(selector).unwrap();
    matchers.0.iter().all(|one| one.matches(if one.name == name { value } else { "" }))
}

/// Scenario: selectors as Grafana and people write them.
/// Guarantees: they select what PromQL says: anchored expressions, missing labels are empty.
#[test]
fn selectors_mean_what_they_do_in_promql() {
    for (selector, value, expected) in [
        ("{}", "x", true),
        ("", "x", true),
        ("{a=\"x\"}", "x", true),
        ("{ a = 'x' , }", "x", true),
        ("{a=\"x\"}", "xy", false),
        ("{a!=\"x\"}", "", true),
        ("{a=~\"x|y\"}", "y", true),
        ("{a=~\"x|y\"}", "xy", false),
        ("{a=~\"x.\"}", "x\n", true),
        ("{a!~\"x.*\"}", "xyz", false),
        ("{a=~\"\"}", "", true),
        ("{a=`\\d`}", "\\d", true),
        ("{a=\"\\\"\\u00e4\\n\"}", "\"ä\n", true),
        ("{\"a\"=\"x\"}", "x", true),
        ("{a=\"\"}", "", true),
    ] {
        assert_eq!(matches(selector, "a", value), expected, "{selector} of {value:?}");
    }
}

/// Scenario: what is not a selector.
/// Guarantees: an error in one line that says where.
#[test]
fn mistakes_are_named() {
    for text in [
        "a",
        "{",
        "{a}",
        "{a=}",
        "{a=x}",
        "{a=\"x\"",
        "{a=\"x}",
        "{=\"x\"}",
        "{a=~\"(\"}",
        "{}x",
        "{a=\"x\" b=\"y\"}",
        "{1a=\"x\"}",
        "{a=\"\\q\"}",
        "{a=\"\\ud800\"}",
        "{,}",
        "{a=~\"(a{1000}){1000}\"}",
    ] {
        let error = Matchers::parse(text).unwrap_err().to_string();
        assert!(error.contains("at byte") && !error.contains('\n'), "{text}: {error}");
    }
    assert!(Matchers::parse(&format!("{{{}}}", "a=\"\",".repeat(65))).is_err());
    assert!(Matchers::parse(&" ".repeat(MAX_BYTES + 1)).is_err());
}

proptest! {
    /// Scenario: any text.
    /// Guarantees: it is read or rejected.
    #[test]
    fn any_text_is_safe(text in "\\PC{0,60}", end in "[{}=~!\"'`,\\\\a]{0,30}") {
        let _ = Matchers::parse(&text);
        let _ = Matchers::parse(&format!("{{{end}"));
    }
}
