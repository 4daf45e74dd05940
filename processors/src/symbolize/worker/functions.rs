//! Where functions begin and end by the unwinding table, which is there when symbols are not.
//!
//! A symbol without a size might end anywhere: what comes after it may be code whose own symbols were
//! stripped. The search table of `.eh_frame_hdr` says in which function an address is.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, ParsedEhFrameHdr, RunTimeEndian, UnwindSection};

use super::dwarf::Reader;

/// The functions of a file.
pub(super) struct Functions<'a> {
    header: ParsedEhFrameHdr<Reader<'a>>,
    frames: EhFrame<Reader<'a>>,
    bases: BaseAddresses,
}

/// A section: its address and content.
pub(super) type Place<'a> = (u64, &'a [u8]);

impl<'a> Functions<'a> {
    /// Reads the header of the table; none if there is none of use.
    pub(super) fn read(
        header: Place<'a>,
        frames: Place<'a>,
        endian: RunTimeEndian,
        address_size: u8,
    ) -> Option<Self> {
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.0).set_eh_frame(frames.0);
        let header = EhFrameHdr::new(header.1, endian).parse(&bases, address_size).ok()?;
        header.table()?;
        let mut frames = EhFrame::new(frames.1, endian);
        frames.set_address_size(address_size);
        Some(Self { header, frames, bases })
    }

    /// Tells of every address of a range where what [`Functions::before`] says may change.
    pub(super) fn borders(&self, range: &Range<u64>, add: &mut impl FnMut(u64)) {
        if let Some((_, end)) = self.before(range.start) {
            add(end);
        }
        let Some(table) = self.header.table() else { return };
        let mut rows = table.iter(&self.bases);
        while let Ok(Some((gimli::Pointer::Direct(start), _))) = rows.next() {
            if range.contains(&start) {
                add(start);
                if let Some((_, end)) = self.before(start) {
                    add(end);
                }
            }
        }
    }

    /// The first address and the end of the last function that begins at or before an address.
    pub(super) fn before(&self, address: u64) -> Option<(u64, u64)> {
        let table = self.header.table()?;
        let pointer = table.lookup(address, &self.bases).ok()?;
        let offset = table.pointer_to_offset(pointer).ok()?;
        let entry =
            self.frames.fde_from_offset(&self.bases, offset, EhFrame::cie_from_offset).ok()?;
        let start = entry.initial_address();
        (start <= address).then(|| (start, start.saturating_add(entry.len())))
    }
}

/// Whether a symbol without a size that starts at `symbol` is the function that has `address` in it,
/// which the last function by the unwinding table shows. Where that is silent only a file with all its
/// symbols can be believed.
pub(super) fn is_of(
    functions: Option<&Functions<'_>>,
    symbol: u64,
    address: u64,
    is_stripped: bool,
) -> bool {
    match functions.and_then(|functions| functions.before(address)) {
        Some((start, end)) if start == symbol => address < end,
        // Another function begins in between.
        Some((start, _)) if start > symbol => false,
        _ => !is_stripped || address == symbol,
    }
}
