//! Requests for blocks that are under way: who made them, until they are done.
//!
//! A request is known by its disk and its first sector. The disk may do a part of it first, or several at once:
//! it is done when all of it is. What is never told to be done (its record was lost, or the device makes other
//! requests of it) makes room for others in time.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::ops::Range;

use hashbrown::HashMap;

use ringbuf::traits::{Observer, Producer};

use super::Drain;
use crate::perf::Event;
use crate::perf::linux::events::attr::Kind;
use crate::perf::linux::events::chosen::Chosen;
use crate::perf::linux::handoff::{Counted, EventIx, Frame, Message};
use crate::perf::linux::records::block::{BlockFields, Blocks};
use crate::perf::linux::records::record::Sample;

/// The most requests that are under way.
const MAX_PENDING: usize = 8192;
/// How long a request may take, in nanoseconds.
const MAX_TIME: u64 = 60_000_000_000;
/// The longest request, in sectors: one that is done from here on may have begun so much before.
const MAX_SECTORS: u64 = 1 << 22;
/// The most requests that are looked at before the first that is done.
const MAX_BEFORE: usize = 64;
/// The most that is remembered of what was done of which no request is known.
const MAX_EARLY: usize = 512;
/// What is not told to be done after so long, in nanoseconds, will most likely never be.
const UNFINISHED_AFTER: u64 = 1_000_000_000;
/// The share of requests of which it may not be known when they were done.
const MAX_UNFINISHED: f64 = 0.02;
/// The most devices that are known.
const MAX_DEVICES: usize = 4096;

/// The events of requests, and those that are under way.
#[derive(Debug, Default)]
pub(super) struct BlockTimes {
    /// What tells of requests, and where it has what they are.
    requests: Option<(EventIx, BlockFields)>,
    done: Option<(EventIx, BlockFields)>,
    pending: PendingBlocks,
    /// It has been said that the times of requests are missing.
    is_said: bool,
}

impl BlockTimes {
    /// Of these events.
    pub(super) fn new(chosen: &Chosen) -> Self {
        let is_of_blocks = |event: EventIx| matches!(chosen.asked(event), Some(Event::BlockIo(_)));
        let mut times = Self::default();
        for (event, kind) in chosen.numbered().filter(|(event, _)| is_of_blocks(*event)) {
            match kind {
                Kind::BlocksDone { request, done, .. } => {
                    times.done = Some((event, done));
                    times.requests = times.requests.map(|(event, _)| (event, request));
                    times.pending = PendingBlocks::of_this_host();
                }
                Kind::Tracepoint { .. } => {
                    times.requests = Some((event, BlockFields::default()));
                }
                _ => {}
            }
        }
        // Nobody tells when they are done.
        times.requests = times.requests.filter(|_| times.done.is_some());
        times
    }

    /// The request that a sample is of.
    pub(super) fn requested(&self, sample: &Sample<'_>) -> Option<Blocks> {
        let (event, fields) = self.requests?;
        (event == sample.event).then(|| fields.read(sample.raw)).flatten()
    }

    /// A request was made, with these frames. How long it took, if it is done: its sample may have been put off.
    pub(super) fn begin(
        &mut self,
        blocks: Blocks,
        counted: Counted,
        frames: &[Frame],
    ) -> Option<Counted> {
        let (event, _) = self.done?;
        let done = self.pending.begin(blocks, counted, frames)?;
        Some(took(event, &counted, done))
    }

    /// A window ends, maybe the last. Whether it lacks the times of many requests: the kernel tells nothing of
    /// what is done in an interrupt while the CPU idles. Says so once.
    pub(super) fn end_window(&mut self, end: u64, is_last: bool) -> bool {
        let until = if is_last { u64::MAX } else { end.saturating_sub(UNFINISHED_AFTER) };
        let (begun, unfinished) = self.pending.take_unfinished(until);
        let is_partial = unfinished as f64 > MAX_UNFINISHED * begun.max(unfinished) as f64;
        if is_partial && !std::mem::replace(&mut self.is_said, true) {
            tracing::warn!(
                "perf: `block_io`: of {unfinished} of {begun} requests the kernel has not told that they are \
                 done, as where a CPU idles meanwhile: `io_time` is of the others only"
            );
        }
        is_partial
    }
}

/// What tells how long a request took.
fn took(event: EventIx, request: &Counted, done: u64) -> Counted {
    let weight = done.saturating_sub(request.time).saturating_mul(request.events);
    Counted { event, weight, ..*request }
}

impl Drain {
    /// Whether samples of an event say that blocks are done.
    pub(super) fn is_of_blocks_done(&self, event: EventIx) -> bool {
        self.blocks.done.is_some_and(|(done, _)| done == event)
    }

