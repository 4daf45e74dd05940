//! `profpipe doctor`: what this host allows, and for each thing missing what it costs and the
//! command that grants it. With `--agent`, how a running one fares (`agent`).

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use profpipe_receivers::perf::{self, Finding, Level};
use serde_json::json;

use crate::{cli, files};

mod agent;

/// Where distributions put separate debug files, by build id.
const DEBUG_DIRECTORY: &str = "/usr/lib/debug/.build-id";

pub(crate) fn run(arguments: cli::Doctor) -> anyhow::Result<ExitCode> {
    let mut findings = perf::probe();
    findings.extend(symbols(Path::new(DEBUG_DIRECTORY), &os_release()));
    if let Some(address) = &arguments.agent {
        findings.extend(agent::ask(address)?);
    }
    let works = works(&findings);
    let text = match arguments.format {
        cli::Format::Text => text(&findings),
        cli::Format::Json => json_of(&findings) + "\n",
    };
    files::print(&text)?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if profiling works at all.
fn works(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level != Level::Missing)
}

/// What names and lines can be expected.
fn symbols(debug_directory: &Path, os_release: &str) -> Vec<Finding> {
    let has_files = std::fs::read_dir(debug_directory).is_ok_and(|mut all| all.next().is_some());
    let shown = debug_directory.display();
    let directory = if has_files {
        Finding {
            name: "separate debug files",
            level: Level::Good,
            detail: format!("there are some in {shown}"),
            cost: String::new(),
            grant: String::new(),
        }
    } else {
        Finding {
            name: "separate debug files",
            level: Level::Limited,
            detail: format!("none in {shown}"),
            cost: "system libraries show fewer functions, and no files and lines".into(),
            grant: debug_packages(os_release).into(),
        }
    };
    let debuginfod = Finding {
        name: "debuginfod",
        level: Level::Limited,
        detail: "not asked unless a configuration says so".into(),
        cost: "programs whose debug files are not on this host show no files and lines".into(),
        grant: "`debuginfod: { urls: [https://…] }` in the settings of `symbolize`".into(),
    };
    vec![directory, debuginfod]
}

fn os_release() -> String {
    std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// The command that installs debug files of the C library, which every program has.
fn debug_packages(os_release: &str) -> &'static str {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let families = format!("{} {}", value("ID="), value("ID_LIKE="));
    let is = |family: &str| families.split(' ').any(|one| one == family);
    if is("debian") || is("ubuntu") {
        "sudo apt install libc6-dbg"
    } else if is("fedora") || is("rhel") || is("centos") {
        "sudo dnf debuginfo-install glibc"
    } else if is("suse") || is("opensuse") {
        "sudo zypper install glibc-debuginfo"
    } else {
        "install the debug packages of your distribution, first the C library's"
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    for finding in findings {
        let Finding { name, detail, cost, grant, .. } = finding;
        let level = level(finding.level);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "{level:<8} {name:<width$}  {detail}");
        for (title, value) in [("costs", cost), ("grant", grant)] {
            if !value.is_empty() {
                let _ = writeln!(text, "{:<8} {:<width$}  {title}: {value}", "", "");
            }
        }
    }
    let lacking = findings.iter().filter(|finding| !finding.ok()).count();
    let verdict = if !works(findings) {
        "profiling does not work here: see `missing` above"
    } else if lacking > 0 {
        "profiling works, with the limits above"
    } else {
        "profiling works, and nothing is missing"
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn json_of(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "level": level(finding.level),
                "detail": finding.detail,
                "cost": finding.cost,
                "grant": finding.grant,
            })
        })
        .collect();
    json!({ "works": works(findings), "findings": list }).to_string()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Good => "ok",
        Level::Limited => "limited",
        Level::Missing => "missing",
    }
}

#[cfg(test)]
mod tests;
