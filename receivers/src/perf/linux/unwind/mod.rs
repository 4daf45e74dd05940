//! From a sample to the frames of its stack.
//!
//! The user half is unwound one frame at a time ([`step`]): by call frame information where there
//! is some, with `framehop` where the stack pointer and the frame pointer suffice and with all
//! [`registers`] where not ([`evaluate`]); by Go's own tables in Go; along frame pointers in code
//! without either, which marks the stack. Where the copy of the [`stack`] ends, the
//! [`kernel_chain`] may continue it. Of threads that were found waiting the [`frame_pointer`] has to be
//! found first; where an instruction is [`probed`], the kernel runs something in its place; [`managed`] code is
//! known to its runtime. What is not code
//! of the process behind a call is no frame, so nothing of the stack but return addresses leaves here; and a stack is complete only if a place
//! where stacks begin was reached. The frames of an interpreter come from elsewhere, and are put
//! between the native ones ([`splice`]).

mod evaluate;
mod frame_pointer;
mod kernel_chain;
mod managed;
mod probed;
pub(super) mod registers;
pub(super) mod splice;
pub(super) mod stack;
mod step;

use std::time::{Duration, Instant};

use managed::ManagedCode;
use registers::RegisterSet;
use splice::{ManagedStack, Piece};
use stack::Stack;
use step::{FramePointer, Spot, Step, Surroundings, cut};

use crate::perf::linux::handoff::{
    Frame, KERNEL_ROW, NAMED_ROW, NO_ROW, PROBE_NAME, SITE_ROW, Unwound,
};
use crate::perf::linux::images::table::Images;
use crate::perf::linux::processes::probe_page::{MAX_SITES, SteppedSites};
use crate::perf::linux::processes::process::{Code, Process};
use crate::perf::linux::records::arch;
use crate::perf::linux::records::record::{Half, Sample};
use crate::perf::linux::runtimes::native::{NativeStack, Site, Wants};
use profpipe_engine::overhead::Rung;

/// The most frames of each half of a stack.
const MAX_FRAMES: usize = 512;
/// How long one stack may take: tables can be made so that every frame takes long.
const MAX_TIME: Duration = Duration::from_millis(5);
/// How far above the stack pointer an address is still on the same stack.
const STACK_SPAN: u64 = 64 << 20;

/// Turns samples into frames; keeps its buffers.
pub(crate) struct Unwinding {
    /// The frames of the sample, leaf first.
    pub(crate) frames: Vec<Frame>,
    /// The stack ends early because the rules of an image are still being read.
    pub(crate) waiting: bool,
    /// The managed frames did not fit the native ones.
    pub(crate) mismatched: bool,
    /// Where instructions are known to be stepped over by the kernel.
    pub(crate) stepped: SteppedSites,
    /// The places in managed functions that frames with [`SITE_ROW`] are.
    pub(crate) sites: Vec<Site>,
    /// What has to be read of a managed program to know the stack.
    pub(crate) wants: Wants,
    pieces: Vec<Piece>,
    chain: Vec<u64>,
    walk: Vec<Spot>,
    use_rules: bool,
    /// Only the interrupted function is wanted.
    leaf_only: bool,
    /// Registers are ignored: the kernel's chain is what there is.
    chain_only: bool,
}

impl Unwinding {
    /// `use_rules` is false to follow frame pointers only.
    pub(crate) fn new(use_rules: bool) -> Self {
        Self {
            frames: Vec::new(),
            waiting: false,
            mismatched: false,
            stepped: SteppedSites::default(),
            sites: Vec::new(),
            wants: Wants::default(),
            pieces: Vec::new(),
            chain: Vec::new(),
            walk: Vec::new(),
            use_rules,
            leaf_only: false,
            chain_only: false,
        }
    }

    /// From now on stacks are taken as a rung of quality says.
    pub(crate) fn set_rung(&mut self, rung: Rung) {
        self.leaf_only = rung == Rung::Leaf;
        self.chain_only = rung == Rung::FramePointers;
    }

    /// Whether only the interrupted function is wanted; returns what was wanted before.
    pub(crate) fn only_leaf(&mut self, leaf_only: bool) -> bool {
        std::mem::replace(&mut self.leaf_only, leaf_only)
    }

