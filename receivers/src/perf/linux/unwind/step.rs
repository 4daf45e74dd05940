//! One frame further: from the registers of a frame to those of its caller.
//!
//! Which way is taken depends on what is known of the code: its call frame information, Go's own
//! table, or nothing but the machine code and the frame pointer. Whatever a way finds is a frame
//! only if it is code of this process, and a call stands before it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use framehop::{Error, FrameAddress, Unwinder as _};

use super::evaluate::{self, Fault};
use super::managed::ManagedCode;
use super::registers::RegisterSet;
use super::stack::Stack;
use crate::perf::linux::handoff::Unwound;
use crate::perf::linux::images::code::{After, Before};
use crate::perf::linux::images::frame_rules::FrameRules;
use crate::perf::linux::images::go::GoFrame;
use crate::perf::linux::images::image::ImageIx;
use crate::perf::linux::images::places::{At, Place};
use crate::perf::linux::images::table::Images;
use crate::perf::linux::processes::process::{Code, Process};
use crate::perf::linux::records::arch;

/// How far after the entry point of a program its start code may go.
const START_CODE: u64 = 64;
/// How far from its start a function may be to be taken for the one that was called.
const NEAR: u64 = 64 << 10;

/// An address in the stack of a process, and what is there.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) address: u64,
    /// It is the address of an instruction, and not where a call returns to.
    pub(super) exact: bool,
    pub(super) code: Option<Code>,
    /// What its file says; none if there is no file, or its tables are not read yet.
    pub(super) place: Option<Arc<Place>>,
    /// What it has called is managed code.
    pub(super) is_of_managed: bool,
    /// It is code of a managed runtime, and these places in managed functions.
    pub(super) sites: Option<Range<usize>>,
}

impl Spot {
    /// Looks at an address; none if it is not code of the process.
    pub(super) fn find(
        address: u64,
        exact: bool,
        process: &Process,
        images: &mut Images,
    ) -> Option<Self> {
        let instruction = address.wrapping_sub(u64::from(!exact));
        let code = process.find(instruction).map(|mapping| mapping.code)?;
        let place = match code {
            Code::Image { image, bias, .. } => {
                images.place(At { image, address: address.wrapping_sub(bias), exact })
            }
            _ => None,
        };
        Some(Self { address, exact, code: Some(code), place, is_of_managed: false, sites: None })
    }

    /// Looks at what should be a return address; none if it cannot be one.
    pub(super) fn called(address: u64, process: &Process, images: &mut Images) -> Option<Self> {
        let address = arch::strip(address);
        if address == 0 {
            return None;
        }
        if let Some(spot) = Self::find(address, false, process, images) {
            let Some(place) = &spot.place else { return Some(spot) };
            let is_called = place.code.before != Before::Other;
            if is_called && place.code.after != After::SignalReturn {
                return Some(spot);
            }
            // Go's stacks begin behind the first instruction of a function that nobody calls, and
            // have placeholders.
            if spot.go(images).is_some_and(|(frame, _)| {
                matches!(frame, GoFrame::Root | GoFrame::Start | GoFrame::Placeholder)
            }) {
                return Some(spot);
            }
        }
        // What was never called: the end of a signal handler, or where a stack was made to begin.
        let spot = Self::find(address, true, process, images)?;
        let after = spot.place.as_ref().map(|place| place.code.after);
        (after == Some(After::SignalReturn) || spot.is_root(images)).then_some(spot)
    }

    /// An address of the instruction that it is about.
    pub(super) fn within(&self) -> u64 {
        self.address.wrapping_sub(u64::from(!self.exact))
    }

    /// The file, the distance of its addresses from those in memory, and its own address.
    pub(super) fn in_image(&self) -> Option<(ImageIx, u64, u64)> {
        match self.code {
            Some(Code::Image { image, bias, .. }) => {
                Some((image, bias, self.address.wrapping_sub(bias)))
            }
            _ => None,
        }
    }

