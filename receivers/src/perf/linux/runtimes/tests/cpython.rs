//! CPython's structures in memory that was made up, true and false, for every layout.

use super::memory::FakeMemory;
use crate::perf::linux::runtimes::cpython::CPython;
use crate::perf::linux::runtimes::cpython::layout::{Entry, LAYOUTS, Layout, Owner, Position, Top};
use crate::perf::linux::runtimes::{MAX_FRAMES, ManagedThread, Refusal, Runtime as _, Walk};

const RUNTIME: u64 = 0x10_0000;
const INTERPRETER: u64 = 0x20_0000;
const THREAD: u64 = 0x30_0000;
const LIBRARY: u64 = 0x38_0000;
const LOOP: u64 = 0x40_0000;
const FRAMES: u64 = 0x50_0000;
const CODES: u64 = 0x60_0000;
const TEXTS: u64 = 0x2000_0000;
const LINES: u64 = 0x4000_0000;
const CODE_TYPE: u64 = 0x80_0000;
const TEXT_TYPE: u64 = 0x80_1000;
const TID: u32 = 4711;

/// A frame, and the code object that goes with it.
const FRAME: u64 = 256;

struct Process {
    cpython: CPython,
    memory: FakeMemory,
}

impl Process {
    /// A thread with so many frames, each of its own function; frame 0 is the leaf, the last is the
    /// first of the loop.
    fn new(layout: Layout, frames: u64) -> Self {
        let mut memory = FakeMemory::default();
        for start in [RUNTIME, INTERPRETER, THREAD, LOOP, LIBRARY] {
            memory.map(start, 1024);
        }
        memory.put(RUNTIME + u64::from(layout.interpreters), INTERPRETER);
        memory.put(INTERPRETER + u64::from(layout.interpreter_threads), THREAD);
        match layout.thread_owner {
            Owner::Kernel(at) => memory.put(THREAD + u64::from(at), TID.into()),
            Owner::Library(at) => {
                memory.put(THREAD + u64::from(at), LIBRARY);
                memory.put_half(LIBRARY + 0x2d0, TID);
            }
        }
        match layout.thread_top {
            Top::Frame(at) => memory.put(THREAD + u64::from(at), FRAMES),
            Top::Loop(at, inner) => {
                memory.put(THREAD + u64::from(at), LOOP);
                memory.put(LOOP + u64::from(inner), FRAMES);
            }
        }
        let cpython =
            CPython { layout, runtime: RUNTIME, code_type: CODE_TYPE, text_type: TEXT_TYPE };
        let mut process = Self { cpython, memory };
        for number in 0..frames {
            process.add(number, number + 1 == frames);
        }
        process
    }

    fn frame(number: u64) -> u64 {
        FRAMES + number * FRAME
    }

    fn code(number: u64) -> u64 {
        CODES + number * FRAME
    }

    fn add(&mut self, number: u64, is_last: bool) {
        let (layout, memory) = (self.cpython.layout, &mut self.memory);
        let (frame, code) = (Self::frame(number), Self::code(number));
        memory.map(frame, FRAME);
        memory.map(code, FRAME);
        memory.put(frame + u64::from(layout.frame_code), code);
        let back = if is_last { 0 } else { Self::frame(number + 1) };
        memory.put(frame + u64::from(layout.frame_back), back);
        match layout.frame_position {
            Position::Bytes(at) => memory.put_half(frame + u64::from(at), 14),
            Position::Units(at) => memory.put_half(frame + u64::from(at), 7),
            Position::Address(at) => {
                let start = code + u64::from(layout.code_units.unwrap());
                memory.put(frame + u64::from(at), start + 14);
            }
        }
        match layout.frame_entry {
            Entry::Every => {}
            Entry::Marked(at) => memory.put_bytes(frame + u64::from(at), &[is_last.into()]),
            Entry::Before(at) => {
                memory.put_bytes(frame + u64::from(at), &[if is_last { 3 } else { 0 }]);
            }
        }
        memory.put(code + 16, 100);
        memory.put(code + u64::from(layout.object_type), CODE_TYPE);
        memory.put_half(code + u64::from(layout.code_first_line), 10);
        self.text(number, layout.code_name, b"name");
        self.text(number, layout.code_file, b"file.py");
        let lines = LINES + number * FRAME;
        self.memory.map(lines, FRAME);
        self.memory.put(code + u64::from(layout.code_lines), lines);
    }

