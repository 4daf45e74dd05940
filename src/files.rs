//! Profile files: reads and writes every format, which the end of the name chooses.
//!
//! Output appears whole or not at all: it is written beside its place and then moved there.
//! Errors name the file and tell what would be right.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use profpipe_formats::report::collapse_by_process;
use profpipe_formats::{folded, otlp, pprof};
use profpipe_profile::{self as profile, Profiles};

use crate::flamegraph;
use crate::mistake::Mistake;

/// The largest file that is read.
const MAX_INPUT: u64 = 512 << 20;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// pprof, compressed.
    Pprof,
    /// An OTLP request in protobuf.
    Otlp,
    /// An OTLP request in JSON.
    OtlpJson,
    /// Collapsed stacks.
    Folded,
    /// A flame graph; only written.
    Svg,
}

const READABLE: &str = ".pb.gz or .pprof (pprof), .otlp, .json (OTLP JSON) or .folded";
const WRITABLE: &str = ".pb.gz or .pprof (pprof), .otlp, .json (OTLP JSON), .folded or .svg";

impl FileFormat {
    /// The format that a name stands for.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let formats = [
            (".pb.gz", Self::Pprof),
            (".pprof", Self::Pprof),
            (".otlp", Self::Otlp),
            (".json", Self::OtlpJson),
            (".folded", Self::Folded),
            (".svg", Self::Svg),
        ];
        formats.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format)
    }

    /// The format to write a file in.
    ///
    /// # Errors
    /// If the name stands for none: wrong usage.
    pub(crate) fn to_write(path: &Path) -> anyhow::Result<Self> {
        Self::of(path).ok_or_else(|| {
            let path = path.display();
            Mistake(format!("{path}: the name of an output must end with {WRITABLE}")).into()
        })
    }

    /// The format to read a file in.
    fn to_read(path: &Path) -> anyhow::Result<Self> {
        match Self::of(path) {
            Some(format) if format != Self::Svg => Ok(format),
            _ => {
                let path = path.display();
                Err(Mistake(format!("{path}: the name of a profile must end with {READABLE}"))
                    .into())
            }
        }
    }
}

/// Reads a profile.
pub(crate) fn read(path: &Path) -> anyhow::Result<Profiles> {
    let format = FileFormat::to_read(path)?;
    let read = || {
        let content = content(path)?;
        Ok(match format {
            FileFormat::Pprof => pprof::decode(&content)?,
            FileFormat::Otlp => otlp::decode(&content)?,
            FileFormat::OtlpJson => otlp::decode_json(&content)?,
            FileFormat::Folded => folded::decode(&content)?,
            FileFormat::Svg => bail!("a flame graph cannot be read"),
        })
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Reads several profiles as one.
pub(crate) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Profiles> {
    let profiles = paths.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(profile::merge(profiles))
}

/// Files as an error names them.
pub(crate) fn names(paths: &[PathBuf]) -> String {
    match paths {
        [one] => one.display().to_string(),
        [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
        [] => String::new(),
    }
}

fn content(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut content = Vec::new();
    file.take(MAX_INPUT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_INPUT {
        bail!("it is larger than {} MiB", MAX_INPUT >> 20);
    }
    Ok(content)
}

/// Writes a profile; `sample_type` chooses what formats with one type only show.
pub(crate) fn write(
    path: &Path,
    profiles: &Profiles,
    sample_type: Option<&str>,
) -> anyhow::Result<()> {
    Output::create(path)?.write(profiles, sample_type)
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
    file: File,
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
        let format = FileFormat::to_write(path)?;
        let (file, journey) =
            open(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { format, path: path.to_owned(), file, journey })
    }

    /// Writes a profile, after which the file is in its place.
    pub(crate) fn write(
        self,
        profiles: &Profiles,
        sample_type: Option<&str>,
    ) -> anyhow::Result<()> {
        let path = self.path.clone();
        let write = || {
            let content = match self.format {
                FileFormat::Pprof => pprof::encode(profiles)?,
                FileFormat::Otlp => otlp::encode(profiles),
                FileFormat::OtlpJson => otlp::encode_json(profiles),
                FileFormat::Folded => folded::encode(profiles, sample_type)?.into_bytes(),
                FileFormat::Svg => flamegraph::draw(&collapse_by_process(profiles, sample_type)?)?,
            };
            self.finish(&content)?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn finish(mut self, content: &[u8]) -> std::io::Result<()> {
        self.file.write_all(content)?;
        if let Some((temporary, target)) = &self.journey {
            self.file.sync_all()?;
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

/// Prints to standard output. A reader that has seen enough is not an error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot print to standard output"),
    }
}
