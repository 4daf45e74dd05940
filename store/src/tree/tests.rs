#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::select::Selection;
use crate::table::tests::{Row, table};

const ROWS: &[Row<'_>] = &[
    ("main;a;leaf", 100, &[], 0),
    ("main;a", 50, &[], 0),
    ("main;b;c;leaf", 30, &[], 0),
    ("main;b", 1, &[], 0),
];

fn shown<const N: usize>(table: &Table, tree: &Tree<N>) -> Vec<(u32, String, i64, i64)> {
    let of =
        |node: &Node<N>| (node.depth, tree.name(table, node), node.total[N - 1], node.own[N - 1]);
    tree.nodes.iter().map(of).collect()
}

fn options(nodes: usize, width: u32) -> TreeOptions {
    TreeOptions { nodes, width, is_inverted: false, root: None, keeps_ties: false }
}

/// Scenario: the stacks of Pyroscope's example, drawn whole, with few nodes, and for few pixels.
/// Guarantees: children by size; what is folded says how much it is, and sums stay.
#[test]
fn trees_are_pruned_and_keep_their_sums() {
    let table = table(ROWS);
    let selected = table.select(&Selection::default()).unwrap();
    let whole = selected.tree(&options(100, 0)).unwrap();
    let names: Vec<String> = shown(&table, &whole).into_iter().map(|one| one.1).collect();
    assert_eq!(names, ["total", "main", "a", "leaf", "b", "c", "leaf"]);
    assert_eq!(whole.nodes[4].start, 150);
    let few = selected.tree(&options(2, 0)).unwrap();
    let expected = [
        (0, "total", 181, 0),
        (1, "main", 181, 0),
        (2, "a", 150, 50),
        (3, "(1 function below 82.9 %)", 100, 100),
        (2, "(1 function below 82.9 %)", 31, 31),
    ];
    assert_eq!(shown(&table, &few), expected.map(|it| (it.0, it.1.to_owned(), it.2, it.3)));
    // Half a pixel of 2 is 45 of 181.
    let narrow = selected.tree(&options(100, 2)).unwrap();
    assert_eq!(narrow.nodes.iter().filter(|node| node.folded > 0).count(), 1);
}

/// Scenario: a node by its hash, in a tree of everything and of a part.
/// Guarantees: the same path has the same hash in both, and the tree from there on has its sum.
#[test]
fn hashes_name_paths() {
    let table = table(ROWS);
    let selected = table.select(&Selection::default()).unwrap();
    let whole = selected.tree(&options(100, 0)).unwrap();
    let a = whole.nodes[2];
    assert_eq!(whole.name(&table, &a), "a");
    let part = selected.tree(&TreeOptions { root: Some(a.hash), ..options(100, 0) }).unwrap();
    assert_eq!(part.nodes[0].hash, a.hash);
    assert_eq!((part.nodes[0].total, part.path.len()), ([150], 2));
    assert_eq!(shown(&table, &part)[1], (1, "leaf".to_owned(), 100, 100));
    assert_eq!(part.nodes[1].hash, whole.nodes[3].hash);
    assert!(selected.tree(&TreeOptions { root: Some(1), ..options(100, 0) }).is_err());
    let mut focus = Selection::default();
    focus.focus("^a$").unwrap();
    let focused = table.select(&focus).unwrap().tree(&options(100, 0)).unwrap();
    assert_eq!(focused.nodes[2].hash, a.hash);
}

/// Scenario: the same stacks from their leaves on.
/// Guarantees: callers are below what they call.
#[test]
fn inverted_trees_begin_at_leaves() {
    let table = table(ROWS);
    let selected = table.select(&Selection::default()).unwrap();
    let tree = selected.tree(&TreeOptions { is_inverted: true, ..options(100, 0) }).unwrap();
    let top: Vec<_> = shown(&table, &tree).into_iter().filter(|node| node.0 == 1).collect();
    let expected = [(1, "leaf", 130, 0), (1, "a", 50, 0), (1, "b", 1, 0)];
    assert_eq!(top, expected.map(|it| (it.0, it.1.to_owned(), it.2, it.3)));
}

/// Scenario: a stack as deep as one may be.
/// Guarantees: it is drawn without running out of the program's own stack.
#[test]
fn deep_stacks_are_drawn() {
    let stack = vec!["f"; 60_000].join(";");
    let table = table(&[(&stack, 7, &[], 0)]);
    let selected = table.select(&Selection::default()).unwrap();
    let tree = selected.tree(&options(100_000, 0)).unwrap();
    assert_eq!(tree.nodes.len(), 60_001);
    assert_eq!(selected.functions(crate::Column::Total).rows[0].total, 7);
    let too_deep = vec!["f"; 70_000].join(";");
    let rows: &[Row<'_>] = &[(&too_deep, 7, &[], 0)];
    assert!(Table::new(vec![crate::table::tests::file("deep", rows)]).is_err());
}

/// Scenario: more functions than are looked at together, all of one size but five; few nodes are wanted.
/// Guarantees: the five are there, the others are folded, and the sum stays.
#[test]
fn very_many_equal_nodes_are_folded() {
    let stacks: Vec<String> = (0..70_000).map(|number| format!("main;f{number}")).collect();
    let weight = |at: usize| if at.is_multiple_of(14_000) { 5 } else { 1 };
    let rows: Vec<Row<'_>> = stacks
        .iter()
        .enumerate()
        .map(|(at, stack)| (stack.as_str(), weight(at), &[][..], 0))
        .collect();
    let table = table(&rows);
    let selected = table.select(&Selection::default()).unwrap();
    let tree = selected.tree(&options(100, 1_000_000)).unwrap();
    assert_eq!(tree.nodes.len(), 8);
    assert_eq!((tree.nodes[7].folded, tree.nodes[7].total), (69_995, [69_995]));
    assert_eq!(tree.nodes.iter().map(|node| node.own[0]).sum::<i64>(), 70_020);
    // As Pyroscope: all that are as large as the one of that rank.
    assert_eq!(selected.tree_by_name(100).unwrap().nodes.len(), 70_002);
}
