//! The table of functions, text from others, and how managed frames go between native ones.

use crate::perf::linux::runtimes::cpython::lines::LineTable;
use crate::perf::linux::runtimes::function::Lines;
use crate::perf::linux::runtimes::function::{Function, FunctionKey, Functions, MAX_NAME, clean};

fn named(name: &str) -> Function {
    Function {
        name: name.into(),
        file: "f".into(),
        first_line: 1,
        lines: Lines::Table(LineTable::default()),
    }
}

/// Scenario: one process has functions without end; another has one that is asked for again and again.
/// Guarantees: the table stays bounded, and what is in use stays in it.
#[test]
fn a_bounded_table() {
    let functions = Functions::default();
    let used = FunctionKey { process: 1, code: 7, cookie: 7 };
    functions.put(used, named("used"));
    for number in 0..200_000 {
        functions.put(FunctionKey { process: 2, code: number, cookie: 1 }, named("flood"));
        if number % 1000 == 0 {
            assert_eq!(functions.get(&used).expect("it is in use").name, "used");
        }
    }
    let left = (0..200_000).filter(|code| {
        functions.get(&FunctionKey { process: 2, code: *code, cookie: 1 }).is_some()
    });
    assert!(left.count() <= 2 * 4096);
    assert_eq!(functions.get(&FunctionKey { cookie: 8, ..used }), None);
}

/// Scenario: text with controls, that turns its direction, and that is long.
/// Guarantees: nothing of it moves a cursor or ends a line, and it is bounded.
#[test]
fn clean_text() {
    assert_eq!(
        clean("a\0b\x1b]\u{202e}c\u{85}\u{2028}é"),
        "a\u{fffd}b\u{fffd}]\u{fffd}c\u{fffd}\u{fffd}é"
    );
    assert_eq!(clean(&"ü".repeat(5000)).chars().count(), MAX_NAME);
}
