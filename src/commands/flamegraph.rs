//! `profpipe flamegraph`: a profile as a picture.

use std::process::ExitCode;

use super::waits;
use crate::cli;
use crate::files::{self, FileFormat, Output};
use crate::mistake::Mistake;

pub(crate) fn run(arguments: cli::Flamegraph) -> anyhow::Result<ExitCode> {
    let output = arguments.output.as_path();
    let is_standard = output.as_os_str() == "-";
    if !is_standard && FileFormat::to_write(output).ok() != Some(FileFormat::Svg) {
        let output = output.display();
        return Err(
            Mistake(format!("{output}: the name of a flame graph must end with .svg")).into()
        );
    }
    let mut input = files::read_all(&arguments.files)?;
    let choice = arguments.choice.sample_type.as_deref();
    let sample_type = waits::only(&mut input, arguments.waiting.wait.as_deref(), choice)?;
    Output::of_format(output, FileFormat::Svg)?.write(&input.profiles, sample_type)?;
    input.say_notes();
    input.note_files_left_out(sample_type);
    Ok(ExitCode::SUCCESS)
}
