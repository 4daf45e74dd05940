//! `profpipe top`: the functions that cost most, as a table or as JSON.

use std::process::ExitCode;

use anyhow::Context;
use profpipe_formats::report::{self, Column};

use super::waits;
use crate::{cli, files};

pub(crate) fn run(arguments: cli::Top) -> anyhow::Result<ExitCode> {
    let mut input = files::read_all(&arguments.files)?;
    let choice = arguments.choice.sample_type.as_deref();
    let sample_type = waits::only(&mut input, arguments.waiting.wait.as_deref(), choice)?;
    let by = match arguments.by {
        cli::SortBy::Own => Column::Own,
        cli::SortBy::Total => Column::Total,
    };
    let top = report::top(&input.profiles, sample_type, by).with_context(|| input.names())?;
    input.say_notes();
    input.note_files_left_out(sample_type);
    input.note_types_left_out(sample_type);
    let text = match arguments.format {
        cli::Format::Text => top.to_text(arguments.n),
        cli::Format::Json => top.to_json(arguments.n) + "\n",
    };
    files::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
