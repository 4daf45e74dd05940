//! `profpipe flamegraph`: a profile as a picture.

use std::process::ExitCode;

use crate::cli;
use crate::files::{self, FileFormat};
use crate::mistake::Mistake;

pub(crate) fn run(arguments: cli::Flamegraph) -> anyhow::Result<ExitCode> {
    let output = arguments.output.as_path();
    if FileFormat::to_write(output).ok() != Some(FileFormat::Svg) {
        let output = output.display();
        return Err(
            Mistake(format!("{output}: the name of a flame graph must end with .svg")).into()
        );
    }
    let profiles = files::read_all(&arguments.files)?;
    files::write(output, &profiles, arguments.choice.sample_type.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
