//! `.gnu_debugdata`: a small symbol table that distributions leave in stripped binaries, an ELF
//! image compressed with xz.

use std::io::Read;

use lzma_rust2::XzReader;

/// The largest image. Fedora's largest are a few MiB.
const MAX_IMAGE: u64 = 64 << 20;
/// Memory that the decompressor may use for its window.
const MAX_WINDOW_KIB: u32 = 64 << 10;

/// The image, if it is one and not too large.
pub(super) fn inflate(section: &[u8], budget: &mut u64) -> Option<Vec<u8>> {
    let limit = MAX_IMAGE.min(*budget);
    let mut image = Vec::new();
    let reader = XzReader::new_mem_limit(section, true, MAX_WINDOW_KIB);
    reader.take(limit + 1).read_to_end(&mut image).ok()?;
    let size = image.len() as u64;
    *budget = budget.checked_sub(size).filter(|_| size <= limit)?;
    Some(image)
}
