//! How far a destination is: one slot of its cursor.
//!
//! `magic | crc | length | version | count | 0 | generation | head | delivered | dead | dropped | lost | id |`
//! and for each unfinished record `number | bytes | samples`. A cursor has two files that are
//! written in turn, so that a torn write leaves the one before.

use std::sync::Arc;

use super::fields::{put_text, sign, signed};

const MAGIC: u32 = u32::from_le_bytes(*b"PPQc");
/// The longest slot that is believed.
pub(crate) const CURSOR_LIMIT: u64 = 1 << 20;

/// How far a destination is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Slot {
    pub(crate) id: Arc<str>,
    /// The higher of two slots counts.
    pub(crate) generation: u64,
    /// Every record below this is finished, but for those in `unfinished`.
    pub(crate) head: u64,
    pub(crate) delivered: u64,
    pub(crate) dead: u64,
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
    pub(crate) unfinished: Vec<Unfinished>,
}

/// A record that somebody was working on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) seq: u64,
    pub(crate) bytes: u64,
    pub(crate) samples: u64,
}

impl Slot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + 24 * self.unfinished.len());
        let count = self.unfinished.len() as u32;
        for field in [MAGIC, 0, 0, super::VERSION, count, 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let counts = [self.delivered, self.dead, self.dropped, self.lost];
        for field in [self.generation, self.head].into_iter().chain(counts) {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        put_text(&mut bytes, &self.id);
        for record in &self.unfinished {
            for field in [record.seq, record.bytes, record.samples] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        // What an earlier, longer slot left behind it does not count.
        let length = bytes.len() as u32;
        if let Some(field) = bytes.get_mut(8..12) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        sign(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let length = bytes.get(8..12)?.first_chunk().copied().map(u32::from_le_bytes)?;
        let mut fields = signed(bytes.get(..length as usize)?, MAGIC)?;
        fields.u32()?;
        if fields.u32()? != super::VERSION {
            return None;
        }
        let count = fields.u32()?;
        fields.u32()?;
        let mut slot = Self {
            generation: fields.u64()?,
            head: fields.u64()?,
            delivered: fields.u64()?,
            dead: fields.u64()?,
            dropped: fields.u64()?,
            lost: fields.u64()?,
            id: fields.text()?.into(),
            unfinished: Vec::new(),
        };
        for _ in 0..count {
            slot.unfinished.push(Unfinished {
                seq: fields.u64()?,
                bytes: fields.u64()?,
                samples: fields.u64()?,
            });
        }
        Some(slot)
    }
}
