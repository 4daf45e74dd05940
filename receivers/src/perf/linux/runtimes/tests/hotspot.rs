//! HotSpot's structures in memory that was made up, true and false.

use super::memory::FakeMemory;
use crate::perf::linux::records::arch::{FRAME_POINTER, PROGRAM_COUNTER, STACK_POINTER};
use crate::perf::linux::runtimes::function::Lines;
use crate::perf::linux::runtimes::hotspot::HotSpot;
use crate::perf::linux::runtimes::hotspot::heap::CodeHeap;
use crate::perf::linux::runtimes::hotspot::layout::{
    BlockLayout, CompiledLayout, HeapLayout, Layout, Member, MethodLayout, Place,
};
use crate::perf::linux::runtimes::hotspot::method::{class_name, line_starts};
use crate::perf::linux::runtimes::hotspot::scopes::{MAX_DEPTH, Scopes};
use crate::perf::linux::runtimes::hotspot::tables::Tables;
use crate::perf::linux::runtimes::native::{Advance, Here, NativeRuntime as _, Site, Wants};
use crate::perf::linux::unwind::registers::RegisterSet;
use crate::perf::linux::unwind::stack::Stack;

const HEAPS: u64 = 0x10_0000;
const LIST: u64 = 0x10_1000;
const HEAP: u64 = 0x10_2000;
const SEGMENTS: u64 = 0x20_0000;
const CODE: u64 = 0x100_0000;
const CODE_END: u64 = 0x101_0000;
const NAMES: u64 = 0x30_0000;
const METHOD: u64 = 0x40_0000;
const CONSTANT: u64 = 0x41_0000;
const POOL: u64 = 0x42_0000;
const CLASS: u64 = 0x43_0000;
const TEXT: u64 = 0x44_0000;
const SCOPES: u64 = 0x50_0000;
const PCS: u64 = 0x51_0000;
const METADATA: u64 = 0x52_0000;
const STACK: u64 = 0x7000_0000;

/// Blocks, by the number of the segment that they begin in.
const COMPILED: u64 = 0;
const INTERPRETER: u64 = 16;
const STUBS: u64 = 32;
const SEGMENT: u64 = 128;
const HEAD: u64 = 128;
/// From the start of the stubs' code to where the one that calls Java returns to.
const CALL_STUB_RETURN: u64 = CODE + STUBS * SEGMENT + 16 + HEAD + 8;

fn word(at: u32) -> Member {
    Member { at, width: 8 }
}

fn half(at: u32) -> Member {
    Member { at, width: 4 }
}

fn layout() -> Layout {
    Layout {
        version: 17,
        block: BlockLayout {
            length: HEAD as u32,
            name: word(0),
            size: half(8),
            code: Place::Address(word(16)),
            code_end: Place::Address(word(24)),
            frame_size: half(32),
            frame_complete: half(36),
        },
        compiled: CompiledLayout {
            length: HEAD as u32,
            method: word(40),
            compile_id: half(48),
            state: Member { at: 104, width: 1 },
            deopt: Place::Address(word(56)),
            deopt_other: None,
            original_pc: half(52),
            pcs: Place::Address(word(64)),
            pcs_end: Place::Address(word(72)),
            scopes: Place::Address(word(80)),
            scopes_end: Place::Address(word(88)),
            metadata: Place::Address(word(96)),
        },
        heap: HeapLayout {
            heaps: HEAPS,
            list_length: half(0),
            list_data: word(8),
            low: word(0),
            high_boundary: word(8),
            segments: word(16),
            log2_segment: half(24),
            header: 16,
            length: word(0),
            used: Member { at: 8, width: 1 },
        },
        method: MethodLayout {
            const_method: word(8),
            const_length: 48,
            constants: word(8),
            code_size: Member { at: 32, width: 2 },
            flags: Member { at: 28, width: 2 },
            has_lines: 1,
            name_index: Member { at: 34, width: 2 },
            pool_length: 72,
            pool_entries: half(60),
            pool_holder: word(24),
            source_index: Member { at: 54, width: 2 },
            class_name: word(24),
            text_length: Member { at: 4, width: 2 },
            text_body: word(6),
        },
        call_stub_return: CALL_STUB_RETURN,
        excludes_zero: false,
    }
}

