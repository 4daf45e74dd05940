//! Whose events are opened: what a scope of the configuration stands for on this host.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use profpipe_engine::component::Error;

use super::sys::{self, Attr};
use super::tasks::{all_processes, processes_of, tree_of};
use crate::perf::{Match, Scope};

/// The most directories of control groups that are looked at for a container.
const MAX_DIRECTORIES: usize = 20_000;
/// How deep control groups are nested, at most.
const MAX_DEPTH: usize = 16;
/// The shortest beginning of a container's id that is unique enough.
const MIN_ID: usize = 8;

/// Whose events are opened.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Everybody's.
    Host,
    /// Those of all processes of the user that this one runs as.
    User,
    /// Those of a process and its descendants.
    Tree(u32),
    /// Those of processes with a name and a user.
    Matching(Arc<Processes>),
    /// Those of what is in a control group, now and later.
    Cgroup(Arc<Cgroup>),
}

/// A control group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

/// Which processes are meant.
#[derive(Debug)]
pub(crate) struct Processes {
    name: Option<String>,
    user: Option<u32>,
}

impl Target {
    /// What a scope stands for here.
    pub(crate) fn of(scope: &Scope) -> Result<Self, Error> {
        match scope {
            Scope::System => Ok(Self::Host),
            Scope::User => Ok(Self::User),
            Scope::Pid(pid) => Ok(Self::Tree(*pid)),
            Scope::Match(Match { name, user }) => {
                let user = user.as_deref().map(user_number).transpose()?;
                Ok(Self::Matching(Arc::new(Processes { name: name.clone(), user })))
            }
            Scope::Cgroup(path) => {
                let inside = path.trim_start_matches('/');
                let found = roots().into_iter().map(|root| root.join(inside));
                let found = found.into_iter().find(|path| path.is_dir());
                let missing = || {
                    Error::new(format!(
                        "there is no control group `{path}`; `cat /proc/PID/cgroup` tells that of a \
                         process"
                    ))
                };
                Self::cgroup(found.ok_or_else(missing)?)
            }
            Scope::Container(id) => {
                let found = roots().into_iter().find_map(|root| find_container(&root, id));
                let missing = || {
                    Error::new(format!(
                        "no control group is that of a container `{id}`; give the first {MIN_ID} digits \
                         of its id or more"
                    ))
                };
                Self::cgroup(found.ok_or_else(missing)?)
            }
        }
    }

    fn cgroup(path: PathBuf) -> Result<Self, Error> {
        let opened = File::open(&path).map_err(|error| {
            Error::new(format!("the control group {} cannot be opened: {error}", path.display()))
        })?;
        Ok(Self::Cgroup(Arc::new(Cgroup { path, directory: opened.into() })))
    }

    /// Whether there is one event for each CPU, and not for each thread.
    pub(crate) fn is_per_cpu(&self) -> bool {
        matches!(self, Self::Host | Self::Cgroup(_))
    }

    /// On whom probes are opened: the kernel reads the path of the file in the memory of whoever begins a
    /// thread that inherits one, where it is not, and the thread does not begin. So those of threads are
    /// opened on the whole host.
    pub(crate) fn of_calls(&self) -> Self {
        if self.is_per_cpu() { self.clone() } else { Self::Host }
    }

    /// Opens an event on a CPU; where there is one for each thread, on this one.
    pub(crate) fn open(&self, attr: &Attr, cpu: i32) -> io::Result<OwnedFd> {
        match self {
            Self::Host => sys::open_event(attr, -1, cpu),
            Self::Cgroup(group) => sys::open_cgroup_event(attr, group.directory.as_fd(), cpu),
            Self::User | Self::Tree(_) | Self::Matching(_) => sys::open_event(attr, 0, cpu),
        }
    }

    /// The processes that are meant, as far as they are there; all of them for the whole host.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Host => all_processes().collect(),
            Self::User => processes_of(rustix::process::geteuid().as_raw()).collect(),
            Self::Tree(pid) => tree_of(*pid),
            Self::Matching(which) => all_processes().filter(|pid| which.has(*pid)).collect(),
            Self::Cgroup(group) => {
                let mut found = Vec::new();
                members(&group.path, 0, &mut found);
                found
            }
        }
    }
}

