//! Finds the files that hold a module's names beside the module itself.
//!
//! This side only opens files; whether one is the right one is for the worker to say, by build id
//! or checksum. Names come from hostile binaries: a debug
//! link never leaves the directories it is looked for in, and the root of the profiled process is a root for symbolic links too.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};

use super::build_id::BuildId;

/// How long one search may take. A file system of the profiled process may be one that never
/// answers, by accident or on purpose.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);
/// After so many searches that did not return, only our own file system is searched.
const MAX_STUCK_SEARCHES: u32 = 8;

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) enum CompanionFile {
    /// The debug information of the module with this build id.
    BuildId(BuildId),
    /// The module with this build id itself, which some distributions have there too.
    Executable(BuildId),
    /// The file that the module at `path` names as its debug file.
    Link {
        /// The name.
        link: String,
        /// Where the module is.
        path: PathBuf,
    },
    /// The file that the module at `path` shares debug information with: an absolute path, or
    /// beside the module, or in a debug directory's `.dwz`.
    Supplementary {
        /// The name or path.
        name: String,
        /// Where the module is.
        path: PathBuf,
    },
    /// The package of debug information that the compiler left in files of their own, beside the
    /// module at this path or in a debug directory.
    Package(PathBuf),
    /// One of those files: where the compiler left it, or beside the module.
    Split {
        /// Its path when it was written.
        name: String,
        /// Where the module is.
        path: PathBuf,
    },
}

/// Finds files, on a thread of its own that is given up when it does not come back.
#[derive(Debug)]
pub(crate) struct Finder {
    directories: Vec<PathBuf>,
    thread: Option<(Sender<Search>, Receiver<Vec<OwnedFd>>)>,
    stuck: u32,
}

type Search = (CompanionFile, Option<u32>);

impl Clone for Finder {
    /// Another that searches the same directories, on a thread of its own.
    fn clone(&self) -> Self {
        Self::new(self.directories.clone())
    }
}

impl Finder {
    /// A finder that searches these debug directories.
    pub(crate) fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, thread: None, stuck: 0 }
    }

    /// The files there are, the likeliest first: in the file system of the process, then in ours.
    pub(crate) fn find(&mut self, wanted: CompanionFile, pid: Option<u32>) -> Vec<OwnedFd> {
        let pid = pid.filter(|pid| *pid != 0 && self.stuck < MAX_STUCK_SEARCHES);
        let Some((searches, results)) = self.thread.take().or_else(|| self.start()) else {
            return Vec::new();
        };
        if searches.send((wanted, pid)).is_err() {
            return Vec::new();
        }
        match results.recv_timeout(SEARCH_TIMEOUT) {
            Ok(files) => {
                self.thread = Some((searches, results));
                files
            }
            Err(_) => {
                self.stuck += 1;
                tracing::debug!("symbolize: a search for debug files did not come back");
                Vec::new()
            }
        }
    }

    fn start(&self) -> Option<(Sender<Search>, Receiver<Vec<OwnedFd>>)> {
        let (searches, queue) = channel::<Search>();
        let (sender, results) = channel();
        let directories = self.directories.clone();
        let run = move || {
            for (wanted, pid) in queue {
                if sender.send(search(&wanted, &directories, pid)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("debug-files".into()).spawn(run);
        thread.is_ok().then_some((searches, results))
    }
}

fn search(wanted: &CompanionFile, directories: &[PathBuf], pid: Option<u32>) -> Vec<OwnedFd> {
    let places = places(wanted, directories);
    let target = pid.map(|pid| PathBuf::from(format!("/proc/{pid}/root")));
    let roots = target.into_iter().chain([PathBuf::from("/")]);
    roots.flat_map(|root| places.iter().filter_map(move |place| open(&root, place))).collect()
}

/// The absolute paths where a file may be.
fn places(wanted: &CompanionFile, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    match wanted {
        CompanionFile::BuildId(build_id) => {
            let name = build_id.path(".debug");
            places.extend(directories.iter().map(|directory| directory.join(&name)));
        }
        CompanionFile::Executable(build_id) => {
            let name = build_id.path("");
            places.extend(directories.iter().map(|directory| directory.join(&name)));
        }
        CompanionFile::Link { link, path } => {
            if let (Some(link), Some(beside)) = (plain_name(link), path.parent()) {
                places.push(beside.join(".debug").join(&link));
                places.push(beside.join(&link));
                let inner = beside.strip_prefix("/").unwrap_or(beside);
                places.extend(directories.iter().map(|it| it.join(inner).join(&link)));
                places.retain(|place| place != path);
            }
        }
        CompanionFile::Supplementary { name, path } => {
            let name = Path::new(name);
            if name.is_absolute() {
                places.push(name.to_path_buf());
            } else if let Some(beside) = path.parent() {
                places.push(beside.join(name));
            }
            if let Some(file) = name.file_name() {
                places.extend(directories.iter().map(|it| it.join(".dwz").join(file)));
            }
        }
        CompanionFile::Package(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".dwp");
            let name = PathBuf::from(name);
            let inner = name.strip_prefix("/").unwrap_or(&name).to_path_buf();
            places.push(name);
            places.extend(directories.iter().map(|it| it.join(&inner)));
        }
        CompanionFile::Split { name, path } => {
            let name = Path::new(name);
            if name.is_absolute() {
                places.push(name.to_path_buf());
            }
            if let (Some(file), Some(beside)) = (name.file_name(), path.parent()) {
                places.push(beside.join(file));
            }
        }
    }
    places
}

/// The name, if it is one: no path, not a way up.
fn plain_name(name: &str) -> Option<OsString> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) => Some(only.to_owned()),
        _ => None,
    }
}

/// Opens a regular file below `root`, in which symbolic links stay.
fn open(root: &Path, path: &Path) -> Option<OwnedFd> {
    // Not blocking: the name may be a pipe without a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open_below(root, path, flags)?;
    let facts = rustix::fs::fstat(&file).ok()?;
    let regular = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile;
    (regular && facts.st_size > 0).then_some(file)
}

#[cfg(target_os = "linux")]
fn open_below(root: &Path, path: &Path, flags: OFlags) -> Option<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty()).ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_below(root: &Path, path: &Path, flags: OFlags) -> Option<OwnedFd> {
    let path = root.join(path.strip_prefix("/").unwrap_or(path));
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
