//! The `profpipe` program: reads the command line, runs one command, sets the exit code.

mod cli;
mod commands;
mod files;
mod memory;
mod status;
mod telemetry;
mod usage;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command.run() {
        Ok(code) => code,
        Err(error) => commands::fail(&error),
    }
}
