//! `profpipe queue`: looks at a queue on disk, checks it, replays its dead letters.
//!
//! The work is `profpipe_queue::tools`; here it is printed.

use std::fmt::Write as _;
use std::process::ExitCode;

use profpipe_engine::component::Error;
use profpipe_queue::QueueError;
use profpipe_queue::tools::{self, Inspection, Verification};

use super::tell;
use crate::cli::{self, Format, QueueAction};
use crate::files::print;

pub(crate) fn run(arguments: cli::Queue) -> anyhow::Result<ExitCode> {
    match arguments.action {
        QueueAction::Inspect(arguments) => inspect(&arguments),
        QueueAction::Verify(arguments) => verify(&arguments),
        QueueAction::Replay(arguments) => replay(&arguments),
        QueueAction::Drop(arguments) => discard(&arguments),
    }
}

fn one_line(error: QueueError) -> anyhow::Error {
    anyhow::anyhow!(Error::from(error).chain())
}

fn inspect(arguments: &cli::QueueInspect) -> anyhow::Result<ExitCode> {
    let inspection = tools::inspect(&arguments.directory).map_err(one_line)?;
    match arguments.format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&inspection)?))?,
        Format::Text => print(&describe(&inspection)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(inspection: &Inspection) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let bytes: u64 = inspection.segments.iter().map(|segment| segment.bytes).sum();
    let records: u64 = inspection.segments.iter().map(|segment| segment.records).sum();
    let in_use = if inspection.in_use { ", in use" } else { "" };
    let count = inspection.segments.len();
    writeln!(text, "{count} segments, {records} records, {bytes} bytes{in_use}")?;
    for segment in &inspection.segments {
        writeln!(text, "  {}  {} records, {} bytes", segment.name, segment.records, segment.bytes)?;
    }
    for destination in &inspection.destinations {
        let pending = destination.pending;
        writeln!(
            text,
            "{}: {} records wait ({} bytes, {} samples) from number {}",
            destination.id, pending.records, pending.bytes, pending.samples, destination.cursor
        )?;
        writeln!(
            text,
            "  {} delivered, {} dropped, {} damaged, {} dead letters ({} bytes)",
            destination.delivered_records,
            destination.dropped_records,
            destination.lost_records,
            destination.dead_letters,
            destination.dead_bytes
        )?;
    }
    writeln!(text, "quarantine: {} bytes", inspection.quarantine_bytes)?;
    Ok(text)
}

fn verify(arguments: &cli::QueueVerify) -> anyhow::Result<ExitCode> {
    let report = tools::verify(&arguments.directory).map_err(one_line)?;
    match arguments.format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Format::Text => print(&verified(&report)?)?,
    }
    Ok(ExitCode::from(u8::from(!report.damage.is_empty())))
}

fn verified(report: &Verification) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for line in &report.damage {
        writeln!(text, "{line}")?;
    }
    for line in &report.notes {
        writeln!(text, "note: {line}")?;
    }
    let sound = match report.damage.len() {
        0 => "no damage".to_owned(),
        1 => "1 place is damaged".to_owned(),
        count => format!("{count} places are damaged"),
    };
    writeln!(
        text,
        "{} segments, {} records, {} bytes, {} dead letters: {sound}",
        report.segments, report.records, report.bytes, report.dead_letters
    )?;
    Ok(text)
}

fn replay(arguments: &cli::QueueReplay) -> anyhow::Result<ExitCode> {
    let destination = arguments.destination.as_deref();
    let replay = tools::replay(&arguments.directory, destination).map_err(one_line)?;
    for problem in &replay.problems {
        tell(&format!("profpipe: {problem}"));
    }
    print(&format!("{} dead letters wait in the queue again\n", replay.replayed))?;
    Ok(ExitCode::from(u8::from(!replay.problems.is_empty())))
}

fn discard(arguments: &cli::QueueDrop) -> anyhow::Result<ExitCode> {
    let id = &arguments.destination;
    let dropped = tools::discard(&arguments.directory, id).map_err(one_line)?;
    print(&format!("{dropped} records of {id} dropped\n"))?;
    Ok(ExitCode::SUCCESS)
}
