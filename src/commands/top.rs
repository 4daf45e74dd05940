//! `profpipe top`.

use std::process::ExitCode;

use profpipe_pipeline::report::{self, Column};

use crate::{cli, files};

pub(crate) fn run(arguments: cli::Top) -> anyhow::Result<ExitCode> {
    let profiles = files::read(&arguments.file)?;
    let by = match arguments.by {
        cli::SortBy::Own => Column::Own,
        cli::SortBy::Total => Column::Total,
    };
    let top = report::top(&profiles, arguments.choice.sample_type.as_deref(), by)?;
    println!(
        "{}/{} total {} samples {} lost {}",
        top.profile_type, top.unit, top.total, top.samples, top.lost
    );
    for one in top.functions.iter().take(arguments.n) {
        println!("{:>14} {:>14}  {}  {}", one.own, one.total, one.name, one.module);
    }
    Ok(ExitCode::SUCCESS)
}
