//! Where compiled functions have no frame yet, or no more: their first instructions and their last.
//!
//! HotSpot's compilers for x86-64 begin a function with `push rbp` and `sub rsp, N`, or with `sub rsp, N`
//! alone, and end it with `add rsp, N`, `pop rbp` (or `leave`), a check whether a safepoint is wanted, and
//! `ret`.

/// The most ends of a function.
const MAX_ENDS: usize = 4096;

/// `pop rbp` or `leave` before the end of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// Where that instruction is, and how many bytes after it the function has returned.
    at: u32,
    length: u8,
    /// It is `pop rbp`: the rest of the frame is gone already.
    is_pop: bool,
}

/// The edges of a compiled function, by offsets in its code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edges {
    /// Where `push rbp` is, if it is there.
    push: Option<u32>,
    /// Where the instruction after `sub rsp, N` is.
    allocated: u32,
    /// Where the frame is complete.
    complete: u32,
    ends: Box<[End]>,
}

/// What there is of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// All of it, but the frame pointer of the caller is still in its register.
    Unsaved,
    /// The frame pointer of the caller, and above it the return address.
    Pushed,
    /// The return address.
    Nothing,
}

impl Edges {
    /// The edges of a function from its code, whose frame is complete at an offset.
    pub(crate) fn of(code: &[u8], complete: u32) -> Self {
        let start = code.get(..complete as usize).unwrap_or_default();
        let subtracts = |at: usize| match start.get(at..)? {
            [0x48, 0x83, 0xec, ..] => Some(at + 4),
            [0x48, 0x81, 0xec, ..] => Some(at + 7),
            _ => None,
        };
        let allocated = (0..start.len()).find_map(subtracts);
        let push = (0..start.len()).find(|at| {
            let rest = start.get(at + 1..).unwrap_or_default();
            let is_push = start.get(*at) == Some(&0x55);
            let after_move = rest.strip_prefix(&[0x48, 0x8b, 0xec]).unwrap_or(rest);
            is_push
                && (rest.is_empty()
                    || after_move.is_empty()
                    || matches!(after_move, [0x48, 0x83 | 0x81, 0xec, ..]))
        });
        let mut ends = Vec::new();
        for (at, byte) in code.iter().enumerate() {
            if matches!(byte, 0x5d | 0xc9)
                && ends.len() < MAX_ENDS
                && let Some(length) = code.get(at + 1..).and_then(tail)
            {
                ends.push(End { at: at as u32, length, is_pop: *byte == 0x5d });
            }
        }
        Self {
            push: push.map(|at| at as u32),
            allocated: allocated.map_or(complete, |at| at as u32),
            complete,
            ends: ends.into(),
        }
    }

    /// What there is of the frame when the instruction at an offset is the next.
    pub(crate) fn extent(&self, at: u32) -> Extent {
        if at < self.complete {
            return match self.push {
                Some(push) if at <= push => Extent::Nothing,
                Some(_) if at < self.allocated => Extent::Pushed,
                Some(_) => Extent::Whole,
                None if at < self.allocated => Extent::Nothing,
                None => Extent::Unsaved,
            };
        }
        let after = self.ends.partition_point(|end| end.at <= at);
        let Some(end) = after.checked_sub(1).and_then(|before| self.ends.get(before)) else {
            return Extent::Whole;
        };
        match at - end.at {
            0 if end.is_pop => Extent::Pushed,
            0 => Extent::Whole,
            since if since <= end.length.into() => Extent::Nothing,
            _ => Extent::Whole,
        }
    }
}

/// How far after these bytes a `ret` is that nothing but the check for a safepoint is before.
fn tail(code: &[u8]) -> Option<u8> {
    let check = match code {
        [0xc3, ..] => return Some(1),
        // It leaves with an exception.
        [0xe9, ..] => return Some(5),
        // cmp rsp, [r15 + N]; ja
        [0x49, 0x3b, 0xa7, _, _, _, _, 0x0f, 0x87, ..] => 13,
        [0x49, 0x3b, 0x67, _, 0x0f, 0x87, ..] => 10,
        // test [page], eax, or the same by a register
        [0x85, 0x05, ..] => 6,
        [0x4d, 0x8b, 0x97, _, _, _, _, 0x41, 0x85, 0x02, ..] => 10,
        _ => return None,
    };
    (code.get(check) == Some(&0xc3)).then_some(check as u8 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a function as HotSpot's compilers write it, one without `push`, and nonsense.
    /// Guarantees: at every instruction is known what there is of the frame.
    #[test]
    fn edges_of_functions() {
        let mut code = vec![0x89, 0x84, 0x24, 0, 0xc0, 0xfe, 0xff, 0x55, 0x48, 0x83, 0xec, 0x10];
        let complete = code.len() as u32;
        code.extend([0x90, 0x90, 0x48, 0x83, 0xc4, 0x10, 0x5d]);
        let pop = code.len() as u32 - 1;
        code.extend([0x49, 0x3b, 0xa7, 0x48, 3, 0, 0, 0x0f, 0x87, 1, 0, 0, 0, 0xc3, 0x90]);
        let edges = Edges::of(&code, complete);
        assert_eq!(edges.extent(0), Extent::Nothing);
        assert_eq!(edges.extent(7), Extent::Nothing);
        assert_eq!(edges.extent(8), Extent::Pushed);
        assert_eq!(edges.extent(complete), Extent::Whole);
        assert_eq!(edges.extent(pop - 4), Extent::Whole);
        assert_eq!(edges.extent(pop), Extent::Pushed);
        for after in [1, 8, 14] {
            assert_eq!(edges.extent(pop + after), Extent::Nothing);
        }
        assert_eq!(edges.extent(pop + 15), Extent::Whole);
        let code = [0x48, 0x81, 0xec, 0x18, 0, 0, 0, 0x48, 0x89, 0x6c, 0x24, 0x10, 0xc9, 0xc3];
        let edges = Edges::of(&code, 12);
        let extents = [0, 7, 12, 13].map(|at| edges.extent(at));
        assert_eq!(extents, [Extent::Nothing, Extent::Unsaved, Extent::Whole, Extent::Nothing]);
        for length in 0..code.len() {
            let edges = Edges::of(code.get(..length).unwrap_or_default(), u32::MAX);
            let _ = (edges.extent(0), edges.extent(u32::MAX));
        }
    }
}