/// A process with a compiled function, the interpreter and stubs.
struct Process {
    memory: FakeMemory,
    hotspot: HotSpot,
}

impl Process {
    fn new() -> Self {
        let mut memory = FakeMemory::default();
        for start in [HEAPS, LIST, HEAP, NAMES, METHOD, CONSTANT, POOL, CLASS, TEXT] {
            memory.map(start, 1024);
        }
        for start in [SCOPES, PCS, METADATA] {
            memory.map(start, 256);
        }
        memory.put(HEAPS, LIST);
        memory.put_half(LIST, 1);
        memory.put(LIST + 8, LIST + 64);
        memory.put(LIST + 64, HEAP);
        memory.put(HEAP, CODE);
        memory.put(HEAP + 8, CODE_END);
        memory.put(HEAP + 16, SEGMENTS);
        memory.put_half(HEAP + 24, 7);
        let segments = vec![0xff; ((CODE_END - CODE) / SEGMENT) as usize];
        memory.put_bytes(SEGMENTS, &segments);
        let mut process = Self { memory, hotspot: HotSpot::new(layout(), Vec::new()) };
        process.hotspot.heaps = CodeHeap::all(&layout(), &mut process.memory).unwrap();
        process.block(COMPILED, b"nmethod", 32 / 8);
        process.block(INTERPRETER, b"Interpreter", 0);
        process.block(STUBS, b"StubRoutines (1)", 0);
        process.compile(7);
        process.method(METHOD);
        process
    }

    fn block(&mut self, segment: u64, name: &[u8], frame: u32) {
        let (address, text) = (CODE + segment * SEGMENT + 16, NAMES + segment * 16);
        self.memory.map(address - 16, 16 * SEGMENT);
        self.memory.put(address - 16, 16);
        self.memory.put_bytes(address - 8, &[1]);
        self.memory.put_bytes(text, name);
        self.memory.put(address, text);
        self.memory.put_half(address + 8, 15 * SEGMENT as u32);
        self.memory.put(address + 16, address + HEAD);
        self.memory.put(address + 24, address + HEAD + 1024);
        self.memory.put_half(address + 32, frame);
        let tags: Vec<u8> = (0..16).collect();
        self.memory.put_bytes(SEGMENTS + segment, &tags);
    }

    /// What the compiled function says of itself: at offset 40 it is METHOD at 9, inlined in METHOD at 4.
    fn compile(&mut self, id: u32) {
        let address = CODE + 16;
        self.memory.put(address + 40, METHOD);
        self.memory.put_half(address + 48, id);
        for (at, value) in
            [(64, PCS), (72, PCS + 48), (80, SCOPES), (88, SCOPES + 16), (96, METADATA)]
        {
            self.memory.put(address + at, value);
        }
        self.memory.put_half(PCS, u32::MAX);
        self.memory.put_half(PCS + 16, 40);
        self.memory.put_half(PCS + 20, 4);
        self.memory.put_half(PCS + 32, 1024);
        self.memory.put_bytes(SCOPES, &[0, 0, 1, 5, 1, 1, 10, 0]);
        // From 1 on: no sender, the first method, instruction 4; from 4 on: in that one, 9.
        self.memory.put(METADATA, METHOD);
    }

    fn method(&mut self, address: u64) {
        self.memory.put(address + 8, CONSTANT);
        self.memory.put(CONSTANT + 8, POOL);
        self.memory.put_bytes(CONSTANT + 28, &[1, 0]);
        self.memory.put_bytes(CONSTANT + 32, &[20, 0, 1, 0]);
        // Lines 3 and 5 from instructions 0 and 6 on.
        self.memory.put_bytes(CONSTANT + 48 + 20, &[3, 6 << 3 | 2, 0]);
        self.memory.put(POOL + 24, CLASS);
        self.memory.put_half(POOL + 60, 3);
        self.memory.put_bytes(POOL + 54, &[2, 0]);
        self.memory.put(POOL + 72 + 8, TEXT);
        self.memory.put(POOL + 72 + 16, TEXT + 64);
        self.memory.put(CLASS + 24, TEXT + 128);
        for (at, text) in [(0, "run"), (64, "Work.java"), (128, "shop/Work$$Lambda$14+0x0123")] {
            self.memory.put_bytes(TEXT + at + 4, &(text.len() as u16).to_le_bytes());
            self.memory.put_bytes(TEXT + at + 6, text.as_bytes());
        }
    }

