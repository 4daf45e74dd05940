//! Selections as files.

use profpipe_formats::pprof::encode;
use profpipe_profile::Profiles;
use profpipe_store::{QueryError, Selection};

use super::Question;
use crate::answer::Answer;
use crate::parameters::{Parameters, invalid};
use crate::pyroscope::render_query;

/// `api/download`
pub(super) fn download(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Question { parameters, table, options } = question;
    let wanted = parameters.text("format");
    let formats = options.exports.formats();
    let Some(format) = formats.iter().find(|format| format.name == wanted) else {
        let names: Vec<&str> = formats.iter().map(|format| format.name).collect();
        return Err(invalid("format", wanted, &format!("one of {}", names.join(", "))));
    };
    let profiles = table.export(&parameters.selection()?)?;
    not_empty(&profiles)?;
    let body = options.exports.write(format, &profiles).map_err(QueryError::TooLarge)?;
    let file = Some(format!("profile{}", format.extension));
    Ok(Answer { file, ..Answer::new(format.content_type, body) })
}

/// `api/pprof`, for `go tool pprof`: the query is that of `/pyroscope/render`, and may be left out.
pub(crate) fn pprof(question: &Question<'_>) -> Result<Answer, QueryError> {
    let selection = selection(question.parameters)?;
    let profiles = question.table.export(&selection)?;
    not_empty(&profiles)?;
    let body = encode(&profiles).map_err(|error| QueryError::TooLarge(error.to_string()))?;
    Ok(Answer::new("application/octet-stream", body))
}

fn selection(parameters: &Parameters) -> Result<Selection, QueryError> {
    match parameters.text("query") {
        // As the page asks.
        "" => parameters.selection(),
        query if query.starts_with('{') => parameters.selection(),
        _ => render_query(parameters, "query", "from", "until"),
    }
}

fn not_empty(profiles: &Profiles) -> Result<(), QueryError> {
    match profiles.sample_count() {
        0 => Err(QueryError::NotFound("there are no samples in the selection".to_owned())),
        _ => Ok(()),
    }
}
