#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::table::tests::{Row, selection, table};
use crate::{Column, Selected};

const ROWS: &[Row<'_>] = &[
    ("main;work;lock@libc.so.6;futex@libc.so.6", 10, &[("profpipe.wait", "lock")], 0),
    ("main;work;work;parse", 20, &[("profpipe.stack.state", "truncated")], 0),
    ("main;read@libc.so.6", 40, &[("profpipe.stack.state", "broken")], 0),
    ("start", 80, &[], 0),
];

fn stacks(selected: &Selected<'_>) -> Vec<(String, i64)> {
    let name = |at: &u32| selected.table.function(*at).name.clone();
    let mut stacks: Vec<(String, i64)> = selected
        .iter()
        .map(|(path, weight)| (path.iter().map(name).collect::<Vec<_>>().join(";"), weight))
        .collect();
    stacks.sort();
    stacks
}

/// Scenario: stacks with recursion, libraries and names to hide, selected in every way.
/// Guarantees: focus leaves stacks out, the others leave functions out and keep the sum.
#[test]
fn stacks_are_changed_as_asked() {
    let table = table(ROWS);
    let texts = |selection: &Selection| stacks(&table.select(selection).unwrap());
    let mut focus = Selection::default();
    focus.focus("^work$").unwrap();
    assert_eq!(table.select(&focus).unwrap().total, 30);
    let mut hide = Selection::default();
    hide.hide("^(main|work)$").unwrap();
    let expected = [("lock;futex", 10), ("parse", 20), ("read", 40), ("start", 80)]
        .map(|(text, sum)| (text.to_owned(), sum));
    assert_eq!(texts(&hide), expected);
    let recursion = Selection { folds_recursion: true, ..Selection::default() };
    assert!(texts(&recursion).contains(&("main;work;parse".to_owned(), 20)));
    let libraries = Selection { folds_libraries: true, ..Selection::default() };
    let folded = texts(&libraries);
    assert!(folded.contains(&("main;work;[libc.so.6]".to_owned(), 10)), "{folded:?}");
    assert!(folded.contains(&("main;[libc.so.6]".to_owned(), 40)), "{folded:?}");
    for selection in [&hide, &recursion, &libraries] {
        let selected = table.select(selection).unwrap();
        let functions = selected.functions(Column::Own);
        assert_eq!(functions.rows.iter().map(|row| row.own).sum::<i64>(), 150);
    }
    let mut wait = Selection::default();
    wait.wait("lock");
    assert_eq!(table.select(&wait).unwrap().total, 10);
    let call_site =
        Selection { call_site: vec!["main".into(), "work".into()], ..Selection::default() };
    assert_eq!(table.select(&call_site).unwrap().total, 30);
}

/// Scenario: stacks that are not complete.
/// Guarantees: the loss says by how much, as a part of what is selected.
#[test]
fn losses_are_of_the_selection() {
    let table = table(ROWS);
    let loss = table.select(&Selection::default()).unwrap().loss;
    assert_eq!((loss.complete, loss.truncated, loss.broken), (90, 20, 40));
    let loss = table.select(&selection("{profpipe_wait=\"lock\"}")).unwrap().loss;
    assert_eq!((loss.complete, loss.truncated, loss.broken), (10, 0, 0));
}

/// Scenario: a function in the middle of recursive and other stacks.
/// Guarantees: callers and callees weigh what it does, each.
#[test]
fn a_sandwich_has_the_weight_of_its_function() {
    let table = table(ROWS);
    let selected = table.select(&Selection::default()).unwrap();
    let sandwich = selected.sandwich("work", None, &crate::TreeOptions::default()).unwrap();
    assert_eq!((sandwich.own, sandwich.total), (0, 30));
    assert_eq!(sandwich.callers.nodes[0].total, [30]);
    assert_eq!(sandwich.callees.nodes[0].total, [30]);
    let names: Vec<String> =
        sandwich.callees.nodes.iter().map(|node| sandwich.callees.name(&table, node)).collect();
    assert_eq!(names, ["work", "work", "parse", "lock", "futex"]);
    let callers: Vec<String> =
        sandwich.callers.nodes.iter().map(|node| sandwich.callers.name(&table, node)).collect();
    assert_eq!(callers, ["work", "main"]);
    assert!(selected.sandwich("none", None, &crate::TreeOptions::default()).is_err());
    assert!(selected.sandwich("work", Some("other"), &crate::TreeOptions::default()).is_err());
}

/// Scenario: searches by text, by expression, in small and large letters.
/// Guarantees: the weight is of the stacks with a match, each once.
#[test]
fn searches_find_functions() {
    let table = table(ROWS);
    let selected = table.select(&Selection::default()).unwrap();
    let found =
        |term: &str| selected.search(term).map(|found| (found.total, found.functions.len()));
    assert_eq!(found("WORK").unwrap(), (0, 0));
    assert_eq!(found("work").unwrap(), (30, 1));
    assert_eq!(found("/^(work|start)$/").unwrap(), (110, 2));
    assert_eq!(found("(").unwrap(), (0, 0));
    assert!(found("/(/").is_err());
}

/// Scenario: a selection, written as a batch and read again, with a function hidden.
/// Guarantees: the sum stays, and the hidden function is gone.
#[test]
fn selections_become_batches() {
    let table = table(ROWS);
    let mut wanted = selection("{profpipe_wait=\"\"}");
    wanted.hide("^work$").unwrap();
    let exported = table.export(&wanted).unwrap();
    let again = crate::table::InputFile {
        name: "again".to_owned(),
        bytes: 0,
        modified_nanos: 0,
        profiles: exported,
    };
    let again = Table::new(vec![again]).unwrap();
    let selected = again.select(&Selection::default()).unwrap();
    assert_eq!(selected.total, 140);
    let expected = [("main;parse", 20), ("main;read", 40), ("start", 80)];
    assert_eq!(stacks(&selected), expected.map(|(text, sum)| (text.to_owned(), sum)));
}

/// Scenario: weights of samples that stand for 10 each.
/// Guarantees: the error is that of as many independent samples.
#[test]
fn errors_follow_from_samples() {
    let table = table(ROWS);
    let selected = table.select(&Selection::default()).unwrap();
    // 1000 is 100 samples: 1.96 times 10 samples, of 10 each.
    assert_eq!(selected.error(1000).map(f64::round), Some(196.0));
}
