//! The heaps of Go programs, told at the end of windows: what was allocated since the last one, and what is in
//! use.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ringbuf::traits::{Observer, Producer};

use super::Drain;
use crate::perf::linux::handoff::{Frame, Message, Unwound};
use crate::perf::linux::heap::go::{Bucket, GoHeaps, GoProgram, Reading};
use crate::perf::linux::heap::live::{Origin, Stands};
use crate::perf::linux::processes::process::{Code, Process};
use crate::perf::linux::thread::now;

/// How often is looked for new programs, in nanoseconds.
const SEARCH_NANOS: u64 = 50_000_000;
/// Frames that Go keeps of a stack where nothing else is said; of deeper ones the callers are missing.
const USUAL_FRAMES: usize = 32;

/// The Go programs whose heaps are read.
#[derive(Default)]
pub(super) struct GoPrograms {
    heaps: Option<GoHeaps>,
    /// The processes that were looked at, with the number of their mappings then.
    seen: HashMap<u32, usize>,
    searched: u64,
    /// The blocks that were told of each bucket, by process.
    told: HashMap<u32, HashMap<u64, u64>>,
}

impl Drain {
    /// Has the heaps read of Go programs that are new.
    pub(super) fn find_go_programs(&mut self) {
        let go = &mut self.heaped.go;
        if self.heaped.heap.is_none() || now() < go.searched + SEARCH_NANOS {
            return;
        }
        go.searched = now();
        for process in self.processes.iter() {
            let mappings = process.mappings_known();
            if go.seen.insert(process.id, mappings) == Some(mappings) {
                continue;
            }
            let found = process.image_places().find_map(|(image, bias)| {
                let image = self.host.images.get(image)?;
                image.identity.go.then(|| Some((Arc::clone(image.file.as_ref()?), bias)))?
            });
            let Some((file, bias)) = found else { continue };
            if go.told.contains_key(&process.id) {
                continue;
            }
            if go.heaps.is_none() {
                go.heaps = GoHeaps::start().ok();
            }
            let program = GoProgram { pid: process.pid, process: process.id, file, bias };
            if go.heaps.as_ref().is_some_and(|heaps| heaps.add(program)) {
                go.told.insert(process.id, HashMap::new());
            }
        }
        if go.seen.len() > 2 * self.processes.len() + 64 {
            let known: HashSet<u32> = self.processes.iter().map(|it| it.id).collect();
            go.seen.retain(|process, _| known.contains(process));
        }
    }

    /// Tells what Go programs have allocated since the last window, and what they have in use.
    pub(super) fn tell_go_heaps(&mut self, end: u64, is_wanted: bool) {
        let Some(heaps) = &self.heaped.go.heaps else { return };
        let known: Vec<(u32, u32, bool)> = self
            .processes
            .iter()
            .filter(|process| self.heaped.go.told.contains_key(&process.id))
            .map(|process| (process.id, process.pid, self.processes.id_of(process.pid).is_none()))
            .collect();
        let known: Vec<_> = known
            .into_iter()
            .filter_map(|(id, pid, is_over)| Some((id, pid, is_over, heaps.reading(id)?)))
            .collect();
        for (id, pid, is_over, Reading { rate, buckets }) in known {
            let mut told = self.heaped.go.told.remove(&id).unwrap_or_default();
            self.announce(pid);
            for bucket in &buckets {
                let Some(process) = self.processes.unread(pid) else { continue };
                let frames = frames(process, bucket);
                let unwound = match bucket.stack.len() {
                    USUAL_FRAMES => Unwound::Truncated,
                    _ => Unwound::Complete,
                };
                let origin = Origin { process: id, frames: frames.into(), unwound };
                let new = bucket.allocated
                    - told
                        .insert(bucket.address, bucket.allocated)
                        .unwrap_or(0)
                        .min(bucket.allocated);
                let [bytes, blocks, live_bytes, live_blocks] = self.heaped.events();
                let stands = |blocks| stands(blocks, bucket.size, rate);
                self.send_rows();
                self.tell_heap([bytes, blocks], &origin, stands(new), end);
                if self.heaped.is_live() && (is_wanted || is_over) {
                    self.tell_heap([live_bytes, live_blocks], &origin, stands(bucket.in_use), end);
                }
            }
            match is_over {
                true => {
                    if let Some(heaps) = &self.heaped.go.heaps {
                        heaps.forget(id);
                    }
                }
                false => {
                    self.heaped.go.told.insert(id, told);
                }
            }
        }
    }

    /// Tells what rows stand for that were not used by a sample yet.
    fn send_rows(&mut self) {
        if self.out.vacant_len() > self.host.rows_waiting() + 16 {
            for (row, facts) in self.host.take_rows() {
                let _ = self.out.try_push(Message::Row(row, facts));
            }
        }
    }
}

/// What sampled blocks of a size stand for.
fn stands(blocks: u64, size: u64, rate: u64) -> Stands {
    let chance = -(-(size as f64) / rate.max(1) as f64).exp_m1();
    let all = blocks as f64 / chance.max(f64::MIN_POSITIVE);
    Stands { blocks: all.round() as u64, bytes: (all * size as f64).round() as u64 }
}

/// The frames of a bucket, as far as they are code of the process.
fn frames(process: &Process, bucket: &Bucket) -> Vec<Frame> {
    let frame = |address: &u64| {
        // Of the call, not of where it returns to.
        let address = address.wrapping_sub(1);
        match process.find(address)?.code {
            Code::Image { bias, row, .. } | Code::File { bias, row } => {
                Some(Frame { row, address: address.wrapping_sub(bias) })
            }
            _ => None,
        }
    };
    bucket.stack.iter().filter_map(frame).collect()
}
