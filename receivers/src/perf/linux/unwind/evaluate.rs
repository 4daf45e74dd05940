//! From the registers of a frame and its rules to the registers of its caller.

use gimli::{
    Encoding, EndianSlice, EvaluationResult, Expression, Format, LittleEndian, Location, Piece,
    Value,
};

use super::registers::RegisterSet;
use super::stack::Stack;
use crate::perf::linux::images::frame_rules::{FrameAddress, FrameRules, Rule};
use crate::perf::linux::records::arch::{PROGRAM_COUNTER, RETURN_ADDRESS, STACK_POINTER, strip};

/// The most steps of one expression; they have no jumps.
const MAX_STEPS: u32 = 256;
/// How expressions of call frame information are encoded.
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };

/// Why there is no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A register that is needed was not recovered.
    Unknown,
    /// The stack at this address was not copied.
    Unreadable(u64),
    /// The rules make no sense here.
    Invalid,
}

/// The registers of the caller.
pub(super) fn caller(
    rules: &FrameRules,
    registers: &RegisterSet,
    stack: &Stack<'_>,
) -> Result<RegisterSet, Fault> {
    let address = match &rules.address {
        FrameAddress::Register(register, offset) => {
            registers.get(*register).ok_or(Fault::Unknown)?.wrapping_add_signed(*offset)
        }
        FrameAddress::Expression(expression) => value(expression, None, registers, stack)?,
    };
    // A register without a rule is as it was. For those that functions may use as they like this is
    // not sure, but then no rule of a caller refers to them, except in assembly that knows its own
    // functions.
    let mut caller = *registers;
    caller.set(STACK_POINTER, address);
    for (register, rule) in &rules.registers {
        let found = match rule {
            Rule::Undefined => Err(Fault::Unknown),
            Rule::Same => registers.get(*register).ok_or(Fault::Unknown),
            Rule::Saved(offset) => stack.read(address.wrapping_add_signed(*offset)),
            Rule::Value(offset) => Ok(address.wrapping_add_signed(*offset)),
            Rule::Register(other) => registers.get(*other).ok_or(Fault::Unknown),
            Rule::SavedAt(expression) => value(expression, Some(address), registers, stack)
                .and_then(|address| stack.read(address)),
            Rule::Expression(expression) => value(expression, Some(address), registers, stack),
        };
        match found {
            Ok(value) => caller.set(*register, value),
            Err(fault) if *register == RETURN_ADDRESS => return Err(fault),
            // Whoever needs it will say so.
            Err(_) => caller.forget(*register),
        }
    }
    // Where the return address is a register that has no rule, it is still there.
    let next = match rules.rule(RETURN_ADDRESS) {
        Some(_) => caller.get(RETURN_ADDRESS),
        None if RETURN_ADDRESS == PROGRAM_COUNTER => None,
        None => registers.get(RETURN_ADDRESS),
    };
    caller.set(PROGRAM_COUNTER, strip(next.ok_or(Fault::Invalid)?));
    Ok(caller)
}

/// The value of an expression. `first` is what its stack begins with.
fn value(
    expression: &[u8],
    first: Option<u64>,
    registers: &RegisterSet,
    stack: &Stack<'_>,
) -> Result<u64, Fault> {
    let mut evaluation =
        Expression(EndianSlice::new(expression, LittleEndian)).evaluation(ENCODING);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    evaluation.set_max_iterations(MAX_STEPS);
    let mut result = evaluation.evaluate().map_err(|_| Fault::Invalid)?;
    loop {
        let next = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.get(register.0).ok_or(Fault::Unknown)?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            EvaluationResult::RequiresMemory { address, size, space: None, .. } => {
                let mask = match size {
                    8 => u64::MAX,
                    1..8 => (1 << (8 * size)) - 1,
                    _ => return Err(Fault::Invalid),
                };
                let value = stack.read(address)? & mask;
                evaluation.resume_with_memory(Value::Generic(value))
            }
            _ => return Err(Fault::Invalid),
        };
        result = next.map_err(|_| Fault::Invalid)?;
    }
    match &*evaluation.result() {
        [Piece { location: Location::Address { address }, .. }] => Ok(*address),
        _ => Err(Fault::Invalid),
    }
}