    fn text(&mut self, number: u64, place: u32, text: &[u8]) {
        let (layout, memory) = (self.cpython.layout, &mut self.memory);
        let object = TEXTS + number * 0x4000 + u64::from(place) * 64;
        memory.map(object, FRAME);
        memory.put(object + u64::from(layout.object_type), TEXT_TYPE);
        memory.put(object + u64::from(layout.text_length), text.len() as u64);
        memory.put_half(object + u64::from(layout.text_state), 1 << 2 | 1 << 5 | 1 << 6);
        memory.put_bytes(object + u64::from(layout.text_ascii), text);
        memory.put(Self::code(number) + u64::from(place), object);
    }

    fn walk(&mut self) -> (Result<bool, Refusal>, Walk) {
        let mut walk = Walk::default();
        walk.restart(0);
        let mut thread = ManagedThread { tid: TID, state: None };
        let walked = self.cpython.walk(&mut thread, &mut self.memory, &mut walk);
        (walked, walk)
    }
}

/// Scenario: five frames, in the layout of every version.
/// Guarantees: they come out leaf first, with the position that they say, the ends of loops where the
/// version has them, and a name, a file and a line.
#[test]
fn a_stack_of_every_version() {
    for layout in LAYOUTS {
        let mut process = Process::new(layout, 5);
        let (walked, walk) = process.walk();
        assert_eq!(walked, Ok(true), "{:?}", layout.version);
        let frames = &walk.frames;
        let shown: Vec<_> = frames.iter().map(|frame| frame.code).collect();
        let mut expected: Vec<_> = (0..5).map(Process::code).collect();
        let mut ends = vec![false, false, false, false, true];
        match layout.frame_entry {
            Entry::Every => ends.fill(true),
            Entry::Marked(_) => {}
            Entry::Before(_) => expected[4] = 0,
        }
        assert_eq!(shown, expected, "{:?}", layout.version);
        assert_eq!(frames.iter().map(|it| it.ends_loop).collect::<Vec<_>>(), ends);
        let leaf = frames[0];
        assert_eq!(leaf.position, 7, "{:?}", layout.version);
        let function = process.cpython.describe(leaf.code, leaf.cookie, &mut process.memory);
        let function = function.expect("the code has a name");
        assert_eq!(
            (&*function.name, &*function.file, function.first_line),
            ("name", "file.py", 10)
        );
        // Another function at the same place is not taken for this one.
        process.memory.put_half(leaf.code + u64::from(layout.code_first_line), 11);
        assert_eq!(process.cpython.describe(leaf.code, leaf.cookie, &mut process.memory), None);
    }
}