    /// A table covers it.
    fn has_rules(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.rules.is_some())
    }

    /// The tables of its file are being read.
    pub(super) fn is_unready(&self) -> bool {
        self.in_image().is_some() && self.place.is_none()
    }

    /// How Go's stack goes on from here, and how far above the stack pointer the return address is;
    /// none if it is not code of Go.
    fn go(&self, images: &mut Images) -> Option<(GoFrame, u32)> {
        let (image, _, address) = self.in_image()?;
        if !images.get(image)?.identity.go {
            return None;
        }
        let functions = images.tables(image)?.go.as_ref()?;
        let instruction = address.wrapping_sub(u64::from(!self.exact));
        Some((functions.frame(instruction), functions.depth(instruction)?))
    }

    /// The first instructions of a program, which have no rules in many systems.
    fn is_start(&self, images: &Images) -> bool {
        let Some((image, _, address)) = self.in_image() else { return false };
        let entry = images.get(image).map_or(0, |image| image.identity.entry);
        entry != 0 && address.wrapping_sub(entry) < START_CODE
    }

    /// Whether stacks end here, by the rules or by what the code is.
    pub(super) fn is_root(&self, images: &mut Images) -> bool {
        match self.go(images) {
            Some((frame, _)) => matches!(frame, GoFrame::Root | GoFrame::Start),
            None => self.is_native_root(images),
        }
    }

    /// The same of code that is not Go's.
    fn is_native_root(&self, images: &Images) -> bool {
        match self.place.as_deref() {
            Some(Place { code, .. }) if code.after == After::StackStart => true,
            Some(Place { rules: Some(rules), .. }) => rules.is_end(),
            Some(Place { rules: None, .. }) => self.is_start(images),
            None => false,
        }
    }

    /// Whether what is above has not called this, but was interrupted by it.
    pub(super) fn is_injected(&self, images: &mut Images) -> bool {
        self.go(images).is_some_and(|(frame, _)| frame == GoFrame::Injected)
    }

    /// How surely the frame pointer leads to the caller.
    pub(super) fn frame_pointer(&self, images: &mut Images) -> FramePointer {
        if let Some((frame, depth)) = self.go(images) {
            return match frame {
                GoFrame::Ordinary | GoFrame::Switch | GoFrame::Placeholder | GoFrame::Injected
                    if depth > 0 =>
                {
                    FramePointer::Sure
                }
                GoFrame::Ordinary if depth == 0 => FramePointer::Outer,
                _ => FramePointer::Not,
            };
        }
        match self.place.as_deref() {
            Some(Place { rules: Some(rules), .. }) if rules.keeps_frame_pointer() => {
                FramePointer::Sure
            }
            Some(Place { rules: Some(rules), .. }) if rules.leaves_frame_pointer() => {
                FramePointer::Outer
            }
            Some(Place { rules: Some(_), .. }) => FramePointer::Not,
            _ => FramePointer::Unknown,
        }
    }
}

/// How surely a frame pointer leads to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FramePointer {
    /// The rules say so.
    Sure,
    /// Nothing says so.
    Unknown,
    /// It is that of a caller, whose own caller it may lead to.
    Outer,
    /// It has been used for something else.
    Not,
}

/// What comes after a frame.
#[derive(Debug)]
pub(super) enum Step {
    /// Its caller.
    Caller(Spot, RegisterSet),
    /// Its caller, found without rules.
    Guess(Spot, RegisterSet),
    /// There is none: stacks begin here.
    Root,
    /// The caller is where the stack was not copied, at this address. If the frame pointer leads
    /// there, the kernel may have gone there.
    Unreadable { address: u64, by_frame_pointer: bool, switched: bool },
    /// Nobody knows.
    Unknown,
    /// A register is needed that the fast way does not recover.
    AllRegisters,
}

impl From<Fault> for Step {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable(address) => {
                Self::Unreadable { address, by_frame_pointer: false, switched: false }
            }
            Fault::Unknown | Fault::Invalid => Self::Unknown,
        }
    }
}

/// What a step is made in.
pub(super) struct Surroundings<'a> {
    pub(super) stack: Stack<'a>,
    pub(super) process: &'a Process,
    pub(super) images: &'a mut Images,
    /// Instructions of the process that are known to be stepped over by the kernel.
    pub(super) stepped: &'a [u64],
    /// Only the registers that `framehop` knows are recovered where it suffices.
    pub(super) fast: bool,
    /// The managed runtime of the process, if its frames are on the native stack.
    pub(super) managed: Option<ManagedCode<'a>>,
}

