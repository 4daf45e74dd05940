//! From a frame of Java, or of what HotSpot generated for it, to its caller: with what was read of its code
//! and a sample alone.

use super::HotSpot;
use super::block::{Block, Compiled, Kind};
use super::edges::Extent;
use super::known::{Found, Known};
use crate::perf::linux::records::arch::{FRAME_POINTER, PROGRAM_COUNTER, STACK_POINTER};
use crate::perf::linux::runtimes::native::{Advance, Here, MAX_SITES, Site, Wants};
use crate::perf::linux::unwind::registers::RegisterSet;

/// The registers by their numbers in call frame information: what a function of the interpreter may have
/// its method, its return address, its caller's stack pointer and its instruction in.
const RBX: u16 = 3;
/// See there.
const RAX: u16 = 0;
/// See there.
const R13: u16 = 13;
/// Where the interpreter's frames have what, from the frame pointer down (`frame_x86.hpp`).
const SENDER_SP: u64 = 8;
/// See there.
const METHOD: u64 = 24;
/// See there.
const POSITION: u64 = 64;
/// How far above a frame of the interpreter its caller's may begin: the arguments are in between.
const MAX_ARGUMENTS: u64 = 64 << 10;
/// The most words of a stack that are looked at for code that is not known.
const MAX_WORDS: u64 = 8192;
/// The frame of a stub that pushes a few registers, in bytes.
const STUB_FRAME: u64 = 4096;
/// Since this version there are virtual threads, whose frames may be elsewhere.
const VIRTUAL_THREADS: u32 = 20;

impl HotSpot {
    /// One frame further; see [`super::super::native::NativeRuntime::advance`].
    pub(super) fn step(
        &self,
        here: &Here<'_>,
        sites: &mut Vec<Site>,
        wants: &mut Wants,
    ) -> Advance {
        if !self.has_code(here.address) {
            return Advance::Foreign;
        }
        if sites.len() >= MAX_SITES {
            return Advance::Unknown;
        }
        let mut known = self.known();
        let block = match known.block(here.address, here.time) {
            Found::This(block) => block,
            Found::Nothing => return Advance::Foreign,
            Found::Unknown => {
                wants.code(here.address);
                self.want_rest(here, &known, wants);
                return Advance::Waiting;
            }
        };
        let mut walk = Walk { hotspot: self, known: &mut known, here, sites, wants };
        match &block.kind {
            Kind::Interpreter => walk.interpreted(),
            Kind::Compiled(compiled) => walk.compiled(&block, compiled),
            Kind::Framed { size, complete } => {
                let at = here.address.wrapping_sub(block.code.start);
                match here.exact && at < u64::from(*complete) {
                    true => walk.frameless(0),
                    false => walk.runtime_stub(*size),
                }
            }
            Kind::Frameless => walk.stub(),
            Kind::Stubs => walk.stub(),
        }
    }

    /// Asks for what the rest of the stack seems to need: so that it is not frame by frame that is waited.
    fn want_rest(&self, here: &Here<'_>, known: &Known, wants: &mut Wants) {
        let start = here.registers.stack_pointer();
        for at in 0..MAX_WORDS {
            let place = start.wrapping_add(8 * at);
            let Ok(word) = here.stack.read(place) else { break };
            if !self.has_code(word) {
                continue;
            }
            match known.has_block(word) {
                None => wants.code(word),
                Some(block) if matches!(block.kind, Kind::Interpreter) => {
                    // What was called from there has put the frame pointer right below, mostly.
                    let Ok(frame) = here.stack.read(place.wrapping_sub(8)) else { continue };
                    if let Ok(method) = here.stack.read(frame.wrapping_sub(METHOD)) {
                        wants.function(method);
                    }
                }
                Some(_) => {}
            }
        }
    }
}

struct Walk<'a> {
    hotspot: &'a HotSpot,
    known: &'a mut Known,
    here: &'a Here<'a>,
    sites: &'a mut Vec<Site>,
    wants: &'a mut Wants,
}

/// The registers of a caller.
fn caller(address: u64, stack_pointer: u64, frame_pointer: Option<u64>) -> RegisterSet {
    let mut registers = RegisterSet::default();
    registers.set(PROGRAM_COUNTER, address);
    registers.set(STACK_POINTER, stack_pointer);
    if let Some(frame_pointer) = frame_pointer {
        registers.set(FRAME_POINTER, frame_pointer);
    }
    registers
}

/// Whether a caller's frame may begin at a place, where that of what it has called ends at another.
fn is_near(sender: u64, above: u64) -> bool {
    sender >= above && sender - above <= MAX_ARGUMENTS && sender.is_multiple_of(8)
}

fn sure(registers: RegisterSet) -> Advance {
    Advance::Caller { registers, is_guess: false }
}