    /// Blocks are done: tells how long that took.
    pub(super) fn end_blocks(&mut self, sample: &Sample<'_>) {
        let Some((event, fields)) = self.blocks.done else {
            return;
        };
        let Some(blocks) = fields.read(sample.raw) else { return };
        for Pending { counted, frames, .. } in self.blocks.pending.end(blocks, sample.time) {
            if self.out.vacant_len() < 2 {
                return;
            }
            let (stack, new) = self.stacks.intern(&frames);
            if let Some(frames) = new {
                let _ = self.out.try_push(Message::Stack(stack, frames));
            }
            let counted = Counted { stack, ..took(event, &counted, sample.time) };
            let _ = self.out.try_push(Message::Sample(counted));
        }
    }
}

/// A request that is under way.
#[derive(Debug)]
struct Pending {
    /// The sample of it.
    counted: Counted,
    frames: Box<[Frame]>,
    sectors: u64,
    left: u64,
}

/// The requests that are under way.
#[derive(Debug, Default)]
struct PendingBlocks {
    pending: BTreeMap<(u32, u64), Pending>,
    /// What was done of which no request is known: its disk and sectors, and when that was.
    early: VecDeque<((u32, Range<u64>), u64)>,
    /// The requests since this was asked, and until when those were looked at that are under way.
    begun: u64,
    looked_until: u64,
    /// The disks of partitions, by the numbers of the kernel.
    disks: HashMap<u32, u32>,
}

impl PendingBlocks {
    /// With the disks of this host.
    fn of_this_host() -> Self {
        let entries = fs::read_dir("/sys/dev/block").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| {
            let path = entry.path();
            let own = device_number(entry.file_name().to_str()?)?;
            // A link into the directory of the disk, where the partition has its own.
            let is_partition = fs::exists(path.join("partition")).unwrap_or(false);
            let disk = fs::read_to_string(path.join("../dev")).ok().filter(|_| is_partition)?;
            Some((own, device_number(disk.trim())?))
        });
        Self { disks: numbers.take(MAX_DEVICES).collect(), ..Self::default() }
    }

    /// A request was made; when it was done, if that is known already.
    fn begin(&mut self, blocks: Blocks, counted: Counted, frames: &[Frame]) -> Option<u64> {
        if blocks.sectors == 0 {
            return None;
        }
        self.begun += 1;
        let disk = self.disk(blocks.device);
        let (from, until) = (blocks.sector, blocks.sector.saturating_add(blocks.sectors));
        let (mut covered, mut done) = (0, 0);
        for ((of, range), time) in &self.early {
            if *of == disk && *time >= counted.time {
                let part = range.end.min(until).saturating_sub(range.start.max(from));
                covered += part;
                done = if part > 0 { done.max(*time) } else { done };
            }
        }
        if covered >= blocks.sectors {
            return Some(done);
        }
        if self.pending.len() >= MAX_PENDING {
            let now = counted.time;
            self.pending.retain(|_, it| it.counted.time + MAX_TIME > now);
        }
        if self.pending.len() >= MAX_PENDING {
            return None;
        }
        let (sectors, left) = (blocks.sectors, blocks.sectors.saturating_sub(covered));
        let pending = Pending { counted, frames: frames.into(), sectors, left };
        self.pending.insert((disk, blocks.sector), pending);
        None
    }

    /// Blocks are done: the requests of which nothing is left now.
    fn end(&mut self, blocks: Blocks, time: u64) -> Vec<Pending> {
        let disk = self.disk(blocks.device);
        let (from, until) = (blocks.sector, blocks.sector.saturating_add(blocks.sectors));
        let mut done = Vec::new();
        let mut known = 0;
        let before = self.pending.range((disk, from.saturating_sub(MAX_SECTORS))..(disk, from));
        let before = before.rev().take(MAX_BEFORE).map(|(key, _)| *key);
        let inside = self.pending.range((disk, from)..(disk, until)).map(|(key, _)| *key);
        for key in before.chain(inside).collect::<Vec<_>>() {
            let Some(pending) = self.pending.get_mut(&key) else { continue };
            let (first, last) = (key.1, key.1.saturating_add(pending.sectors));
            let part = last.min(until).saturating_sub(first.max(from));
            known += part;
            pending.left = pending.left.saturating_sub(part);
            if pending.left == 0 {
                done.extend(self.pending.remove(&key));
            }
        }
        if known == 0 {
            if self.early.len() >= MAX_EARLY {
                self.early.pop_front();
            }
            self.early.push_back(((disk, from..until), time));
        }
        done
    }

    /// How many requests there were since this was asked, and of how many that were made until a time it is
    /// not known that they are done; each counts once.
    fn take_unfinished(&mut self, until: u64) -> (u64, u64) {
        let made = self.looked_until..until;
        let unfinished = self.pending.values().filter(|it| made.contains(&it.counted.time)).count();
        self.looked_until = self.looked_until.max(until);
        (std::mem::take(&mut self.begun), unfinished as u64)
    }

    fn disk(&self, device: u32) -> u32 {
        self.disks.get(&device).copied().unwrap_or(device)
    }
}

