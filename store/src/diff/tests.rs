#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::table::tests::{file, selection, table};

/// Scenario: one run with two regions, compared.
/// Guarantees: shares differ as they do, nothing is said of significance, and why is told; the tree has both.
#[test]
fn one_run_a_side_has_no_verdict() {
    let table = table(&[
        ("main;a", 50, &[("x", "old")], 0),
        ("main;b", 50, &[("x", "old")], 0),
        ("main;a", 20, &[("x", "new")], 0),
        ("main;c", 80, &[("x", "new")], 0),
    ]);
    let (base, new) = (selection("{x=\"old\"}"), selection("{x=\"new\"}"));
    let diff = table.diff(&base, &new, Cost::Own, &TreeOptions::default()).unwrap();
    assert!(diff.why.as_ref().is_some_and(|why| why.contains("noise")), "{:?}", diff.why);
    let rows: Vec<_> = diff.rows.iter().map(|row| (&*row.name, row.cost, row.class)).collect();
    let expected =
        [("c", [0, 80], Class::New), ("b", [50, 0], Class::Gone), ("a", [50, 20], Class::Same)];
    assert_eq!(rows, expected);
    assert!(diff.rows.iter().all(|row| row.q.is_none() && row.interval.is_none()));
    assert_eq!(diff.tree.nodes[0].total, [100, 100]);
    let own = diff
        .tree
        .nodes
        .iter()
        .fold([0, 0], |sum, node| [sum[0] + node.own[0], sum[1] + node.own[1]]);
    assert_eq!(own, [100, 100]);
    let empty =
        table.diff(&selection("{x=\"none\"}"), &new, Cost::Total, &TreeOptions::default()).unwrap();
    assert!(empty.why.is_some());
}

/// Scenario: five files a side, in which one function takes twice as much.
/// Guarantees: it is found, and the others are not.
#[test]
fn runs_decide() {
    let rows = |hot: i64, run: i64| {
        [
            ("main;hot", 100_000 * hot + 997 * run),
            ("main;warm", 300_000 - 1013 * run),
            ("main;cold", 600_000 + 503 * run),
        ]
    };
    let mut files = Vec::new();
    for run in 0..10_i64 {
        let stacks = rows(if run < 5 { 1 } else { 2 }, (run * 7) % 5 - 2);
        let stacks: Vec<_> =
            stacks.iter().map(|(stack, weight)| (*stack, *weight, &[][..], 0)).collect();
        files.push(file(&format!("run{run}"), &stacks));
    }
    let table = Table::new(files).unwrap();
    let of = |files: std::ops::Range<u32>| Selection {
        files: Some(files.collect()),
        ..Selection::default()
    };
    let diff = table.diff(&of(0..5), &of(5..10), Cost::Own, &TreeOptions::default()).unwrap();
    assert_eq!((diff.why.as_deref(), diff.sides[0].runs), (None, 5));
    assert_eq!((&*diff.rows[0].name, diff.rows[0].class), ("hot", Class::Slower));
    let (low, high) = diff.rows[0].interval.unwrap();
    assert!(low > 0.05 && high < 0.12, "{low} {high}");
    assert!(diff.rows[1..].iter().all(|row| row.class == Class::Same), "{:?}", diff.rows);
}