impl Processes {
    fn has(&self, pid: u32) -> bool {
        let is_of_user = |user: u32| {
            fs::metadata(format!("/proc/{pid}")).is_ok_and(|metadata| metadata.uid() == user)
        };
        let is_called = |pattern: &str| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let executable = executable.file_name().and_then(|name| name.to_str());
            is_match(pattern, comm.trim_end())
                || executable.is_some_and(|name| is_match(pattern, name))
        };
        self.user.is_none_or(is_of_user) && self.name.as_deref().is_none_or(is_called)
    }
}

/// Whether a text is like a pattern, in which `*` stands for any text.
fn is_match(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}

/// The number of a user, who may be named.
fn user_number(user: &str) -> Result<u32, Error> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entries = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?))
    });
    let users: HashMap<&str, u32> = entries.collect();
    users.get(user).copied().ok_or_else(|| {
        Error::new(format!("there is no user `{user}` in /etc/passwd; give the number"))
    })
}

/// Where control groups of events are: the hierarchy of version 1 that has them, if there is one, else
/// that of version 2.
fn roots() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    let has_events = |mount: &&Mount<'_>| {
        mount.kind == "cgroup" && mount.options.split(',').any(|option| option == "perf_event")
    };
    let first: Vec<_> = mounts.iter().filter(has_events).map(|mount| mount.place.into()).collect();
    if !first.is_empty() {
        return first;
    }
    let second = mounts.iter().filter(|mount| mount.kind == "cgroup2");
    second.map(|mount| mount.place.into()).collect()
}

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        Some(Self { place, kind: after.next()?, options: after.nth(1)? })
    }
}

/// The control group of a container, of whose id this is the beginning.
fn find_container(root: &Path, id: &str) -> Option<PathBuf> {
    if id.len() < MIN_ID || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut left = MAX_DIRECTORIES;
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if left == 0 {
                return None;
            }
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            left -= 1;
            let name = entry.file_name();
            let full = profpipe_host::cgroup::container_id_of(name.to_str().unwrap_or_default());
            if full.is_some_and(|full| full.starts_with(id)) {
                return Some(entry.path());
            }
            if depth < MAX_DEPTH {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    None
}

/// The processes in a control group and in those below.
fn members(path: &Path, depth: usize, found: &mut Vec<u32>) {
    let list = match fs::read_to_string(path.join("cgroup.procs")) {
        // That of threads only has them with its parent.
        Err(error) if error.kind() != ErrorKind::NotFound => String::new(),
        list => list.unwrap_or_default(),
    };
    found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth >= MAX_DEPTH {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            members(&entry.path(), depth + 1, found);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: patterns with stars at every place, and texts that are nearly like them.
    /// Guarantees: a star stands for any text, and everything else for itself.
    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("nginx", "nginx", true),
            ("nginx", "nginx2", false),
            ("nginx*", "nginx-worker", true),
            ("*x", "nginx", true),
            ("*x", "nginy", false),
            ("n*i*x", "nginx", true),
            ("n*i*y", "nginx", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// Scenario: lines of the list of mounts, and what is none.
    /// Guarantees: the place, the kind and the options of a control group's hierarchy are found.
    #[test]
    fn reads_mounts() {
        let line = "35 24 0:30 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.place, mount.kind), ("/sys/fs/cgroup/unified", "cgroup2"));
        let line = "36 25 0:31 / /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.kind, mount.options), ("cgroup", "rw,perf_event"));
        assert!(Mount::parse("nonsense - x").is_none());
    }

    /// Scenario: the user's own number, names that are there and that are not.
    /// Guarantees: a name is found, or said to be missing.
    #[test]
    fn finds_users() {
        assert_eq!(user_number("1234").unwrap(), 1234);
        assert_eq!(user_number("root").unwrap(), 0);
        let error = user_number("no such user").unwrap_err().to_string();
        assert!(error.contains("no such user"), "{error}");
    }

    /// Scenario: directories named as container runtimes name them, at some depth.
    /// Guarantees: a container is found by the beginning of its id, and by nothing less.
    #[test]
    fn finds_containers() {
        let root = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef".repeat(4);
        let path = root.path().join("a/b.slice").join(format!("docker-{id}.scope"));
        fs::create_dir_all(&path).unwrap();
        assert_eq!(find_container(root.path(), &id[..12]).unwrap(), path);
        for wrong in ["", "0123", "ffffffffffff", "xyzxyzxyzxyz"] {
            assert_eq!(find_container(root.path(), wrong), None, "{wrong}");
        }
    }
}
