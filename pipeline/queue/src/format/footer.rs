//! The end of a sealed segment: what it holds, so that opening a log need not read it.
//!
//! `magic | crc | version | count | first | salt | next | newest | data's end | records |` for each
//! destination `id | first | last | records | bytes | samples`, then a trailer of 8 bytes, the
//! footer's length and the magic number again. A segment without a valid footer is read whole.

use std::sync::Arc;

use super::fields::{put_text, sign, signed};
use crate::Pending;

const MAGIC: u32 = u32::from_le_bytes(*b"PPQf");
/// The length of the trailer.
pub(crate) const TRAILER: u64 = 8;
/// The longest footer that is believed.
pub(crate) const FOOTER_LIMIT: u64 = 4 << 20;

/// What a sealed segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) first: u64,
    pub(crate) salt: u64,
    /// A number that neither this segment's records nor those lost with its tail have.
    pub(crate) next: u64,
    /// When its last record was accepted, in nanoseconds since 1970.
    pub(crate) newest: u64,
    /// Where its records end and the footer starts.
    pub(crate) data_end: u64,
    /// How many records there are.
    pub(crate) records: u64,
    pub(crate) tallies: Vec<Tally>,
}

/// What a segment holds for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) id: Arc<str>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) total: Pending,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let count = self.tallies.len() as u32;
        for field in [MAGIC, 0, super::VERSION, count] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let numbers = [self.first, self.salt, self.next, self.newest, self.data_end, self.records];
        for field in numbers {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for tally in &self.tallies {
            put_text(&mut bytes, &tally.id);
            let total = tally.total;
            for field in [tally.first, tally.last, total.records, total.bytes, total.samples] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        let length = bytes.len() as u32 + TRAILER as u32;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        sign(&mut bytes);
        bytes
    }

    /// The footer's length, if the last bytes of a file are a trailer.
    pub(crate) fn length(trailer: &[u8]) -> Option<u64> {
        let (length, magic) = trailer.split_first_chunk()?;
        (magic == MAGIC.to_le_bytes()).then(|| u64::from(u32::from_le_bytes(*length)))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = signed(bytes, MAGIC)?;
        if fields.u32()? != super::VERSION {
            return None;
        }
        let count = fields.u32()?;
        let mut footer = Self {
            first: fields.u64()?,
            salt: fields.u64()?,
            next: fields.u64()?,
            newest: fields.u64()?,
            data_end: fields.u64()?,
            records: fields.u64()?,
            tallies: Vec::new(),
        };
        for _ in 0..count {
            footer.tallies.push(Tally {
                id: fields.text()?.into(),
                first: fields.u64()?,
                last: fields.u64()?,
                total: Pending {
                    records: fields.u64()?,
                    bytes: fields.u64()?,
                    samples: fields.u64()?,
                },
            });
        }
        Some(footer)
    }
}
