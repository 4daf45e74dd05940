//! What was read of HotSpot's code, and whether it is still the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::HotSpot;
use super::block::Block;
use super::method::Method;
use crate::perf::linux::runtimes::memory::{MAX_PIECES, Memory};
use crate::perf::linux::runtimes::native::Wants;

/// The most memory for blocks of a process, in bytes; then all are read again.
const MAX_BYTES: usize = 24 << 20;
/// The most methods that are known by themselves, and the most addresses that are known to be nothing.
const MAX_METHODS: usize = 8192;
/// How long reading what is wanted may take at a time; what is left is asked for again.
const LONGEST_READ: Duration = Duration::from_millis(30);
/// How long something is known to be nothing, in nanoseconds.
const NOTHING_NANOS: u64 = 1_000_000_000;

/// What is known of a process.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By the start of their code.
    blocks: BTreeMap<u64, Arc<Block>>,
    bytes: usize,
    /// Methods that the interpreter runs, when they were last the same, and whether they were needed since.
    methods: HashMap<u64, KnownMethod>,
    /// Addresses that are not code or not a method, and since when.
    nothing: HashMap<u64, u64>,
    /// When all that was needed was the same.
    pub(crate) verified: u64,
    /// The memory cannot be read any more: the process has ended, and nothing changes.
    is_over: bool,
}

#[derive(Debug)]
struct KnownMethod {
    method: Method,
    verified: u64,
    used: bool,
}

/// Something that was looked up for a sample.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    This(T),
    /// It is not what it was taken for.
    Nothing,
    /// It has to be read first, or again.
    Unknown,
}

impl Known {
    /// The block that has an address, as it was at this time.
    pub(crate) fn block(&self, address: u64, time: u64) -> Found<Arc<Block>> {
        let before = self.blocks.range(..=address).next_back().map(|(_, block)| block);
        match before.filter(|block| address <= block.code.end) {
            Some(block) if block.is_same_after(time) || self.is_over => {
                Found::This(Arc::clone(block))
            }
            Some(_) => Found::Unknown,
            None if self.nothing.contains_key(&address) || self.is_over => Found::Nothing,
            None => Found::Unknown,
        }
    }

    /// Whether something was read at an address, at whatever time.
    pub(crate) fn has_block(&self, address: u64) -> Option<&Arc<Block>> {
        let before = self.blocks.range(..=address).next_back().map(|(_, block)| block);
        before.filter(|block| address <= block.code.end)
    }

    /// A method that the interpreter ran at this time.
    pub(crate) fn method(&mut self, address: u64, time: u64) -> Found<Method> {
        match self.methods.get_mut(&address) {
            Some(known) => {
                known.used = true;
                match known.verified >= time || self.is_over {
                    true => Found::This(known.method.clone()),
                    false => Found::Unknown,
                }
            }
            None if self.nothing.contains_key(&address) || self.is_over => Found::Nothing,
            None => Found::Unknown,
        }
    }

    /// Notes a block that was read.
    pub(crate) fn add(&mut self, block: Block) {
        if self.bytes + block.size() > MAX_BYTES {
            self.blocks.clear();
            self.bytes = 0;
        }
        // What was there is gone.
        let gone: Vec<u64> =
            self.blocks.range(block.code.clone()).map(|(start, _)| *start).collect();
        let before = self.blocks.range(..block.code.start).next_back();
        let before =
            before.filter(|(_, it)| it.code.end > block.code.start).map(|(start, _)| *start);
        for start in gone.into_iter().chain(before) {
            self.remove(start);
        }
        self.bytes += block.size();
        self.blocks.insert(block.code.start, Arc::new(block));
    }

    fn remove(&mut self, start: u64) {
        if let Some(block) = self.blocks.remove(&start) {
            self.bytes = self.bytes.saturating_sub(block.size());
        }
    }

    /// Notes a method that was read, at this time.
    pub(crate) fn add_method(&mut self, address: u64, method: Method, time: u64) {
        if self.methods.len() >= MAX_METHODS {
            self.methods.clear();
        }
        self.methods.insert(address, KnownMethod { method, verified: time, used: false });
    }

    fn note_nothing(&mut self, address: u64, time: u64) {
        if self.nothing.len() >= MAX_METHODS {
            self.nothing.clear();
        }
        self.nothing.insert(address, time);
    }
}

impl HotSpot {
    /// Reads what is wanted, and again what was used; see [`super::super::native::NativeRuntime::read`].
    pub(super) fn read_wanted(&self, wants: &Wants, time: u64, memory: &mut dyn Memory) {
        let (used, methods) = {
            let mut known = self.known();
            let since = time.saturating_sub(NOTHING_NANOS);
            known.nothing.retain(|_, noted| *noted >= since);
            let used: Vec<_> = known.blocks.values().filter(|it| it.take_used()).cloned().collect();
            let mut methods = Vec::new();
            for (address, known) in &mut known.methods {
                if std::mem::take(&mut known.used) {
                    methods.push(*address);
                }
            }
            (used, methods)
        };
        // The memory is read while nobody waits for what is known.
        let is_there = self.read_again(&used, time, memory);
        let began = Instant::now();
        for address in methods.iter().chain(&wants.functions) {
            if began.elapsed() > LONGEST_READ {
                break;
            }
            let found = self.read_method(*address, memory);
            let mut known = self.known();
            match found {
                Some(method) => known.add_method(*address, method, time),
                None if is_there => {
                    known.methods.remove(address);
                    known.note_nothing(*address, time);
                }
                None => {}
            }
        }
        for address in &wants.code {
            if began.elapsed() > LONGEST_READ {
                break;
            }
            if self.known().has_block(*address).is_some() {
                continue;
            }
            let heap = self.heaps.iter().find(|heap| heap.code.contains(address));
            let at = heap.and_then(|heap| heap.block(*address, memory));
            let block = at.and_then(|at| self.read_block(at, time, memory));
            let block = block.filter(|it| it.code.start <= *address && *address <= it.code.end);
            let is_unfinished =
                block.is_none() && at.is_some_and(|at| self.is_unfinished(at, memory));
            let mut known = self.known();
            match block {
                Some(block) => known.add(block),
                None if is_unfinished => {}
                None => known.note_nothing(*address, time),
            }
        }
        let mut known = self.known();
        known.verified = time;
        known.is_over = !is_there;
    }

    /// Whether blocks are still what they were, at this time; those that are not are forgotten. False if the
    /// memory cannot be read.
    fn read_again(&self, used: &[Arc<Block>], time: u64, memory: &mut dyn Memory) -> bool {
        // Something that is there as long as the process.
        let mut word = [0; 8];
        if !memory.read(self.layout.heap.heaps, &mut word) {
            return false;
        }
        let length = self.head_length();
        let mut bytes = vec![0; MAX_PIECES * length];
        let mut rest = used;
        while !rest.is_empty() {
            let addresses: Vec<u64> =
                rest.iter().take(MAX_PIECES).map(|it| self.head_start(it.address)).collect();
            let read = memory.read_pieces(&addresses, length, &mut bytes);
            let (some, others) = rest.split_at(read.min(rest.len()));
            for (block, head) in some.iter().zip(bytes.chunks_exact(length)) {
                if !block.verify(self.identity(head), time) {
                    self.known().remove(block.code.start);
                }
            }
            rest = others;
            if read < addresses.len()
                && let Some((block, others)) = rest.split_first()
            {
                self.known().remove(block.code.start);
                rest = others;
            }
        }
        true
    }
}
