//! Reads and writes fields one after the other.

/// Takes fields from the front of bytes.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*field))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*field))
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(field).ok()
    }
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Puts the CRC of everything behind the first 8 bytes after the first 4.
pub(super) fn sign(bytes: &mut [u8]) {
    let crc = bytes.get(8..).map(crc32fast::hash).unwrap_or_default();
    if let Some(field) = bytes.get_mut(4..8) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Whether the bytes start with this magic number and a CRC that fits; then what follows.
pub(super) fn signed(bytes: &[u8], magic: u32) -> Option<Fields<'_>> {
    let mut fields = Fields(bytes);
    let (found, crc) = (fields.u32()?, fields.u32()?);
    (found == magic && crc == crc32fast::hash(fields.0)).then_some(fields)
}
