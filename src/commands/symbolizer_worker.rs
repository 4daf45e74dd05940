//! `profpipe symbolizer-worker`: the unprivileged process that reads binaries.

use std::process::ExitCode;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    anyhow::bail!("this command is not written yet")
}
