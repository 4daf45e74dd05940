//! What CPython says of its own layout since 3.13 (`_Py_DebugOffsets`, PEP 768): numbers at the start
//! of `_PyRuntime`, written into the program when it was built.
//!
//! The numbers are the process's own and are taken for no more than places to read at, of bounded
//! size.

use super::layout::{Entry, Layout, Owner, Position, Top, Version};
use super::lines::LineForm;
use crate::perf::linux::runtimes::memory::word;

/// How it begins.
const COOKIE: &[u8; 8] = b"xdebugpy";
/// The bytes of it that are read: those of 3.13.
pub(crate) const LENGTH: usize = 8 * 73;
/// The largest place that makes sense: that of the threads of an interpreter is the largest so far,
/// at some hundred thousand in free-threaded builds.
const MAX_OFFSET: u64 = 1 << 20;

/// The words of 3.13, by their place in the description.
mod at_3_13 {
    pub(super) const FREE_THREADED: u32 = 2;
    pub(super) const INTERPRETERS_HEAD: u32 = 5;
    pub(super) const INTERPRETER_NEXT: u32 = 8;
    pub(super) const THREADS_HEAD: u32 = 9;
    pub(super) const THREAD_NEXT: u32 = 21;
    pub(super) const CURRENT_FRAME: u32 = 23;
    pub(super) const NATIVE_THREAD_ID: u32 = 25;
    pub(super) const PREVIOUS: u32 = 29;
    pub(super) const EXECUTABLE: u32 = 30;
    pub(super) const INSTRUCTION: u32 = 31;
    pub(super) const OWNER: u32 = 33;
    pub(super) const FILENAME: u32 = 35;
    pub(super) const QUALNAME: u32 = 37;
    pub(super) const LINETABLE: u32 = 38;
    pub(super) const FIRSTLINENO: u32 = 39;
    pub(super) const CODE: u32 = 43;
    pub(super) const OB_TYPE: u32 = 45;
    pub(super) const BYTES_SIZE: u32 = 65;
    pub(super) const BYTES_START: u32 = 66;
    pub(super) const TEXT_STATE: u32 = 68;
    pub(super) const TEXT_LENGTH: u32 = 69;
    pub(super) const ASCII_SIZE: u32 = 70;
}

/// The version and the layout that a description gives; the layout only if its form is known.
pub(crate) fn read(description: &[u8]) -> Option<(Version, Option<Layout>)> {
    if !description.starts_with(COOKIE) {
        return None;
    }
    let number = |at: u32| word(description, 8 * at);
    let stated = number(1);
    let version = ((stated >> 24) as u8, (stated >> 16) as u8);
    if version != (3, 13) {
        return Some((version, None));
    }
    // Objects are longer without a global lock, and what says so is a number that was not tried here.
    let is_known = number(at_3_13::FREE_THREADED) == 0;
    Some((version, if is_known { layout(version, number) } else { None }))
}

fn layout(version: Version, number: impl Fn(u32) -> u64) -> Option<Layout> {
    use at_3_13 as at;
    let place = |at: u32| {
        let offset = number(at);
        if offset < MAX_OFFSET { u32::try_from(offset).ok() } else { None }
    };
    let ascii = place(at::ASCII_SIZE)?;
    let layout = Layout {
        version,
        interpreters: place(at::INTERPRETERS_HEAD)?,
        interpreter_next: place(at::INTERPRETER_NEXT)?,
        interpreter_threads: place(at::THREADS_HEAD)?,
        thread_next: place(at::THREAD_NEXT)?,
        thread_owner: Owner::Kernel(place(at::NATIVE_THREAD_ID)?),
        thread_top: Top::Frame(place(at::CURRENT_FRAME)?),
        frame_code: place(at::EXECUTABLE)?,
        frame_back: place(at::PREVIOUS)?,
        frame_position: Position::Address(place(at::INSTRUCTION)?),
        frame_entry: Entry::Before(place(at::OWNER)?),
        code_tag: 0,
        code_first_line: place(at::FIRSTLINENO)?,
        code_file: place(at::FILENAME)?,
        code_name: place(at::QUALNAME)?,
        code_lines: place(at::LINETABLE)?,
        code_units: Some(place(at::CODE)?),
        object_type: place(at::OB_TYPE)?,
        text_length: place(at::TEXT_LENGTH)?,
        text_state: place(at::TEXT_STATE)?,
        text_ascii: ascii,
        // The length and the place of a copy in UTF-8 stand between.
        text_other: ascii.checked_add(16)?,
        bytes_length: place(at::BYTES_SIZE)?,
        bytes_start: place(at::BYTES_START)?,
        line_form: LineForm::Locations,
    };
    layout.fits().then_some(layout)
}
