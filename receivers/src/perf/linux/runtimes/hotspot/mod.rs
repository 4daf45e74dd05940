//! HotSpot: whose frames lie on the native stack, in code that it has written itself.
//!
//! [`detect`] finds it in a process, by what it exports; [`tables`] reads what it says of its own
//! structures, and [`layout`] takes from that what is needed. [`heap`] finds the block of code at an
//! address, [`block`] reads it, [`scopes`] which functions an instruction is of, [`edges`] where compiled
//! functions leave their frames; [`known`] keeps what was read. [`walk`] goes from frame to frame with that
//! and a sample alone. [`method`] reads names and lines.
//!
//! What HotSpot says of itself: `src/hotspot/share/runtime/vmStructs.cpp` there; its frames:
//! `cpu/x86/frame_x86.hpp`; its scopes: `share/code/debugInfoRec.cpp`, `share/utilities/unsigned5.hpp`.

pub(crate) mod block;
pub(crate) mod detect;
mod edges;
pub(crate) mod heap;
pub(crate) mod known;
pub(crate) mod layout;
pub(crate) mod method;
pub(crate) mod scopes;
pub(crate) mod tables;
mod walk;

use std::sync::{Mutex, MutexGuard, PoisonError};

use heap::CodeHeap;
use known::Known;
use layout::Layout;

use super::function::Function;
use super::memory::Memory;
use super::native::{Advance, Here, NativeRuntime, Site, Wants};

/// HotSpot in a process.
#[derive(Debug)]
pub(crate) struct HotSpot {
    pub(crate) layout: Layout,
    /// Where its code is.
    pub(crate) heaps: Vec<CodeHeap>,
    known: Mutex<Known>,
}

impl HotSpot {
    /// Nothing is known of its code yet.
    pub(crate) fn new(layout: Layout, heaps: Vec<CodeHeap>) -> Self {
        Self { layout, heaps, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an address is where its code is.
    fn has_code(&self, address: u64) -> bool {
        self.heaps.iter().any(|heap| heap.code.contains(&address))
    }
}

impl NativeRuntime for HotSpot {
    fn frame_type(&self) -> &'static str {
        "jvm"
    }

    fn advance(&self, here: &Here<'_>, sites: &mut Vec<Site>, wants: &mut Wants) -> Advance {
        self.step(here, sites, wants)
    }

    fn read(&self, wants: &Wants, time: u64, memory: &mut dyn Memory) {
        self.read_wanted(wants, time, memory);
    }

    fn verified(&self) -> u64 {
        self.known().verified
    }

    fn describe(&self, code: u64, cookie: u64, memory: &mut dyn Memory) -> Option<Function> {
        self.describe_method(code, cookie, memory)
    }
}
