//! From a page of the kernel's that a probe has led to, to the function that is probed.

use super::registers::RegisterSet;
use super::step::{Spot, Step, Surroundings};
use crate::perf::linux::images::code::Before;
use crate::perf::linux::processes::probe_page::{CALL, ProbePage, pushed};
use crate::perf::linux::processes::process::Code;
use crate::perf::linux::records::arch;

/// How far from the start of a function an instruction may be that is probed in its first block.
const NEAR: u64 = 4 << 10;

impl Surroundings<'_> {
    /// The instruction that is probed, with the registers as they are there.
    pub(super) fn probed(&mut self, page: ProbePage, offset: u64, registers: &RegisterSet) -> Step {
        match page {
            ProbePage::Trampoline => self.called_trampoline(offset, registers),
            ProbePage::Step => self.stepped_over(registers),
        }
    }

    fn called_trampoline(&mut self, offset: u64, registers: &RegisterSet) -> Step {
        let Some(pushed) = pushed(offset) else { return Step::Unknown };
        let place = registers.stack_pointer().wrapping_add(pushed);
        let next = match self.stack.read(place) {
            Ok(next) => next,
            Err(fault) => return fault.into(),
        };
        let Some(spot) = self.in_file(next.wrapping_sub(CALL)) else { return Step::Unknown };
        let mut before = *registers;
        before.set(arch::STACK_POINTER, place.wrapping_add(8));
        before.set(arch::PROGRAM_COUNTER, spot.address);
        Step::Caller(spot, before)
    }

    fn stepped_over(&mut self, registers: &RegisterSet) -> Step {
        // Right at the start of a function, as nearly all are, its return address is on top of the stack.
        let caller = self.stack.read(registers.stack_pointer()).ok();
        let caller = caller.and_then(|address| self.caller(address));
        let target = caller.and_then(|caller| {
            let (_, bias, _) = caller.in_image()?;
            let Before::CallOf(target) = caller.place.as_ref()?.code.before else { return None };
            Some(target.wrapping_add(bias))
        });
        let after = |site: &u64| Some((site.checked_sub(target?)?, *site));
        let nearest = self.stepped.iter().filter_map(after).min();
        let (site, is_certain) = match (nearest, self.stepped) {
            (Some((distance, site)), _) if distance < NEAR => (site, true),
            // Called through a pointer or a table of the linker: it is the only one that there is.
            (_, [site]) => (*site, false),
            _ => return Step::Unknown,
        };
        let Some(spot) = self.in_file(site) else { return Step::Unknown };
        let mut before = *registers;
        before.set(arch::PROGRAM_COUNTER, site);
        match is_certain {
            true => Step::Caller(spot, before),
            false => Step::Guess(spot, before),
        }
    }

    fn in_file(&mut self, address: u64) -> Option<Spot> {
        let spot = Spot::find(address, true, self.process, self.images);
        spot.filter(|spot| matches!(spot.code, Some(Code::Image { .. } | Code::File { .. })))
    }
}
