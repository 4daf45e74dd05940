//! Writing profiles.
//!
//! Output appears whole or not at all: it is written beside its place and then moved there.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use profpipe_formats::report::collapse_by_process;
use profpipe_formats::{folded, otlp, pprof};
use profpipe_profile::Profiles;

use super::input::types_left_out;
use super::{is_standard, note, print_bytes};
use crate::flamegraph;
use crate::mistake::Mistake;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// pprof, compressed
    Pprof,
    /// OTLP in protobuf
    Otlp,
    /// OTLP in JSON
    #[value(name = "otlp_json", alias = "json")]
    OtlpJson,
    /// Collapsed stacks
    Folded,
    /// A flame graph; only written
    Svg,
}

const WRITABLE: &str = ".pb.gz or .pprof (pprof), .otlp, .json (OTLP JSON), .folded or .svg";

impl FileFormat {
    /// The format that a name stands for, whether for writing or reading.
    fn of(name: &str) -> Option<Self> {
        let formats = [
            (".pb.gz", Self::Pprof),
            (".pb", Self::Pprof),
            (".pprof.gz", Self::Pprof),
            (".pprof", Self::Pprof),
            (".prof", Self::Pprof),
            (".otlp", Self::Otlp),
            (".json", Self::OtlpJson),
            (".jsonl", Self::OtlpJson),
            (".folded", Self::Folded),
            (".collapsed", Self::Folded),
            (".svg", Self::Svg),
        ];
        formats.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
    }

    /// The format that a file to read is likely to have; its content has the last word.
    pub(super) fn likely(path: &Path) -> Option<Self> {
        let name = name(path)?;
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let text = plain.ends_with(".txt").then_some(Self::Folded);
        Self::of(&name).or_else(|| Self::of(plain)).or(text)
    }

    /// The format to write a file in.
    ///
    /// # Errors
    /// If the name stands for none: wrong usage.
    pub(crate) fn to_write(path: &Path) -> anyhow::Result<Self> {
        name(path).and_then(|name| Self::of(&name)).ok_or_else(|| {
            let path = path.display();
            Mistake(format!("{path}: the name of an output must end with {WRITABLE}")).into()
        })
    }

    /// The format that was asked for, or else the one that the name of the output stands for.
    ///
    /// # Errors
    /// If neither says one: wrong usage.
    pub(crate) fn chosen(asked: Option<Self>, path: &Path) -> anyhow::Result<Self> {
        match asked {
            Some(format) => Ok(format),
            None if is_standard(path) => {
                let what =
                    "standard output has no name that says which format to write; add --format";
                Err(Mistake(what.to_owned()).into())
            }
            None => Self::to_write(path),
        }
    }
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().to_ascii_lowercase())
}

/// A file that is going to be written.
///
/// Creating one tells whether the file can be written at all, before there is anything to write;
/// dropping one leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Output {
    format: FileFormat,
    /// As the user named it.
    path: PathBuf,
    /// None for standard output.
    file: Option<File>,
    /// Where the file is until it is complete, and where it goes; none for a device or a pipe,
    /// which is written directly.
    journey: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Creates a file of the format that the name stands for.
    ///
    /// # Errors
    /// If the name stands for none, which is wrong usage; or if nothing can be written there.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        Self::of_format(path, FileFormat::to_write(path)?)
    }

    /// Creates a file of a format, or takes standard output for `-`.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn of_format(path: &Path, format: FileFormat) -> anyhow::Result<Self> {
        let (file, journey) = match is_standard(path) {
            true => (None, None),
            false => open(path)
                .map(|(file, journey)| (Some(file), journey))
                .with_context(|| format!("cannot write {}", path.display()))?,
        };
        Ok(Self { format, path: path.to_owned(), file, journey })
    }

    /// Writes a profile, after which the file is in its place. `sample_type` chooses what formats with
    /// one type only show.
    pub(crate) fn write(
        self,
        profiles: &Profiles,
        sample_type: Option<&str>,
    ) -> anyhow::Result<()> {
        let path = match self.file {
            Some(_) => self.path.display().to_string(),
            None => "standard output".to_owned(),
        };
        let write = || {
            let mut notes = Vec::new();
            if matches!(self.format, FileFormat::Folded | FileFormat::Svg) {
                notes.extend(types_left_out(profiles, sample_type));
            }
            let content = encode(self.format, profiles, sample_type, &mut notes)?;
            self.finish(&content)?;
            notes.iter().for_each(|text| note(text));
            anyhow::Ok(())
        };
        write().with_context(|| format!("cannot write {path}"))
    }

    fn finish(mut self, content: &[u8]) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return print_bytes(content) };
        file.write_all(content)?;
        if let Some((temporary, target)) = &self.journey {
            file.sync_all()?;
            std::fs::rename(temporary, target)?;
            self.journey = None;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.journey {
            // It was never complete; what cannot be removed cannot be helped.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// A profile in a format; `notes` are what is not as it seems.
///
/// # Errors
/// If it does not fit the format.
pub(crate) fn encode(
    format: FileFormat,
    profiles: &Profiles,
    sample_type: Option<&str>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<u8>> {
    Ok(match format {
        FileFormat::Pprof => pprof::encode(profiles)?,
        FileFormat::Otlp => otlp::encode(profiles),
        FileFormat::OtlpJson => otlp::encode_json(profiles),
        FileFormat::Folded => folded::encode(profiles, sample_type)?.into_bytes(),
        FileFormat::Svg => {
            let drawing = flamegraph::draw(&collapse_by_process(profiles, sample_type)?)?;
            notes.extend(drawing.notes);
            drawing.svg
        }
    })
}

/// Writes a report, which appears whole or not at all; to standard output for `-`.
///
/// # Errors
/// If nothing can be written there.
pub(crate) fn save(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    // The format is that of profiles, and none here.
    let output = Output::of_format(path, FileFormat::Svg)?;
    output.finish(content).with_context(|| format!("cannot write {}", path.display()))
}

fn open(path: &Path) -> std::io::Result<(File, Option<(PathBuf, PathBuf)>)> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(std::io::Error::new(ErrorKind::IsADirectory, "it is a directory"));
        }
        Ok(metadata) if !metadata.is_file() => {
            return Ok((OpenOptions::new().write(true).open(path)?, None));
        }
        _ => {}
    }
    // Through a link, so that the link stays one.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let process = std::process::id();
    let mut attempt = 0;
    loop {
        let temporary = target.with_file_name(format!(".{name}.{process}.{attempt}.tmp"));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, Some((temporary, target)))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}
