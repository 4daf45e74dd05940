//! `profpipe components`: what this program is made of.

use std::process::ExitCode;

use profpipe::registry;
use serde_json::json;

use crate::cli;

pub(crate) fn run(arguments: cli::Components) -> anyhow::Result<ExitCode> {
    match arguments.format {
        cli::Format::Json => {
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
            println!("{}", serde_json::to_string_pretty(&list)?);
        }
        cli::Format::Text => {
            for kind in ["receiver", "processor", "exporter"] {
                println!("{kind}s:");
                for factory in registry::components() {
                    if json!(factory.kind) != kind {
                        continue;
                    }
                    let stability = json!(factory.stability);
                    let stability = stability.as_str().unwrap_or_default();
                    let aliases = match factory.aliases {
                        [] => String::new(),
                        aliases => format!(" (also {})", aliases.join(", ")),
                    };
                    println!("  {:<20} {stability:<7} {}{aliases}", factory.name, factory.about);
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
