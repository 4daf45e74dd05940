//! `profpipe run`.

use std::process::ExitCode;

use crate::cli;

pub(crate) fn run(_arguments: cli::Run) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this command is not written yet")
}
