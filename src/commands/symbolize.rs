//! `profpipe symbolize`: names the frames of a recorded file, on another machine or later.
//!
//! A pipeline of one batch through the processor `symbolize`, whose directories are those of build
//! ids. Directories that the user names hold binaries under any name: they are looked through for
//! ELF files, which are linked under their ids in a directory of our own for the time of the command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use profpipe::{Batch, Engine, Exporter, Failure, Lifecycle, Receiver, Sender};
use profpipe_engine::component::Error;
use profpipe_host::elf::Identity;
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::UNSYMBOLIZED_REASON;
use serde_json::json;

use super::run::services;
use crate::files::{FileFormat, Output};
use crate::mistake::Mistake;
use crate::{cli, files};

/// The most files that directories of binaries are looked through for.
const MAX_FILES: usize = 200_000;
/// How deep they are looked through.
const MAX_DEPTH: usize = 16;
/// How long names may take: debug files are large, and servers slow.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The end of the pipeline waits for what is on its way.
const GRACE: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: cli::Symbolize) -> anyhow::Result<ExitCode> {
    let format = FileFormat::chosen(arguments.format, &arguments.output)?;
    let output = Output::of_format(&arguments.output, format)?;
    let mut input = files::read(&arguments.input)?;
    let before = Frames::of(&mut input.profiles);
    let scratch = tempfile::Builder::new()
        .prefix("profpipe-symbolize-")
        .tempdir()
        .context("cannot make a directory for links to binaries")?;
    for directory in &arguments.symbols {
        let meta = std::fs::metadata(directory)
            .with_context(|| format!("--symbols {}", directory.display()))?;
        let mut left = MAX_FILES;
        if meta.is_dir() {
            link_binaries(directory, scratch.path(), MAX_DEPTH, &mut left);
        } else {
            link_binary(directory, scratch.path());
        }
        if left == 0 {
            super::tell(&format!(
                "profpipe: {}: only the first {MAX_FILES} files were looked at",
                directory.display()
            ));
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let named = runtime.block_on(named(&arguments, scratch.path(), input.profiles));
    runtime.shutdown_background();
    let mut profiles = named?;
    output.write(&profiles, None)?;
    let after = Frames::of(&mut profiles);
    super::tell(&format!(
        "profpipe: {} of {} frames have names, {} more than before{}",
        after.named,
        after.all,
        after.named.saturating_sub(before.named),
        after.reasons()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The batch with names.
async fn named(
    arguments: &cli::Symbolize,
    links: &Path,
    profiles: Profiles,
) -> anyhow::Result<Profiles> {
    let mut directories = vec![links.to_path_buf()];
    let named = arguments.symbols.iter().filter(|path| path.is_dir());
    directories.extend(named.filter_map(|path| path.canonicalize().ok()));
    directories.push("/usr/lib/debug".into());
    let mut symbolize = json!({
        "timeout": format!("{}s", PATIENCE.as_secs()),
        "worker_timeout": "5m",
        "max_parked": "4GiB",
        "debug_directories": directories,
    });
    if !arguments.debuginfod.is_empty() {
        symbolize["debuginfod"] = json!({ "urls": arguments.debuginfod, "timeout": "10m" });
        symbolize["cache"] = json!({ "directory": cache()? });
    }
    let configuration = json!({
        "processors": { "symbolize": symbolize },
        "service": { "pipelines": { "profiles": {
            "receivers": ["once"], "processors": ["symbolize"], "exporters": ["kept"],
        } } },
    });
    let kept = Kept::default();
    let services = services();
    let mut engine = Engine::builder()
        .config_yaml(configuration.to_string())
        .receiver("once", Once(profiles))
        .exporter("kept", kept.clone())
        .services(services)
        .start()
        .map_err(|error| anyhow!("{error}"))?;
    engine.wait().await.map_err(|error| anyhow!("{error}"))?;
    engine.stop(PATIENCE + GRACE).await.map_err(|error| anyhow!("{error}"))?;
    let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.take().map(Arc::unwrap_or_clone).ok_or_else(|| anyhow!("no names came back"))
}

/// Where files of servers are kept between commands.
fn cache() -> anyhow::Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = from("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| from("HOME").map(|home| Path::new(&home).join(".cache")));
    let what = "--debuginfod keeps files in $XDG_CACHE_HOME or $HOME/.cache, and neither is set";
    Ok(base.ok_or_else(|| Mistake(what.to_owned()))?.join("profpipe/debuginfod"))
}

/// Links the ELF files below a directory under their build ids.
fn link_binaries(directory: &Path, links: &Path, depth: usize, left: &mut usize) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            link_binaries(&entry.path(), links, depth - 1, left);
        } else if kind.is_file() {
            link_binary(&entry.path(), links);
        }
    }
}

/// Links a file under its build id, if it is an ELF file with one; the first with an id counts.
fn link_binary(path: &Path, links: &Path) -> Option<()> {
    let path = path.canonicalize().ok()?;
    let file = std::fs::File::open(&path).ok()?;
    let identity = Identity::read(&file)?;
    let id = identity.build_id?;
    let (first, rest) = id.split_at_checked(2)?;
    let place = links.join(".build-id").join(first);
    std::fs::create_dir_all(&place).ok()?;
    // A debug file has the headers of the code, and not its bytes; either name is right for a file
    // that has both.
    let _ = std::os::unix::fs::symlink(&path, place.join(format!("{rest}.debug")));
    let _ = std::os::unix::fs::symlink(&path, place.join(rest));
    Some(())
}

/// Gives one batch and ends.
struct Once(Profiles);

#[profpipe::async_trait]
impl Receiver for Once {
    async fn run(self: Box<Self>, out: Sender, _life: Lifecycle) -> Result<(), Error> {
        // An error means that the engine has stopped, which is said elsewhere.
        let _ = out.send(Batch::new(self.0)).await;
        Ok(())
    }
}

/// The batch that came out.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Arc<Profiles>>>>);

#[profpipe::async_trait]
impl Exporter for Kept {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch.shared().map_err(|cause| Failure::Reject {
            cause: Error::with_source("cannot read the batch", cause),
        })?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(profiles);
        Ok(())
    }
}

/// How many different frames have names, and why the others have none.
struct Frames {
    all: usize,
    named: usize,
    unnamed: std::collections::BTreeMap<String, usize>,
}

impl Frames {
    fn of(profiles: &mut Profiles) -> Self {
        let dictionary = &mut profiles.dictionary;
        let key = dictionary.strings.find(UNSYMBOLIZED_REASON);
        let mut frames = Self { all: 0, named: 0, unnamed: Default::default() };
        for location in dictionary.locations.iter() {
            if location.address == 0 && location.lines.is_empty() {
                continue;
            }
            frames.all += 1;
            if !location.lines.is_empty() {
                frames.named += 1;
                continue;
            }
            let mut attributes = location.attributes.iter();
            let reason = attributes.find(|row| Some(dictionary.attributes.key(**row)) == key);
            let reason = reason.and_then(|row| dictionary.attributes.value(*row).as_str());
            *frames.unnamed.entry(reason.unwrap_or_default().to_owned()).or_default() += 1;
        }
        frames
    }

    /// Why frames have no names, for the end of a line.
    fn reasons(&self) -> String {
        let reasons = self.unnamed.iter().filter(|(reason, _)| !reason.is_empty());
        let texts: Vec<_> = reasons.map(|(reason, count)| format!("{count} {reason}")).collect();
        if texts.is_empty() { String::new() } else { format!("; without: {}", texts.join(", ")) }
    }
}
