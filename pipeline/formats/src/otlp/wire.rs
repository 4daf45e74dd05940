//! Reading protobuf: bounds, number sizes and groups are checked here and nowhere else.
//!
//! A message is read by [`fields`], which hands each field with its value to a closure; fields
//! that the closure does not take are skipped if the schema does not know them either. Nothing
//! here allocates or panics on foreign bytes.

use super::error::DecodeError;
use super::schema::Message;
use profpipe_profile::Index;

/// How deep groups of unknown fields may be nested; the generated readers stop at 100, too.
const MAX_GROUP_DEPTH: usize = 90;

/// A result of reading. The error is boxed so that the good path stays in registers.
pub(super) type Read<T> = Result<T, Box<Fault>>;

/// What went wrong, before it is known where the request began.
#[derive(Debug)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) kind: FaultKind,
    /// The message and the field number, set by the innermost [`fields`].
    pub(super) field: Option<(&'static Message, u32)>,
    /// The address of the byte where reading stopped; only ever subtracted.
    pub(super) address: usize,
}

/// The kinds of [`Fault`].
#[derive(Debug)]
pub(super) enum FaultKind {
    /// The data ends too early.
    Truncated,
    /// Not protobuf.
    Malformed(&'static str),
    /// A known field of another type.
    WireType(&'static str),
    /// A text that is not UTF-8.
    Utf8,
    /// An id of the wrong length: found, expected.
    IdLength(usize, usize),
    /// An index outside of its table: index, rows.
    Index(u32, usize),
    /// Values nested too deep.
    Depth,
    /// More memory than the request may take.
    TooLarge,
    /// Nobody had room for it.
    NoRoom,
    /// An older protocol: which, and the sign.
    Dialect(&'static str, &'static str),
    /// A fault that was found in the tables, and is explained already.
    Checked(DecodeError),
}

/// The value of a field as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    /// A variable-length number.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Length-delimited: a text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes, or a group; no field of the schema has these types.
    Other,
}

impl Raw<'_> {
    fn noun(self) -> &'static str {
        match self {
            Self::Varint(_) => "a number",
            Self::Fixed64(_) => "a 64-bit word",
            Self::Bytes(_) => "bytes",
            Self::Other => "a 32-bit word or a group",
        }
    }
}

/// A position in some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// True at the end.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A fault at this position.
    #[inline(always)]
    pub(super) fn fault(&self, kind: FaultKind) -> Box<Fault> {
        fault(self.rest, kind)
    }

    /// A number of up to 64 bits.
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Read<u64> {
        match self.rest {
            [a, rest @ ..] if *a < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*a))
            }
            [a, b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*a & 0x7f) | u64::from(*b) << 7)
            }
            _ => {
                let (number, rest) = match word_varint(self.rest) {
                    Some(found) => found,
                    None => long_varint(self.rest)?,
                };
                self.rest = rest;
                Ok(number)
            }
        }
    }

    /// Eight bytes, little endian.
    #[inline(always)]
    pub(super) fn fixed64(&mut self) -> Read<u64> {
        match self.rest.split_first_chunk::<8>() {
            Some((word, rest)) => {
                self.rest = rest;
                Ok(u64::from_le_bytes(*word))
            }
            None => Err(self.fault(FaultKind::Truncated)),
        }
    }

    /// Bytes preceded by their length.
    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.varint()?;
        let split =
            usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        match split {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.fault(FaultKind::Truncated)),
        }
    }

    /// A field's number and wire type.
    #[inline(always)]
    fn key(&mut self) -> Read<(u32, u32)> {
        let key = self.varint()?;
        match u32::try_from(key) {
            Ok(key) if key >= 8 => Ok((key >> 3, key & 7)),
            _ => Err(self.fault(FaultKind::Malformed("a field number that cannot be"))),
        }
    }

    /// The bytes of the next field, if that has this one-byte key and fewer than 128 bytes: tables are
    /// runs of such rows. What is not so is left where it is, for [`Reader::field`] to judge.
    #[inline(always)]
    pub(super) fn row(&mut self, key: u8) -> Option<&'a [u8]> {
        match self.rest {
            [next, length, rest @ ..] if *next == key && *length < 0x80 => {
                let (row, rest) = rest.split_at_checked(usize::from(*length))?;
                self.rest = rest;
                Some(row)
            }
            _ => None,
        }
    }

    /// A field's number and value.
    #[inline(always)]
    pub(super) fn field(&mut self) -> Read<(u32, Raw<'a>)> {
        let (number, wire_type) = self.key()?;
        let raw = match wire_type {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => Raw::Bytes(self.bytes()?),
            _ => {
                self.rest = skip_other(self.rest, number, wire_type, 0)?;
                Raw::Other
            }
        };
        Ok((number, raw))
    }
}

