//! Two selections compared.

use profpipe_store::QueryError;
use profpipe_store::diff::{Cost, SideTotal};
use serde_json::{Value, json};

use super::Question;
use super::trees::answer_of;
use crate::answer::Answer;
use crate::parameters::invalid;

/// How many functions are sent.
const MAX_ROWS: usize = 1_000;

/// `api/diff`
pub(super) fn diff(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Question { parameters, table, .. } = question;
    let by = match parameters.text("by") {
        "" | "self" => Cost::Own,
        "total" => Cost::Total,
        other => return Err(invalid("by", other, "self or total")),
    };
    let (base, new) = (parameters.base_selection()?, parameters.selection()?);
    let diff = table.diff(&base, &new, by, &question.tree_options()?)?;
    let side = |side: SideTotal| json!({ "total": side.total, "samples": side.samples, "windows": side.runs });
    let limit = parameters.number("limit")?.unwrap_or(MAX_ROWS).min(MAX_ROWS);
    let rows: Vec<Value> = diff
        .rows
        .iter()
        .take(limit)
        .map(|row| {
            let [base_share, new_share] = row.share;
            json!({
                "name": row.name,
                "module": row.module,
                "base": row.cost[0],
                "new": row.cost[1],
                "base_share": base_share,
                "new_share": new_share,
                "delta_share": new_share - base_share,
                "low": row.interval.map(|it| it.0),
                "high": row.interval.map(|it| it.1),
                "q": row.q,
                "class": row.class.name(),
            })
        })
        .collect();
    let environment: Vec<Value> = diff
        .environment
        .iter()
        .map(|it| json!({ "key": it.key, "base": it.base, "new": it.new }))
        .collect();
    let selected = table.select(&new)?;
    let [of_base, of_new] = diff.sides;
    Ok(Answer::json(&json!({
        "unit": selected.unit(),
        "base": side(of_base),
        "new": side(of_new),
        "decidable": diff.why.is_none(),
        "why": diff.why,
        "environment": environment,
        "count": diff.rows.len(),
        "rows": rows,
        "tree": answer_of(table, &diff.tree, &selected, question.wants_hashes()),
    })))
}
