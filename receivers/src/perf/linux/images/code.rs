//! What the machine code around an address says of it: whether it can be a return address, and
//! whether it is one of the few pieces of code that start a thread, end a signal handler or go to
//! another stack.
//!
//! A word on a stack that lies in code is a return address only if a call stands before it; that
//! tells callers from pointers to functions and from data, whatever the rules or the frame pointer
//! said. Only the bytes next to the address are read.

/// How many bytes before and after the address are looked at.
pub(crate) const AROUND: usize = 16;

/// What stands before an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// The code cannot be read.
    Unreadable,
    /// No call.
    Other,
    /// A call of whatever a register or memory says.
    Call,
    /// A call of this address.
    CallOf(u64),
}

/// What stands at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The end of a signal handler: the kernel restores what was interrupted.
    SignalReturn,
    /// What returns here was the first function of a thread or fiber.
    StackStart,
    Other,
}

/// The code around an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) before: Before,
    pub(crate) after: After,
    /// The call is made on another stack: the stack pointer was just set.
    pub(crate) switches: bool,
}

impl Code {
    /// Nothing is known.
    pub(crate) const UNREADABLE: Self =
        Self { before: Before::Unreadable, after: After::Other, switches: false };

    /// Looks at the bytes up to `address` and those from there on, as far as they are there.
    pub(crate) fn read(before: &[u8], after: &[u8], address: u64) -> Self {
        if before.is_empty() && after.is_empty() {
            return Self::UNREADABLE;
        }
        let before_is = processor::before(before, address);
        Self {
            before: before_is,
            after: processor::after(after),
            switches: processor::switches(before),
        }
    }
}

/// Whether code is that of a function that sets up a frame pointer, has done so at its end, and does
/// not return in between: what is behind a return may be another function.
pub(crate) fn keeps_frame_pointer(code: &[u8]) -> bool {
    processor::keeps_frame_pointer(code)
}

