//! What differs between processors: which registers a sample holds, and their order.
//!
//! The kernel writes the registers of the mask in the order of their bits.

use framehop::UnwindRegsNative;

/// The values of the registers in [`REGISTER_MASK`].
pub(crate) type Registers = [u64; REGISTERS];

#[cfg(target_arch = "x86_64")]
mod processor {
    /// The number of registers in a sample: rbp, rsp, rip.
    pub(crate) const REGISTERS: usize = 3;
    /// Their bits.
    pub(crate) const REGISTER_MASK: u64 = 1 << 6 | 1 << 7 | 1 << 8;

    /// The instruction pointer.
    pub(crate) fn instruction([_, _, ip]: &super::Registers) -> u64 {
        *ip
    }

    /// The stack pointer.
    pub(crate) fn stack_pointer([_, sp, _]: &super::Registers) -> u64 {
        *sp
    }

    /// The return address of a function that has no frame; `top` is what the stack pointer points
    /// at.
    pub(crate) fn frameless_return(_: &super::Registers, top: Option<u64>) -> Option<u64> {
        top
    }

    /// The registers to start unwinding with.
    pub(crate) fn start([bp, sp, ip]: &super::Registers) -> super::UnwindRegsNative {
        super::UnwindRegsNative::new(*ip, *sp, *bp)
    }

    /// A return address as it stands on the stack, without what the processor added to it.
    pub(crate) fn strip(address: u64) -> u64 {
        address
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use framehop::aarch64::PtrAuthMask;

    /// The number of registers in a sample: x29 (frame pointer), x30 (link register), sp, pc.
    pub(crate) const REGISTERS: usize = 4;
    /// Their bits.
    pub(crate) const REGISTER_MASK: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;
    /// The bits of a user address; the rest holds the signature of pointer authentication. Linux
    /// gives programs 48-bit addresses unless they ask for more.
    const ADDRESS: u64 = (1 << 48) - 1;

    /// The instruction pointer.
    pub(crate) fn instruction([_, _, _, pc]: &super::Registers) -> u64 {
        *pc
    }

    /// The stack pointer.
    pub(crate) fn stack_pointer([_, _, sp, _]: &super::Registers) -> u64 {
        *sp
    }

    /// The return address of a function that has no frame; `top` is what the stack pointer points
    /// at.
    pub(crate) fn frameless_return(
        [_, lr, _, _]: &super::Registers,
        _: Option<u64>,
    ) -> Option<u64> {
        Some(strip(*lr))
    }

    /// The registers to start unwinding with.
    pub(crate) fn start([fp, lr, sp, _]: &super::Registers) -> super::UnwindRegsNative {
        super::UnwindRegsNative::new_with_ptr_auth_mask(PtrAuthMask(ADDRESS), *lr, *sp, *fp)
    }

    /// A return address as it stands on the stack, without what the processor added to it.
    pub(crate) fn strip(address: u64) -> u64 {
        address & ADDRESS
    }
}

pub(crate) use processor::*;
