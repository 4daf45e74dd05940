//! The table of functions, and the search in it.

use profpipe_store::{Column, QueryError};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Question, share};
use crate::answer::Answer;
use crate::parameters::invalid;

/// How many functions are sent unless more are asked for, and the most that are.
const USUAL_ROWS: usize = 200;
const MAX_ROWS: usize = 5_000;
/// How many functions a search sends.
const MAX_FOUND: usize = 200;

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    module: &'a str,
    file: &'a str,
    #[serde(rename = "self")]
    own: i64,
    total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_error: Option<f64>,
}

/// `api/functions`
pub(super) fn functions(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Question { parameters, table, .. } = question;
    let by = match parameters.text("sort") {
        "" | "self" => Column::Own,
        "total" => Column::Total,
        "name" => Column::Name,
        other => return Err(invalid("sort", other, "self, total or name")),
    };
    let selected = table.select(&parameters.selection()?)?;
    let mut functions = selected.functions(by);
    if let Some(term) = parameters.some("search") {
        let search = profpipe_store::term(term)?;
        functions.rows.retain(|row| search.is_match(row.name));
    }
    let offset = parameters.number("offset")?.unwrap_or(0);
    let limit = parameters.number("limit")?.unwrap_or(USUAL_ROWS).min(MAX_ROWS);
    let error = |weight| selected.error(weight).map(f64::round);
    let rows: Vec<Row<'_>> = functions
        .rows
        .iter()
        .skip(offset)
        .take(limit)
        .map(|one| Row {
            name: one.name,
            module: one.module,
            file: one.file,
            own: one.own,
            total: one.total,
            self_error: error(one.own),
            total_error: error(one.total),
        })
        .collect();
    Ok(Answer::json(&json!({
        "unit": selected.unit(),
        "total": selected.total,
        "count": functions.rows.len(),
        "without_stack": functions.without_stack,
        "rows": rows,
    })))
}

/// `api/search`
pub(super) fn search(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Some(term) = question.parameters.some("term") else {
        return Err(invalid("term", "", "a text to search for"));
    };
    let selected = question.table.select(&question.parameters.selection()?)?;
    let found = selected.search(term)?;
    let functions: Vec<Value> = found
        .functions
        .iter()
        .take(MAX_FOUND)
        .map(|one| {
            json!({ "name": one.name, "module": one.module, "self": one.own, "total": one.total })
        })
        .collect();
    Ok(Answer::json(&json!({
        "total": found.total,
        "share": share(found.total, selected.total),
        "count": found.functions.len(),
        "functions": functions,
    })))
}