/// Scenario: frames in a ring, more frames than the bound, a frame that is its own caller, callers that
/// are nowhere or at the end of memory, code that is none, positions outside of it, in every version.
/// Guarantees: a bounded walk or a refusal; never a frame of what cannot be.
#[test]
fn stacks_that_lie() {
    for layout in LAYOUTS {
        let back = |process: &mut Process, number: u64, to: u64| {
            let at = Process::frame(number) + u64::from(layout.frame_back);
            process.memory.put(at, to);
        };
        let mut ring = Process::new(layout, 3);
        back(&mut ring, 2, Process::frame(0));
        let (walked, walk) = ring.walk();
        assert_eq!((walked, walk.frames.len(), walk.truncated), (Ok(true), MAX_FRAMES, true));
        let mut deep = Process::new(layout, MAX_FRAMES as u64 + 100);
        let (walked, walk) = deep.walk();
        assert_eq!((walked, walk.frames.len(), walk.truncated), (Ok(true), MAX_FRAMES, true));
        let mut itself = Process::new(layout, 3);
        back(&mut itself, 1, Process::frame(1));
        assert_eq!(itself.walk().0, Err(Refusal::Inconsistent));
        for nowhere in [8, 0x1234_5678, u64::MAX, u64::MAX - 7, 1 << 63] {
            let mut process = Process::new(layout, 3);
            back(&mut process, 1, nowhere);
            assert_eq!(process.walk().0, Err(Refusal::Unreadable), "{nowhere:x}");
        }
        let mut no_code = Process::new(layout, 3);
        no_code.memory.put(Process::code(1) + u64::from(layout.object_type), TEXT_TYPE);
        assert_eq!(no_code.walk().0, Err(Refusal::Inconsistent));
        let mut missing = Process::new(layout, 3);
        missing.memory.put(Process::frame(1) + u64::from(layout.frame_code), 0x99);
        assert_eq!(missing.walk().0, Err(Refusal::Inconsistent));
        if let Position::Address(at) = layout.frame_position {
            for outside in [0, u64::MAX, Process::code(1) + 0x1_0000] {
                let mut process = Process::new(layout, 3);
                process.memory.put(Process::frame(1) + u64::from(at), outside);
                assert_eq!(process.walk().0, Err(Refusal::Inconsistent), "{outside:x}");
            }
        }
    }
}

/// Scenario: rings of threads and of interpreters in which the thread is not, in every version.
/// Guarantees: the search ends, and finds nothing.
#[test]
fn threads_that_are_not_there() {
    for layout in LAYOUTS {
        let mut process = Process::new(layout, 1);
        process.memory.put(THREAD + u64::from(layout.thread_next), THREAD);
        process.memory.put(INTERPRETER + u64::from(layout.interpreter_next), INTERPRETER);
        let mut thread = ManagedThread { tid: TID + 1, state: None };
        let mut walk = Walk::default();
        let walked = process.cpython.walk(&mut thread, &mut process.memory, &mut walk);
        assert_eq!((walked, walk.frames.len()), (Ok(false), 0));
        assert!(process.memory.reads < 4096, "{} reads", process.memory.reads);
    }
}

/// Scenario: text of 2⁶³ characters, of a width that there is not, that is not text, with what moves
/// a cursor in it.
/// Guarantees: bounded, clean text or none.
#[test]
fn text_that_lies() {
    for layout in LAYOUTS {
        // The last stands for no function in some versions.
        let mut process = Process::new(layout, 2);
        process.text(0, layout.code_name, b"a\x1b[2J\nb\x07");
        let described = |process: &mut Process| {
            let (_, walk) = process.walk();
            let code = Process::code(0);
            let cookie = walk.frames.first().map_or(0, |frame| frame.cookie);
            process.cpython.describe(code, cookie, &mut process.memory)
        };
        let name = described(&mut process).expect("it is text").name;
        assert_eq!(name, "a\u{fffd}[2J\u{fffd}b\u{fffd}");
        let text = process.text_of_name();
        process.memory.put(text + u64::from(layout.text_length), 1 << 63);
        assert_eq!(described(&mut process), None);
        process.memory.map(text, 8192);
        let name = described(&mut process).expect("it is text").name;
        assert!(name.chars().count() <= 1024);
        process.memory.put_half(text + u64::from(layout.text_state), 3 << 2 | 1 << 5 | 1 << 6);
        assert_eq!(described(&mut process), None);
        process.memory.put(text + u64::from(layout.object_type), CODE_TYPE);
        assert_eq!(described(&mut process), None);
    }
}

impl Process {
    fn text_of_name(&mut self) -> u64 {
        use crate::perf::linux::runtimes::memory::read_word;
        let at = Self::code(0) + u64::from(self.cpython.layout.code_name);
        read_word(&mut self.memory, at).expect("it is there")
    }
}