    /// Walks a stack of these words until it ends, reading what is asked for at `time`; where the walk ends.
    fn walk(
        &mut self,
        words: &[u64],
        registers: (u64, u64),
        times: (u64, u64),
    ) -> (Advance, Vec<Site>) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let stack = Stack::new(STACK, &bytes);
        let (sampled, time) = times;
        for _ in 0..4 {
            let mut wants = Wants::default();
            let (end, sites) = self.walk_once(&stack, registers, sampled, &mut wants);
            if wants.is_empty() && end != Advance::Waiting {
                return (end, sites);
            }
            self.hotspot.read(&wants, time, &mut self.memory);
        }
        (Advance::Waiting, Vec::new())
    }

    fn walk_once(
        &self,
        stack: &Stack<'_>,
        (address, frame_pointer): (u64, u64),
        time: u64,
        wants: &mut Wants,
    ) -> (Advance, Vec<Site>) {
        let mut registers = RegisterSet::default();
        registers.set(PROGRAM_COUNTER, address);
        registers.set(STACK_POINTER, STACK);
        registers.set(FRAME_POINTER, frame_pointer);
        let mut sites = Vec::new();
        for step in 0..64 {
            let here = Here {
                address: registers.instruction(),
                exact: step == 0,
                is_of_managed: step > 0,
                registers: &registers,
                stack,
                time,
            };
            match self.hotspot.advance(&here, &mut sites, wants) {
                Advance::Caller { registers: next, .. } => registers = next,
                end => return (end, sites),
            }
        }
        (Advance::Unknown, sites)
    }
}

const COMPILED_CODE: u64 = CODE + 16 + HEAD;
const INTERPRETER_CODE: u64 = CODE + INTERPRETER * SEGMENT + 16 + HEAD;
const NATIVE: u64 = 0x5555_0000;

/// A compiled function that an interpreted one has called, which native code has called.
fn stack() -> Vec<u64> {
    let frame = STACK + 8 * 16;
    let mut words = vec![0; 32];
    // The compiled frame of four words; then the interpreter's, whose frame pointer is above.
    words[2] = frame;
    words[3] = INTERPRETER_CODE + 100;
    words[16 - 8] = CONSTANT + 48 + 7;
    words[16 - 3] = METHOD;
    words[16 - 1] = STACK + 8 * 18;
    words[16] = STACK + 8 * 24;
    words[17] = CALL_STUB_RETURN;
    words[24] = 0;
    words[25] = NATIVE;
    words
}

/// Scenario: compiled code with an inlined function, called by the interpreter, called by native code.
/// Guarantees: every function in order with its place, and where native code goes on; names and lines of them.
#[test]
fn a_whole_stack() {
    let mut process = Process::new();
    let (end, sites) = process.walk(&stack(), (COMPILED_CODE + 39, 0), (10, 20));
    assert_eq!(end, Advance::Foreign);
    let positions: Vec<u32> = sites.iter().map(|site| site.position).collect();
    assert_eq!(positions, [9, 4, 7]);
    assert!(sites.iter().all(|site| site.code == METHOD));
    let site = sites.first().unwrap();
    let found = process.hotspot.describe(site.code, site.cookie, &mut process.memory).unwrap();
    assert_eq!(found.name, "shop/Work$$Lambda.run");
    assert_eq!(found.file, "shop/Work.java");
    assert_eq!((found.line(5), found.line(6), found.first_line), (3, 5, 3));
    assert!(matches!(found.lines, Lines::Starts(_)));
    assert_eq!(process.hotspot.describe(site.code, site.cookie ^ 1, &mut process.memory), None);
}

