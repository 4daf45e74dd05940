//! Profile files: reads and writes every format, which the extension of the name chooses.
//!
//! Output appears whole or not at all: it is written beside its place and then moved there.
//! Errors name the file, and tell what would be right.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use profpipe_pipeline::profile::Profiles;
use profpipe_pipeline::{otlp, pprof};

use crate::commands::Usage;

/// The largest file that is read.
const MAX_INPUT: u64 = 1 << 30;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    Pprof,
    Otlp,
    OtlpJson,
    Folded,
    Svg,
}

const READABLE: &str = ".pb.gz or .pprof (pprof), .otlp, .json (OTLP JSON) or .folded";
const WRITABLE: &str = ".pb.gz or .pprof (pprof), .otlp, .json (OTLP JSON), .folded or .svg";

impl FileFormat {
    /// The format that a name stands for.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
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
    pub(crate) fn to_write(path: &Path) -> anyhow::Result<Self> {
        Self::of(path).ok_or_else(|| {
            let path = path.display();
            Usage(format!("{path}: the name of a file to write must end with {WRITABLE}")).into()
        })
    }

    /// The format to read a file in.
    pub(crate) fn to_read(path: &Path) -> anyhow::Result<Self> {
        match Self::of(path) {
            Some(format) if format != Self::Svg => Ok(format),
            _ => {
                let path = path.display();
                Err(Usage(format!("{path}: the name of a profile must end with {READABLE}")).into())
            }
        }
    }
}

/// Reads a profile.
pub(crate) fn read(path: &Path) -> anyhow::Result<Profiles> {
    let format = FileFormat::to_read(path)?;
    let content = content(path).with_context(|| format!("cannot read {}", path.display()))?;
    let decoded = match format {
        FileFormat::Pprof => pprof::decode(&content).map_err(anyhow::Error::from),
        FileFormat::Otlp => otlp::decode(&content).map_err(anyhow::Error::from),
        FileFormat::OtlpJson | FileFormat::Folded | FileFormat::Svg => bail!("not written yet"),
    };
    decoded.with_context(|| format!("cannot read {}", path.display()))
}

fn content(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut content = Vec::new();
    file.take(MAX_INPUT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_INPUT {
        bail!("the file is larger than {} MiB", MAX_INPUT >> 20);
    }
    Ok(content)
}
