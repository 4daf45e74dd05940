//! From a sample to the frames of its stack.
//!
//! The user half is unwound with the rules of the images it passes through, one frame at a time;
//! code without rules (Go, just-in-time compiled code) is walked along frame pointers. Where that
//! ends early, the chain that the kernel walked continues it: the kernel could read the whole stack
//! and follow it when a runtime switched stacks. Nothing of the stack but addresses leaves here.

use framehop::{CacheNative, Error, FrameAddress, MayAllocateDuringUnwind, UnwindRegsNative};
use framehop::{Unwinder as _, UnwinderNative};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::perf::linux::handoff::{Frame, KERNEL_ROW, NO_ROW, Unwound};
use crate::perf::linux::images::bytes::Bytes;
use crate::perf::linux::images::image::{ImageIx, Unwinder};
use crate::perf::linux::images::table::Images;
use crate::perf::linux::processes::process::{Code, Process};
use crate::perf::linux::records::arch;
use crate::perf::linux::records::record::{Half, Sample};
use profpipe_engine::overhead::Rung;

/// The most frames of a stack.
const MAX_FRAMES: usize = 512;
/// How long one stack may take: tables can be made so that every frame takes long.
const MAX_TIME: Duration = Duration::from_millis(5);
/// How far above the stack pointer an address is still on the same stack.
const STACK_SPAN: u64 = 64 << 20;
/// How far after the entry point of a program its start code may go.
const START_CODE: u64 = 64;

/// Turns samples into frames; keeps its buffers.
pub(crate) struct Unwinding {
    /// The frames of the sample, leaf first.
    pub(crate) frames: Vec<Frame>,
    /// The stack ends early because the rules of an image are still being read.
    pub(crate) waiting: bool,
    chain: Vec<u64>,
    walk: Vec<u64>,
    /// Walks along frame pointers.
    plain: Unwinder,
    /// The bytes of stack that a full dump has.
    dump: usize,
    use_rules: bool,
    /// Only the interrupted function is wanted.
    leaf_only: bool,
    /// Registers are ignored: the kernel's chain is what there is.
    chain_only: bool,
}

impl Unwinding {
    /// `dump` is the size of stack dumps; `use_rules` is false to follow frame pointers only.
    pub(crate) fn new(dump: usize, use_rules: bool) -> Self {
        let rules: UnwinderNative<Bytes, MayAllocateDuringUnwind> = UnwinderNative::new();
        Self {
            frames: Vec::new(),
            waiting: false,
            chain: Vec::new(),
            walk: Vec::new(),
            plain: Unwinder { rules, cache: CacheNative::new() },
            dump,
            use_rules,
            leaf_only: false,
            chain_only: false,
        }
    }

    /// From now on stacks are taken as a rung of quality says.
    pub(crate) fn set_rung(&mut self, rung: Rung, dump: usize) {
        self.dump = dump;
        self.leaf_only = rung == Rung::Leaf;
        self.chain_only = rung == Rung::FramePointers;
    }

    /// Whether only the interrupted function is wanted; returns what was wanted before.
    pub(crate) fn only_leaf(&mut self, leaf_only: bool) -> bool {
        std::mem::replace(&mut self.leaf_only, leaf_only)
    }