/// How far the stack pointer is below the place where it keeps its caller's frame pointer, in a function
/// that begins like this and is behind what it begins with; none if that cannot be told.
pub(crate) fn frame_size(code: &[u8]) -> Option<u64> {
    processor::frame_size(code)
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use super::{After, Before};

    /// `endbr64`, where indirect branches must go.
    const ENDBR: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    /// `push %rbp; mov %rsp, %rbp`, in both encodings.
    const PROLOGUES: [&[u8]; 2] = [&[0x55, 0x48, 0x89, 0xe5], &[0x55, 0x48, 0x8b, 0xec]];
    /// `ret`; the byte may also be part of something else.
    const RETURN: u8 = 0xc3;
    /// `mov $15, %rax; syscall` in both encodings: rt_sigreturn.
    const SIGNAL_RETURNS: [&[u8]; 2] =
        [&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]];
    /// `mov %eax, %edi; xor %eax, %eax; mov $60, %al; syscall`: how musl ends a thread. `mov %rbx, %rsp;
    /// mov (%rsp), %rdi; test %rdi, %rdi`: how glibc ends a context of `makecontext`.
    const STACK_STARTS: [&[u8]; 2] = [
        &[0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05],
        &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff],
    ];

    pub(super) fn before(code: &[u8], address: u64) -> Before {
        if let Some((_, [0xe8, distance @ ..])) = code.split_last_chunk::<5>() {
            let distance = i64::from(i32::from_le_bytes(*distance));
            return Before::CallOf(address.wrapping_add_signed(distance));
        }
        // FF /2 with every form of operand, without or with a prefix.
        let is_call = (2..=7).any(|length| {
            let Some([0xff, operand, rest @ ..]) =
                code.len().checked_sub(length).and_then(|at| code.get(at..))
            else {
                return false;
            };
            let (mode, kind, base) = (operand >> 6, operand >> 3 & 7, operand & 7);
            let scaled = usize::from(mode != 3 && base == 4);
            let displacement = match mode {
                0 if base == 5 || (base == 4 && rest.first().is_some_and(|it| it & 7 == 5)) => 4,
                1 => 1,
                2 => 4,
                _ => 0,
            };
            kind == 2 && length == 2 + scaled + displacement
        });
        if is_call { Before::Call } else { Before::Other }
    }

    pub(super) fn after(code: &[u8]) -> After {
        if SIGNAL_RETURNS.iter().any(|known| code.starts_with(known)) {
            return After::SignalReturn;
        }
        // `xor %rdi, %rdi; call _exit; hlt`: how Boost.Context ends one.
        let boost = code.starts_with(&[0x48, 0x31, 0xff, 0xe8]) && code.get(8) == Some(&0xf4);
        if boost || STACK_STARTS.iter().any(|known| code.starts_with(known)) {
            return After::StackStart;
        }
        After::Other
    }

    /// A move of another register than the frame pointer into the stack pointer, right before a
    /// call by register, or nearly.
    pub(super) fn switches(code: &[u8]) -> bool {
        let near = code.len().saturating_sub(10);
        code.get(near..).unwrap_or_default().windows(3).any(|instruction| match instruction {
            [0x48 | 0x4c, 0x89, operand] => {
                operand & 0xc7 == 0xc4 && (instruction.first() == Some(&0x4c) || *operand != 0xec)
            }
            [0x48 | 0x49, 0x8b, operand] => {
                operand & 0xf8 == 0xe0 && (instruction.first() == Some(&0x49) || *operand != 0xe5)
            }
            _ => false,
        })
    }

    pub(super) fn frame_size(code: &[u8]) -> Option<u64> {
        let code = code.strip_prefix(ENDBR).unwrap_or(code);
        let mut rest = PROLOGUES.iter().find_map(|prologue| code.strip_prefix(*prologue))?;
        let mut size = 0;
        loop {
            rest = match rest {
                // push of rbx, or of r12 to r15
                [0x53, rest @ ..] | [0x41, 0x54..=0x57, rest @ ..] => {
                    size += 8;
                    rest
                }
                // sub $byte, %rsp; sub $word, %rsp
                [0x48, 0x83, 0xec, less @ 0..=0x7f, ..] => return Some(size + u64::from(*less)),
                [0x48, 0x81, 0xec, a, b, c, d @ 0..=0x7f, ..] => {
                    return Some(size + u64::from(u32::from_le_bytes([*a, *b, *c, *d])));
                }
                // A move between registers, or of a number into one, as they are mixed in.
                [0x48 | 0x49 | 0x4c | 0x4d, 0x89, 0xc0..=0xff, rest @ ..] => rest,
                [0x89 | 0x31, 0xc0..=0xff, rest @ ..] => rest,
                _ => return Some(size),
            };
        }
    }

    pub(super) fn keeps_frame_pointer(code: &[u8]) -> bool {
        let code = code.strip_prefix(ENDBR).unwrap_or(code);
        PROLOGUES.iter().any(|prologue| code.starts_with(prologue)) && !code.contains(&RETURN)
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use super::{After, Before};

    fn word(code: &[u8]) -> Option<u32> {
        code.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn before(code: &[u8], address: u64) -> Before {
        let Some((_, last)) = code.split_last_chunk::<4>() else { return Before::Unreadable };
        let last = u32::from_le_bytes(*last);
        if last >> 26 == 0b10_0101 {
            // 26 bits of words, with a sign.
            let distance = i64::from((last << 6) as i32 >> 6) * 4;
            return Before::CallOf(address.wrapping_sub(4).wrapping_add_signed(distance));
        }
        // blr, and its forms with pointer authentication.
        let by_register = last & 0xffff_fc1f == 0xd63f_0000 || last & 0xfeff_f800 == 0xd63f_0800;
        if by_register { Before::Call } else { Before::Other }
    }

    pub(super) fn after(code: &[u8]) -> After {
        let next = code.get(4..).and_then(word);
        match (word(code), next) {
            // mov x8, #139; svc #0
            (Some(0xd280_1168), Some(0xd400_0001)) => After::SignalReturn,
            // mov x8, #93; svc #0
            (Some(0xd280_0ba8), Some(0xd400_0001)) => After::StackStart,
            _ => After::Other,
        }
    }

    /// `mov sp, xN`, before the call.
    pub(super) fn switches(code: &[u8]) -> bool {
        let words = code.as_chunks::<4>().0.iter().rev().skip(1).take(2);
        words
            .map(|bytes| u32::from_le_bytes(*bytes))
            .any(|it| it & 0xffff_fc1f == 0x9100_001f && it >> 5 & 0x1f != 29)
    }

    /// Its frame pointer is in the same register as others are at a call, and is searched for.
    pub(super) fn frame_size(_: &[u8]) -> Option<u64> {
        None
    }

    /// `stp x29, x30, [sp, …]!`, perhaps after a landing pad or a signature.
    pub(super) fn keeps_frame_pointer(code: &[u8]) -> bool {
        let words = || code.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let mut first = words().take(2);
        first.any(|word| word & 0xffc0_7fff == 0xa980_7bfd) && !words().any(|it| it == 0xd65f_03c0)
    }
}