impl Walk<'_> {
    fn read(&self, address: u64) -> Result<u64, u64> {
        self.here.stack.read(address).map_err(|_| address)
    }

    fn sp(&self) -> u64 {
        self.here.registers.stack_pointer()
    }

    fn fp(&self) -> Option<u64> {
        self.here.registers.frame_pointer()
    }

    /// A function without a frame, whose return address is so far above the stack pointer.
    fn frameless(&mut self, above: u64) -> Advance {
        let place = self.sp().wrapping_add(above);
        match self.read(place) {
            Ok(next) if self.hotspot.has_code(next) => {
                sure(caller(next, place.wrapping_add(8), self.fp()))
            }
            Ok(_) => Advance::Unknown,
            Err(place) => Advance::Unreadable(place),
        }
    }

    /// The frame pointer of the caller at the stack pointer, and above it the return address.
    fn pushed(&mut self) -> Advance {
        match (self.read(self.sp()), self.read(self.sp().wrapping_add(8))) {
            (Ok(saved), Ok(next)) if self.hotspot.has_code(next) => {
                sure(caller(next, self.sp().wrapping_add(16), Some(saved)))
            }
            (Ok(_), Ok(_)) => Advance::Unknown,
            (Err(place), _) | (_, Err(place)) => Advance::Unreadable(place),
        }
    }

    /// A frame of this size, which has the caller's frame pointer below the return address unless that is
    /// still in its register.
    fn framed(&mut self, size: u64, is_saved: bool) -> Advance {
        let end = self.sp().wrapping_add(size);
        let next = match self.read(end.wrapping_sub(8)) {
            Ok(next) => next,
            Err(place) => return Advance::Unreadable(place),
        };
        if !self.hotspot.has_code(next) {
            return Advance::Unknown;
        }
        let saved = self.read(end.wrapping_sub(16)).ok().filter(|_| size >= 16);
        sure(caller(next, end, if is_saved { saved } else { self.fp() }))
    }

    fn compiled(&mut self, block: &Block, compiled: &Compiled) -> Advance {
        let mut address = self.here.address;
        if !self.here.exact && compiled.deopt.contains(&address) {
            // Its code may not be run any more: it goes on elsewhere when what it has called returns.
            match self.read(self.sp().wrapping_add(compiled.original_pc)) {
                Ok(original) if block.code.contains(&original) => address = original,
                Ok(_) => return Advance::Unknown,
                Err(place) => return Advance::Unreadable(place),
            }
        }
        let at = address.wrapping_sub(block.code.start) as u32;
        let is_known = self.push_scopes(compiled, at.saturating_add(u32::from(self.here.exact)));
        let extent = if self.here.exact { compiled.edges.extent(at) } else { Extent::Whole };
        let next = match extent {
            Extent::Whole => self.framed(compiled.frame, true),
            Extent::Unsaved => self.framed(compiled.frame, false),
            Extent::Pushed => self.pushed(),
            Extent::Nothing => self.frameless(0),
        };
        match next {
            Advance::Caller { registers, .. } => Advance::Caller { registers, is_guess: !is_known },
            end => end,
        }
    }

    /// Notes the functions that an instruction is of. False if some of them are not known.
    fn push_scopes(&mut self, compiled: &Compiled, at: u32) -> bool {
        let before = self.sites.len();
        let mut is_known = true;
        for scope in compiled.scopes.at(at) {
            let method = compiled.methods.get(scope.method as usize).copied().flatten();
            let Some((code, cookie)) = method else {
                is_known = false;
                continue;
            };
            let position = u32::try_from(scope.position).unwrap_or(0);
            self.sites.push(Site { code, cookie, position });
        }
        if self.sites.len() == before
            && let Some((code, cookie)) = compiled.method
        {
            self.sites.push(Site { code, cookie, position: 0 });
        }
        is_known && self.sites.len() > before
    }

    fn interpreted(&mut self) -> Advance {
        let Some(frame) = self.fp() else { return Advance::Unknown };
        let is_above = frame >= self.sp() && frame.is_multiple_of(8);
        let of_frame = |offset: u64| self.here.stack.read(frame.wrapping_sub(offset)).ok();
        let found = match of_frame(METHOD).filter(|_| is_above) {
            Some(method) => self.interpreted_site(method, of_frame(POSITION)),
            None if !is_above => Found::Nothing,
            None => return Advance::Unreadable(frame),
        };
        match found {
            Found::This(site) => self.sites.push(site),
            // Where it goes on does not depend on that.
            Found::Unknown => {}
            Found::Nothing if self.here.exact => return self.interpreter_edge(),
            Found::Nothing => return Advance::Unknown,
        }
        let words = [8, 0, 0_u64.wrapping_sub(SENDER_SP)];
        let mut values = [0; 3];
        for (value, offset) in values.iter_mut().zip(words) {
            match self.read(frame.wrapping_add(offset)) {
                Ok(read) => *value = read,
                Err(place) => return Advance::Unreadable(place),
            }
        }
        let [next, saved, sender] = values;
        if !self.hotspot.has_code(next) {
            return Advance::Unknown;
        }
        let above = frame.wrapping_add(16);
        let sender = if is_near(sender, above) { sender } else { above };
        sure(caller(next, sender, Some(saved)))
    }

    /// The method of a frame of the interpreter and where it is in it; nothing if the frame is not one.
    fn interpreted_site(&mut self, address: u64, saved: Option<u64>) -> Found<Site> {
        let method = match self.known.method(address, self.here.time) {
            Found::This(method) => method,
            Found::Nothing => return Found::Nothing,
            Found::Unknown => {
                self.wants.function(address);
                return Found::Unknown;
            }
        };
        // The innermost frame has it in a register.
        let register = self.here.registers.get(R13).filter(|_| self.here.exact);
        let mut candidates = [register, saved].into_iter().flatten();
        let position = match method.code.is_empty() {
            true => Some(0),
            false => candidates
                .find(|it| method.code.contains(it))
                .map(|it| (it - method.code.start) as u32),
        };
        let Some(position) = position else { return Found::Nothing };
        Found::This(Site { code: address, cookie: method.cookie, position })
    }

    /// The first instructions of a function in the interpreter, which has no frame yet: its method is in a
    /// register, and its return address on the stack or in another.
    fn interpreter_edge(&mut self) -> Advance {
        let registers = self.here.registers;
        let (method, next, sender) = (registers.get(RBX), registers.get(RAX), registers.get(R13));
        let on_stack = self.read(self.sp()).ok().filter(|it| self.hotspot.has_code(*it));
        let found = match (on_stack, next.filter(|it| self.hotspot.has_code(*it)), sender) {
            // Compiled callers have their arguments copied below their frames.
            (Some(next), _, Some(sender)) if is_near(sender, self.sp().wrapping_add(8)) => {
                Some((next, sender))
            }
            (Some(next), ..) => Some((next, self.sp().wrapping_add(8))),
            (None, Some(next), Some(sender)) if is_near(sender, self.sp()) => Some((next, sender)),
            _ => None,
        };
        let Some((next, stack_pointer)) = found else { return Advance::Unknown };
        let is_known =
            match method.map(|method| (method, self.known.method(method, self.here.time))) {
                Some((method, Found::This(known))) => {
                    self.sites.push(Site { code: method, cookie: known.cookie, position: 0 });
                    true
                }
                Some((method, Found::Unknown)) => {
                    self.wants.function(method);
                    false
                }
                Some((_, Found::Nothing)) | None => false,
            };
        let registers = caller(next, stack_pointer, self.fp());
        Advance::Caller { registers, is_guess: !is_known }
    }

    /// The caller of a function that has just pushed the frame pointer, as `push rbp` does.
    fn just_pushed(&self) -> Option<RegisterSet> {
        let (saved, next) =
            (self.read(self.sp()).ok()?, self.read(self.sp().wrapping_add(8)).ok()?);
        let is_pushed = self.fp() == Some(saved) && self.hotspot.has_code(next);
        is_pushed.then(|| caller(next, self.sp().wrapping_add(16), Some(saved)))
    }

    /// The caller of a function that keeps a frame pointer, and has pushed no more than a few registers.
    fn small_frame(&self) -> Option<RegisterSet> {
        let frame = self.fp().filter(|it| *it >= self.sp() && it.is_multiple_of(8))?;
        let (saved, next) = (self.read(frame).ok()?, self.read(frame.wrapping_add(8)).ok()?);
        let is_small = frame - self.sp() <= STUB_FRAME && self.hotspot.has_code(next);
        is_small.then(|| caller(next, frame.wrapping_add(16), Some(saved)))
    }

    /// A stub with frames of one size, but for its first and its last instructions.
    fn runtime_stub(&mut self, size: u64) -> Advance {
        if let Some(registers) = self.just_pushed() {
            return sure(registers);
        }
        let end = self.sp().wrapping_add(size);
        match self.read(end.wrapping_sub(8)) {
            Ok(next) if self.hotspot.has_code(next) => self.framed(size, true),
            Ok(_) => self.stub(),
            Err(place) => Advance::Unreadable(place),
        }
    }

    /// A stub: the one that calls Java from native code, or one that Java has called.
    fn stub(&mut self) -> Advance {
        if self.here.address == self.hotspot.layout.call_stub_return {
            let Some(frame) = self.fp().filter(|frame| *frame >= self.sp()) else {
                return Advance::Unknown;
            };
            return match (self.read(frame), self.read(frame.wrapping_add(8))) {
                (Ok(saved), Ok(next)) => sure(caller(next, frame.wrapping_add(16), Some(saved))),
                (Err(place), _) | (_, Err(place)) => Advance::Unreadable(place),
            };
        }
        if let Some(registers) = self.just_pushed() {
            return sure(registers);
        }
        if self.here.exact && self.read(self.sp()).is_ok_and(|it| self.hotspot.has_code(it)) {
            return self.frameless(0);
        }
        match self.small_frame() {
            Some(registers) => sure(registers),
            // A virtual thread returns there to frames that are not on the stack yet.
            None if self.here.is_of_managed && self.hotspot.layout.version >= VIRTUAL_THREADS => {
                Advance::Switched
            }
            // Native code calls some that have no frame; whoever goes on checks that it is a call.
            None if self.here.exact => match self.read(self.sp()) {
                Ok(next) => sure(caller(next, self.sp().wrapping_add(8), self.fp())),
                Err(place) => Advance::Unreadable(place),
            },
            None => Advance::Unknown,
        }
    }
}
