//! The processes that a command has started: to end them with it, and to say which go on without it.
//!
//! A process belongs to the tree while its parents do. One whose parent has ended belongs to nobody:
//! that there are such is known from the sampler, who they are from what was sampled and from the
//! process group, as far as that can tell.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use profpipe_host::proc::{Stat, text};

use super::process::Process;

/// The most processes that are ended or named.
const MAX_PROCESSES: usize = 4096;
/// The most that are named in a message.
const MAX_NAMED: usize = 8;

/// A process, and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) pid: u32,
    start_time: u64,
}

/// A process with what there is to say of it.
struct Seen {
    member: Member,
    parent: u32,
    group: u32,
}

fn everybody() -> Vec<Seen> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let seen = |pid| {
        let stat = Stat::read(pid)?;
        let member = Member { pid, start_time: stat.start_time };
        Some(Seen { member, parent: stat.parent, group: stat.group })
    };
    pids.filter_map(seen).collect()
}

/// The processes that descend from this one, without it.
pub(super) fn descendants(root: u32) -> Vec<Member> {
    let all = everybody();
    let mut tree: Vec<Member> = Vec::new();
    let mut at = 0;
    let mut parent = root;
    loop {
        let children = all.iter().filter(|seen| seen.parent == parent && seen.member.pid != root);
        for child in children {
            if tree.len() < MAX_PROCESSES && !tree.contains(&child.member) {
                tree.push(child.member);
            }
        }
        let Some(next) = tree.get(at) else { return tree };
        (parent, at) = (next.pid, at + 1);
    }
}

impl Member {
    /// The process with this number, if there is one.
    pub(super) fn find(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, start_time: stat.start_time })
    }

    /// The process with this number; of one that cannot be seen it is not known when it started.
    pub(super) fn find_or_unknown(pid: u32) -> Self {
        Self::find(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// True while it runs: one that has ended and was not waited for does not.
    pub(super) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.ended)
    }

    /// True if it started after another one. Within a tick the numbers say so, unless they have
    /// begun again.
    fn is_after(self, other: Self) -> bool {
        (self.start_time, self.pid) > (other.start_time, other.pid)
    }

    /// Sends a signal by its number; a process that has ended misses nothing.
    pub(super) fn signal(self, number: i32) {
        // The descriptor is of this process if it is still there now.
        if let Ok(process) = Process::find(self.pid)
            && self.is_alive()
        {
            process.signal(number);
        }
    }

    fn name(self) -> String {
        let name = text(self.pid, "comm", 64).unwrap_or_default();
        name.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

/// The processes of our own group, which a command and what it starts belong to unless they leave it.
fn own_group() -> impl Iterator<Item = Member> {
    let own = rustix::process::getpgrp().as_raw_nonzero().get().cast_unsigned();
    everybody().into_iter().filter(move |seen| seen.group == own).map(|seen| seen.member)
}

/// Waits until none of them runs, at most for this time; those that do.
pub(super) async fn wait(members: Vec<Member>, time: Duration) -> Vec<Member> {
    let deadline = Instant::now() + time;
    let mut left = members;
    loop {
        left.retain(|member| member.is_alive());
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says which processes that a command started go on after it. `command` is the one that has ended,
/// `sampled` are processes of the recording; `count` is how many go on, if that is known.
pub(super) fn describe_survivors(
    name: &str,
    command: Member,
    sampled: &[u32],
    count: Option<u64>,
) -> Option<String> {
    if count == Some(0) {
        return None;
    }
    let own = std::process::id();
    let is_new =
        |member: &Member| member.pid != own && member.is_after(command) && member.is_alive();
    let of_recording = sampled.iter().filter_map(|pid| Member::find(*pid)).filter(is_new);
    let certain: BTreeSet<Member> = of_recording.collect();
    let mut named = certain.clone();
    named.extend(own_group().filter(is_new));
    // Some come and go while we look.
    let count = count.map_or(named.len(), |count| certain.len().max(count as usize));
    if count == 0 {
        return None;
    }
    // Others may have joined the group: a guess is left out where there are more than there can be.
    if named.len() > count {
        named = certain;
    }
    let list: Vec<_> = named
        .iter()
        .take(MAX_NAMED)
        .map(|member| format!("{} ({})", member.name(), member.pid))
        .collect();
    let others = count - list.len();
    let list = match (list.is_empty(), others) {
        (true, _) => String::new(),
        (false, 0) => format!(": {}", list.join(", ")),
        (false, others) => format!(": {} and {others} more", list.join(", ")),
    };
    let what = if count == 1 { "process goes" } else { "processes go" };
    Some(format!("{count} {what} on that {name} has started{list}"))
}
