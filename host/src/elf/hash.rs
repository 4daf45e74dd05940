//! The hash that profiles identify a file by where it has no build id.
//!
//! `process.executable.build_id.htlhash` of the semantic conventions for profiles: 8 KiB are read,
//! however long the file is.

use sha2::{Digest, Sha256};

use crate::content::{Content, read};
use crate::hex;

/// How much of each end counts.
const EDGE: u64 = 4096;

/// `hex(SHA256(first 4096 bytes ‖ last 4096 bytes ‖ length as 8 bytes, big end first)[..16])`; none
/// if the content cannot be read.
pub fn htlhash<C: Content + ?Sized>(content: &C) -> Option<String> {
    let length = content.length().ok()?;
    let edge = length.min(EDGE);
    let mut hash = Sha256::new();
    hash.update(read(content, length, 0, edge).ok()?);
    hash.update(read(content, length, length - edge, edge).ok()?);
    hash.update(length.to_be_bytes());
    hash.finalize().get(..16).map(hex)
}
