//! The first 64 bytes of a segment: `magic | crc | version | 0 | first | salt | created`.
//!
//! Losing them loses nothing: the file's name has the first number and every record the salt.

use super::fields::{sign, signed};

/// The length of a header.
pub(crate) const HEADER: u64 = 64;
/// The version that this program writes, and the highest that it reads.
pub(crate) const VERSION: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"PPQs");

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The format.
    pub(crate) version: u32,
    /// No record has a lower number.
    pub(crate) first: u64,
    /// Random; every record of the segment repeats it.
    pub(crate) salt: u64,
    /// When it was made, in nanoseconds since 1970.
    pub(crate) created: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER as usize);
        bytes.extend_from_slice(&MAGIC.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.resize(HEADER as usize, 0);
        sign(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = signed(bytes.get(..HEADER as usize)?, MAGIC)?;
        let version = fields.u32()?;
        fields.u32()?;
        Some(Self { version, first: fields.u64()?, salt: fields.u64()?, created: fields.u64()? })
    }
}