// What is seldom needed takes the bytes by value and returns what is left: a reference to the
// reader would force it out of registers in the loops that read by the million.

#[cold]
#[inline(never)]
fn fault(at: &[u8], kind: FaultKind) -> Box<Fault> {
    Box::new(Fault { kind, field: None, address: at.as_ptr() as usize })
}

/// A number of at most eight bytes where eight are there: addresses, mostly. The seven bits of each
/// byte are pushed together in pairs, then in fours, then in eights.
#[inline(always)]
fn word_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let word = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    let last = !word & 0x8080_8080_8080_8080;
    if last == 0 {
        return None;
    }
    // Everything up to the first byte without a continuation bit.
    let word = word & (last ^ (last - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = word & 0x007f_007f_007f_007f | word >> 1 & 0x3f80_3f80_3f80_3f80;
    let fours = pairs & 0x0000_3fff_0000_3fff | pairs >> 2 & 0x0fff_c000_0fff_c000;
    let number = fours & 0x0fff_ffff | fours >> 4 & 0x00ff_ffff_f000_0000;
    let used = last.trailing_zeros() as usize / 8 + 1;
    Some((number, bytes.get(used..)?))
}

/// A number of any length, and the bytes after it.
#[inline(never)]
fn long_varint(bytes: &[u8]) -> Read<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        if at == 9 && *byte > 1 {
            return Err(fault(bytes, FaultKind::Malformed("a number of more than 64 bits")));
        }
        value |= u64::from(*byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Ok((value, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(fault(bytes, FaultKind::Truncated))
}

/// The bytes after the value of a field whose key was read.
#[cold]
#[inline(never)]
fn skip_other(bytes: &[u8], number: u32, wire_type: u32, depth: usize) -> Read<&[u8]> {
    let mut reader = Reader::new(bytes);
    match wire_type {
        0 => drop(reader.varint()?),
        1 => drop(reader.fixed64()?),
        2 => drop(reader.bytes()?),
        3 if depth > MAX_GROUP_DEPTH => return Err(reader.fault(FaultKind::Depth)),
        3 => loop {
            let (inner, wire_type) = reader.key()?;
            if wire_type == 4 && inner == number {
                break;
            }
            if wire_type == 4 {
                return Err(reader.fault(FaultKind::Malformed("a group that another one ends")));
            }
            reader.rest = skip_other(reader.rest, inner, wire_type, depth + 1)?;
        },
        4 => {
            let what = "the end of a group that did not begin";
            return Err(reader.fault(FaultKind::Malformed(what)));
        }
        5 => match bytes.split_at_checked(4) {
            Some((_, rest)) => reader.rest = rest,
            None => return Err(reader.fault(FaultKind::Truncated)),
        },
        _ => return Err(reader.fault(FaultKind::Malformed("an unknown wire type"))),
    }
    Ok(reader.rest)
}

/// Reads a message whose fields come once each, in ascending order, packed: what every generated
/// encoder writes. The caller asks for the fields in that order, which costs one comparison each,
/// where [`fields`] jumps twice. At the first thing that is not so, and at every fault, it answers
/// `None`, and the caller begins anew with [`fields`], which knows all of protobuf.
#[derive(Debug)]
pub(super) struct CanonicalReader<'a>(Reader<'a>);

impl<'a> CanonicalReader<'a> {
    /// At the start of a message.
    #[inline(always)]
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(Reader::new(message))
    }

    /// True if the next field is this one; it is then to be read.
    #[inline(always)]
    pub(super) fn is_next(&mut self, field: u8, wire_type: u8) -> bool {
        match self.0.rest {
            [key, rest @ ..] if *key == field << 3 | wire_type => {
                self.0.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The number in this field, or zero.
    #[inline(always)]
    pub(super) fn number(&mut self, field: u8) -> Option<u64> {
        if self.is_next(field, 0) { self.0.varint().ok() } else { Some(0) }
    }

    /// The index in this field, or zero.
    #[inline(always)]
    pub(super) fn index<I: Index>(&mut self, field: u8) -> Option<I> {
        Some(I::new(index(self.number(field)?)))
    }

    /// The bytes of this field, or none.
    #[inline(always)]
    pub(super) fn bytes(&mut self, field: u8) -> Option<&'a [u8]> {
        if self.is_next(field, 2) { self.0.bytes().ok() } else { Some(&[]) }
    }

    /// The bytes of a field whose key was read.
    #[inline(always)]
    pub(super) fn rest_of_field(&mut self) -> Option<&'a [u8]> {
        self.0.bytes().ok()
    }

    /// The indices in this field, appended to `into`.
    #[inline(always)]
    pub(super) fn indices<I: Index>(&mut self, field: u8, into: &mut Vec<I>) -> Option<()> {
        let packed = self.bytes(field)?;
        if packed.is_empty() {
            return Some(());
        }
        indices(Raw::Bytes(packed), into).ok().map(drop)
    }

    /// That the message ends here.
    #[inline(always)]
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A number as an index. Negative ones and those past 32 bits become [`u32::MAX`].
#[inline(always)]
pub(super) fn index(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether a closure of [`fields`] took a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldUse {
    /// It did.
    Yes,
    /// It did not: skip it, unless the schema has it with another type.
    No,
}

/// Reads a message, handing every field to `take`.
#[inline(always)]
pub(super) fn fields<'a>(
    message: &'static Message,
    bytes: &'a [u8],
    mut take: impl FnMut(u32, Raw<'a>) -> Read<FieldUse>,
) -> Read<()> {
    runs(message, bytes, |number, raw, _| take(number, raw))
}

/// As [`fields`], for a message that is mostly runs of one field: `take` may go on reading such a
/// run with [`Reader::row`], without a jump for every row.
#[inline(always)]
pub(super) fn runs<'a>(
    message: &'static Message,
    bytes: &'a [u8],
    mut take: impl FnMut(u32, Raw<'a>, &mut Reader<'a>) -> Read<FieldUse>,
) -> Read<()> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (number, raw) = reader.field().map_err(|fault| fault.or_in(message, 0))?;
        match take(number, raw, &mut reader) {
            Ok(FieldUse::Yes) => {}
            Ok(FieldUse::No) => check_unknown(message, number, raw, reader.rest)?,
            Err(fault) => return Err(fault.or_in(message, number)),
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn check_unknown(message: &'static Message, number: u32, raw: Raw<'_>, rest: &[u8]) -> Read<()> {
    match message.field(number) {
        None => Ok(()),
        Some(_) => Err(fault(rest, FaultKind::WireType(raw.noun())).or_in(message, number)),
    }
}

impl Fault {
    /// True if an index leads nowhere, which spoils no more than what holds it.
    pub(super) fn is_of_index(&self) -> bool {
        matches!(self.kind, FaultKind::Index(..) | FaultKind::Checked(DecodeError::Index { .. }))
    }

    /// Names the field, if no inner message did.
    #[cold]
    #[inline(never)]
    pub(super) fn or_in(mut self: Box<Self>, message: &'static Message, number: u32) -> Box<Self> {
        self.field.get_or_insert((message, number));
        self
    }
}

/// The items of a repeated index, packed or not, appended to `into`.
#[inline(always)]
pub(super) fn indices<I: Index>(raw: Raw<'_>, into: &mut Vec<I>) -> Read<FieldUse> {
    match raw {
        Raw::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            if packed.len() < 16 {
                while !reader.is_empty() {
                    into.push(I::new(index(reader.varint()?)));
                }
            } else {
                packed_indices(reader, into)?;
            }
            Ok(FieldUse::Yes)
        }
        Raw::Varint(number) => {
            into.push(I::new(index(number)));
            Ok(FieldUse::Yes)
        }
        _ => Ok(FieldUse::No),
    }
}

/// Many indices: stacks are most of a request. Nearly all take one or two bytes. Four of two bytes
/// are the usual case by far, and guessing it lets the processor read on before it has looked; in
/// any other mixture, which cannot be foreseen, four are taken from eight bytes without a branch.
#[inline(never)]
fn packed_indices<I: Index>(mut reader: Reader<'_>, into: &mut Vec<I>) -> Read<()> {
    let mut four = [I::default(); 4];
    while let Some((bytes, rest)) = reader.rest.split_first_chunk::<8>() {
        let mut word = u64::from_le_bytes(*bytes);
        if word & 0x8080_8080_8080_8080 == 0x0080_0080_0080_0080 {
            let pairs = word & 0x007f_007f_007f_007f | word >> 1 & 0x3f80_3f80_3f80_3f80;
            into.extend_from_slice(&[
                I::new(pairs as u32 & 0xffff),
                I::new(pairs as u32 >> 16),
                I::new((pairs >> 32) as u32 & 0xffff),
                I::new((pairs >> 48) as u32),
            ]);
            reader.rest = rest;
            continue;
        }
        let (mut used, mut longer) = (0, 0);
        for slot in &mut four {
            let two = word >> 7 & 1;
            longer |= two & word >> 15;
            *slot = I::new((word & 0x7f | word >> 1 & 0x3f80 & two.wrapping_neg()) as u32);
            used += 1 + two as usize;
            word >>= 8 + 8 * two;
        }
        if longer & 1 == 0 {
            into.extend_from_slice(&four);
            reader.rest = reader.rest.get(used..).unwrap_or_default();
        } else {
            into.push(I::new(index(reader.varint()?)));
        }
    }
    while !reader.is_empty() {
        into.push(I::new(index(reader.varint()?)));
    }
    Ok(())
}

/// True if packed indices are all rows of a table of `rows` rows, and nothing is broken. As
/// [`packed_indices`], but four of two bytes are compared at once.
#[inline(never)]
pub(super) fn packed_below(packed: &[u8], rows: usize) -> bool {
    const HIGH: u64 = 0x8000_8000_8000_8000;
    let mut reader = Reader::new(packed);
    let last = rows.saturating_sub(1).min(i32::MAX as usize) as u32;
    // Two bytes hold less than 2^14, so that no lane borrows from the next.
    let lanes = (0x8000 | u64::from(last.min(0x3fff))) * 0x0001_0001_0001_0001;
    let (mut good, mut bad) = (HIGH, 0);
    while let Some((bytes, rest)) = reader.rest.split_first_chunk::<8>() {
        let mut word = u64::from_le_bytes(*bytes);
        if word & 0x8080_8080_8080_8080 == 0x0080_0080_0080_0080 {
            let pairs = word & 0x007f_007f_007f_007f | word >> 1 & 0x3f80_3f80_3f80_3f80;
            good &= lanes - pairs;
            reader.rest = rest;
            continue;
        }
        let (mut used, mut longer, mut signs) = (0, 0, 0);
        for _ in 0..4 {
            let two = word >> 7 & 1;
            longer |= two & word >> 15;
            let row = (word & 0x7f | word >> 1 & 0x3f80 & two.wrapping_neg()) as u32;
            signs |= last.wrapping_sub(row);
            used += 1 + two as usize;
            word >>= 8 + 8 * two;
        }
        if longer & 1 == 0 {
            bad |= signs;
            reader.rest = reader.rest.get(used..).unwrap_or_default();
        } else {
            let Ok(row) = reader.varint() else { return false };
            bad |= u32::from(row > u64::from(last)) << 31;
        }
    }
    while !reader.is_empty() {
        let Ok(row) = reader.varint() else { return false };
        bad |= u32::from(row > u64::from(last)) << 31;
    }
    good & HIGH == HIGH && bad >> 31 == 0
}

/// The items of a repeated number, packed or not.
#[inline(always)]
pub(super) fn numbers(raw: Raw<'_>, mut each: impl FnMut(u64)) -> Read<FieldUse> {
    match raw {
        Raw::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                each(reader.varint()?);
            }
            Ok(FieldUse::Yes)
        }
        Raw::Varint(number) => {
            each(number);
            Ok(FieldUse::Yes)
        }
        _ => Ok(FieldUse::No),
    }
}

/// A text.
#[inline(always)]
pub(super) fn text(bytes: &[u8]) -> Read<&str> {
    std::str::from_utf8(bytes).map_err(|_| Reader::new(bytes).fault(FaultKind::Utf8))
}
