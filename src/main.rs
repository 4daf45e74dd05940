//! The `profpipe` program: reads the command line, runs one command, sets the exit code.

mod account;
mod cli;
mod commands;
mod files;
mod flamegraph;
mod leaving;
mod memory;
mod mistake;
mod status;
mod telemetry;
mod usage;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse().command) {
        Ok(code) => code,
        Err(error) => commands::fail(&error),
    }
}
