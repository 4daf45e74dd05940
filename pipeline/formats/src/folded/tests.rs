#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

use super::{decode, encode};

fn rewritten(text: &str) -> String {
    encode(&decode(text.as_bytes()).unwrap(), None).unwrap()
}

/// Scenario: lines as different tools write them: Windows line ends, tabs, spaces in names, empty
/// lines, no line end at the end, stacks that come twice.
/// Guarantees: all are read; written they are sorted, each stack once.
#[test]
fn tolerant() {
    let text = "main;b 2\r\n\r\nmain;operator new(unsigned long) 3\nmain;a\t1\n  \nmain;b 40";
    assert_eq!(rewritten(text), "main;a 1\nmain;b 42\nmain;operator new(unsigned long) 3\n");
    assert_eq!(rewritten(""), "");
    assert_eq!(rewritten("[no stack] 5"), "[no stack] 5\n");
    assert_eq!(rewritten("a;;b 1"), "a;[unknown];b 1\n");
    // Two names that differ in what the format cannot hold.
    assert_eq!(rewritten("a;b 2;x 1\na;b\r2;x 1"), "a;b 2;x 2\n");
}

/// Scenario: lines without a count.
/// Guarantees: the number of the line and what is wrong, in one short line.
#[test]
fn wrong_lines() {
    let error = |text: &[u8]| decode(text).unwrap_err().to_string();
    assert_eq!(error(b"a;b 1\na;b\n"), "line 2: `a;b` is not `root;caller;leaf COUNT`");
    assert_eq!(error(b"a b c"), "line 1: the count `c` is not a whole number");
    assert_eq!(error(b"a 1.5"), "line 1: the count `1.5` is not a whole number");
    assert_eq!(error(b"a 1\n\xff 2"), "line 2: it is not UTF-8 text");
    let long = [b"x".repeat(1000), b" y".to_vec()].concat();
    assert!(error(&b"x".repeat(1000)).len() < 100);
    assert!(error(&long).len() < 100);
}

/// Scenario: names with a semicolon or a line break.
/// Guarantees: the line stays one line with the same frames.
#[test]
fn names_without_separators() {
    let mut profiles = decode(b"a;x 1").unwrap();
    let strings = &mut profiles.dictionary.strings;
    let name = strings.intern("[u8; 4]\n");
    let function = profpipe_profile::Function { name, ..Default::default() };
    let function = profiles.dictionary.functions.intern(function);
    let lines = [profpipe_profile::Line { function, line: 0, column: 0 }];
    let location = profpipe_profile::LocationRef { lines: &lines, ..Default::default() };
    let location = profiles.dictionary.locations.intern(location);
    let stack = profiles.dictionary.stacks.intern(&[location]);
    for of_sample in profiles.resources[0].scopes[0].profiles[0].samples.stacks_mut() {
        *of_sample = stack;
    }
    assert_eq!(encode(&profiles, None).unwrap(), "[u8: 4]  1\n");
}

proptest! {
    /// Scenario: any bytes.
    /// Guarantees: no panic.
    #[test]
    fn random(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
    }

    /// Scenario: any stacks of names without separators.
    /// Guarantees: written and read they keep their costs.
    #[test]
    fn round_trip(
        stacks in prop::collection::btree_map(
            prop::collection::vec("[a-z]( ?[a-z(:]){0,5}", 1..5),
            1..i64::MAX / 100,
            0..20,
        ),
    ) {
        let lines = stacks.iter().map(|(stack, cost)| format!("{} {cost}\n", stack.join(";")));
        let text: String = lines.collect();
        let mut sorted: Vec<_> = rewritten(&text).lines().map(str::to_owned).collect();
        let mut expected: Vec<_> = text.lines().map(str::to_owned).collect();
        sorted.sort();
        expected.sort();
        prop_assert_eq!(sorted, expected);
    }
}
