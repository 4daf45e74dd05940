//! The registers of a frame, as far as they are known.

use crate::perf::linux::records::arch::{FRAME_POINTER, NUMBERED, PROGRAM_COUNTER, STACK_POINTER};

/// Registers by their numbers in call frame information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegisterSet {
    values: [u64; NUMBERED],
    /// A bit for each that is known.
    known: u64,
}

impl Default for RegisterSet {
    fn default() -> Self {
        Self { values: [0; NUMBERED], known: 0 }
    }
}

impl RegisterSet {
    /// The value of a register, if it is known.
    pub(crate) fn get(&self, number: u16) -> Option<u64> {
        let value = *self.values.get(usize::from(number))?;
        (self.known >> number & 1 != 0).then_some(value)
    }

    /// Notes the value of a register.
    pub(crate) fn set(&mut self, number: u16, value: u64) {
        if let Some(known) = self.values.get_mut(usize::from(number)) {
            *known = value;
            self.known |= 1 << number;
        }
    }

    /// Forgets the value of a register.
    pub(crate) fn forget(&mut self, number: u16) {
        if usize::from(number) < NUMBERED {
            self.known &= !(1 << number);
        }
    }

    /// The instruction pointer, or 0.
    pub(crate) fn instruction(&self) -> u64 {
        self.get(PROGRAM_COUNTER).unwrap_or(0)
    }

    /// The stack pointer, or 0.
    pub(crate) fn stack_pointer(&self) -> u64 {
        self.get(STACK_POINTER).unwrap_or(0)
    }

    /// The frame pointer, if it is known.
    pub(crate) fn frame_pointer(&self) -> Option<u64> {
        self.get(FRAME_POINTER)
    }
}
