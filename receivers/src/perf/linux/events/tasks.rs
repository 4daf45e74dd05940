//! What there is to attach to: CPUs that are online, threads of a process, processes of a tree or of a
//! user, as `/proc` and `/sys` list them at this moment.

use std::fs;

use profpipe_host::proc::Stat;

/// The CPUs that are online.
pub(crate) fn online_cpus() -> Vec<i32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = parse_cpus(&text);
    if cpus.is_empty() {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        return (0..count as i32).collect();
    }
    cpus
}

/// The numbers in a list such as `0-3,6`.
pub(crate) fn parse_cpus(text: &str) -> Vec<i32> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?.min(8191))
    });
    ranges.flatten().collect()
}

fn numbers_in(directory: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The threads of a process, listed before any is attached to: those that begin afterwards are
/// sampled because their parents are.
pub(crate) fn threads_of(pid: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{pid}/task")).collect()
}

/// A process and its descendants.
pub(crate) fn tree_of(root: u32) -> Vec<u32> {
    let parent = |pid: u32| Some((pid, Stat::read(pid)?.parent));
    let parents: Vec<_> = all_processes().filter_map(parent).collect();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(of) = tree.get(at).copied() {
        at += 1;
        let children = parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid);
        let new: Vec<_> = children.filter(|pid| !tree.contains(pid)).collect();
        tree.extend(new);
    }
    tree
}

/// Every process.
pub(crate) fn all_processes() -> impl Iterator<Item = u32> + use<> {
    numbers_in("/proc")
}

/// Those of a user.
pub(crate) fn processes_of(user: u32) -> impl Iterator<Item = u32> {
    use std::os::unix::fs::MetadataExt;
    let owned = move |pid: &u32| {
        fs::metadata(format!("/proc/{pid}")).is_ok_and(|metadata| metadata.uid() == user)
    };
    all_processes().filter(owned)
}
