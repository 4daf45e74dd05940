//! Records, rings and their order.

use proptest::prelude::*;

use super::super::handoff::EventIx;
use super::super::records::merge::Merge;
use super::super::records::record::{self, FileId, Half, Layout, Layouts, Record};
use super::super::records::ring::{Records, next_record};

const FULL: Layout = Layout { period: true, count: 0, registers: true, has_raw: false, raw: None };
const PLAIN: Layout =
    Layout { period: true, count: 0, registers: false, has_raw: false, raw: None };

/// Records of one event with a layout.
fn parse(bytes: &[u8], layout: Layout) -> Result<Record<'_>, record::Malformed> {
    record::parse(bytes, &Layouts::new(vec![layout]))
}

/// A record of the given type from its body.
fn frame(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_ne_bytes().to_vec();
    bytes.extend(misc.to_ne_bytes());
    bytes.extend((8 + body.len() as u16).to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The number of the event of all records here.
const NUMBER: u64 = 77;

/// The trailer of every record but samples: thread, time, CPU, event.
fn trailer(pid: u32, tid: u32, time: u64) -> [u64; 4] {
    [pair(pid, tid), time, 0, NUMBER]
}

fn sample(time: u64, chain: &[u64], stack: Option<(&[u8], usize)>) -> Vec<u8> {
    let mut body = words(&[NUMBER, 0x4000, pair(7, 8), time, 0, 10_101_010, chain.len() as u64]);
    body.extend(words(chain));
    if let Some((bytes, copied)) = stack {
        body.extend(words(&[2]));
        body.extend(words(&[0x1111; super::super::records::arch::REGISTERS]));
        body.extend(words(&[bytes.len() as u64]));
        body.extend(bytes);
        body.extend(words(&[copied as u64]));
    }
    frame(9, 2, &body)
}

/// Scenario: a sample with a kernel and a user chain, registers and a stack of which only a part
/// was copied.
/// Guarantees: every field is found, the halves of the chain are told apart, and the stack is what
/// was copied.
#[test]
fn reads_a_sample() {
    let chain = [-128_i64 as u64, 0xffff_8000_0000_0001, -512_i64 as u64, 0x4000, 0x5001];
    let stack = [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9];
    let bytes = sample(42, &chain, Some((&stack, 8)));
    assert_eq!(record::time(&bytes), 42);
    let Record::Sample(sample) = parse(&bytes, FULL).unwrap() else { panic!("no sample") };
    assert_eq!((sample.pid, sample.tid, sample.period), (7, 8, 10_101_010));
    let chain: Vec<_> = sample.chain().collect();
    let expected =
        [(Half::Kernel, 0xffff_8000_0000_0001), (Half::User, 0x4000), (Half::User, 0x5001)];
    assert_eq!(chain, expected);
    assert_eq!(sample.stack, &stack[..8]);
    assert!(sample.registers.is_some());
}

/// Scenario: samples of a clock and of an event that is counted, in one ring, with numbers that were told
/// and one that was not; the second event has no period in its samples.
/// Guarantees: each is read by the layout of its event, and says which it is; a number that is not known is
/// that of the first event, and one that was taken back too.
#[test]
fn several_events_share_a_ring() {
    let counted = Layout { period: false, count: 0, registers: false, has_raw: false, raw: None };
    let mut layouts = Layouts::new(vec![PLAIN, counted]);
    layouts.insert(5, EventIx(0));
    layouts.insert(6, EventIx(1));
    let clock = |number| {
        let mut body = words(&[number, 0x4000, pair(7, 8), 41, 0, 123, 1]);
        body.extend(words(&[0x5001]));
        frame(9, 2, &body)
    };
    let mut body = words(&[6, 0x4001, pair(7, 9), 42, 0, 1]);
    body.extend(words(&[0x5002]));
    let fault = frame(9, 2, &body);
    for (bytes, event, tid, period) in
        [(clock(5), 0, 8, 123), (fault.clone(), 1, 9, 0), (clock(99), 0, 8, 123)]
    {
        let Ok(Record::Sample(sample)) = record::parse(&bytes, &layouts) else { panic!() };
        assert_eq!((sample.event, sample.tid, sample.period), (EventIx(event), tid, period));
        assert_eq!(record::time(&bytes), if event == 0 { 41 } else { 42 });
    }
    layouts.remove(6);
    // Read as what it is not, it is cut off.
    assert!(record::parse(&fault, &layouts).is_err());
}

/// Scenario: a sample of a kernel thread (register ABI 0) and one of a 32-bit program (ABI 1).
/// Guarantees: neither has registers to unwind with, and both are read to the end.
#[test]
fn samples_without_a_64_bit_user_half_have_no_registers() {
    for (abi, registers) in [(0_u64, 0), (1, super::super::records::arch::REGISTERS)] {
        let mut body = words(&[NUMBER, 0x4000, pair(7, 8), 1, 0, 1, 0, abi]);
        body.extend(words(&vec![1; registers]));
        body.extend(words(&[0]));
        let bytes = frame(9, 1, &body);
        let Record::Sample(sample) = parse(&bytes, FULL).unwrap() else { panic!() };
        assert_eq!(sample.registers, None);
        assert!(sample.stack.is_empty());
    }
}

fn mapping(misc: u16, identity: &[u8; 24], path: &[u8]) -> Vec<u8> {
    let mut body = words(&[pair(7, 7), 0x1000, 0x2000, 0x3000]);
    body.extend(identity);
    body.extend(words(&[pair(5, 2)]));
    body.extend(path);
    body.extend(vec![0; 8 - path.len() % 8]);
    body.extend(words(&trailer(7, 7, 99)));
    frame(10, misc, &body)
}

/// Scenario: a mapping record in the form with a build id and in the form with an inode.
/// Guarantees: both identities, the protection, the path and the time are found.
#[test]
fn reads_both_forms_of_a_mapping() {
    let mut identity = [0; 24];
    identity[0] = 3;
    identity[4..7].copy_from_slice(&[0xaa, 0xbb, 0xcc]);
    let bytes = mapping(1 << 14, &identity, b"/usr/lib/libc.so.6");
    assert_eq!(record::time(&bytes), 99);
    let Record::Map(map) = parse(&bytes, FULL).unwrap() else { panic!("no mapping") };
    assert_eq!((map.start, map.length, map.offset), (0x1000, 0x2000, 0x3000));
    assert_eq!(map.file, FileId::Build(&[0xaa, 0xbb, 0xcc]));
    assert!(map.executable);
    assert_eq!(map.path, b"/usr/lib/libc.so.6");

    let mut identity = [0; 24];
    identity[0] = 8;
    identity[4] = 1;
    identity[8] = 77;
    let bytes = mapping(0, &identity, b"/bin/true");
    let Record::Map(map) = parse(&bytes, FULL).unwrap() else { panic!("no mapping") };
    assert_eq!(map.file, FileId::Inode { major: 8, minor: 1, inode: 77 });
}

/// Scenario: a record for each other type that we read.
/// Guarantees: their fields are found; unknown types are not an error.
#[test]
fn reads_the_side_band() {
    let mut name = words(&[pair(7, 9)]);
    name.extend(b"worker\0\0");
    name.extend(words(&trailer(7, 9, 5)));
    let bytes = frame(3, 1 << 13, &name);
    let expected = Record::Name { pid: 7, tid: 9, exec: true, name: b"worker" };
    assert_eq!(parse(&bytes, PLAIN), Ok(expected));

    let mut task = words(&[pair(8, 7), pair(8, 7), 5]);
    task.extend(words(&trailer(7, 7, 5)));
    let expected = Record::Fork { pid: 8, tid: 8, parent: 7, parent_tid: 7 };
    assert_eq!(parse(&frame(7, 0, &task), PLAIN), Ok(expected));
    assert_eq!(parse(&frame(4, 0, &task), PLAIN), Ok(Record::Exit { pid: 8, tid: 8 }));

    let lost = words(&[1, 23, pair(0, 0), 5, 0]);
    assert_eq!(parse(&frame(2, 0, &lost), PLAIN), Ok(Record::Lost { records: 23 }));
    assert_eq!(parse(&frame(99, 0, &lost), PLAIN), Ok(Record::Other));
}

/// The records of a test, each a vector.
struct Queue(Vec<Vec<u8>>);

impl Records for Queue {
    fn peek<'a>(&'a self, _: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        self.0.first().map(Vec::as_slice)
    }

    fn skip(&mut self, _: usize) {
        self.0.remove(0);
    }
}

/// Scenario: three rings with interleaved times, one of them empty, and a horizon.
/// Guarantees: records come in the order of time; those after the horizon wait and come when it
/// has moved on.
#[test]
fn merges_by_time_up_to_the_horizon() {
    let queue = |times: &[u64]| Queue(times.iter().map(|time| sample(*time, &[], None)).collect());
    let mut queues = [queue(&[1, 4, 5]), queue(&[]), queue(&[2, 3, 9])];
    let mut merge = Merge::default();
    let mut times = Vec::new();
    for horizon in [4, 10, u64::MAX] {
        merge.restart(queues.len());
        while merge.step(&mut queues, horizon, |_, bytes| times.push(record::time(bytes))) {}
        times.push(0);
    }
    assert_eq!(times, [1, 2, 3, 4, 0, 5, 9, 0, 0]);
}

/// Scenario: a ring holds a record with a time far in the future, as garbage would have.
/// Guarantees: it does not keep what follows it back for ever.
#[test]
fn an_impossible_time_does_not_block_a_ring() {
    let mut queues = [Queue(vec![sample(u64::MAX - 1, &[], None), sample(3, &[], None)])];
    let mut merge = Merge::default();
    merge.restart(1);
    let mut count = 0;
    while merge.step(&mut queues, 5, |_, _| count += 1) {}
    assert_eq!(count, 2);
}

proptest! {
    /// Scenario: arbitrary bytes are parsed, under both layouts.
    /// Guarantees: no panic; a sample's chain and stack lie inside of the record.
    #[test]
    fn parsing_never_panics(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        kind in 0_u32..16,
        registers: bool,
    ) {
        if let Some(head) = bytes.get_mut(..4) {
            head.copy_from_slice(&kind.to_ne_bytes());
        }
        let _ = record::time(&bytes);
        let layout = Layout { period: true, count: 0, registers, has_raw: false, raw: None };
        if let Ok(Record::Sample(sample)) = parse(&bytes, layout) {
            prop_assert!(sample.chain().count() * 8 <= bytes.len());
            prop_assert!(sample.stack.len() <= bytes.len());
        }
    }

    /// Scenario: a valid sample is cut off anywhere.
    /// Guarantees: an error, never a wrong sample.
    #[test]
    fn a_cut_sample_is_an_error(cut in 8_usize..150) {
        let whole = sample(42, &[1, 2, 3], Some((&[7; 16], 16)));
        let cut = cut.min(whole.len() - 1);
        prop_assert!(parse(&whole[..cut], FULL).is_err());
    }

    /// Scenario: records of arbitrary sizes lie in a ring and wrap around its end anywhere.
    /// Guarantees: they come out as they went in.
    #[test]
    fn records_survive_the_wrap(
        sizes in proptest::collection::vec(0_usize..40, 1..6),
        start in 0_usize..256,
    ) {
        let records: Vec<_> =
            sizes.iter().enumerate().map(|(at, size)| frame(9, at as u16, &vec![at as u8; *size])).collect();
        let all = records.concat();
        let mut ring = vec![0xee; 512];
        for (at, byte) in all.iter().enumerate() {
            ring[(start + 400 + at) % 512] = *byte;
        }
        let (mut tail, head) = (start + 400, start + 400 + all.len());
        let mut scratch = Vec::new();
        for expected in &records {
            let at = tail % 512;
            let first = (head - tail).min(512 - at);
            let wrapped = &ring[..head - tail - first];
            let found = next_record(&ring[at..at + first], wrapped, &mut scratch).unwrap();
            prop_assert_eq!(found, &expected[..]);
            tail += found.len();
        }
        prop_assert_eq!(tail, head);
    }

    /// Scenario: arbitrary bytes in a ring, split anywhere.
    /// Guarantees: reading ends, without a panic, after exactly what was written.
    #[test]
    fn a_ring_of_garbage_comes_to_an_end(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        split in 0_usize..300,
    ) {
        let split = split.min(bytes.len());
        let (mut at, mut scratch) = (0, Vec::new());
        loop {
            let first = bytes.get(at..split).unwrap_or_default();
            let wrapped = &bytes[at.max(split)..];
            let Some(record) = next_record(first, wrapped, &mut scratch) else { break };
            prop_assert!(!record.is_empty());
            at += record.len();
        }
        prop_assert_eq!(at, bytes.len());
    }
}

/// Scenario: samples of chosen threads, whose events are inherited, and of whole CPUs.
/// Guarantees: only the former say what was counted of their thread: what a CPU has counted would be taken
/// for it.
#[test]
fn only_events_of_threads_count_them() {
    use crate::perf::linux::events::attr::{Choices, Clock, Kind};
    let choices = Choices {
        clock: Clock::Timer,
        frequency: 99,
        stack: 0,
        user_chain: false,
        kernel: true,
        build_id: false,
        lost: true,
        inherit: true,
        sideband: false,
        watermark: 4096,
        count: true,
        wakeups: true,
    };
    let of_cpu = Choices { inherit: false, ..choices };
    assert_eq!(Kind::Cpu.layout(&choices).count, 2);
    assert_eq!(Kind::Cpu.layout(&Choices { lost: false, ..choices }).count, 1);
    assert_eq!(Kind::Cpu.layout(&of_cpu).count, 0);
    assert_eq!(Kind::Nothing.layout(&choices).count, 0);
    let asked = |choices: &Choices| choices.sampling(Kind::Cpu, true).sample_type;
    assert_ne!(asked(&choices), asked(&of_cpu));
}
