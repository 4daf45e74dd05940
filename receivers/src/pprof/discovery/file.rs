//! Targets in files, read again when a file looks different.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use profpipe_engine::component::Error;
use tokio::sync::mpsc;

use super::{MAX_LIST, Update, parse};
use crate::pprof::config::FileConfig;
use crate::pprof::relabel::Labels;
use crate::pprof::target::Source;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Tells the targets of some files, and tells them again when they change.
pub(super) async fn watch(
    config: FileConfig,
    source: usize,
    updates: mpsc::Sender<Update>,
    id: String,
) {
    let mut known = Known::new();
    let mut problems = Problems::new();
    let mut read_all = Instant::now();
    let mut told = false;
    loop {
        let again = read_all.elapsed() >= config.refresh_interval.0;
        if again {
            read_all = Instant::now();
        }
        let files = config.files.clone();
        let before = std::mem::take(&mut known);
        let looked = tokio::task::spawn_blocking(move || look(&files, before, again)).await;
        let Ok((now, changed, wrong)) = looked else { return };
        known = now;
        for (file, problem) in &wrong {
            // One line for each state of a file, not for each time it is looked at.
            if problems.get(file) != Some(problem) {
                tracing::warn!("receivers::{id}: {}: {problem}", file.display());
            }
        }
        for file in problems.keys().filter(|file| known.contains_key(*file)) {
            if !wrong.contains_key(file) {
                tracing::info!("receivers::{id}: {}: it is read again", file.display());
            }
        }
        problems = wrong;
        if changed || !told {
            told = true;
            let targets = known.values().flat_map(|(_, targets)| targets.clone()).collect();
            if updates.send(Update { source, kind: Source::Local, targets }).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = updates.closed() => return,
        }
    }
}

/// What a file looked like: when it was changed, and its length.
type Stamp = (Option<SystemTime>, u64);

type Known = BTreeMap<PathBuf, (Stamp, Vec<Labels>)>;

/// What is wrong with files, and what that means for their targets.
type Problems = BTreeMap<PathBuf, String>;

/// Reads the files that look different, or all. Returns what is known now, whether that has
/// changed, and what went wrong. The targets of a file that is gone are gone.
fn look(patterns: &[PathBuf], mut before: Known, again: bool) -> (Known, bool, Problems) {
    let mut now = Known::new();
    let (mut changed, mut problems) = (false, Problems::new());
    for file in patterns.iter().flat_map(|pattern| matching(pattern)) {
        let old = before.remove(&file);
        let stamp = std::fs::metadata(&file).map(stamp).ok();
        let unchanged = old.as_ref().is_some_and(|(known, _)| Some(*known) == stamp);
        if let Some(old) = old.clone().filter(|_| unchanged && !again) {
            now.insert(file, old);
            continue;
        }
        match read(&file) {
            Ok(targets) => {
                changed |= old.as_ref().is_none_or(|(_, known)| *known != targets);
                now.insert(file, (stamp.unwrap_or_default(), targets));
            }
            Err(ReadError::Gone) => {
                changed |= old.is_some();
                let problem = "it is not there, and so has no targets".to_owned();
                problems.insert(file, problem);
            }
            Err(ReadError::Other(error)) => {
                let problem = format!("{}; going on with the targets from before", error.chain());
                problems.insert(file.clone(), problem);
                if let Some((_, targets)) = old {
                    now.insert(file, (stamp.unwrap_or_default(), targets));
                }
            }
        }
    }
    (now, changed || !before.is_empty(), problems)
}

fn stamp(metadata: Metadata) -> Stamp {
    (metadata.modified().ok(), metadata.len())
}

/// Why there are no targets in a file.
enum ReadError {
    /// There is no file.
    Gone,
    Other(Error),
}

fn read(file: &Path) -> Result<Vec<Labels>, ReadError> {
    let cannot = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::Gone,
        _ => ReadError::Other(Error::with_source("cannot read it", cause)),
    };
    let file = std::fs::File::open(file).map_err(cannot)?;
    let mut text = String::new();
    file.take(MAX_LIST as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() > MAX_LIST {
        let error = Error::new(format!("it is larger than {MAX_LIST} bytes"));
        return Err(ReadError::Other(error));
    }
    parse(&text).map_err(ReadError::Other)
}

/// The files that a path stands for: itself, or those of its directory that match its `*`.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((head, tail)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let directory = pattern.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Ok(entries) = std::fs::read_dir(directory.unwrap_or(Path::new("."))) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        })
        .collect();
    found.sort();
    found
}
