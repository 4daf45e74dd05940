//! Where CPython has what is read, as data: a table for each version that was tried here, and what
//! newer ones say of themselves.
//!
//! Offsets are of default builds for 64-bit processors. They are checked against the debug
//! information of real interpreters, or their own description, in `tests/runtimes`.

use super::lines::LineForm;

/// The bytes of a thread's state that are read.
pub(super) const STATE: usize = 192;
/// The most bytes of a frame that are read.
const FRAME: u32 = 128;
/// The bytes of a code object that are read.
pub(super) const CODE: usize = 144;

/// A version, such as 3.11.
pub(crate) type Version = (u8, u8);

/// What a thread's state says of its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// The frame itself.
    Frame(u32),
    /// A record of the native loop, which has the frame at the second place.
    Loop(u32, u32),
}

/// How a thread's state says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The id that the kernel gave it.
    Kernel(u32),
    /// The pointer that identifies it to the C library.
    Library(u32),
}

/// Which frames end what one native loop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Every frame has its own loop.
    Every,
    /// A frame whose byte there is 1: it is the first of the loop.
    Marked(u32),
    /// A frame whose byte there is 3: it stands before the first of the loop, for no function.
    Before(u32),
}

/// Where the instruction of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// A number of bytes of code.
    Bytes(u32),
    /// A number of code units.
    Units(u32),
    /// The address of a code unit.
    Address(u32),
}

/// Where things are in an interpreter of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) version: Version,
    /// From the runtime to the first interpreter.
    pub(crate) interpreters: u32,
    pub(crate) interpreter_next: u32,
    pub(crate) interpreter_threads: u32,
    pub(crate) thread_next: u32,
    pub(crate) thread_owner: Owner,
    pub(crate) thread_top: Top,
    pub(crate) frame_code: u32,
    pub(crate) frame_back: u32,
    pub(crate) frame_position: Position,
    pub(crate) frame_entry: Entry,
    /// The bits of a frame's code that are not its address.
    pub(crate) code_tag: u64,
    pub(crate) code_first_line: u32,
    pub(crate) code_file: u32,
    pub(crate) code_name: u32,
    pub(crate) code_lines: u32,
    /// Where the code units begin in the object; none where they lie in an object of their own.
    pub(crate) code_units: Option<u32>,
    pub(crate) object_type: u32,
    pub(crate) text_length: u32,
    pub(crate) text_state: u32,
    /// Where ASCII text begins, and any other.
    pub(crate) text_ascii: u32,
    pub(crate) text_other: u32,
    pub(crate) bytes_length: u32,
    pub(crate) bytes_start: u32,
    pub(crate) line_form: LineForm,
}

/// The oldest that there is a table for.
const BASE: Layout = Layout {
    version: (3, 8),
    interpreters: 32,
    interpreter_next: 0,
    interpreter_threads: 8,
    thread_next: 8,
    thread_owner: Owner::Library(176),
    thread_top: Top::Frame(24),
    frame_code: 32,
    frame_back: 24,
    frame_position: Position::Bytes(104),
    frame_entry: Entry::Every,
    code_tag: 0,
    code_first_line: 40,
    code_file: 104,
    code_name: 112,
    code_lines: 120,
    code_units: None,
    object_type: 8,
    text_length: 16,
    text_state: 32,
    text_ascii: 48,
    text_other: 72,
    bytes_length: 16,
    bytes_start: 32,
    line_form: LineForm::Lnotab,
};

/// The tables, oldest version first.
pub(crate) const LAYOUTS: [Layout; 5] = [
    BASE,
    Layout { version: (3, 9), ..BASE },
    Layout {
        version: (3, 10),
        frame_position: Position::Units(96),
        line_form: LineForm::Linetable,
        ..BASE
    },
    Layout {
        version: (3, 11),
        interpreters: 40,
        interpreter_threads: 16,
        thread_owner: Owner::Kernel(160),
        thread_top: Top::Loop(56, 8),
        frame_back: 48,
        frame_position: Position::Address(56),
        frame_entry: Entry::Marked(68),
        code_first_line: 72,
        code_file: 112,
        code_name: 128,
        code_lines: 136,
        code_units: Some(184),
        line_form: LineForm::Locations,
        ..BASE
    },
    Layout {
        version: (3, 12),
        interpreters: 40,
        interpreter_threads: 72,
        thread_owner: Owner::Kernel(144),
        thread_top: Top::Loop(56, 0),
        frame_code: 0,
        frame_back: 8,
        frame_position: Position::Address(56),
        frame_entry: Entry::Before(70),
        code_first_line: 68,
        code_file: 112,
        code_name: 128,
        code_lines: 136,
        code_units: Some(192),
        text_ascii: 40,
        text_other: 56,
        line_form: LineForm::Locations,
        ..BASE
    },
];

impl Layout {
    /// The table of a version.
    pub(crate) fn of(version: Version) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.version == version).copied()
    }

    /// How much of a frame is read.
    pub(crate) fn frame_length(&self) -> usize {
        let position = match self.frame_position {
            Position::Bytes(at) | Position::Units(at) | Position::Address(at) => at,
        };
        let mark = match self.frame_entry {
            Entry::Every => 0,
            Entry::Marked(at) | Entry::Before(at) => at,
        };
        let last = position.max(mark).max(self.frame_code).max(self.frame_back);
        last as usize + 8
    }

    /// Whether everything is where it is looked for: numbers that another program stated may be any.
    pub(crate) fn fits(&self) -> bool {
        let thread = match self.thread_owner {
            Owner::Kernel(at) | Owner::Library(at) => at,
        };
        let top = match self.thread_top {
            Top::Frame(at) | Top::Loop(at, _) => at,
        };
        let state = [thread, top, self.thread_next];
        let code = [
            self.code_first_line,
            self.code_file,
            self.code_name,
            self.code_lines,
            self.object_type,
        ];
        let is_in = |places: &[u32], size: usize| places.iter().all(|at| *at as usize + 8 <= size);
        is_in(&state, STATE) && is_in(&code, CODE) && self.frame_length() <= FRAME as usize
    }
}
