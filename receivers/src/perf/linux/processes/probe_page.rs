//! Code that the kernel runs in place of the program's where it is probed.
//!
//! An instruction that the kernel does not emulate is stepped over in a page of its own (`[uprobes]`): the
//! instruction pointer is there, all else is as at the probed instruction. One that does nothing for five bytes
//! may have become a call of a little code beside the program (`[uprobes-trampoline]`, since 6.18), which has
//! pushed three registers while it asks the kernel. Either is a frame of its own, and below it is the
//! function that is probed: that of the return address, or what our own samples say is stepped over in this
//! process, if the stack agrees.

use hashbrown::HashMap;

/// What the kernel calls the pages.
pub(crate) const STEP: &str = "[uprobes]";
pub(crate) const TRAMPOLINE: &str = "[uprobes-trampoline]";
/// The most processes whose stepped instructions are known, and the most of each.
const MAX_PROCESSES: usize = 1024;
pub(crate) const MAX_SITES: usize = 64;
/// The bytes of the call that leads to the trampoline.
pub(crate) const CALL: u64 = 5;

/// Which of the two pages it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbePage {
    /// Where instructions are stepped over.
    Step,
    /// What calls the kernel.
    Trampoline,
}

impl ProbePage {
    /// The page of a name that the kernel gives to mappings.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        match name {
            STEP => Some(Self::Step),
            TRAMPOLINE => Some(Self::Trampoline),
            _ => None,
        }
    }
}

/// How far above the stack pointer the return address is at an instruction of the trampoline: `push %rcx`,
/// `push %r11`, `push %rax`, `mov $n,%rax`, `syscall`, and the same back (arch/x86/kernel/uprobes.c).
pub(crate) fn pushed(offset: u64) -> Option<u64> {
    Some(match offset {
        0 | 0x11 => 0,
        1 | 0x10 => 8,
        3 | 0xe => 16,
        4 | 0xb | 0xd => 24,
        _ => return None,
    })
}

/// The instructions that are stepped over, by process: where its calls were counted.
#[derive(Debug, Default)]
pub(crate) struct SteppedSites {
    sites: HashMap<u32, Vec<u64>>,
}

impl SteppedSites {
    /// A call was counted at an instruction that is stepped over.
    pub(crate) fn learn(&mut self, pid: u32, address: u64) {
        if self.sites.len() >= MAX_PROCESSES && !self.sites.contains_key(&pid) {
            self.sites.clear();
        }
        let of_process = self.sites.entry(pid).or_default();
        if of_process.len() < MAX_SITES && !of_process.contains(&address) {
            of_process.push(address);
        }
    }

    /// A process executes another program now.
    pub(crate) fn forget(&mut self, pid: u32) {
        self.sites.remove(&pid);
    }

    /// Those of a process.
    pub(crate) fn of(&self, pid: u32) -> &[u64] {
        self.sites.get(&pid).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: calls at more places, of more processes than are kept; a process that executes another
    /// program.
    /// Guarantees: what is known is bounded, each place is there once, and what is forgotten is gone.
    #[test]
    fn sites_are_bounded() {
        let mut sites = SteppedSites::default();
        for address in (0..1000).chain(0..1000) {
            sites.learn(1, address);
        }
        assert_eq!(sites.of(1).len(), MAX_SITES);
        for pid in 0..10_000 {
            sites.learn(pid, 7);
            assert!(sites.sites.len() <= MAX_PROCESSES);
        }
        assert_eq!(sites.of(9_999), [7]);
        sites.forget(9_999);
        assert!(sites.of(9_999).is_empty());
    }
}
