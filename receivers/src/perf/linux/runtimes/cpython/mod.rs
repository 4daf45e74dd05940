//! CPython: whose frames lie in the heap, and run in a native loop that knows nothing of them.
//!
//! [`detect`] finds it in a process, by what it exports; [`layout`] has the places of each version,
//! [`debug_offsets`] those that newer ones state themselves; [`walk`] reads a stack, [`describe`] the
//! name of a function, and [`lines`] finds the line of an instruction.

pub(crate) mod debug_offsets;
mod describe;
pub(crate) mod detect;
pub(crate) mod layout;
pub(crate) mod lines;
mod walk;

use layout::{Layout, Owner, Top};
use profpipe_heap::layout::place;

use super::function::Function;
use super::memory::{Memory, half, read_word, word};
use super::{ManagedThread, Refusal, Runtime, Walk};

/// The largest function, in units of code.
const MAX_CODE_UNITS: u32 = 1 << 24;
/// The last line that a function may begin at.
const MAX_LINE: u32 = 1 << 24;
/// Where objects of variable size have it.
const VARIABLE_SIZE: u32 = 16;

/// CPython in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CPython {
    pub(crate) layout: Layout,
    /// Where its state is in the process.
    pub(crate) runtime: u64,
    /// The type of code objects, and that of text.
    pub(crate) code_type: u64,
    pub(crate) text_type: u64,
}

impl CPython {
    /// What tells a code object from another that has its place later; none if the bytes are not a
    /// code object.
    fn cookie(&self, code: &[u8]) -> Option<u64> {
        let layout = &self.layout;
        let first_line = half(code, layout.code_first_line);
        if word(code, layout.object_type) != self.code_type || first_line > MAX_LINE {
            return None;
        }
        let mut cookie = u64::from(first_line);
        for at in [layout.code_file, layout.code_name, layout.code_lines] {
            cookie = (cookie.rotate_left(23) ^ word(code, at)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        Some(cookie)
    }
}

impl Runtime for CPython {
    fn frame_type(&self) -> &'static str {
        "cpython"
    }

    fn is_ready(&self, memory: &mut dyn Memory) -> bool {
        let head = self.runtime.wrapping_add(self.layout.interpreters.into());
        let Some(first) = read_word(memory, head).filter(|it| *it != 0) else { return false };
        let threads = first.wrapping_add(self.layout.interpreter_threads.into());
        read_word(memory, threads).is_some_and(|it| it != 0)
    }

    fn walk(
        &self,
        thread: &mut ManagedThread,
        memory: &mut dyn Memory,
        walk: &mut Walk,
    ) -> Result<bool, Refusal> {
        self.walk_thread(thread, memory, walk)
    }

    fn places(&self) -> Option<[u64; place::COUNT]> {
        let layout = &self.layout;
        let (owner, is_pointer) = match layout.thread_owner {
            Owner::Kernel(at) => (at, false),
            Owner::Library(at) => (at, true),
        };
        let (top, inner) = match layout.thread_top {
            Top::Frame(at) => (at, u64::MAX),
            Top::Loop(at, inner) => (at, inner.into()),
        };
        let mut places = [0; place::COUNT];
        let known = [
            (place::HEAD, self.runtime.wrapping_add(layout.interpreters.into())),
            (place::INTERPRETER_NEXT, layout.interpreter_next.into()),
            (place::INTERPRETER_THREADS, layout.interpreter_threads.into()),
            (place::THREAD_NEXT, layout.thread_next.into()),
            (place::THREAD_OWNER, owner.into()),
            (place::OWNER_IS_POINTER, is_pointer.into()),
            (place::POINTER_NUMBER, walk::LIBRARY_TID),
            (place::STATE_LENGTH, layout::STATE as u64),
            (place::FRAME_LENGTH, layout.frame_length().next_multiple_of(8) as u64),
            (place::CODE_LENGTH, layout::CODE as u64),
            (place::TOP, top.into()),
            (place::INNER, inner),
            (place::FRAME_CODE, layout.frame_code.into()),
            (place::FRAME_BACK, layout.frame_back.into()),
            (place::CODE_TAG, layout.code_tag),
        ];
        for (at, number) in known {
            if let Some(place) = places.get_mut(at) {
                *place = number;
            }
        }
        Some(places)
    }

    fn describe(&self, code: u64, cookie: u64, memory: &mut dyn Memory) -> Option<Function> {
        self.describe_code(code, cookie, memory)
    }
}
