//! A selection as a graph of Graphviz: functions, and calls between them, much as pprof draws it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use profpipe_formats::report::{amount, percent};
use profpipe_store::{Column, Selected, Table, Tree};

/// The graph of nothing.
pub(super) const EMPTY: &str = "digraph \"unnamed\" {\n}\n";
/// The most functions that are drawn.
const MAX_FUNCTIONS: usize = 100;

/// Writes the graph of the most costly functions; calls are those of the tree.
pub(super) fn write(table: &Table, selected: &Selected<'_>, tree: &Tree<1>) -> String {
    let functions = selected.functions(Column::Total);
    let mut numbers: BTreeMap<&str, (usize, i64, i64)> = BTreeMap::new();
    for one in &functions.rows {
        let next = numbers.len() + 1;
        if next > MAX_FUNCTIONS && !numbers.contains_key(one.name) {
            continue;
        }
        let entry = numbers.entry(one.name).or_insert((next, 0, 0));
        entry.1 = entry.1.saturating_add(one.own);
        entry.2 = entry.2.max(one.total);
    }
    let whole = u128::try_from(selected.total).unwrap_or_default();
    let mut text = "digraph \"unnamed\" {\nnode [shape=box]\n".to_owned();
    let mut rows: Vec<_> = numbers.iter().collect();
    rows.sort_by_key(|(_, (number, ..))| *number);
    for (name, (number, own, total)) in rows {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            text,
            "N{number} [label=\"{}\\n{} ({})\\nof {} ({})\"]",
            quoted(name),
            amount(*own, selected.unit()),
            percent(*own, whole),
            amount(*total, selected.unit()),
            percent(*total, whole),
        );
    }
    for ((caller, callee), weight) in calls(table, tree) {
        if let (Some((from, ..)), Some((to, ..))) = (numbers.get(caller), numbers.get(callee)) {
            let _ =
                writeln!(text, "N{from} -> N{to} [label=\" {}\"]", amount(weight, selected.unit()));
        }
    }
    text.push_str("}\n");
    text
}

/// The weights of calls from one function to another.
fn calls<'t>(table: &'t Table, tree: &Tree<1>) -> BTreeMap<(&'t str, &'t str), i64> {
    let mut calls = BTreeMap::new();
    let mut open: Vec<Option<&str>> = Vec::new();
    for node in &tree.nodes {
        open.truncate(node.depth as usize);
        let name = node.function.map(|function| table.function_name(function).0);
        if let (Some(Some(caller)), Some(callee)) = (open.last(), name) {
            let sum: &mut i64 = calls.entry((*caller, callee)).or_default();
            *sum = sum.saturating_add(node.total[0]);
        }
        open.push(name);
    }
    calls
}

/// A name within quotes of Graphviz.
fn quoted(name: &str) -> String {
    let mut text = String::new();
    for char in name.chars().take(200) {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            char if char.is_control() => text.push('?'),
            char => text.push(char),
        }
    }
    text
}
