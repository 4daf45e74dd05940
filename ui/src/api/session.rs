//! What there is: files, types, labels, and how much of it when.

use profpipe_store::{By, ProfileType, QueryError, Selection, Series, SeriesOptions};
use serde::Serialize;
use serde_json::{Value, json};

use super::Question;
use crate::answer::Answer;

/// The most values of a label that are listed.
const MAX_VALUES: usize = 100;

/// `api/session`
pub(super) fn session(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Question { options, table, .. } = question;
    let types: Vec<Value> = table.types().iter().map(|one| describe(one, table.types())).collect();
    let default = table.default_type();
    let millis = |nanos: i64| nanos.div_euclid(1_000_000);
    let time = default.and_then(|one| one.time);
    let all = Selection::default();
    let (loss, environment) = match default {
        Some(_) => (table.select(&all)?.loss, table.environment(&all)?),
        None => Default::default(),
    };
    let files: Vec<Value> = table
        .files()
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes }))
        .collect();
    let formats: Vec<&str> = options.exports.formats().iter().map(|format| format.name).collect();
    Ok(Answer::json(&json!({
        "version": options.version,
        "source": "files",
        "title": options.title,
        "files": files,
        "types": types,
        "default_type": default.map(|one| one.id.as_str()),
        "from": time.map(|(first, _)| millis(first)),
        "until": time.map(|(_, last)| millis(last)),
        "timed": table.is_timed(),
        "labels": table.label_names(),
        "loss": super::trees::loss(&loss),
        "environment": environment,
        "formats": formats,
    })))
}

/// A type, by a name that no other one has.
fn describe(one: &ProfileType, all: &[ProfileType]) -> Value {
    let is_ambiguous = all.iter().filter(|other| other.kind() == one.kind()).count() > 1;
    let name = match is_ambiguous {
        true => format!("{} {}", one.id.parts()[0], one.kind()),
        false => one.kind().to_owned(),
    };
    json!({
        "id": one.id.as_str(),
        "name": name,
        "unit": one.unit(),
        "total": one.total,
        "samples": one.samples,
    })
}

/// `api/labels`
pub(super) fn labels(question: &Question<'_>) -> Result<Answer, QueryError> {
    let found = question.table.label_values(&question.parameters.selection()?, MAX_VALUES)?;
    let labels: Vec<Value> = found
        .into_iter()
        .map(|label| {
            let values = label.values.into_iter();
            let values: Vec<Value> =
                values.map(|(value, total)| json!({ "value": value, "total": total })).collect();
            json!({ "name": label.name, "values": values, "more": label.more })
        })
        .collect();
    Ok(Answer::json(&json!({ "labels": labels })))
}

#[derive(Serialize)]
struct SeriesAnswer<'a> {
    from: i64,
    step: i64,
    unit: &'a str,
    rows: Vec<SeriesRow<'a>>,
    more: usize,
}

#[derive(Serialize)]
struct SeriesRow<'a> {
    key: &'a str,
    total: i64,
    values: Vec<Value>,
}

/// `api/series`
pub(super) fn series(question: &Question<'_>) -> Result<Answer, QueryError> {
    let by = match question.parameters.text("by") {
        "" | "none" => By::None,
        "thread" => By::Thread,
        "process" => By::Process,
        label => By::Label(label.to_owned()),
    };
    series_by(question, by)
}

/// `api/threads`
pub(super) fn threads(question: &Question<'_>) -> Result<Answer, QueryError> {
    series_by(question, By::Thread)
}

fn series_by(question: &Question<'_>, by: By) -> Result<Answer, QueryError> {
    let Question { parameters, table, .. } = question;
    let selection = parameters.selection()?;
    let points = parameters.number("points")?.unwrap_or(600);
    let rows = parameters.number("limit")?.unwrap_or(50);
    let series = table.series(&selection, &SeriesOptions { by, points, rows })?;
    let unit = table.select_type(&selection)?.unit();
    Ok(Answer::json(&answer_of(&series, unit)))
}

fn answer_of<'a>(series: &'a Series, unit: &'a str) -> SeriesAnswer<'a> {
    // Whole numbers as such: they are shorter, and exact.
    let number = |value: &f64| match value.fract() == 0.0 && value.abs() < 9e15 {
        true => Value::from(*value as i64),
        false => Value::from((value * 10.0).round() / 10.0),
    };
    let row = |row: &'a profpipe_store::SeriesRow| SeriesRow {
        key: &row.key,
        total: row.total,
        values: row.values.iter().map(number).collect(),
    };
    SeriesAnswer {
        from: series.from,
        step: series.step,
        unit,
        rows: series.rows.iter().map(row).collect(),
        more: series.more,
    }
}
