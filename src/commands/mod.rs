//! One file per command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what commands are for")]

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::Command;
use crate::mistake::Mistake;

mod components;
mod convert;
mod diff;
mod doctor;
mod flamegraph;
mod graph;
mod list;
mod queue;
mod record;
mod run;
mod symbolize;
mod symbolizer_worker;
mod symbols;
mod top;
mod ui;
mod validate;
mod waits;

/// Runs the command that was typed.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Graph(arguments) => graph::run(arguments),
        Command::Components(arguments) => components::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Record(arguments) => record::run(arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Ui(arguments) => ui::run(&arguments),
        Command::Flamegraph(arguments) => flamegraph::run(arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Symbolize(arguments) => symbolize::run(arguments),
        Command::Symbols(arguments) => symbols::run(arguments),
        Command::Queue(arguments) => queue::run(arguments),
        Command::SymbolizerWorker => symbolizer_worker::run(),
    }
}

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
    ExitCode::from(if error.is::<Mistake>() { 2 } else { 1 })
}

/// Prints a line to standard error. There is nobody to be told if that does not work.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
