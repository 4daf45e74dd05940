//! One frame further in managed code: by what its runtime has told of it.

use super::evaluate::Fault;
use super::registers::RegisterSet;
use super::step::{Spot, Step, Surroundings};
use crate::perf::linux::runtimes::native::{Advance, Here, NativeRuntime, Site, Wants};

/// A managed runtime whose frames are on the native stack, and what becomes of a walk through them.
pub(super) struct ManagedCode<'a> {
    pub(super) runtime: &'a dyn NativeRuntime,
    /// When the sample was taken.
    pub(super) time: u64,
    pub(super) sites: &'a mut Vec<Site>,
    pub(super) wants: &'a mut Wants,
}

impl Surroundings<'_> {
    /// By what is known of managed code; none if it is not that.
    pub(super) fn managed(&mut self, spot: &mut Spot, registers: &RegisterSet) -> Option<Step> {
        let ManagedCode { runtime, time, sites, wants } = self.managed.as_mut()?;
        let (address, exact) = (spot.address, spot.exact);
        let is_of_managed = spot.is_of_managed;
        let here =
            Here { address, exact, is_of_managed, registers, stack: &self.stack, time: *time };
        let before = sites.len();
        let advance = runtime.advance(&here, sites, wants);
        if advance == Advance::Foreign {
            return None;
        }
        spot.sites = Some(before..sites.len());
        let (next, is_guess) = match advance {
            Advance::Caller { registers, is_guess } => (registers, is_guess),
            Advance::Unreadable(address) => return Some(Fault::Unreadable(address).into()),
            Advance::Switched => {
                return Some(Step::Unreadable {
                    address: 0,
                    by_frame_pointer: false,
                    switched: true,
                });
            }
            Advance::Foreign | Advance::Waiting | Advance::Unknown => return Some(Step::Unknown),
        };
        let (here, above) = (registers.stack_pointer(), next.stack_pointer());
        Some(match self.caller(next.instruction()) {
            Some(_) if above <= here => Step::Unknown,
            Some(caller) => {
                let caller = Spot { is_of_managed: true, ..caller };
                if is_guess { Step::Guess(caller, next) } else { Step::Caller(caller, next) }
            }
            None => Step::Unknown,
        })
    }
}