/// Scenario: code was read before a sample and not since; it is another when it is read again; the process
/// ends.
/// Guarantees: nothing is said of it until it was read again; nothing of what was there before; and what was
/// known when the process ended stays known.
#[test]
fn code_that_changes() {
    let mut process = Process::new();
    let from = (COMPILED_CODE + 39, 0);
    assert_eq!(process.walk(&stack(), from, (10, 20)).0, Advance::Foreign);
    assert_eq!(process.walk(&stack(), from, (30, 25)).0, Advance::Waiting);
    assert_eq!(process.walk(&stack(), from, (30, 40)).0, Advance::Foreign);
    // Another function in the same place, whose frames are larger.
    process.compile(8);
    process.memory.put_half(CODE + 16 + 32, 5);
    let (end, sites) = process.walk(&stack(), from, (50, 60));
    assert_eq!((end, sites.len()), (Advance::Unknown, 2));
    // What is freed looks as it did before.
    process.memory.put_half(CODE + 16 + 32, 4);
    assert_eq!(process.walk(&stack(), from, (70, 80)).0, Advance::Foreign);
    process.memory.put_bytes(CODE + 8, &[0]);
    assert_eq!(process.walk(&stack(), from, (90, 100)), (Advance::Foreign, Vec::new()));
    let mut ended = Process::new();
    assert_eq!(ended.walk(&stack(), from, (10, 20)).0, Advance::Foreign);
    ended.memory = FakeMemory::default();
    assert_eq!(ended.walk(&stack(), from, (100, 110)).0, Advance::Foreign);
}

/// Scenario: compiled code is still being made when an address in it is seen on a stack.
/// Guarantees: nothing is believed of it until it is finished.
#[test]
fn code_that_is_not_finished() {
    let mut process = Process::new();
    process.memory.put_bytes(CODE + 16 + 104, &[0xff]);
    process.memory.put(METADATA, 0);
    let from = (COMPILED_CODE + 39, 0);
    assert_eq!(process.walk(&stack(), from, (10, 20)).0, Advance::Waiting);
    process.compile(7);
    process.memory.put_bytes(CODE + 16 + 104, &[0]);
    let (end, sites) = process.walk(&stack(), from, (30, 40));
    assert_eq!((end, sites.len()), (Advance::Foreign, 3));
}

/// Scenario: every word of the structures is replaced by nonsense in turn: 0, all ones, itself, addresses of
/// other structures.
/// Guarantees: no panic, no walk without an end, few reads.
#[test]
fn every_word_is_a_lie() {
    let lies = [0, u64::MAX, 1 << 63, METHOD, CODE + 16, COMPILED_CODE, STACK, 0x7fff_ffff];
    let places: Vec<u64> = [HEAPS, LIST, HEAP, CONSTANT, POOL, CLASS, TEXT, PCS, SCOPES, METADATA]
        .into_iter()
        .chain([CODE + 16, CODE + 16 + INTERPRETER * SEGMENT, METHOD])
        .flat_map(|start| (0..16).map(move |at| start + 8 * at))
        .collect();
    for lie in lies {
        for place in &places {
            let mut process = Process::new();
            process.memory.put(*place, lie);
            if let Some(heaps) = CodeHeap::all(&layout(), &mut process.memory) {
                process.hotspot.heaps = heaps;
            }
            let before = process.memory.reads;
            let (_, sites) = process.walk(&stack(), (COMPILED_CODE + 39, 0), (10, 20));
            for site in sites {
                process.hotspot.describe(site.code, site.cookie, &mut process.memory);
            }
            assert!(process.memory.reads - before < 2000, "{place:x} {lie:x}");
        }
    }
}

/// Scenario: segments that lead back without an end, or nowhere; heaps without size.
/// Guarantees: no block, after a bounded number of reads.
#[test]
fn segments_that_lie() {
    let mut process = Process::new();
    let all = (CODE_END - CODE) / SEGMENT;
    process.memory.put_bytes(SEGMENTS, &vec![1; all as usize]);
    process.memory.reads = 0;
    let heap = process.hotspot.heaps.first().unwrap().clone();
    assert_eq!(heap.block(CODE_END - 1, &mut process.memory), None);
    assert!(process.memory.reads < 64);
    assert_eq!(heap.block(CODE - 1, &mut process.memory), None);
    for (at, value) in [(0, 0), (8, CODE), (8, u64::MAX), (24, 63), (24, 0)] {
        let mut process = Process::new();
        process.memory.put(HEAP + at, value);
        assert_eq!(CodeHeap::all(&layout(), &mut process.memory), None, "{at} {value:x}");
    }
    process.memory.put_half(LIST, u32::MAX);
    assert_eq!(CodeHeap::all(&layout(), &mut process.memory), None);
}

