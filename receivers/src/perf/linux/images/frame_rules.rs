//! The rules of one frame: where its caller's registers are, by the call frame information of the
//! instruction that it is at.
//!
//! `gimli` reads the entry and runs its instructions; what comes out is kept in a compact form, as
//! the same addresses come again and again. Formats: DWARF 5, 6.4; Linux Standard Base, "Exception
//! Frames".

use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EndianSlice, FrameDescriptionEntry, LittleEndian,
    Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow,
};

use super::cfi::Kind;
use super::frame_table::Entry;
use crate::perf::linux::records::arch::{FRAME_POINTER, RETURN_ADDRESS, STACK_POINTER};

/// Where the canonical frame address is: what the stack pointer was before the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameAddress {
    /// So far from the value of a register.
    Register(u16, i64),
    /// What an expression says.
    Expression(Box<[u8]>),
}

/// Where a register of the caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nobody knows.
    Undefined,
    /// It was not changed.
    Same,
    /// In memory, so far from the frame address.
    Saved(i64),
    /// So far from the frame address, itself.
    Value(i64),
    /// In another register.
    Register(u16),
    /// In memory where an expression says.
    SavedAt(Box<[u8]>),
    /// What an expression says.
    Expression(Box<[u8]>),
}

/// The rules of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameRules {
    pub(crate) address: FrameAddress,
    /// Where the code that the rules are of begins, in most cases a function.
    pub(crate) function: u64,
    /// The registers that have a rule.
    pub(crate) registers: Box<[(u16, Rule)]>,
    /// The frame is one that the kernel made for a signal handler: its caller was interrupted.
    pub(crate) signal: bool,
    /// `framehop` has the same table and comes to the same caller, as far as the instruction
    /// pointer, the stack pointer and the frame pointer go.
    pub(crate) plain: bool,
}

impl FrameRules {
    /// The rule of a register, if it has one.
    pub(crate) fn rule(&self, register: u16) -> Option<&Rule> {
        self.registers.iter().find(|(other, _)| *other == register).map(|(_, rule)| rule)
    }

    /// The rules state that there is no caller.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.rule(RETURN_ADDRESS), Some(Rule::Undefined))
    }

    /// The caller is found by the frame pointer: its own value and the return address lie where it
    /// points.
    pub(crate) fn keeps_frame_pointer(&self) -> bool {
        let saved =
            |register, at| matches!(self.rule(register), Some(Rule::Saved(it)) if *it == at);
        self.address == FrameAddress::Register(FRAME_POINTER, 16)
            && saved(FRAME_POINTER, -16)
            && saved(RETURN_ADDRESS, -8)
    }

    /// The frame pointer is as the caller left it.
    pub(crate) fn leaves_frame_pointer(&self) -> bool {
        matches!(self.rule(FRAME_POINTER), None | Some(Rule::Same))
    }

    /// Reads the rules of an address from an entry that may be the one that covers it.
    pub(crate) fn read(
        entry: &Entry<'_>,
        address: u64,
        is_framehops: bool,
        context: &mut UnwindContext<usize>,
    ) -> Option<Self> {
        let bases = BaseAddresses::default().set_eh_frame(entry.base);
        match entry.kind {
            Kind::EhFrame => {
                let mut section = EhFrame::new(entry.bytes, LittleEndian);
                section.set_address_size(8);
                let frame = section
                    .fde_from_offset(&bases, entry.frame.into(), EhFrame::cie_from_offset)
                    .ok()?;
                Self::of(&section, &bases, &frame, address, is_framehops, context)
            }
            Kind::DebugFrame => {
                let mut section = DebugFrame::new(entry.bytes, LittleEndian);
                section.set_address_size(8);
                let frame = section
                    .fde_from_offset(&bases, entry.frame.into(), DebugFrame::cie_from_offset)
                    .ok()?;
                Self::of(&section, &bases, &frame, address, is_framehops, context)
            }
        }
    }

    fn of<'a, S: UnwindSection<EndianSlice<'a, LittleEndian>>>(
        section: &S,
        bases: &BaseAddresses,
        frame: &FrameDescriptionEntry<EndianSlice<'a, LittleEndian>>,
        address: u64,
        is_framehops: bool,
        context: &mut UnwindContext<usize>,
    ) -> Option<Self> {
        if frame.cie().return_address_register() != Register(RETURN_ADDRESS) {
            return None;
        }
        let signal = frame.is_signal_trampoline();
        let function = frame.initial_address();
        let row = frame.unwind_info_for_address(section, bases, context, address).ok()?;
        let mut rules = Self::from_row(section, row)?;
        (rules.signal, rules.function) = (signal, function);
        rules.plain = is_framehops && !signal && rules.is_plain();
        Some(rules)
    }

    fn from_row<'a, S: UnwindSection<EndianSlice<'a, LittleEndian>>>(
        section: &S,
        row: &UnwindTableRow<usize>,
    ) -> Option<Self> {
        let bytes = |expression: &UnwindExpression<usize>| -> Option<Box<[u8]>> {
            Some(expression.get(section).ok()?.0.slice().into())
        };
        let address = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                FrameAddress::Register(register.0, *offset)
            }
            CfaRule::Expression(expression) => FrameAddress::Expression(bytes(expression)?),
        };
        let mut registers = Vec::new();
        for (register, rule) in row.registers() {
            let rule = match rule {
                RegisterRule::Undefined => Rule::Undefined,
                RegisterRule::SameValue => Rule::Same,
                RegisterRule::Offset(offset) => Rule::Saved(*offset),
                RegisterRule::ValOffset(offset) => Rule::Value(*offset),
                RegisterRule::Register(other) => Rule::Register(other.0),
                RegisterRule::Expression(expression) => Rule::SavedAt(bytes(expression)?),
                RegisterRule::ValExpression(expression) => Rule::Expression(bytes(expression)?),
                _ => return None,
            };
            registers.push((register.0, rule));
        }
        let registers = registers.into();
        Some(Self { address, function: 0, registers, signal: false, plain: false })
    }

    /// What `framehop` takes without losing anything: the frame address by the stack pointer, or
    /// by a frame pointer that is saved beside the return address.
    fn is_plain(&self) -> bool {
        if !cfg!(target_arch = "x86_64") {
            // Its rules for this processor also know the link register.
            return matches!(self.address, FrameAddress::Register(..));
        }
        let is_word = |offset: &i64| offset % 8 == 0;
        let frame_pointer_is_plain = match self.rule(FRAME_POINTER) {
            None | Some(Rule::Same) => true,
            Some(Rule::Saved(offset)) => is_word(offset) && *offset < 0 && *offset > -(1 << 17),
            _ => false,
        };
        let by_stack_pointer = match self.address {
            FrameAddress::Register(STACK_POINTER, offset) => {
                is_word(&offset) && (8..1 << 17).contains(&offset)
            }
            _ => self.keeps_frame_pointer(),
        };
        let returns = matches!(self.rule(RETURN_ADDRESS), Some(Rule::Saved(-8)));
        by_stack_pointer && returns && frame_pointer_is_plain && self.rule(STACK_POINTER).is_none()
    }
}
