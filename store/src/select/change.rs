//! Stacks as a selection changes them: functions that are hidden, recursion and libraries folded.

use super::Selection;
use crate::error::QueryError;
use crate::table::{Paths, Table};

/// Changed paths with their weights; `None` if the selection changes none.
pub(super) fn changed(
    table: &Table,
    selection: &Selection,
    weights: &[i64],
) -> Result<Option<(Paths, Vec<i64>)>, QueryError> {
    if selection.hide.is_none() && !selection.folds_recursion && !selection.folds_libraries {
        return Ok(None);
    }
    let hidden: Option<Vec<bool>> = selection
        .hide
        .as_ref()
        .map(|hide| table.functions.iter().map(|it| hide.is_match(&it.name)).collect());
    let (mut paths, mut sums) = (Paths::default(), Vec::new());
    let mut changed: Vec<u32> = Vec::new();
    for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0) {
        changed.clear();
        for function in table.paths.get(at as u32) {
            if hidden.as_ref().is_some_and(|hidden| hidden[*function as usize]) {
                continue;
            }
            let library = table.function(*function).library;
            let shown = library.filter(|_| selection.folds_libraries).unwrap_or(*function);
            let is_library = selection.folds_libraries && library.is_some();
            if (selection.folds_recursion || is_library) && changed.last() == Some(&shown) {
                continue;
            }
            changed.push(shown);
        }
        let path = paths.intern(&changed)? as usize;
        if sums.len() <= path {
            sums.resize(path + 1, 0_i64);
        }
        sums[path] = sums[path].saturating_add(*weight);
    }
    paths.finish();
    Ok(Some((paths, sums)))
}
