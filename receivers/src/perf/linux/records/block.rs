//! What the kernel says of a request for blocks of a disk: when it is made, and when it is done.

use super::record::RawField;

/// Where a record of a tracepoint has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BlockFields {
    pub(crate) device: RawField,
    pub(crate) sector: RawField,
    pub(crate) sectors: RawField,
    /// The first letter of what is done.
    pub(crate) operation: u16,
}

/// A request, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// The number of the device, as the kernel has it.
    pub(crate) device: u32,
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
    pub(crate) operation: Operation,
}

impl BlockFields {
    /// Reads it; none if the record is cut off.
    pub(crate) fn read(&self, raw: &[u8]) -> Option<Blocks> {
        let text = raw.get(usize::from(self.operation)..)?;
        Some(Blocks {
            device: u32::try_from(self.device.read(raw)?).ok()?,
            sector: self.sector.read(raw)?,
            sectors: self.sectors.read(raw)?,
            operation: Operation::of(text.first_chunk()?),
        })
    }
}

/// What is done with blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// They are read because somebody asks for them.
    Read,
    /// They are read because somebody may ask for them.
    Readahead,
    /// They are written.
    Write,
    /// They are needed no longer.
    Discard,
    /// What was written before is to be on the disk.
    Flush,
    Other,
}

impl Operation {
    /// That of the letters of the kernel, `blk_fill_rwbs`: a flush that comes first, what is done, that it must be
    /// on the disk at once, that it is read ahead, and so on.
    fn of(letters: &[u8; 3]) -> Self {
        match letters {
            [b'R', b'A', _] | [b'R', _, b'A'] => Self::Readahead,
            [b'R', ..] => Self::Read,
            [b'W', ..] | [b'F', b'W', _] => Self::Write,
            [b'D' | b'E', ..] => Self::Discard,
            [b'F', ..] => Self::Flush,
            _ => Self::Other,
        }
    }

    /// As an attribute.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Readahead => "readahead",
            Self::Write => "write",
            Self::Discard => "discard",
            Self::Flush => "flush",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: letters as the kernel writes them; a record of them, whole and cut off everywhere.
    /// Guarantees: each is what it says; nothing is read that is not there.
    #[test]
    fn requests_are_read() {
        for (letters, expected) in [
            (b"R\0\0", Operation::Read),
            (b"RA\0", Operation::Readahead),
            (b"RSA", Operation::Readahead),
            (b"WS\0", Operation::Write),
            (b"FWS", Operation::Write),
            (b"FF\0", Operation::Flush),
            (b"D\0\0", Operation::Discard),
            (b"N\0\0", Operation::Other),
        ] {
            assert_eq!(Operation::of(letters), expected, "{letters:?}");
        }
        let field = |offset, size| RawField { offset, size, signed: false, factor: 1 };
        let fields = BlockFields {
            device: field(8, 4),
            sector: field(16, 8),
            sectors: field(24, 4),
            operation: 28,
        };
        let mut raw = [0; 40];
        for (at, byte) in [(8, 7), (16, 9), (24, 3), (28, b'W')] {
            raw[at] = byte;
        }
        let operation = Operation::Write;
        let expected = Blocks { device: 7, sector: 9, sectors: 3, operation };
        assert_eq!(fields.read(&raw), Some(expected));
        for length in 0..31 {
            assert_eq!(fields.read(raw.get(..length).unwrap_or_default()), None, "{length}");
        }
    }
}
