//! Profile files: reads and writes every format.
//!
//! What is read is told by its content (`input`), what is written by the end of the name or by what
//! the user says (`output`). `-` is standard input and output. Errors name the file and tell what
//! would be right; what is left out of a file or a report is said on standard error.

mod input;
mod output;

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;

pub(crate) use input::{Input, read, read_all};
pub(crate) use output::{FileFormat, Output, encode, save};

/// Whether a path stands for standard input or output.
fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Prints to standard output. A reader that has seen enough is not an error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes()).context("cannot print to standard output")
}

fn print_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Says something beside the result. There is nobody to be told if that does not work.
pub(crate) fn note(line: &str) {
    let line: String =
        line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let _ = writeln!(std::io::stderr(), "profpipe: {line}");
}