/// Scenario: scopes that are their own sender, that lie after those which they are the sender of, that are
/// cut, and random bytes.
/// Guarantees: every chain ends, no method beyond the bound, no panic.
#[test]
fn scopes_that_lie() {
    let pcs = |scope: u32| {
        let mut bytes = vec![0; 16];
        bytes[0] = 8;
        bytes[4..8].copy_from_slice(&scope.to_le_bytes());
        bytes
    };
    for (scope, bytes) in [
        (1, vec![0, 1, 1, 1]),
        (1, vec![0, 4, 1, 1, 1, 1, 1]),
        (1, vec![0, 0, 0, 1]),
        (1, vec![0, 0]),
        (1, vec![0, 255, 255, 255, 255, 255, 255, 255, 255]),
        (u32::MAX, vec![0, 0, 1, 1]),
    ] {
        let scopes = Scopes::read(&pcs(scope), &bytes, false);
        assert_eq!(scopes.at(8).count(), 0, "{scope} {bytes:?}");
    }
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for excludes_zero in [false, true] {
        for _ in 0..500 {
            let bytes: Vec<u8> = (0..256).map(|_| (random() >> 8) as u8 % 200).collect();
            let pcs: Vec<u8> =
                (0..16 * 16).map(|at| if at % 4 > 0 { 0 } else { random() as u8 }).collect();
            let scopes = Scopes::read(&pcs, &bytes, excludes_zero);
            for at in 0..300 {
                assert!(scopes.at(at).count() <= MAX_DEPTH);
            }
            let _ = line_starts(&bytes, excludes_zero);
        }
    }
}

/// Scenario: a table without an end, without rows, with rows of no or enormous length, with columns beyond
/// them, with names that are not there.
/// Guarantees: no table, or one without what has no name; a bounded number of reads.
#[test]
fn tables_that_lie() {
    let base = 0x1000;
    let at = |name: &str| {
        let all: Vec<_> = crate::perf::linux::runtimes::hotspot::tables::variables().collect();
        all.iter().position(|it| *it == name).map(|at| base + 8 * at as u64)
    };
    for (rows, stride, column) in [
        (0_u64, 48_u64, 0_u64),
        (0x8000, 0, 0),
        (0x8000, 1 << 63, 0),
        (0x8000, 48, 41),
        (0x8000, 8, 0),
    ] {
        let mut memory = FakeMemory::default();
        memory.map(base, 256);
        memory.map(0x8000, 48 * 5000);
        for row in 0..30_000 {
            memory.put(0x8000 + 8 * row, 1);
        }
        for name in crate::perf::linux::runtimes::hotspot::tables::variables() {
            let value = match name {
                _ if name.ends_with("Stride") => stride,
                _ if name.ends_with("Offset") => column,
                _ => rows,
            };
            memory.put(at(name).unwrap(), value);
        }
        assert_eq!(Tables::read(&at, &mut memory), None, "{rows:x} {stride:x} {column}");
        assert!(memory.reads < 20_000);
    }
    assert_eq!(Tables::read(&at, &mut FakeMemory::default()), None);
}

/// Scenario: names of ordinary, nested and hidden classes.
/// Guarantees: what differs from run to run is left out, all else is kept.
#[test]
fn names_of_classes() {
    for (name, shown) in [
        ("java/util/HashMap$Node", "java/util/HashMap$Node"),
        ("A$$Lambda$14+0x0000000800c03000", "A$$Lambda"),
        ("A$$Lambda+0x00007f", "A$$Lambda"),
        ("java/lang/invoke/LambdaForm$MH+0x1", "java/lang/invoke/LambdaForm$MH"),
        ("A$$Lambda$x", "A$$Lambda$x"),
    ] {
        assert_eq!(class_name(name), shown);
    }
}