    /// The addresses of the user half in the memory of the process, leaf first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.walk.iter().map(|spot| spot.address)
    }

    /// Unwinds a sample into `self.frames`; says how far its user half goes, if it has one.
    pub(crate) fn unwind(
        &mut self,
        sample: &Sample<'_>,
        process: &Process,
        images: &mut Images,
        managed: Option<&ManagedStack<'_>>,
        native: Option<&NativeStack<'_>>,
    ) -> Option<Unwound> {
        self.sites.clear();
        self.wants = Wants::default();
        self.frames.clear();
        self.waiting = false;
        self.mismatched = false;
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
        let leaf = match &sample.registers {
            Some(set) => Some(set.instruction()),
            None => self.chain.first().copied(),
        };
        let unwound = match leaf.map(|leaf| (leaf, Spot::find(leaf, true, process, images))) {
            None => None,
            // While a thread executes another program its registers are still those of the old
            // one, whose code is gone.
            Some((_, None)) if !self.frames.is_empty() => None,
            // The processor runs there, so it is code; what of, nobody knows.
            Some((leaf, None)) => {
                self.frames.push(Frame { row: NO_ROW, address: leaf });
                Some(Unwound::Broken)
            }
            Some((_, Some(leaf))) if self.leaf_only => {
                self.walk.push(leaf);
                Some(Unwound::Truncated)
            }
            Some((_, Some(leaf))) => Some(match &sample.registers {
                Some(set) if self.use_rules && (!self.chain_only || self.chain.is_empty()) => {
                    let registers = (set, sample.stack);
                    let native = native.map(|native| (native, sample.time));
                    self.user_half(&leaf, registers, process, images, native)
                }
                _ => self.by_chain(leaf, process, images),
            }),
        };
        let unwound = match (managed, unwound) {
            (Some(managed), Some(unwound)) => Some(self.splice(managed, unwound, process)),
            _ if !self.sites.is_empty() => {
                self.place_sites(native, process);
                // There may be frames that are not known.
                let is_whole = self.wants.is_empty();
                unwound.map(|it| {
                    if it == Unwound::Complete && !is_whole { Unwound::Guessed } else { it }
                })
            }
            _ => {
                self.frames.extend(self.walk.iter().map(|spot| native_frame(spot, process)));
                unwound
            }
        };
        self.waiting |= !self.wants.is_empty();
        if self.frames.is_empty() {
            self.frames.push(Frame { row: NO_ROW, address: sample.instruction });
        }
        unwound
    }

    /// Puts managed frames between the native ones; says how far the stack goes with them.
    fn splice(
        &mut self,
        managed: &ManagedStack<'_>,
        unwound: Unwound,
        process: &Process,
    ) -> Unwound {
        let is_whole = matches!(unwound, Unwound::Complete | Unwound::Guessed);
        let fits = splice::splice(&self.walk, is_whole, managed, &mut self.pieces);
        let (walk, frames) = (&self.walk, &mut self.frames);
        frames.extend(self.pieces.iter().filter_map(|piece| match piece {
            Piece::Native(at) => walk.get(*at).map(|spot| native_frame(spot, process)),
            Piece::Managed(frame) => Some(*frame),
        }));
        self.mismatched = !fits;
        match unwound {
            Unwound::Complete if managed.truncated => Unwound::Truncated,
            Unwound::Complete if !fits => Unwound::Guessed,
            unwound => unwound,
        }
    }

    /// Puts what was walked among the frames: places in managed functions, and native frames between
    /// them that are not the runtime's own.
    fn place_sites(&mut self, native: Option<&NativeStack<'_>>, process: &Process) {
        for spot in &self.walk {
            let is_internal = native.is_some_and(|native| {
                let is_in_runtime =
                    spot.in_image().is_some_and(|(image, ..)| image == native.image);
                !native.internals && (is_in_runtime || spot.sites.is_some())
            });
            match &spot.sites {
                Some(sites) if !sites.is_empty() => {
                    let site = |at| Frame { row: SITE_ROW, address: at as u64 };
                    self.frames.extend(sites.clone().map(site));
                }
                _ if is_internal => {}
                _ => self.frames.push(native_frame(spot, process)),
            }
        }
    }

    /// Unwinds the user half into `self.walk`.
    fn user_half(
        &mut self,
        leaf: &Spot,
        (registers, stack): (&RegisterSet, &[u8]),
        process: &Process,
        images: &mut Images,
        native: Option<(&NativeStack<'_>, u64)>,
    ) -> Unwound {
        let (mut sites, mut wants) = (std::mem::take(&mut self.sites), Wants::default());
        let stack = Stack::new(registers.stack_pointer(), stack);
        // `framehop` cannot do without that register.
        let fast = registers.frame_pointer().is_some();
        let mut probes = [0; MAX_SITES];
        let known = self.stepped.of(process.pid);
        let count = known.len().min(MAX_SITES);
        probes.iter_mut().zip(known).for_each(|(probe, known)| *probe = *known);
        let stepped = probes.get(..count).unwrap_or_default();
        let managed = native.map(|(native, time)| ManagedCode {
            runtime: native.runtime,
            time,
            sites: &mut sites,
            wants: &mut wants,
        });
        let mut surroundings = Surroundings { stack, process, images, fast, stepped, managed };
        let unwound = loop {
            self.walk.clear();
            if let Some(managed) = &mut surroundings.managed {
                managed.sites.clear();
            }
            if let Some(unwound) = self.walk(leaf.clone(), *registers, &mut surroundings) {
                break unwound;
            }
            // A frame needs registers that were not recovered on the way to it.
            surroundings.fast = false;
        };
        (self.sites, self.wants) = (sites, wants);
        unwound
    }

    /// Walks the stack; none if it must be walked again with all registers.
    fn walk(
        &mut self,
        leaf: Spot,
        registers: RegisterSet,
        surroundings: &mut Surroundings<'_>,
    ) -> Option<Unwound> {
        let first = registers.frame_pointer();
        let (mut spot, mut registers) = (leaf, registers);
        let mut guessed = false;
        // The stack was left for that of what a signal interrupted.
        let mut elsewhere = false;
        let (mut loads, mut began) = (surroundings.images.loads, Instant::now());
        loop {
            let unopened = matches!(spot.code, Some(Code::File { .. }));
            if spot.is_unready() || (unopened && surroundings.process.is_hasty()) {
                // Without the rules there would be wrong callers.
                self.waiting = true;
                self.walk.push(spot);
                return Some(Unwound::Broken);
            }
            // Reading tables takes its time, and is done once; walking does not.
            if std::mem::replace(&mut loads, surroundings.images.loads) != surroundings.images.loads
            {
                began = Instant::now();
            } else if self.walk.len() % 16 == 15 && began.elapsed() > MAX_TIME {
                self.walk.push(spot);
                return Some(Unwound::Broken);
            }
            let step = surroundings.step(&mut spot, &registers);
            self.walk.push(spot);
            if self.walk.len() >= MAX_FRAMES && !matches!(step, Step::Root) {
                return Some(Unwound::Truncated);
            }
            let (caller, next) = match step {
                Step::Caller(caller, next) => (caller, next),
                Step::Guess(caller, next) => {
                    guessed = true;
                    (caller, next)
                }
                Step::Root if guessed => return Some(Unwound::Guessed),
                Step::Root => return Some(Unwound::Complete),
                Step::AllRegisters => return None,
                Step::Unknown => return Some(Unwound::Broken),
                Step::Unreadable { address, by_frame_pointer, switched } => {
                    let frame_pointer = registers.frame_pointer().filter(|_| by_frame_pointer);
                    let position = first.zip(frame_pointer).and_then(|(first, here)| {
                        kernel_chain::position(&self.chain, first, here, &surroundings.stack)
                    });
                    let end = if elsewhere {
                        Unwound::Truncated
                    } else if guessed && !switched {
                        Unwound::Broken
                    } else {
                        cut(&surroundings.stack, address, switched, STACK_SPAN)
                    };
                    let Some(position) = position else { return Some(end) };
                    let last = self.walk.last().map(|last| last.frame_pointer(surroundings.images));
                    let sure = last == Some(FramePointer::Sure);
                    return Some(self.follow(position, guessed || !sure, end, surroundings));
                }
            };
            if caller.exact && surroundings.stack.read(next.stack_pointer()).is_err() {
                elsewhere = true;
            }
            (spot, registers) = (caller, next);
        }
    }

    /// Continues the walk with the kernel's chain.
    fn follow(
        &mut self,
        position: usize,
        guessed: bool,
        end: Unwound,
        surroundings: &mut Surroundings<'_>,
    ) -> Unwound {
        let rest = self.chain.get(position..).unwrap_or_default();
        let most = MAX_FRAMES - self.walk.len();
        let (process, images) = (surroundings.process, &mut *surroundings.images);
        let followed = kernel_chain::follow(rest, guessed, false, most, process, images);
        self.waiting |= followed.waiting;
        self.walk.extend(followed.spots);
        followed.unwound.unwrap_or(end)
    }

    /// Takes the kernel's chain alone.
    fn by_chain(&mut self, leaf: Spot, process: &Process, images: &mut Images) -> Unwound {
        let is_root = leaf.is_root(images);
        let guessed = leaf.frame_pointer(images) != FramePointer::Sure;
        self.waiting |= leaf.is_unready();
        self.walk.push(leaf);
        if is_root {
            return Unwound::Complete;
        }
        let rest = self.chain.get(1..).unwrap_or_default();
        let followed = kernel_chain::follow(rest, guessed, true, MAX_FRAMES - 1, process, images);
        self.waiting |= followed.waiting;
        self.walk.extend(followed.spots);
        followed.unwound.unwrap_or(Unwound::Broken)
    }
}

/// A native frame as it is handed on.
fn native_frame(spot: &Spot, process: &Process) -> Frame {
    let address = spot.within();
    match spot.code {
        Some(Code::Image { bias, row, .. } | Code::File { bias, row }) => {
            Frame { row, address: address.wrapping_sub(bias) }
        }
        Some(Code::Probe(..)) => Frame { row: NAMED_ROW, address: PROBE_NAME.into() },
        Some(Code::Jit) => Frame { row: process.announced.jit.unwrap_or(NO_ROW), address },
        None => Frame { row: NO_ROW, address },
    }
}
