//! The name, the file and the lines of a function, from its code object.

use super::CPython;
use super::layout::CODE;
use super::lines::LineTable;
use crate::perf::linux::runtimes::function::{Function, Lines, MAX_NAME, clean};
use crate::perf::linux::runtimes::memory::{Memory, half, word};

/// The longest table of lines that is read.
const MAX_LINES: u64 = 64 << 10;
/// The bytes at the start of text and of bytes that say what they are.
const HEAD: usize = 40;

impl CPython {
    /// Reads what a code object says of itself, if it is still the one with the cookie when all is
    /// read.
    pub(super) fn describe_code(
        &self,
        code: u64,
        cookie: u64,
        memory: &mut dyn Memory,
    ) -> Option<Function> {
        let layout = &self.layout;
        let mut bytes = [0; CODE];
        let is_same = |bytes: &mut [u8], memory: &mut dyn Memory| {
            memory.read(code, bytes) && self.cookie(bytes) == Some(cookie)
        };
        if !is_same(&mut bytes, memory) {
            return None;
        }
        let function = Function {
            name: self.text(word(&bytes, layout.code_name), memory)?,
            file: self.text(word(&bytes, layout.code_file), memory)?,
            first_line: half(&bytes, layout.code_first_line),
            lines: Lines::Table(LineTable {
                form: layout.line_form,
                bytes: self.bytes(word(&bytes, layout.code_lines), memory).unwrap_or_default(),
            }),
        };
        is_same(&mut bytes, memory).then_some(function)
    }

    /// The text of an object, cleaned and bounded.
    fn text(&self, address: u64, memory: &mut dyn Memory) -> Option<String> {
        let layout = &self.layout;
        let mut head = [0; HEAD];
        if !memory.read(address, &mut head) || word(&head, layout.object_type) != self.text_type {
            return None;
        }
        let state = half(&head, layout.text_state);
        let (width, is_compact, is_ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        let length = word(&head, layout.text_length).min(MAX_NAME as u64) as usize;
        if is_compact == 0 || !matches!(width, 1 | 2 | 4) {
            return None;
        }
        let start = if is_ascii == 1 { layout.text_ascii } else { layout.text_other };
        let mut bytes = vec![0; length * width as usize];
        if !bytes.is_empty() && !memory.read(address.wrapping_add(start.into()), &mut bytes) {
            return None;
        }
        let characters = bytes.chunks_exact(width as usize).map(|bytes| {
            let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
            char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
        });
        Some(clean(&characters.collect::<String>()))
    }

    /// The content of a bytes object; none if it is longer than anything sensible.
    fn bytes(&self, address: u64, memory: &mut dyn Memory) -> Option<Box<[u8]>> {
        let mut head = [0; HEAD];
        if !memory.read(address, &mut head) {
            return None;
        }
        let length = word(&head, self.layout.bytes_length);
        if length > MAX_LINES {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        let start = address.wrapping_add(self.layout.bytes_start.into());
        (bytes.is_empty() || memory.read(start, &mut bytes)).then(|| bytes.into())
    }
}
