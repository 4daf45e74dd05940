//! `profpipe validate`: prints every mistake of a configuration, or that there is none.

use std::process::ExitCode;

use profpipe::{ConfigErrors, Engine, Environment, Plan};

use super::tell;
use crate::cli;
use crate::files::print;

pub(crate) fn run(arguments: cli::ConfigFiles) -> anyhow::Result<ExitCode> {
    let builder = builder(&arguments.config, &arguments.set);
    let plan = match builder.plan() {
        Ok(plan) => plan,
        Err(errors) => return Ok(report(&errors)),
    };
    print_warnings(&plan);
    let files: Vec<String> =
        arguments.config.iter().map(|file| file.display().to_string()).collect();
    let count = plan.pipelines.len();
    let plural = if count == 1 { "" } else { "s" };
    print(&format!("{}: ok, {count} pipeline{plural}\n", files.join(", ")))?;
    Ok(ExitCode::SUCCESS)
}

/// An engine of these files, this environment and these overrides.
pub(crate) fn builder(files: &[std::path::PathBuf], sets: &[String]) -> profpipe::Builder {
    let mut builder = Engine::builder().config_files(files).environment(Environment::of_process());
    for set in sets {
        builder = builder.set(set);
    }
    builder
}

/// Prints every mistake, one a line; the exit code of a wrong configuration.
pub(crate) fn report(errors: &ConfigErrors) -> ExitCode {
    tell(&errors.to_string());
    let count = errors.0.len();
    let plural = if count == 1 { "" } else { "s" };
    tell(&format!("profpipe: {count} mistake{plural} in the configuration"));
    ExitCode::from(2)
}

pub(crate) fn print_warnings(plan: &Plan) {
    for warning in &plan.warnings {
        tell(&format!("warning: {warning}"));
    }
}
