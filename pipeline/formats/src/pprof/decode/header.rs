//! What a file says once, and its string table.

use super::malformed;
use crate::pprof::DecodeError;
use crate::pprof::wire::{Fields, Payload, WireError};
use profpipe_profile::{Dictionary, StringIx, ValueType};

/// Everything of a profile that does not repeat by the thousand, and the string table.
#[derive(Default)]
pub(super) struct Header {
    pub(super) strings: Vec<StringIx>,
    pub(super) sample_types: Vec<(i64, i64)>,
    pub(super) samples: usize,
    pub(super) drop_frames: i64,
    pub(super) keep_frames: i64,
    pub(super) time_nanos: i64,
    pub(super) duration_nanos: i64,
    pub(super) period_type: (i64, i64),
    pub(super) period: i64,
    pub(super) comments: Vec<i64>,
    pub(super) default_sample_type: i64,
    pub(super) doc_url: i64,
}

impl Header {
    pub(super) fn read(message: &[u8], dictionary: &mut Dictionary) -> Result<Self, DecodeError> {
        let mut header = Self::default();
        let mut fields = Fields(message);
        let wire = |error: WireError| malformed(error.to_string());
        while let Some((field, payload)) = fields.next().map_err(wire)? {
            header.field(field, payload, dictionary).map_err(wire)?;
            if field == 6 && header.strings.first() != Some(&StringIx::NONE) {
                return Err(malformed("the first string is not empty"));
            }
            if field == 9 {
                if header.time_nanos != 0 {
                    return Err(DecodeError::Concatenated);
                }
                header.time_nanos = payload.int().map_err(wire)?;
            }
        }
        Ok(header)
    }

    pub(super) fn field(
        &mut self,
        field: u64,
        payload: Payload<'_>,
        dictionary: &mut Dictionary,
    ) -> Result<(), WireError> {
        match field {
            1 => self.sample_types.push(value_type(payload)?),
            2 => self.samples += 1,
            6 => {
                let text = String::from_utf8_lossy(payload.bytes()?);
                self.strings.push(dictionary.strings.intern(&text));
            }
            7 => self.drop_frames = payload.int()?,
            8 => self.keep_frames = payload.int()?,
            10 => self.duration_nanos = payload.int()?,
            11 => self.period_type = value_type(payload)?,
            12 => self.period = payload.int()?,
            13 => payload.each_uint(|comment| self.comments.push(comment as i64))?,
            14 => self.default_sample_type = payload.int()?,
            15 => self.doc_url = payload.int()?,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn string(&self, at: i64) -> Result<StringIx, DecodeError> {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.strings.get(at))
            .copied()
            .ok_or_else(|| malformed(format!("there is no string {at}")))
    }

    pub(super) fn value_type(&self, (kind, unit): (i64, i64)) -> Result<ValueType, DecodeError> {
        Ok(ValueType { kind: self.string(kind)?, unit: self.string(unit)? })
    }
}

pub(super) fn value_type(payload: Payload<'_>) -> Result<(i64, i64), WireError> {
    let mut fields = payload.message()?;
    let (mut kind, mut unit) = (0, 0);
    while let Some((field, payload)) = fields.next()? {
        match field {
            1 => kind = payload.int()?,
            2 => unit = payload.int()?,
            _ => {}
        }
    }
    Ok((kind, unit))
}
