//! Which functions an instruction of compiled code is of: the one that was compiled, and those that were
//! inlined into it.

use hashbrown::HashMap;

/// The most descriptions of instructions of a function.
pub(crate) const MAX_PCS: usize = 1 << 15;
/// The most bytes of scopes.
pub(crate) const MAX_SCOPES: u64 = 1 << 20;
/// The most functions that are inlined in each other.
pub(crate) const MAX_DEPTH: usize = 128;
/// The bytes of a description of an instruction.
pub(crate) const PC: usize = 16;
/// The most functions of a compiled one.
pub(crate) const MAX_METHODS: u32 = 4096;

/// A function that is inlined at a place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The one that it is inlined in, by its place in the list; none for the one that was compiled.
    pub(crate) sender: Option<u32>,
    /// Which function, from 0.
    pub(crate) method: u32,
    /// Where in it; negative before its first instruction.
    pub(crate) position: i32,
}

/// The scopes of compiled code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scopes {
    /// Offsets in the code in ascending order, each the end of what has a scope.
    pcs: Box<[(u32, Option<u32>)]>,
    scopes: Box<[Scope]>,
}

impl Scopes {
    /// Reads both tables as HotSpot has them.
    pub(crate) fn read(pcs: &[u8], scopes: &[u8], excludes_zero: bool) -> Self {
        let mut reader =
            Reader { bytes: scopes, excludes_zero, at: HashMap::new(), scopes: vec![] };
        let mut read: Vec<(u32, Option<u32>)> = Vec::new();
        for bytes in pcs.as_chunks::<PC>().0.iter().take(MAX_PCS) {
            let [a, b, c, d, e, f, g, h, ..] = *bytes;
            let offset = i32::from_le_bytes([a, b, c, d]);
            // The first and the last only mark the ends.
            let Ok(offset) = u32::try_from(offset) else { continue };
            if read.last().is_some_and(|(last, _)| *last >= offset) {
                continue;
            }
            let scope = reader.scope(u32::from_le_bytes([e, f, g, h]));
            read.push((offset, scope));
        }
        Self { pcs: read.into(), scopes: reader.scopes.into() }
    }

    /// How many functions there are at most: one more than the highest number.
    pub(crate) fn methods(&self) -> u32 {
        self.scopes.iter().map(|scope| scope.method + 1).max().unwrap_or(0)
    }

    /// The scopes of an instruction, innermost first: the one that ends at this offset, or the first after.
    pub(crate) fn at(&self, offset: u32) -> impl Iterator<Item = Scope> {
        let place = self.pcs.partition_point(|(end, _)| *end < offset);
        let mut next = self.pcs.get(place).and_then(|(_, scope)| *scope);
        let find = move || {
            let scope = *self.scopes.get(next? as usize)?;
            next = scope.sender;
            Some(scope)
        };
        std::iter::from_fn(find).take(MAX_DEPTH)
    }

    /// The bytes that they take.
    pub(crate) fn size(&self) -> usize {
        size_of_val(&*self.pcs) + size_of_val(&*self.scopes)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    excludes_zero: bool,
    /// What was read at an offset.
    at: HashMap<u32, Option<u32>>,
    scopes: Vec<Scope>,
}

impl Reader<'_> {
    /// The scope at an offset; none for 0, or if there is none.
    fn scope(&mut self, offset: u32) -> Option<u32> {
        // Outer ones are written before inner ones, so each is before the one that refers to it.
        let mut chain = Vec::new();
        let mut next = offset;
        let mut outer = None;
        while next != 0 {
            if let Some(known) = self.at.get(&next) {
                outer = *known;
                break;
            }
            let (sender, method, position) = self.numbers(next)?;
            if sender >= next || chain.len() >= MAX_DEPTH {
                return None;
            }
            chain.push((next, method, position));
            next = sender;
        }
        for (at, method, position) in chain.into_iter().rev() {
            let number = self.scopes.len() as u32;
            self.scopes.push(Scope { sender: outer, method, position });
            outer = Some(number);
            self.at.insert(at, outer);
        }
        outer
    }

    fn numbers(&self, offset: u32) -> Option<(u32, u32, i32)> {
        let mut numbers = Numbers {
            bytes: self.bytes.get(offset as usize..)?,
            excludes_zero: self.excludes_zero,
        };
        let (sender, method, position) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let method = method.checked_sub(1).filter(|method| *method < MAX_METHODS)?;
        Some((sender, method, position.cast_signed().wrapping_sub(1)))
    }
}

/// Numbers of up to five bytes, as HotSpot compresses them (`unsigned5.hpp`).
pub(crate) struct Numbers<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) excludes_zero: bool,
}

/// Bytes from here on are followed by others.
const LAST: u8 = 192;

impl Numbers<'_> {
    /// The next byte as it is.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The next number; none at the end.
    pub(crate) fn next(&mut self) -> Option<u32> {
        let mut sum = 0_u32;
        for place in 0..5 {
            let byte = self.byte()?;
            let value = match self.excludes_zero {
                true => byte.checked_sub(1)?,
                false => byte,
            };
            sum = sum.wrapping_add(u32::from(value).wrapping_shl(6 * place));
            if byte < LAST {
                break;
            }
        }
        Some(sum)
    }

    /// The next number with a sign.
    pub(crate) fn signed(&mut self) -> Option<i32> {
        let number = self.next()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}
