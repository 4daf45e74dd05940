//! The records in a ring, read in place.
//!
//! Every length and offset in a record is checked: the kernel is trusted, but a ring that was read
//! at the wrong place is not, and names and stacks come from other programs. Nothing here panics
//! or allocates.

use hashbrown::HashMap;
use perf_event_open_sys::bindings as perf;

use super::arch::{self, REGISTERS, Registers};
use crate::perf::linux::handoff::EventIx;
use crate::perf::linux::unwind::registers::RegisterSet;

/// Which optional fields a sample record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The number of events since the sample before.
    pub(crate) period: bool,
    /// What the event has counted of the thread, in so many words of which the first is the count.
    pub(crate) count: usize,
    /// User registers and a copy of the user stack.
    pub(crate) registers: bool,
    /// There is what the event says of itself.
    pub(crate) has_raw: bool,
    /// The field of it that is wanted.
    pub(crate) raw: Option<RawField>,
}

/// The place of a number in what an event says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RawField {
    pub(crate) offset: u16,
    /// 1, 2, 4 or 8 bytes.
    pub(crate) size: u8,
    pub(crate) signed: bool,
    /// What it is multiplied by.
    pub(crate) factor: u16,
}

impl RawField {
    /// The number; none if it is not there, 0 if it is below zero.
    pub(crate) fn read(self, raw: &[u8]) -> Option<u64> {
        let (at, size) = (usize::from(self.offset), usize::from(self.size));
        let bytes = raw.get(at..at.checked_add(size)?)?;
        let mut wide = [0; 8];
        let place = if cfg!(target_endian = "little") { 0..size } else { 8 - size..8 };
        wide.get_mut(place)?.copy_from_slice(bytes);
        let number = u64::from_ne_bytes(wide);
        let sign = 1_u64 << (8 * u32::from(self.size) - 1);
        let number = if self.signed && number & sign != 0 { 0 } else { number };
        Some(number.saturating_mul(self.factor.into()))
    }
}

/// The events that write into rings, and which of them has which number of the kernel's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layouts {
    events: Vec<Layout>,
    /// What is not in here is the first event: there is one on every CPU or thread.
    others: HashMap<u64, EventIx>,
    /// How often they have changed.
    version: u64,
}

impl Layouts {
    /// Of these events; samples are of the first one until others are told.
    pub(crate) fn new(events: Vec<Layout>) -> Self {
        Self { events, others: HashMap::new(), version: 0 }
    }

    /// This number of the kernel's is that of an event.
    pub(crate) fn insert(&mut self, number: u64, event: EventIx) {
        if event != EventIx::FIRST {
            self.version += 1;
            self.others.insert(number, event);
        }
    }

    /// No record has this number any more.
    pub(crate) fn remove(&mut self, number: u64) {
        self.version += u64::from(self.others.remove(&number).is_some());
    }

    /// How often they have changed.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, number: u64) -> Option<(EventIx, Layout)> {
        let event = match self.others.is_empty() {
            true => EventIx::FIRST,
            false => self.others.get(&number).copied().unwrap_or(EventIx::FIRST),
        };
        Some((event, *self.events.get(event.at())?))
    }
}

/// A record that is of use to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// Where a thread was.
    Sample(Sample<'a>),
    /// A mapping appeared in a process.
    Map(Map<'a>),
    /// A thread got a name.
    Name {
        pid: u32,
        tid: u32,
        /// Because it executes another program now.
        exec: bool,
        name: &'a [u8],
    },
    /// A thread (`pid == parent`) or a process began.
    Fork { pid: u32, tid: u32, parent: u32, parent_tid: u32 },
    /// A thread ended.
    Exit { pid: u32, tid: u32 },
    /// The ring was full: this many records, of any kind, are missing here.
    Lost { records: u64 },
    /// Any other record.
    Other,
}

/// Where a thread was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample<'a> {
    /// What happened.
    pub(crate) event: EventIx,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    /// In nanoseconds of the monotonic clock.
    pub(crate) time: u64,
    /// The CPU it ran on.
    pub(crate) cpu: u32,
    /// The instruction pointer.
    pub(crate) instruction: u64,
    /// The number of events since the sample before; 0 if the record does not say.
    pub(crate) period: u64,
    /// The field of the event that was asked for.
    pub(crate) value: Option<u64>,
    /// What the event says of itself.
    pub(crate) raw: &'a [u8],
    /// What the event had counted of the thread on this CPU; none if the record does not say.
    pub(crate) count: Option<u64>,
    chain: &'a [u8],
    /// The user registers that are known, if the thread has a user half and it is a 64-bit one.
    pub(crate) registers: Option<RegisterSet>,
    /// The start of the user stack, from the stack pointer up.
    pub(crate) stack: &'a [u8],
}

