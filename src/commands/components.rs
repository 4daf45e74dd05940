//! `profpipe components`: what this program is made of.

use std::fmt::Write;
use std::process::ExitCode;

use profpipe::{Kind, registry};
use serde_json::json;

use crate::cli;
use crate::files::print;

pub(crate) fn run(arguments: cli::Components) -> anyhow::Result<ExitCode> {
    match arguments.format {
        cli::Format::Json => print(&json()?)?,
        cli::Format::Text => print(&text()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is known of every component.
fn json() -> serde_json::Result<String> {
    let list: Vec<_> = registry::components()
        .map(|factory| {
            json!({
                "name": factory.name,
                "kind": factory.kind,
                "aliases": factory.aliases,
                "stability": factory.stability,
                "about": factory.about,
                "defaults": (factory.defaults)(),
                "schema": (factory.schema)(),
            })
        })
        .collect();
    serde_json::to_string_pretty(&list).map(|text| text + "\n")
}

/// A line for each component, by kind.
fn text() -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let kinds = [
        (Kind::Receiver, "receivers"),
        (Kind::Processor, "processors"),
        (Kind::Exporter, "exporters"),
        (Kind::Extension, "extensions"),
    ];
    for (kind, title) in kinds {
        writeln!(text, "{title}:")?;
        for factory in registry::components().filter(|factory| factory.kind == kind) {
            let stability = json!(factory.stability);
            let stability = stability.as_str().unwrap_or_default();
            let aliases = match factory.aliases {
                [] => String::new(),
                aliases => format!(" (also {})", aliases.join(", ")),
            };
            writeln!(text, "  {:<20} {stability:<7} {}{aliases}", factory.name, factory.about)?;
        }
    }
    Ok(text)
}
