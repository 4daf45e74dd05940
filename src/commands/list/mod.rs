//! `profpipe list`: the source lines of functions with what they cost, as `go tool pprof -list` prints
//! them, and with `--asm` the instructions.
//!
//! What is printed is made by `report::list`; [`sources`] finds the lines of source files, [`instructions`]
//! those of binaries.

mod instructions;
mod sources;

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use profpipe_formats::report::{self, Listing, Routine};
use profpipe_profile::attribute_names::BUILD_ID_GNU;
use profpipe_profile::{Dictionary, MappingIx};
use regex::Regex;

use self::instructions::Binaries;
pub(super) use self::sources::Sources;
use crate::mistake::Mistake;
use crate::{cli, files};

/// The most lines that are printed of one function: what a profile says of lines may be anything.
const MAX_LINES: i64 = 100_000;

pub(crate) fn run(arguments: &cli::List) -> anyhow::Result<ExitCode> {
    let function = Regex::new(&arguments.function).map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().to_owned();
        Mistake(format!("list: `{}` is not a regular expression: {last}", arguments.function))
    })?;
    let mut sources = Sources::new(&arguments.source, &arguments.trim, &arguments.debuginfod)?;
    let input = files::read_all(&arguments.files)?;
    let sample_type = arguments.choice.sample_type.as_deref();
    let listing =
        report::list(&input.profiles, sample_type, &function).with_context(|| input.names())?;
    if listing.routines.is_empty() {
        bail!(
            "{}: no function matches `{}`; `profpipe top` lists them",
            input.names(),
            arguments.function
        );
    }
    let mut binaries = arguments.asm.then(|| Binaries::new(&input.profiles.dictionary));
    let mut text = format!("Total: {}\n", label(listing.total, &listing.unit));
    for routine in &listing.routines {
        let is_elsewhere = |other: &Routine| other.name == routine.name && !other.file.is_empty();
        if routine.file.is_empty() && listing.routines.iter().any(is_elsewhere) && !arguments.asm {
            // As in pprof: what is known of a function goes before what is not.
            continue;
        }
        if routine.file.is_empty() {
            let _ = writeln!(text, "No source information for {}", printable(&routine.name));
        } else {
            push_source(&mut text, &listing, routine, &mut sources, &input.profiles);
        }
        if let Some(binaries) = &mut binaries {
            push_instructions(&mut text, &listing, routine, binaries);
        }
    }
    input.say_notes();
    input.note_files_left_out(sample_type);
    files::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn push_source(
    text: &mut String,
    listing: &Listing,
    routine: &Routine,
    sources: &mut Sources,
    profiles: &profpipe_profile::Profiles,
) {
    let cost = routine.cost();
    let _ = writeln!(
        text,
        "ROUTINE ======================== {} in {}",
        printable(&routine.name),
        printable(&routine.file)
    );
    let share = share(cost.total, listing.total);
    let _ = writeln!(
        text,
        "{:>10} {:>10} (flat, cum) {share} of Total",
        signed_label(cost.own, &listing.unit),
        signed_label(cost.total, &listing.unit)
    );
    let builds = || build_ids(profiles, routine);
    let lines = match sources.find(&routine.file, builds) {
        Ok(lines) => lines,
        Err(error) => {
            let _ = writeln!(text, " Error: {error}");
            return;
        }
    };
    let (start, end) = routine.range();
    for number in start..=end.min(start.saturating_add(MAX_LINES)) {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let Some(line) = at.and_then(|at| lines.get(at)) else { break };
        let costs = routine.lines.iter().filter(|(line, ..)| *line == number);
        let (own, total) = costs.fold((0_i64, 0_i64), |(own, total), (_, _, cost)| {
            (own.saturating_add(cost.own), total.saturating_add(cost.total))
        });
        let _ = writeln!(
            text,
            "{:>10} {:>10} {number:>6}:{}",
            or_dot(own, &listing.unit),
            or_dot(total, &listing.unit),
            printable(line)
        );
    }
}

fn push_instructions(
    text: &mut String,
    listing: &Listing,
    routine: &Routine,
    binaries: &mut Binaries<'_>,
) {
    for part in binaries.parts(&routine.instructions) {
        let _ = writeln!(
            text,
            "INSTRUCTIONS =================== {} in {}",
            printable(&routine.name),
            printable(&part.module)
        );
        match part.instructions {
            Err(error) => {
                let _ = writeln!(text, " Error: {error}");
            }
            Ok(instructions) => {
                for one in instructions {
                    let own = or_dot(one.cost.own, &listing.unit);
                    let total = or_dot(one.cost.total, &listing.unit);
                    let _ =
                        writeln!(text, "{own:>10} {total:>10} {:>10x}: {}", one.address, one.text);
                }
            }
        }
    }
}

