//! Reading profiles, and saying which of several files a report leaves out.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use profpipe_formats::file;
use profpipe_formats::report::{Choice, sample_types};
use profpipe_profile::{self as profile, Profiles};

use super::{FileFormat, is_standard, note};
use crate::mistake::Mistake;

/// The largest file that is read.
const MAX_INPUT: u64 = 512 << 20;
/// The most files or types that a line names.
const MAX_NAMED: usize = 5;

/// Profiles that were read.
pub(crate) struct Input {
    /// All of them.
    pub(crate) profiles: Profiles,
    /// The files, and which resources are of each.
    files: Vec<(String, Range<usize>)>,
    /// What was not read as it stands.
    notes: Vec<String>,
}

impl Input {
    /// The files as an error names them.
    pub(crate) fn names(&self) -> String {
        match self.files.as_slice() {
            [(one, _)] => one.clone(),
            [(first, _), rest @ ..] => format!("{first} and {} more", rest.len()),
            [] => String::new(),
        }
    }

    /// Says what was not read as it stands.
    pub(crate) fn say_notes(&self) {
        self.notes.iter().for_each(|text| note(text));
    }

    /// Says which of several files a report of one sample type leaves out.
    pub(crate) fn note_files_left_out(&self, sample_type: Option<&str>) {
        if self.files.len() < 2 {
            return;
        }
        let Ok(choice) = Choice::new(&self.profiles, sample_type) else { return };
        let reports =
            |range: &Range<usize>| choice.profiles.iter().any(|one| range.contains(&one.position));
        let others = self.files.iter().filter(|(_, range)| !reports(range));
        let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
        if !others.is_empty() {
            let files = enumeration(&others);
            let verb = if others.len() == 1 { "is" } else { "are" };
            note(&format!("no `{}` in {files}, which {verb} left out", choice.kind));
        }
    }

    /// Says which sample types a report of several files leaves out, unless one was asked for. Of one
    /// file a report says itself what it is of.
    pub(crate) fn note_types_left_out(&self, sample_type: Option<&str>) {
        if self.files.len() > 1 {
            types_left_out(&self.profiles, sample_type).iter().for_each(|text| note(text));
        }
    }
}

/// Which sample types a report or a file of one type leaves out, unless one was asked for.
pub(super) fn types_left_out(profiles: &Profiles, sample_type: Option<&str>) -> Option<String> {
    let choice = Choice::new(profiles, sample_type).ok().filter(|_| sample_type.is_none())?;
    let types = choice.left_out(profiles).types;
    let others: Vec<&str> = types.iter().map(String::as_str).collect();
    let (kind, named) = (choice.kind, enumeration(&others));
    (!others.is_empty()).then(|| format!("only `{kind}` is shown, not {named}; --type chooses"))
}

fn enumeration(names: &[&str]) -> String {
    let shown = names.get(..MAX_NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Reads a profile.
pub(crate) fn read(path: &Path) -> anyhow::Result<Input> {
    let name = match is_standard(path) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let read = || {
        let content = if is_standard(path) {
            content(std::io::stdin().lock())?
        } else {
            content(File::open(path)?)?
        };
        anyhow::Ok(file::decode(&content, named(path))?)
    };
    let decoded = read().with_context(|| format!("cannot read {name}"))?;
    let profiles = decoded.profiles;
    let notes = decoded.notes.iter().map(|text| format!("{name}: {text}")).collect();
    let files = vec![(name, 0..profiles.resources.len())];
    Ok(Input { profiles, files, notes })
}

/// The format that the name of a file stands for.
fn named(path: &Path) -> Option<file::Format> {
    match FileFormat::likely(path)? {
        FileFormat::Pprof => Some(file::Format::Pprof),
        FileFormat::Otlp => Some(file::Format::Otlp),
        FileFormat::OtlpJson => Some(file::Format::OtlpJson),
        FileFormat::Folded => Some(file::Format::Folded),
        FileFormat::Svg => None,
    }
}

/// Reads several profiles as one batch, in which each keeps its resources.
pub(crate) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Input> {
    if paths.iter().filter(|path| is_standard(path)).count() > 1 {
        return Err(Mistake("standard input can be read only once".to_owned()).into());
    }
    if let [one] = paths {
        return read(one);
    }
    let (mut batches, mut files, mut notes, mut position) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for path in paths {
        let one = read(path)?;
        notes.extend_from_slice(&one.notes);
        let end = position + one.profiles.resources.len();
        if sample_types(&one.profiles).is_empty() {
            notes.push(format!("there is no profile in {}", one.names()));
        } else {
            files.extend(one.files.into_iter().map(|(name, _)| (name, position..end)));
        }
        position = end;
        batches.push(one.profiles);
    }
    Ok(Input { profiles: profile::join(batches), files, notes })
}

fn content(file: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_INPUT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_INPUT {
        bail!("it is larger than {} MiB", MAX_INPUT >> 20);
    }
    Ok(content)
}