/// Which half of a call chain an address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Kernel,
    User,
    /// The hypervisor or a guest: nothing that we show.
    Elsewhere,
}

impl<'a> Sample<'a> {
    /// What a sample of a stopped thread would be; the chain with its markers.
    pub(crate) fn stopped(
        pid: u32,
        registers: Registers,
        stack: &'a [u8],
        chain: &'a [u8],
    ) -> Self {
        let registers = Some(arch::register_set(&registers));
        let sample = Self { pid, tid: pid, registers, stack, ..Self::EMPTY };
        Self { chain, ..sample }
    }

    /// What a sample of a thread that was found waiting would be.
    pub(crate) fn found(
        event: EventIx,
        (pid, tid): (u32, u32),
        time: u64,
        registers: RegisterSet,
        stack: &'a [u8],
    ) -> Self {
        let instruction = registers.instruction();
        let registers = Some(registers);
        Self { event, pid, tid, time, instruction, registers, stack, ..Self::EMPTY }
    }

    /// A sample of nobody.
    const EMPTY: Self = Self {
        event: EventIx::FIRST,
        pid: 0,
        tid: 0,
        time: 0,
        cpu: 0,
        instruction: 0,
        period: 0,
        value: None,
        raw: &[],
        count: None,
        chain: &[],
        registers: None,
        stack: &[],
    };

    /// The call chain that the kernel walked, leaf first.
    pub(crate) fn chain(&self) -> impl Iterator<Item = (Half, u64)> + 'a {
        let mut half = Half::Elsewhere;
        self.chain.as_chunks::<8>().0.iter().filter_map(move |bytes| {
            let address = u64::from_ne_bytes(*bytes);
            // The last page of addresses holds markers instead.
            if address < 4095_u64.wrapping_neg() {
                return Some((half, address));
            }
            half = match address {
                perf::PERF_CONTEXT_KERNEL => Half::Kernel,
                perf::PERF_CONTEXT_USER => Half::User,
                _ => Half::Elsewhere,
            };
            None
        })
    }
}

/// A mapping appeared in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map<'a> {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// The offset in the file.
    pub(crate) offset: u64,
    pub(crate) executable: bool,
    pub(crate) file: FileId<'a>,
    pub(crate) path: &'a [u8],
}

/// What identifies a mapped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileId<'a> {
    /// Its build id.
    Build(&'a [u8]),
    /// Its device and number there; all zero without a file.
    Inode { major: u32, minor: u32, inode: u64 },
}

/// A record whose fields do not fit in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of type {0} is cut off")]
pub(crate) struct Malformed(u32);

/// The time of a record, which merging needs before anything else; 0 if the record is cut off.
pub(crate) fn time(record: &[u8]) -> u64 {
    let mut fields = Fields(record);
    let at = match fields.u32() {
        Some(perf::PERF_RECORD_SAMPLE) => Some(32),
        // The trailer is thread, time, CPU, event.
        Some(_) => record.len().checked_sub(24),
        None => None,
    };
    at.and_then(|at| Fields(record.get(at..)?).u64()).unwrap_or_default()
}

/// The process of a sample, from its first bytes; none of any other record.
pub(crate) fn sampled_process(start: &[u8]) -> Option<u32> {
    is_sample(start).then(|| Fields(start.get(24..)?).u32()).flatten()
}

/// Whether a record is a sample.
pub(crate) fn is_sample(record: &[u8]) -> bool {
    Fields(record).u32() == Some(perf::PERF_RECORD_SAMPLE)
}

