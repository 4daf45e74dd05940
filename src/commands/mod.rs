//! One file per command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what commands are for")]

use std::io::Write as _;
use std::process::ExitCode;

pub(crate) mod components;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod flamegraph;
pub(crate) mod graph;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod symbolizer_worker;
pub(crate) mod top;
pub(crate) mod validate;

/// A mistake in how the program was called or configured: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints an error in one line and chooses the exit code.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // A cause that its effect already tells is not told again.
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    tell(&format!("profpipe: {}", line.replace('\n', " ")));
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// Prints a line to standard error. There is nobody to be told if that does not work.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