    /// Unwinds a sample into `self.frames`; says how far its user half goes, if it has one.
    pub(crate) fn unwind(
        &mut self,
        sample: &Sample<'_>,
        process: &Process,
        images: &mut Images,
    ) -> Option<Unwound> {
        self.frames.clear();
        self.waiting = false;
        self.chain.clear();
        self.walk.clear();
        for (half, address) in sample.chain() {
            match half {
                Half::Kernel if self.frames.len() < MAX_FRAMES => {
                    let address = address.wrapping_sub(u64::from(!self.frames.is_empty()));
                    self.frames.push(Frame { row: KERNEL_ROW, address });
                }
                Half::User => self.chain.push(arch::strip(address)),
                _ => {}
            }
        }
        let unwound = match &sample.registers {
            // While a thread executes another program its registers are still those of the old
            // one, whose code is gone.
            Some(registers)
                if !self.frames.is_empty()
                    && process.find(arch::instruction(registers)).is_none() =>
            {
                None
            }
            Some(registers) if self.leaf_only => {
                self.walk.push(arch::instruction(registers));
                Some(Unwound::Truncated)
            }
            Some(_) if self.chain_only && !self.chain.is_empty() => {
                self.walk.extend_from_slice(&self.chain);
                Some(self.chain_extent(process, images))
            }
            Some(registers) => Some(self.user_half(registers, sample.stack, process, images)),
            None if self.chain.is_empty() => None,
            None => {
                self.walk.extend_from_slice(&self.chain);
                Some(self.chain_extent(process, images))
            }
        };
        for (at, address) in self.walk.iter().enumerate() {
            if self.frames.len() >= 2 * MAX_FRAMES {
                break;
            }
            let address = address.wrapping_sub(u64::from(at > 0));
            let frame = match process.find(address).map(|mapping| mapping.code) {
                Some(Code::Image { bias, row, .. } | Code::File { bias, row }) => {
                    Frame { row, address: address.wrapping_sub(bias) }
                }
                Some(Code::Jit) => Frame { row: process.announced.jit.unwrap_or(NO_ROW), address },
                None => Frame { row: NO_ROW, address },
            };
            self.frames.push(frame);
        }
        if self.frames.is_empty() {
            self.frames.push(Frame { row: NO_ROW, address: sample.instruction });
        }
        unwound
    }

    /// Unwinds the user half into `self.walk`.
    fn user_half(
        &mut self,
        registers: &arch::Registers,
        stack: &[u8],
        process: &Process,
        images: &mut Images,
    ) -> Unwound {
        let leaf = arch::instruction(registers);
        let go = go_image(process, images, leaf);
        if go.is_some_and(|(image, _)| images.is_unready(image)) {
            self.waiting = true;
        }
        if self.chain.len() > 1 && (!self.use_rules || go.is_some()) {
            self.walk.extend_from_slice(&self.chain);
            let frameless = |(image, bias)| {
                let functions = images.go(image)?;
                functions.is_frameless(leaf.wrapping_sub(bias)).then(|| {
                    let top = stack.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
                    arch::frameless_return(registers, top)
                })?
            };
            // Frame pointers leave out the caller of a function without a frame.
            if let Some(caller) = go.and_then(frameless)
                && go_image(process, images, caller).is_some()
                && self.walk.get(1) != Some(&caller)
            {
                self.walk.insert(1, caller);
            }
            return self.chain_extent(process, images);
        }
        let unwound = self.walk_rules(registers, stack, process, images);
        if unwound == Unwound::Complete {
            return unwound;
        }
        // Where our walk stopped, the kernel's may go on.
        let met = self.walk.last().and_then(|last| {
            self.chain.iter().skip(1).position(|address| address == last).map(|at| at + 2)
        });
        if let Some(rest) = met.and_then(|at| self.chain.get(at..)).filter(|rest| !rest.is_empty())
        {
            self.walk.extend_from_slice(rest);
            return self.chain_extent(process, images);
        }
        unwound
    }