/// Reads a record, header included.
pub(crate) fn parse<'a>(record: &'a [u8], layouts: &Layouts) -> Result<Record<'a>, Malformed> {
    let mut fields = Fields(record);
    let kind = fields.u32().ok_or(Malformed(0))?;
    let mut read = || {
        let misc = u32::from(fields.u16()?);
        fields.u16()?;
        match kind {
            perf::PERF_RECORD_SAMPLE => sample(fields, layouts).map(Record::Sample),
            perf::PERF_RECORD_MMAP2 => map(fields, misc).map(Record::Map),
            perf::PERF_RECORD_COMM => {
                let (pid, tid) = (fields.u32()?, fields.u32()?);
                let exec = misc & perf::PERF_RECORD_MISC_COMM_EXEC != 0;
                Some(Record::Name { pid, tid, exec, name: fields.name()? })
            }
            perf::PERF_RECORD_FORK => {
                let (pid, parent) = (fields.u32()?, fields.u32()?);
                Some(Record::Fork { pid, tid: fields.u32()?, parent, parent_tid: fields.u32()? })
            }
            perf::PERF_RECORD_EXIT => {
                let (pid, _) = (fields.u32()?, fields.u32()?);
                Some(Record::Exit { pid, tid: fields.u32()? })
            }
            perf::PERF_RECORD_LOST => {
                fields.u64()?;
                Some(Record::Lost { records: fields.u64()? })
            }
            perf::PERF_RECORD_LOST_SAMPLES => Some(Record::Lost { records: fields.u64()? }),
            _ => Some(Record::Other),
        }
    };
    read().ok_or(Malformed(kind))
}

fn sample<'a>(mut fields: Fields<'a>, layouts: &Layouts) -> Option<Sample<'a>> {
    let (event, layout) = layouts.find(fields.u64()?)?;
    let instruction = fields.u64()?;
    let (pid, tid) = (fields.u32()?, fields.u32()?);
    let time = fields.u64()?;
    let (cpu, _) = (fields.u32()?, fields.u32()?);
    let period = if layout.period { fields.u64()? } else { 0 };
    let mut counted = Fields(fields.bytes(8 * layout.count)?);
    let count = counted.u64();
    let length = usize::try_from(fields.u64()?).ok()?.checked_mul(8)?;
    let chain = fields.bytes(length)?;
    let mut sample =
        Sample { event, pid, tid, time, cpu, instruction, period, count, chain, ..Sample::EMPTY };
    if layout.has_raw {
        // Its length is such that what follows is aligned.
        let length = usize::try_from(fields.u32()?).ok()?;
        sample.raw = fields.bytes(length)?;
        if let Some(field) = layout.raw {
            sample.value = Some(field.read(sample.raw)?);
        }
    }
    if !layout.registers {
        return Some(sample);
    }
    let abi = fields.u64()?;
    if abi != u64::from(perf::PERF_SAMPLE_REGS_ABI_NONE) {
        let mut registers = [0; REGISTERS];
        for register in &mut registers {
            *register = fields.u64()?;
        }
        // A 32-bit program has another stack layout, which the unwinder does not know.
        sample.registers = (abi == u64::from(perf::PERF_SAMPLE_REGS_ABI_64))
            .then(|| arch::register_set(&registers));
    }
    let dump = usize::try_from(fields.u64()?).ok()?;
    if dump > 0 {
        let stack = fields.bytes(dump)?;
        // The dump always has full size; this much of it was really copied.
        let copied = usize::try_from(fields.u64()?).ok()?;
        sample.stack = stack.get(..copied)?;
    }
    Some(sample)
}

fn map<'a>(mut fields: Fields<'a>, misc: u32) -> Option<Map<'a>> {
    let (pid, _tid) = (fields.u32()?, fields.u32()?);
    let (start, length, offset) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let mut identity = Fields(fields.bytes(24)?);
    let protection = fields.u32()?;
    let _flags = fields.u32()?;
    let file = if misc & perf::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
        let [size, ..] = identity.bytes(4)? else { return None };
        FileId::Build(identity.bytes(usize::from(*size))?)
    } else {
        FileId::Inode { major: identity.u32()?, minor: identity.u32()?, inode: identity.u64()? }
    };
    let executable = protection & libc::PROT_EXEC as u32 != 0;
    Some(Map { pid, start, length, offset, executable, file, path: fields.name()? })
}

/// The bytes of a record that are not read yet.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2)?.try_into().ok().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    /// The zero-terminated text that stands before the trailer.
    fn name(&mut self) -> Option<&'a [u8]> {
        let text = self.0.get(..self.0.len().checked_sub(TRAILER)?)?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        text.get(..end)
    }
}

/// The bytes of thread, time, CPU and event at the end of every record but samples.
const TRAILER: usize = 32;
