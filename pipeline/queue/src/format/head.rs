//! A record: 48 bytes of head, then what the log knows about it, then the payload, and zeros up
//! to a multiple of 8.
//!
//! The head is `magic | crc | salt | number | time | payload's length | meta's length | payload's
//! crc | meta's crc`. Its own CRC makes the lengths trustworthy: a damaged payload loses one record,
//! and a damaged head is found out before its length is believed. The salt keeps old bytes in reused
//! blocks from being taken for records.

use std::sync::Arc;

use super::fields::{Fields, put_text, sign, signed};

/// The length of a head.
pub(crate) const HEAD: u64 = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"PPQr");
/// The length that stands for no text.
const NONE: u32 = u32::MAX;

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The segment's salt.
    pub(crate) salt: u64,
    /// The record's number.
    pub(crate) seq: u64,
    /// When it was accepted, in nanoseconds since 1970.
    pub(crate) time: u64,
    /// The length of the payload.
    pub(crate) payload: u32,
    /// The length of what the log knows about it.
    pub(crate) meta: u32,
    /// The payload's CRC, as it was when the record was accepted.
    pub(crate) payload_crc: u32,
    /// The CRC of what the log knows about it.
    pub(crate) meta_crc: u32,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD as usize] {
        let mut bytes = [0; HEAD as usize];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
            at += field.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&[0; 4]);
        put(&self.salt.to_le_bytes());
        put(&self.seq.to_le_bytes());
        put(&self.time.to_le_bytes());
        put(&self.payload.to_le_bytes());
        put(&self.meta.to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        put(&self.meta_crc.to_le_bytes());
        sign(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEAD as usize)?;
        // Most that is looked at while searching for a head is none: no CRC for that.
        if bytes.get(..4)? != MAGIC.to_le_bytes() {
            return None;
        }
        let mut fields = signed(bytes, MAGIC)?;
        Some(Self {
            salt: fields.u64()?,
            seq: fields.u64()?,
            time: fields.u64()?,
            payload: fields.u32()?,
            meta: fields.u32()?,
            payload_crc: fields.u32()?,
            meta_crc: fields.u32()?,
        })
    }

    /// What the whole record takes in the segment.
    pub(crate) fn length(&self) -> u64 {
        let content = u64::from(self.meta) + u64::from(self.payload);
        HEAD + content + padding(content) as u64
    }
}

/// How many zeros follow a record of this length.
pub(crate) fn padding(length: u64) -> usize {
    (length.wrapping_neg() % 8) as usize
}

/// What the log knows about a record besides its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) samples: u64,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) receiver: Arc<str>,
    /// The ids of the destinations.
    pub(crate) to: Vec<Arc<str>>,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.samples.to_le_bytes());
        match &self.tenant {
            Some(tenant) => put_text(&mut bytes, tenant),
            None => bytes.extend_from_slice(&NONE.to_le_bytes()),
        }
        put_text(&mut bytes, &self.receiver);
        bytes.extend_from_slice(&(self.to.len() as u32).to_le_bytes());
        for id in &self.to {
            put_text(&mut bytes, id);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let samples = fields.u64()?;
        let tenant = if fields.0.starts_with(&NONE.to_le_bytes()) {
            fields.u32()?;
            None
        } else {
            Some(fields.text()?.into())
        };
        let receiver = fields.text()?.into();
        let count = fields.u32()?;
        let mut to = Vec::new();
        for _ in 0..count {
            to.push(fields.text()?.into());
        }
        Some(Self { samples, tenant, receiver, to })
    }
}
