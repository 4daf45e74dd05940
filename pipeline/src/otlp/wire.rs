//! Reading protobuf: bounds, number sizes and groups are checked here and nowhere else.
//!
//! A message is read by [`fields`], which hands each field with its value to a closure; fields
//! that the closure does not take are skipped if the schema does not know them either. Nothing
//! here allocates or panics on foreign bytes.

use super::error::DecodeError;
use super::schema::Message;

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

    /// A fault at this position.
    #[cold]
    #[inline(never)]
    pub(super) fn fault(&self, kind: FaultKind) -> Box<Fault> {
        Box::new(Fault { kind, field: None, address: self.rest.as_ptr() as usize })
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
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Read<u64> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            if at == 9 && *byte > 1 {
                return Err(self.fault(FaultKind::Malformed("a number of more than 64 bits")));
            }
            value |= u64::from(*byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.fault(FaultKind::Truncated))
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

    /// A field's number and value.
    #[inline(always)]
    pub(super) fn field(&mut self) -> Read<(u32, Raw<'a>)> {
        let (number, wire_type) = self.key()?;
        let raw = match wire_type {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => Raw::Bytes(self.bytes()?),
            _ => {
                self.skip_other(number, wire_type, 0)?;
                Raw::Other
            }
        };
        Ok((number, raw))
    }

    #[cold]
    #[inline(never)]
    fn skip_other(&mut self, number: u32, wire_type: u32, depth: usize) -> Read<()> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.fixed64().map(drop),
            2 => self.bytes().map(drop),
            3 if depth > MAX_GROUP_DEPTH => Err(self.fault(FaultKind::Depth)),
            3 => loop {
                let (inner, wire_type) = self.key()?;
                if wire_type == 4 {
                    if inner == number {
                        return Ok(());
                    }
                    return Err(self.fault(FaultKind::Malformed("a group that another one ends")));
                }
                self.skip_other(inner, wire_type, depth + 1)?;
            },
            4 => Err(self.fault(FaultKind::Malformed("the end of a group that did not begin"))),
            5 => match self.rest.split_at_checked(4) {
                Some((_, rest)) => {
                    self.rest = rest;
                    Ok(())
                }
                None => Err(self.fault(FaultKind::Truncated)),
            },
            _ => Err(self.fault(FaultKind::Malformed("an unknown wire type"))),
        }
    }
}

/// A number as an index. Negative ones and those past 32 bits become [`u32::MAX`].
#[inline(always)]
pub(super) fn index(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether a closure of [`fields`] took a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
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
    mut take: impl FnMut(u32, Raw<'a>) -> Read<Took>,
) -> Read<()> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (number, raw) = reader.field().map_err(|fault| fault.or_in(message, 0))?;
        match take(number, raw) {
            Ok(Took::Yes) => {}
            Ok(Took::No) => check_unknown(message, number, raw, &reader)?,
            Err(fault) => return Err(fault.or_in(message, number)),
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn check_unknown(
    message: &'static Message,
    number: u32,
    raw: Raw<'_>,
    reader: &Reader<'_>,
) -> Read<()> {
    match message.field(number) {
        None => Ok(()),
        Some(_) => Err(reader.fault(FaultKind::WireType(raw.noun())).or_in(message, number)),
    }
}

impl Fault {
    /// Names the field, if no inner message did.
    #[cold]
    #[inline(never)]
    pub(super) fn or_in(mut self: Box<Self>, message: &'static Message, number: u32) -> Box<Self> {
        self.field.get_or_insert((message, number));
        self
    }
}

/// The items of a repeated number, packed or not.
#[inline(always)]
pub(super) fn numbers(raw: Raw<'_>, mut each: impl FnMut(u64)) -> Read<Took> {
    match raw {
        Raw::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                each(reader.varint()?);
            }
            Ok(Took::Yes)
        }
        Raw::Varint(number) => {
            each(number);
            Ok(Took::Yes)
        }
        _ => Ok(Took::No),
    }
}

/// A text.
#[inline(always)]
pub(super) fn text(bytes: &[u8]) -> Read<&str> {
    std::str::from_utf8(bytes).map_err(|_| Reader::new(bytes).fault(FaultKind::Utf8))
}