impl Surroundings<'_> {
    /// One frame further; notes in the spot what of a managed program it is.
    pub(super) fn step(&mut self, spot: &mut Spot, registers: &RegisterSet) -> Step {
        if let Some(Code::Probe(page, start)) = spot.code {
            return self.probed(page, spot.address.wrapping_sub(start), registers);
        }
        if matches!(spot.code, Some(Code::Jit))
            && let Some(step) = self.managed(spot, registers)
        {
            return step;
        }
        if let Some(place) = spot.place.clone() {
            if place.code.after == After::SignalReturn {
                return self.interrupted(registers);
            }
            if let Some((frame, depth)) = spot.go(self.images) {
                return self.go(spot, frame, depth, registers);
            }
            if spot.is_native_root(self.images) {
                return Step::Root;
            }
            if place.rules.is_some() {
                return self.by_rules(spot, &place, registers);
            }
        }
        self.without_rules(spot, registers)
    }

    pub(super) fn caller(&mut self, address: u64) -> Option<Spot> {
        Spot::called(address, self.process, self.images)
    }

    /// By the rules of a frame, with all registers.
    fn by_evaluation(
        &mut self,
        spot: &Spot,
        rules: &FrameRules,
        registers: &RegisterSet,
    ) -> Result<RegisterSet, Fault> {
        // The rules come from others. Whatever they make the evaluation do, it ends here.
        let guarded = AssertUnwindSafe(|| evaluate::caller(rules, registers, &self.stack));
        catch_unwind(guarded).unwrap_or_else(|_| {
            if let Some((image, ..)) = spot.in_image() {
                self.images.distrust(image);
            }
            Err(Fault::Invalid)
        })
    }

    /// By the rules of the frame.
    fn by_rules(&mut self, spot: &Spot, place: &Place, registers: &RegisterSet) -> Step {
        let Some(rules) = &place.rules else { return Step::Unknown };
        let recovered = self.recover_frame_pointer(spot, rules, registers);
        let is_guess = recovered.as_ref().is_some_and(|it| it.is_guess);
        let registers = recovered.as_ref().map_or(registers, |it| &it.registers);
        let found = if self.fast && rules.plain {
            self.by_framehop(spot, rules, registers)
        } else {
            self.by_evaluation(spot, rules, registers)
        };
        let next = match found {
            Ok(next) => next,
            Err(Fault::Unknown) if self.fast => return Step::AllRegisters,
            Err(Fault::Unreadable(address)) => {
                return Step::Unreadable {
                    address,
                    by_frame_pointer: rules.keeps_frame_pointer(),
                    switched: place.code.switches,
                };
            }
            Err(fault) => return fault.into(),
        };
        if rules.signal {
            return self.interrupted_at(next);
        }
        // The marker that ends the stack of a thread or fiber: nothing has called this.
        if next.instruction() == 0 {
            return Step::Root;
        }
        // Callers are above, or at the same place where a leaf keeps the return address in a register;
        // only that of what makes another stack may be anywhere.
        let (here, above) = (registers.stack_pointer(), next.stack_pointer());
        if (above < here || (above == here && !spot.exact)) && !place.code.switches {
            return Step::Unknown;
        }
        match self.caller(next.instruction()) {
            Some(caller) if is_guess => Step::Guess(caller, next),
            Some(caller) => Step::Caller(caller, next),
            None => Step::Unknown,
        }
    }

    /// By `framehop`, which has its own cache of what it does at an address.
    fn by_framehop(
        &mut self,
        spot: &Spot,
        rules: &FrameRules,
        registers: &RegisterSet,
    ) -> Result<RegisterSet, Fault> {
        let (image, _, address) = spot.in_image().ok_or(Fault::Invalid)?;
        let mut state = arch::to_framehop(registers).ok_or(Fault::Unknown)?;
        let Some(unwinder) = self.images.tables(image).and_then(|it| it.unwinder.as_mut()) else {
            // Its tables were dropped, and what is known of the address suffices.
            return self.by_evaluation(spot, rules, registers);
        };
        let frame_address = if spot.exact {
            FrameAddress::from_instruction_pointer(address)
        } else {
            FrameAddress::from_return_address(address).ok_or(Fault::Invalid)?
        };
        let stack = self.stack;
        let mut unread = None;
        let mut read = |address| {
            stack.read(address).map_err(|_| {
                unread = Some(address);
            })
        };
        // The tables come from others. Whatever they make the unwinder do, it ends here.
        let guarded = AssertUnwindSafe(|| {
            unwinder.rules.unwind_frame(frame_address, &mut state, &mut unwinder.cache, &mut read)
        });
        let Ok(step) = catch_unwind(guarded) else {
            self.images.distrust(image);
            return Err(Fault::Invalid);
        };
        match step {
            Ok(Some(next)) => Ok(arch::of_framehop(&state, arch::strip(next))),
            Err(Error::ReturnAddressIsNull) => Ok(arch::of_framehop(&state, 0)),
            Err(Error::CouldNotReadStack(address)) => Err(Fault::Unreadable(address)),
            // It refuses frames that are below, which those of another stack may be.
            _ => match unread {
                Some(address) => Err(Fault::Unreadable(address)),
                None => self.by_evaluation(spot, rules, registers),
            },
        }
    }

    /// The end of a signal handler: the registers of what it interrupted lie on the stack.
    fn interrupted(&mut self, registers: &RegisterSet) -> Step {
        let (offset, order) = arch::SIGNAL_REGISTERS;
        let start = registers.stack_pointer().wrapping_add(offset);
        let mut next = RegisterSet::default();
        for (at, number) in order.iter().enumerate() {
            match self.stack.read(start.wrapping_add(8 * at as u64)) {
                Ok(value) => next.set(*number, value),
                Err(fault) => return fault.into(),
            }
        }
        self.interrupted_at(next)
    }

    fn interrupted_at(&mut self, registers: RegisterSet) -> Step {
        let address = registers.instruction();
        match Spot::find(address, true, self.process, self.images) {
            Some(spot) => Step::Caller(spot, registers),
            None => Step::Unknown,
        }
    }

    /// By Go's table of depths.
    fn go(&mut self, spot: &Spot, frame: GoFrame, depth: u32, registers: &RegisterSet) -> Step {
        match frame {
            GoFrame::Root => return Step::Root,
            GoFrame::Leave => {
                return Step::Unreadable { address: 0, by_frame_pointer: false, switched: true };
            }
            _ => {}
        }
        let sp = registers.stack_pointer();
        let above = sp.wrapping_add(depth.into());
        let regular = above.wrapping_sub(8);
        // Before such a function has switched, its frame is like others.
        let switched = frame == GoFrame::Switch
            && depth > 0
            && registers.frame_pointer() != Some(regular)
            && !(spot.exact && self.stack.read(above).is_ok_and(|it| self.is_call_of(it, spot)));
        if depth > 0 && (switched || !arch::GO_BY_DEPTH) {
            let Some(frame_pointer) = registers.frame_pointer() else {
                return if self.fast { Step::AllRegisters } else { Step::Unknown };
            };
            return self.by_frame_pointer(frame_pointer, switched);
        }
        let read = match arch::link_register(registers) {
            Some(link) if depth == 0 => Ok((link, sp)),
            _ => self.stack.read(above).map(|next| (next, above.wrapping_add(8))),
        };
        let (next, next_sp) = match read {
            Ok(found) => found,
            Err(_) if frame == GoFrame::Start => return Step::Root,
            Err(Fault::Unreadable(address)) => {
                let by_frame_pointer = depth > 0 && frame != GoFrame::NoFramePointer;
                return Step::Unreadable { address, by_frame_pointer, switched: false };
            }
            Err(fault) => return fault.into(),
        };
        let mut caller = RegisterSet::default();
        caller.set(arch::PROGRAM_COUNTER, next);
        caller.set(arch::STACK_POINTER, next_sp);
        let saved = if depth > 0 && frame != GoFrame::NoFramePointer {
            self.stack.read(regular).ok()
        } else {
            registers.frame_pointer()
        };
        if let Some(saved) = saved {
            caller.set(arch::FRAME_POINTER, saved);
        }
        let found = match frame {
            GoFrame::Injected => Spot::find(next, true, self.process, self.images),
            _ => self.caller(next),
        };
        match found {
            Some(spot) => Step::Caller(spot, caller),
            None if frame == GoFrame::Start => Step::Root,
            None => Step::Unknown,
        }
    }

    /// Whether a word is where a call returns to that called about this address.
    fn is_call_of(&mut self, word: u64, spot: &Spot) -> bool {
        self.caller(word).is_some_and(|caller| self.called_by(&caller, spot).is_some())
    }

    /// The address that a caller called, if it is right before the one it is said to have called
    /// and in the same file.
    fn called_by(&self, caller: &Spot, spot: &Spot) -> Option<u64> {
        let (image, _, address) = spot.in_image()?;
        let (same, _, _) = caller.in_image()?;
        let Before::CallOf(target) = caller.place.as_ref()?.code.before else { return None };
        let is_near = image == same && target <= address && address - target < NEAR;
        (is_near && self.images.has_code(image, target)).then_some(target)
    }

    /// Whether a caller is before an address in its file.
    fn is_before(&self, caller: &Spot, target: u64) -> bool {
        caller.in_image().is_some_and(|(_, _, address)| address < target)
    }

    /// To the caller that the frame pointer leads to.
    fn by_frame_pointer(&mut self, frame_pointer: u64, switched: bool) -> Step {
        let above = frame_pointer.wrapping_add(8);
        let (next, saved) = match (self.stack.read(above), self.stack.read(frame_pointer)) {
            (Ok(next), Ok(saved)) => (next, saved),
            _ => {
                return Step::Unreadable { address: above, by_frame_pointer: true, switched };
            }
        };
        let mut caller = RegisterSet::default();
        caller.set(arch::PROGRAM_COUNTER, arch::strip(next));
        caller.set(arch::STACK_POINTER, frame_pointer.wrapping_add(16));
        caller.set(arch::FRAME_POINTER, saved);
        match self.caller(next) {
            Some(spot) => Step::Caller(spot, caller),
            None => Step::Unknown,
        }
    }

    /// Where no table covers the code: the return address is at the stack pointer if the function
    /// has no frame, or beside the saved frame pointer if it keeps one. What the code says decides,
    /// and where it says nothing the caller is a guess.
    fn without_rules(&mut self, spot: &Spot, registers: &RegisterSet) -> Step {
        let by_frame_pointer = match registers.frame_pointer() {
            Some(frame_pointer) if frame_pointer >= registers.stack_pointer() => {
                self.by_frame_pointer(frame_pointer, false)
            }
            Some(_) => Step::Unknown,
            None if self.fast => return Step::AllRegisters,
            None => Step::Unknown,
        };
        // Only a function that calls nothing may have no frame.
        let frameless = if spot.exact { self.frameless(registers) } else { None };
        if let Some((caller, _)) = &frameless
            && let Some(target) = self.called_by(caller, spot)
            // A call by this function itself would be what an older callee has left.
            && (caller.has_rules() || self.is_before(caller, target))
        {
            return frameless.map_or(Step::Unknown, |(spot, next)| Step::Caller(spot, next));
        }
        if let Step::Caller(caller, next) = by_frame_pointer {
            let keeps_frame_pointer = self.called_by(&caller, spot).is_some_and(|target| {
                spot.in_image().is_some_and(|(image, _, address)| {
                    self.images.keeps_frame_pointer(image, target..address)
                })
            });
            if keeps_frame_pointer {
                return Step::Caller(caller, next);
            }
            let is_seen = |it: &Spot| {
                it.place.as_ref().is_some_and(|it| it.code.before != Before::Unreadable)
            };
            return match frameless {
                Some((spot, next)) if is_seen(&spot) => Step::Guess(spot, next),
                _ => Step::Guess(caller, next),
            };
        }
        match (frameless, by_frame_pointer) {
            (Some((spot, next)), _) => Step::Guess(spot, next),
            // Where the copy ends; but it is a guess that it goes on there.
            (None, Step::Unreadable { address, by_frame_pointer, .. })
                if self.stack.beyond(address).is_some_and(|it| it < NEAR) =>
            {
                Step::Unreadable { address, by_frame_pointer, switched: false }
            }
            _ => Step::Unknown,
        }
    }

    /// The caller of a function that has no frame.
    fn frameless(&mut self, registers: &RegisterSet) -> Option<(Spot, RegisterSet)> {
        let sp = registers.stack_pointer();
        let (next, above) = match arch::link_register(registers) {
            Some(link) => (link, sp),
            None => (self.stack.read(sp).ok()?, sp.wrapping_add(8)),
        };
        let mut caller = *registers;
        caller.set(arch::PROGRAM_COUNTER, arch::strip(next));
        caller.set(arch::STACK_POINTER, above);
        Some((self.caller(next)?, caller))
    }
}

/// How a walk that ends for want of the stack is called.
pub(super) fn cut(stack: &Stack<'_>, address: u64, switched: bool, span: u64) -> Unwound {
    if switched {
        return Unwound::Switched;
    }
    match stack.beyond(address) {
        Some(above) if above < span => Unwound::Truncated,
        _ => Unwound::Broken,
    }
}
