//! Finds the files that hold a module's names beside the module itself.
//!
//! This side only opens files; whether one is the right one is for the worker to say, by build id
//! or checksum. Names come from hostile binaries: a name never leaves the directories it is looked
//! for in, and the root of the profiled process is a root for symbolic links too.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

/// The file system of the profiled process, then ours.
fn roots(pid: Option<u32>) -> impl Iterator<Item = PathBuf> {
    let target = pid.filter(|pid| *pid != 0).map(|pid| PathBuf::from(format!("/proc/{pid}/root")));
    target.into_iter().chain([PathBuf::from("/")])
}

/// Files that may hold the debug information of the module with this build id.
pub(super) fn by_build_id<'a>(
    build_id: &'a [u8],
    directories: &'a [PathBuf],
    pid: Option<u32>,
) -> impl Iterator<Item = OwnedFd> + 'a {
    let name = build_id_name(build_id);
    roots(pid).flat_map(move |root| {
        let name = name.clone();
        directories.iter().filter_map(move |directory| open(&root, &directory.join(name.as_ref()?)))
    })
}

/// Files that may be the one that the module at `path` names as its debug file.
pub(super) fn by_link<'a>(
    link: &'a str,
    path: &'a Path,
    directories: &'a [PathBuf],
    pid: Option<u32>,
) -> impl Iterator<Item = OwnedFd> + 'a {
    let link = plain_name(link);
    let beside = path.parent().map(Path::to_path_buf).unwrap_or_default();
    roots(pid).flat_map(move |root| {
        let places = link.clone().map(|link| {
            let mut places = vec![beside.join(".debug").join(&link), beside.join(&link)];
            for directory in directories {
                let inner = beside.strip_prefix("/").unwrap_or(&beside);
                places.push(directory.join(inner).join(&link));
            }
            places.retain(|place| place != path);
            places
        });
        places.unwrap_or_default().into_iter().filter_map(move |place| open(&root, &place))
    })
}

/// Files that may be the supplementary file `name` (absolute, or beside the module or in a debug
/// directory's `.dwz`).
pub(super) fn supplementary<'a>(
    name: &'a str,
    path: &'a Path,
    directories: &'a [PathBuf],
    pid: Option<u32>,
) -> impl Iterator<Item = OwnedFd> + 'a {
    let mut places = Vec::new();
    let name = Path::new(name);
    if name.is_absolute() {
        places.push(name.to_path_buf());
    } else if let Some(beside) = path.parent() {
        places.push(beside.join(name));
    }
    if let Some(file) = name.file_name() {
        places.extend(directories.iter().map(|directory| directory.join(".dwz").join(file)));
    }
    roots(pid).flat_map(move |root| {
        places.clone().into_iter().filter_map(move |place| open(&root, &place))
    })
}

fn build_id_name(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    if rest.is_empty() {
        return None;
    }
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug")))
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
    // Not blocking: the name may be a pipe that nobody writes.
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