/// The build ids of the binaries that the code of a function is in.
fn build_ids(profiles: &profpipe_profile::Profiles, routine: &Routine) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for instruction in &routine.instructions {
        let id = build_id(&profiles.dictionary, instruction.mapping).map(str::to_owned);
        found.extend(id.filter(|id| !found.contains(id)));
    }
    found
}

/// The GNU build id of a mapping's binary, in hex, if the profile has it.
fn build_id(dictionary: &Dictionary, mapping: MappingIx) -> Option<&str> {
    dictionary.mappings.get(mapping).attributes.iter().find_map(|at| {
        let is_id = dictionary.strings.get(dictionary.attributes.key(*at)) == BUILD_ID_GNU;
        is_id.then(|| dictionary.attributes.value(*at).as_str()).flatten()
    })
}

/// An amount of a line or an instruction.
fn or_dot(value: i64, unit: &str) -> String {
    if value == 0 { ".".into() } else { signed_label(value, unit) }
}

/// An amount as pprof prints it in listings.
fn label(value: u128, unit: &str) -> String {
    i64::try_from(value).map_or_else(|_| value.to_string(), |value| signed_label(value, unit))
}

fn signed_label(value: i64, unit: &str) -> String {
    const TIMES: [(f64, &str); 5] =
        [(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s"), (3.6e12, "hrs")];
    if unit != "nanoseconds" {
        return report::amount(value, unit);
    }
    let amount = value as f64;
    let (factor, name) =
        TIMES.into_iter().rev().find(|(factor, _)| amount.abs() >= *factor).unwrap_or((1.0, "ns"));
    let text = format!("{:.2}", amount / factor);
    let text = text.strip_suffix(".00").unwrap_or(&text);
    if text == "0" || text == "-0" { "0".into() } else { format!("{text}{name}") }
}

/// A share as pprof prints it: two digits behind the point, or two that count where it is small.
fn share(part: i64, total: u128) -> String {
    let ratio = if total == 0 { 0.0 } else { (part as f64 / total as f64).abs() * 100.0 };
    if (99.95..=100.05).contains(&ratio) {
        return "  100%".into();
    }
    if ratio >= 1.0 {
        return format!("{:>5}%", format!("{ratio:.2}"));
    }
    if ratio == 0.0 {
        return "    0%".into();
    }
    // Two significant digits, without zeros at the end.
    let digits = (1 - ratio.log10().floor() as i32).clamp(1, 9) as usize;
    if ratio < 1e-4 {
        let text = format!("{ratio:.1e}");
        let (number, power) = text.split_once("e-").unwrap_or((&text, "0"));
        return format!("{}e-{power:0>2}%", number.trim_end_matches(".0"));
    }
    let text = format!("{ratio:.digits$}");
    format!("{:>5}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Names and sources come from others; none of them may steer the terminal.
fn printable(text: &str) -> String {
    let show = |c: char| if c.is_control() && c != '\t' { '?' } else { c };
    text.trim_end_matches(['\n', '\r']).chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: amounts and shares, as `go tool pprof -list` prints them.
    /// Guarantees: the same text.
    #[test]
    fn numbers_are_those_of_pprof() {
        for (value, text) in [
            (10_000_000, "10ms"),
            (1_230_000_000, "1.23s"),
            (1_000_000_000, "1s"),
            (150_000, "150us"),
            (1_234_567, "1.23ms"),
            (7, "7ns"),
            (-20_000_000, "-20ms"),
            (7_200_000_000_000, "2hrs"),
        ] {
            assert_eq!(signed_label(value, "nanoseconds"), text);
        }
        assert_eq!(signed_label(12, "count"), "12");
        for (part, text) in
            [(1000, "  100%"), (123, "12.30%"), (12, " 1.20%"), (5, "  0.5%"), (0, "    0%")]
        {
            assert_eq!(share(part, 1000), text);
        }
        assert_eq!(share(1, 30_000), "0.0033%");
        assert_eq!(share(1, 1 << 30), "9.3e-08%");
        assert_eq!(share(9_996, 1_000_000), "    1%");
    }
}
