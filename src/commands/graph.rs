//! `profpipe graph`: the pipelines of a configuration, for Graphviz.

use std::process::ExitCode;

use super::validate;
use crate::cli;
use crate::files::print;

pub(crate) fn run(arguments: cli::ConfigFiles) -> anyhow::Result<ExitCode> {
    match validate::builder(&arguments.config, &arguments.set).plan() {
        Ok(plan) => {
            print(&plan.to_dot())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => Ok(validate::report(&errors)),
    }
}