    fn walk_rules(
        &mut self,
        registers: &arch::Registers,
        stack: &[u8],
        process: &Process,
        images: &mut Images,
    ) -> Unwound {
        let bottom = arch::stack_pointer(registers);
        let mut read = |address: u64| {
            let at = usize::try_from(address.wrapping_sub(bottom)).map_err(|_| ())?;
            let bytes = stack.get(at..at.checked_add(8).ok_or(())?).ok_or(())?;
            bytes.try_into().map(u64::from_le_bytes).map_err(|_| ())
        };
        let mut state: UnwindRegsNative = arch::start(registers);
        let mut address = arch::instruction(registers);
        let (mut loads, mut began) = (images.loads, Instant::now());
        loop {
            self.walk.push(address);
            if self.walk.len() >= MAX_FRAMES {
                return Unwound::Truncated;
            }
            // Reading tables takes its time, and is done once; walking does not.
            if std::mem::replace(&mut loads, images.loads) != images.loads {
                began = Instant::now();
            } else if self.walk.len().is_multiple_of(16) && began.elapsed() > MAX_TIME {
                return Unwound::Broken;
            }
            let leaf = self.walk.len() == 1;
            let code = process.find(address.wrapping_sub(u64::from(!leaf))).map(|found| found.code);
            // The tables come from others. Whatever they make the unwinder do, it ends here.
            if let Some(Code::Image { image, .. }) = code
                && images.is_unready(image)
            {
                // Without the rules there would be wrong callers.
                self.waiting = true;
                return Unwound::Broken;
            }
            let before = state;
            let guarded = AssertUnwindSafe(|| {
                one_step(&mut self.plain, images, code, address, leaf, &mut state, &mut read)
            });
            let Ok(mut step) = catch_unwind(guarded) else {
                if let Some(Code::Image { image, .. }) = code {
                    images.distrust(image);
                }
                return Unwound::Broken;
            };
            let is_code = |next: u64| process.find(arch::strip(next).wrapping_sub(1)).is_some();
            if let Ok(Some(next)) = step
                && code.is_some()
                && next != 0
                && !is_code(next)
            {
                // Where rules are missing the unwinder guesses that a leaf has no frame. That was
                // wrong: it has one.
                state = before;
                step =
                    one_step(&mut self.plain, images, None, address, leaf, &mut state, &mut read)
                        .and_then(|next| match next {
                            Some(next) if is_code(next) => Ok(Some(next)),
                            _ => Err(Error::DidNotAdvance),
                        });
            }
            let problem = match step {
                Ok(Some(next)) if arch::strip(next) != 0 => {
                    address = arch::strip(next);
                    continue;
                }
                // The end that the rules state, or a null return address.
                Ok(_) | Err(Error::ReturnAddressIsNull) => None,
                Err(problem) => Some(problem),
            };
            if is_root(images, code, address, problem.is_none()) {
                return Unwound::Complete;
            }
            let above = match problem {
                Some(Error::CouldNotReadStack(at)) => at.wrapping_sub(bottom),
                _ => return Unwound::Broken,
            };
            // All that was asked for was copied, and what is missing comes right after it.
            let cut = stack.len() >= self.dump && above >= stack.len() as u64;
            return if cut && above < STACK_SPAN { Unwound::Truncated } else { Unwound::Broken };
        }
    }

    /// How far the kernel's chain goes, which is all that we have.
    fn chain_extent(&self, process: &Process, images: &mut Images) -> Unwound {
        let Some(last) = self.walk.last() else { return Unwound::Broken };
        let code = process.find(last.wrapping_sub(1)).map(|found| found.code);
        if is_root(images, code, *last, true) { Unwound::Complete } else { Unwound::Broken }
    }
}

/// One frame further.
fn one_step(
    plain: &mut Unwinder,
    images: &mut Images,
    code: Option<Code>,
    address: u64,
    leaf: bool,
    state: &mut UnwindRegsNative,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Result<Option<u64>, Error> {
    let (unwinder, bias) = match code {
        Some(Code::Image { image, bias, .. }) => match images.unwinder(image) {
            Some(unwinder) => (unwinder, bias),
            None => (plain, 0),
        },
        _ => (plain, 0),
    };
    let address = address.wrapping_sub(bias);
    let address = if leaf {
        FrameAddress::from_instruction_pointer(address)
    } else {
        FrameAddress::from_return_address(address).ok_or(Error::ReturnAddressIsNull)?
    };
    unwinder.rules.unwind_frame(address, state, &mut unwinder.cache, read)
}

/// Whether a stack that ends here has reached its root. `stated` if the end is what the rules or
/// the frame pointers say, and not a failure.
fn is_root(images: &mut Images, code: Option<Code>, address: u64, stated: bool) -> bool {
    let Some(Code::Image { image, bias, .. }) = code else { return false };
    if let Some(functions) = images.go(image)
        && !functions.is_empty()
    {
        // The address after a call, or the first of a function that was never called.
        let address = address.wrapping_sub(bias);
        return functions.is_root(address.wrapping_sub(1)) || functions.is_root(address);
    }
    let Some(image) = images.get(image) else { return false };
    // The first instructions of a program, and all of the dynamic loader while it starts one, have
    // no rules in many systems.
    let start = address.wrapping_sub(bias).wrapping_sub(image.identity.entry) < START_CODE;
    stated || start || image.loader
}

/// The image at an address, and its bias, if it is a Go program.
fn go_image(process: &Process, images: &Images, address: u64) -> Option<(ImageIx, u64)> {
    match process.find(address)?.code {
        Code::Image { image, bias, .. } if images.get(image)?.identity.go => Some((image, bias)),
        _ => None,
    }
}
