//! `profpipe diff`: two sets of runs compared, as a table, JSON, markdown, a flame graph or a page, and a
//! verdict that scripts can act on.

mod html;
mod json;
mod markdown;
mod picture;
mod text;
mod wording;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use profpipe_formats::report::Choice;
use profpipe_store::diff::{Cost, Diff, DiffOptions, Per, Verdict};
use profpipe_store::{InputFile, Selection, Table, TreeOptions};

use super::ui::inputs;
use crate::cli::{self, DiffFormat, Undecided};
use crate::files::{self, note};
use crate::mistake::Mistake;

/// Exit codes beside those that all commands have.
const FINDING: u8 = 3;
const NOT_DECIDABLE: u8 = 4;
/// The most nodes of a flame graph.
const NODES: usize = 2_000;
/// How many functions are shown unless it is said.
const FUNCTIONS: usize = 20;

/// What is shown: the comparison, and what it was asked for.
struct Report<'d> {
    table: &'d Table,
    diff: &'d Diff<'d>,
    options: &'d DiffOptions,
    verdict: &'d Verdict,
    /// Whether there were conditions.
    is_gated: bool,
    limit: Option<usize>,
}

pub(crate) fn run(arguments: &cli::Diff) -> anyhow::Result<ExitCode> {
    let outputs = outputs(arguments)?;
    let (base, new) = sides(arguments)?;
    let (base, new) = (inputs(base)?, inputs(new)?);
    let count = base.len();
    let names = [name(&base), name(&new)];
    let table = Table::new(base.into_iter().chain(new).collect())?;
    let selections = selections(&table, count, &names, arguments.choice.sample_type.as_deref())?;
    let [base, new] = &selections;
    for required in &arguments.require_same {
        if let Some(why) = table.requirement(base, new, required)? {
            bail!("--require-same {required}: {why}");
        }
    }
    let options = DiffOptions {
        by: if arguments.total { Cost::Total } else { Cost::Own },
        per: match arguments.per.as_str() {
            "total" => Per::Total,
            "time" => Per::Time,
            named => Per::Named(named.to_owned()),
        },
        tree: TreeOptions { nodes: NODES, width: 1_200, ..TreeOptions::default() },
    };
    let diff = table.compare(base, new, &options)?;
    let verdict = diff.verdict(&arguments.fail_on);
    let report = Report {
        table: &table,
        diff: &diff,
        options: &options,
        verdict: &verdict,
        is_gated: !arguments.fail_on.is_empty(),
        limit: arguments.limit,
    };
    match outputs.is_empty() {
        true => files::save(Path::new("-"), &report.write(arguments.format)?)?,
        false => {
            for (path, format) in outputs {
                files::save(path, &report.write(format)?)?;
            }
        }
    }
    Ok(conclude(&verdict, arguments.undecided))
}

impl Report<'_> {
    fn write(&self, format: DiffFormat) -> anyhow::Result<Vec<u8>> {
        Ok(match format {
            DiffFormat::Text => self.to_text().into_bytes(),
            DiffFormat::Json => self.to_json().into_bytes(),
            DiffFormat::Markdown => self.to_markdown().into_bytes(),
            DiffFormat::Svg => self.to_svg()?,
            DiffFormat::Html => self.to_html().into_bytes(),
        })
    }
}

/// Says the verdict, and what it means for the exit code.
fn conclude(verdict: &Verdict, undecided: Undecided) -> ExitCode {
    match verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Findings(findings) => {
            findings.iter().for_each(|finding| note(finding));
            ExitCode::from(FINDING)
        }
        Verdict::Undecidable(why) => {
            why.iter().for_each(|why| note(&format!("not decidable: {why}")));
            match undecided {
                Undecided::Fail => ExitCode::from(NOT_DECIDABLE),
                Undecided::Ok => ExitCode::SUCCESS,
            }
        }
    }
}

/// The files of both sides.
fn sides(arguments: &cli::Diff) -> anyhow::Result<(&[PathBuf], &[PathBuf])> {
    match (arguments.base.as_slice(), arguments.new.as_slice()) {
        ([base, new], []) => Ok((std::slice::from_ref(base), std::slice::from_ref(new))),
        (base, new @ [_, ..]) => {
            let is_standard = |path: &&PathBuf| path.as_os_str() == "-";
            if base.iter().chain(new).filter(is_standard).count() > 1 {
                return Err(Mistake("standard input can be read only once".to_owned()).into());
            }
            Ok((base, new))
        }
        (base, []) => Err(Mistake(format!(
            "diff takes a base and a new one, or several of each with -- between, not {} files",
            base.len()
        ))
        .into()),
    }
}

/// The files to write, with their formats.
fn outputs(arguments: &cli::Diff) -> anyhow::Result<Vec<(&Path, DiffFormat)>> {
    let formats = [
        (".txt", DiffFormat::Text),
        (".json", DiffFormat::Json),
        (".md", DiffFormat::Markdown),
        (".svg", DiffFormat::Svg),
        (".html", DiffFormat::Html),
    ];
    let format = |path: &PathBuf| {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        formats.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
    };
    let of = |path: &'_ PathBuf| match (path.as_os_str() == "-", format(path)) {
        (true, _) => Ok(arguments.format),
        (false, Some(format)) => Ok(format),
        (false, None) => Err(Mistake(format!(
            "{}: the name of an output must end with .txt, .json, .md, .svg or .html",
            path.display()
        ))),
    };
    let mut outputs = Vec::new();
    for path in &arguments.output {
        outputs.push((path.as_path(), of(path)?));
    }
    Ok(outputs)
}

/// What a side is called in an error.
fn name(inputs: &[InputFile]) -> String {
    match inputs {
        [one] => one.name.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len(), first = first.name),
        [] => String::new(),
    }
}

/// What is compared: the first files, and the others, of one type.
fn selections(
    table: &Table,
    count: usize,
    names: &[String; 2],
    wanted: Option<&str>,
) -> anyhow::Result<[Selection; 2]> {
    let all = table.files().len();
    let choice = Choice::new(table.profiles(), wanted)
        .with_context(|| format!("{} and {}", names[0], names[1]))?;
    let mut of_sides = Vec::new();
    for (files, name) in [(0..count, &names[0]), (count..all, &names[1])] {
        let files: Vec<u32> = files.map(|file| file as u32).collect();
        let of = |profile_type| Selection {
            profile_type: Some(profile_type),
            files: Some(files.clone()),
            ..Selection::default()
        };
        // Files of two tools may have the same under two ids.
        let known = table.types().iter();
        let mut of_kind = known.filter(|it| (it.kind(), it.unit()) == (choice.kind, choice.unit));
        let found = of_kind.find_map(|it| {
            let selection = of(it.id.clone());
            table.select(&selection).is_ok_and(|it| it.samples > 0).then_some(selection)
        });
        match found {
            Some(selection) => of_sides.push(selection),
            None => bail!("there is no `{}` in {name}; --type chooses another type", choice.kind),
        }
    }
    let files = of_sides.iter().filter_map(|side| side.files.as_ref());
    debug_assert_eq!(files.map(Vec::len).sum::<usize>(), all);
    <[Selection; 2]>::try_from(of_sides).map_err(|_| anyhow::anyhow!("a diff has two sides"))
}
