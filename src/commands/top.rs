//! `profpipe top`: the functions that cost most, as a table or as JSON.

use std::process::ExitCode;

use anyhow::Context;
use profpipe_formats::report::{self, Column};

use crate::{cli, files};

pub(crate) fn run(arguments: cli::Top) -> anyhow::Result<ExitCode> {
    let profiles = files::read_all(&arguments.files)?;
    let by = match arguments.by {
        cli::SortBy::Own => Column::Own,
        cli::SortBy::Total => Column::Total,
    };
    let top = report::top(&profiles, arguments.choice.sample_type.as_deref(), by)
        .with_context(|| files::names(&arguments.files))?;
    let text = match arguments.format {
        cli::Format::Text => top.to_text(arguments.n),
        cli::Format::Json => top.to_json(arguments.n) + "\n",
    };
    files::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
