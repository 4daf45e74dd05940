//! What the page asks for: `api/…`, as `ui/README.md` describes it. Everything is GET and JSON.

mod diff;
mod download;
mod functions;
mod session;
mod source;
mod trees;

use profpipe_store::{QueryError, Table};

use crate::answer::Answer;
use crate::options::Options;
use crate::parameters::Parameters;

/// Answers a request; nothing if there is no such path.
pub(crate) fn answer(
    options: &Options,
    name: &str,
    query: &str,
) -> Option<Result<Answer, QueryError>> {
    let respond: fn(&Question<'_>) -> Result<Answer, QueryError> = match name {
        "session" => session::session,
        "labels" => session::labels,
        "series" => session::series,
        "threads" => session::threads,
        "tree" => trees::tree,
        "sandwich" => trees::sandwich,
        "functions" => functions::functions,
        "search" => functions::search,
        "diff" => diff::diff,
        "source" => source::source,
        "download" => download::download,
        "pprof" => download::pprof,
        _ => return None,
    };
    Some(question(options, query, respond))
}

fn question(
    options: &Options,
    query: &str,
    respond: fn(&Question<'_>) -> Result<Answer, QueryError>,
) -> Result<Answer, QueryError> {
    let parameters = Parameters::parse(query)?;
    let table = options.source.table(None)?;
    respond(&Question { options, parameters: &parameters, table: &table })
}

/// What is asked, and of what.
pub(crate) struct Question<'q> {
    pub(crate) options: &'q Options,
    pub(crate) parameters: &'q Parameters,
    pub(crate) table: &'q Table,
}

/// A part of a whole.
fn share(part: i64, total: i64) -> f64 {
    if total == 0 { 0.0 } else { part as f64 / total as f64 }
}

/// A hash as it is written.
fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}
