//! `profpipe symbolizer-worker`: the unprivileged process that reads binaries.

use std::process::ExitCode;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    Ok(profpipe_processors::symbolize::worker_main())
}