/// The kernel's number of a device `MAJOR:MINOR`.
fn device_number(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::linux::handoff::Unwound;
    use crate::perf::linux::records::block::Operation;

    fn blocks(device: u32, sector: u64, sectors: u64) -> Blocks {
        Blocks { device, sector, sectors, operation: Operation::Write }
    }

    fn counted(tid: u32, time: u64) -> Counted {
        Counted {
            event: EventIx(1),
            label: None,
            process: 1,
            tid,
            stack: 1,
            unwound: Unwound::Complete,
            weight: 1,
            events: 1,
            time,
        }
    }

    /// Scenario: requests of a disk and of its partition; one is done in three parts, two at once, others on
    /// another disk; what was never asked for is done.
    /// Guarantees: each is done when all of it is, and once.
    #[test]
    fn requests_are_done_when_all_of_them_is() {
        let mut all = PendingBlocks { disks: HashMap::from([(11, 10)]), ..Default::default() };
        all.begin(blocks(10, 100, 30), counted(1, 1), &[]);
        all.begin(blocks(11, 130, 8), counted(2, 2), &[]);
        all.begin(blocks(10, 138, 8), counted(3, 3), &[]);
        all.begin(blocks(12, 100, 8), counted(4, 4), &[]);
        let done = |all: &mut PendingBlocks, it| {
            let tids = all.end(it, 100).into_iter().map(|it| it.counted.tid);
            tids.collect::<Vec<_>>()
        };
        assert!(done(&mut all, blocks(10, 100, 10)).is_empty());
        assert!(done(&mut all, blocks(10, 120, 10)).is_empty());
        assert_eq!(done(&mut all, blocks(10, 110, 10)), [1]);
        assert_eq!(done(&mut all, blocks(10, 130, 16)), [2, 3]);
        assert!(done(&mut all, blocks(10, 0, 1 << 30)).is_empty());
        assert_eq!(done(&mut all, blocks(12, 0, 1 << 30)), [4]);
        assert_eq!(device_number("259:1"), Some(259 << 20 | 1));
        assert_eq!(device_number("x:1"), None);
    }

    /// Scenario: requests whose samples are put off come after they were done, in two parts or in part; others of
    /// the same blocks come later; what is done without a request comes without end.
    /// Guarantees: what was done since a request was made counts for it, and what was done before does not.
    #[test]
    fn requests_may_come_late() {
        let mut all = PendingBlocks::default();
        assert!(all.end(blocks(1, 0, 8), 5).is_empty() && all.end(blocks(1, 8, 8), 7).is_empty());
        assert_eq!(all.begin(blocks(1, 0, 16), counted(1, 3), &[]), Some(7));
        assert_eq!(all.begin(blocks(1, 0, 16), counted(2, 6), &[]), None);
        assert_eq!(all.end(blocks(1, 0, 8), 9).len(), 1);
        assert_eq!(all.begin(blocks(1, 0, 8), counted(3, 8), &[]), None);
        (0..2_000).for_each(|at| assert!(all.end(blocks(2, at, 1), at).is_empty()));
        assert_eq!(all.early.len(), MAX_EARLY);
    }

    /// Scenario: of fifty requests in each of some windows one is never told to be done; then five are not.
    /// Guarantees: a window is called partial where more than one in fifty is missing, and each counts once.
    #[test]
    fn missing_times_are_told() {
        let mut times = BlockTimes::default();
        let window = |times: &mut BlockTimes, at: u64, missing: u64| {
            for request in 0..50 {
                let sector = (at * 50 + request) * 8;
                times.pending.begin(blocks(1, sector, 8), counted(1, at * 2_000_000_000), &[]);
                if request >= missing {
                    times.pending.end(blocks(1, sector, 8), at * 2_000_000_000 + 1);
                }
            }
            times.end_window((at + 1) * 2_000_000_000, false)
        };
        assert!((0..3).all(|at| !window(&mut times, at, 1)));
        assert!(window(&mut times, 3, 5));
        assert!(!window(&mut times, 4, 0));
        // The last one has not been there for long.
        times.pending.begin(blocks(1, 0, 8), counted(1, 11_500_000_000), &[]);
        assert!(!times.end_window(12_000_000_000, false));
        assert!(times.end_window(12_000_000_000, true));
    }

    /// Scenario: requests that are never done, without end.
    /// Guarantees: they are bounded; after a minute there is room for new ones.
    #[test]
    fn requests_are_bounded() {
        let mut all = PendingBlocks::default();
        for at in 0..2 * MAX_PENDING as u64 {
            all.begin(blocks(1, at * 8, 8), counted(1, at), &[]);
        }
        assert_eq!(all.pending.len(), MAX_PENDING);
        all.begin(blocks(2, 0, 8), counted(7, MAX_TIME + MAX_PENDING as u64), &[]);
        assert_eq!(all.end(blocks(2, 0, 8), MAX_TIME * 2).len(), 1);
    }
}
