//! The protobuf wire as google/pprof reads and writes it.
//!
//! The reader follows the reference exactly, also where it is looser or stricter than protobuf: an
//! eleventh bit group of a number is an error but bits past the 64th are dropped, groups are
//! errors, and a known field with another wire type is an error. It borrows and never allocates.

/// What is wrong with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("a number is cut off or too long")]
    BadVarint,
    #[error("the data ends inside a field")]
    CutOff,
    #[error("a wire type that protobuf does not have")]
    UnknownWireType,
    #[error("a field has the wrong wire type")]
    TypeMismatch,
}

/// The content of one field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub(super) fn uint(self) -> Result<u64, WireError> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(WireError::TypeMismatch),
        }
    }

    pub(super) fn int(self) -> Result<i64, WireError> {
        self.uint().map(|number| number as i64)
    }

    pub(super) fn truth(self) -> Result<bool, WireError> {
        self.uint().map(|number| number != 0)
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::TypeMismatch),
        }
    }

    /// The fields of an embedded message.
    pub(super) fn message(self) -> Result<Fields<'a>, WireError> {
        self.bytes().map(Fields)
    }

    /// Every number of a repeated field, packed or not.
    pub(super) fn each_uint(self, mut visit: impl FnMut(u64)) -> Result<(), WireError> {
        match self {
            Self::Varint(number) => visit(number),
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    visit(varint(&mut bytes)?);
                }
            }
            Self::Fixed => return Err(WireError::TypeMismatch),
        }
        Ok(())
    }
}

/// The fields of a message that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field: its number and its content.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.0)?;
        let payload = match key & 7 {
            0 => Payload::Varint(varint(&mut self.0)?),
            1 => self.take(8).map(|_| Payload::Fixed)?,
            2 => {
                let length = varint(&mut self.0)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            _ => return Err(WireError::UnknownWireType),
        };
        Ok(Some((key >> 3, payload)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(length).map_err(|_| WireError::CutOff)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::CutOff)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(data: &mut &[u8]) -> Result<u64, WireError> {
    let mut number = 0;
    for (group, byte) in data.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            *data = data.get(group + 1..).unwrap_or_default();
            return Ok(number);
        }
    }
    Err(WireError::BadVarint)
}

/// Writes the few forms of protobuf that pprof has; zero is the default and is left out.
#[derive(Debug, Default, Clone)]
pub struct Writer(
    /// What is written so far.
    pub Vec<u8>,
);

impl Writer {
    #[inline]
    fn varint(&mut self, mut number: u64) {
        if number < 0x80 {
            return self.0.push(number as u8);
        }
        if number < 0x4000 {
            return self.0.extend_from_slice(&[number as u8 | 0x80, (number >> 7) as u8]);
        }
        let mut groups = [0; 10];
        let mut last = 0;
        for (at, group) in groups.iter_mut().enumerate() {
            *group = number as u8 | 0x80;
            number >>= 7;
            if number == 0 {
                *group &= 0x7f;
                last = at;
                break;
            }
        }
        // All ten are copied: to copy as many as there are takes longer.
        let end = self.0.len() + last + 1;
        self.0.extend_from_slice(&groups);
        self.0.truncate(end);
    }

    /// A message, written in place: no second buffer, whatever is in it.
    #[inline]
    pub fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        self.varint(field << 3 | 2);
        let start = self.0.len();
        // Most messages are so short that one byte says how long they are.
        self.0.push(0);
        write(self);
        let length = self.0.len() - start - 1;
        if length < 0x80 {
            if let Some(byte) = self.0.get_mut(start) {
                *byte = length as u8;
            }
            return;
        }
        if length < 0x4000 {
            let prefix = [length as u8 | 0x80, (length >> 7) as u8];
            self.0.splice(start..=start, prefix);
            return;
        }
        let mut prefix = Self(Vec::with_capacity(10));
        prefix.varint(length as u64);
        self.0.splice(start..=start, prefix.0);
    }

    /// A number, unless it is 0.
    #[inline]
    pub fn uint(&mut self, field: u64, number: u64) {
        if number != 0 {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    /// A signed number, unless it is 0.
    #[inline]
    pub fn int(&mut self, field: u64, number: i64) {
        self.uint(field, number as u64);
    }

    /// What comes before so many bytes, a text or a message.
    #[inline]
    pub fn head(&mut self, field: u64, length: usize) {
        self.varint(field << 3 | 2);
        self.varint(length as u64);
    }

    /// Bytes, a text or a message, even if empty.
    #[inline]
    pub fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Numbers, packed, unless there are none.
    #[inline]
    pub fn packed(&mut self, field: u64, numbers: impl Iterator<Item = u64>) {
        let mut numbers = numbers.peekable();
        if numbers.peek().is_some() {
            self.message(field, |list| numbers.for_each(|number| list.varint(number)));
        }
    }
}
