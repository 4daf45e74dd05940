//! A table of call frame information, and how the entry for an address is found in it.
//!
//! Small tables are held in memory, checked when they are read. Of large ones (a browser's has tens
//! of megabytes) only the search table is: an entry and its common part are read from the file when
//! an address of theirs is first met. What is read is copied, so that a file that becomes shorter
//! is no more than an entry that is missing.

use std::sync::Arc;

use gimli::{BaseAddresses, DebugFrame, EhFrame, EndianSlice, LittleEndian, UnwindSection};
use profpipe_host::content::Content;

use super::bytes::Bytes;
use super::cfi::{self, Kind};

/// The most bytes of an entry.
const MAX_ENTRY: usize = 20 << 10;
/// How much of an entry is read at first: most are shorter.
const FIRST_READ: usize = 192;
/// The bytes before the pairs of a search table: version, encodings, the distance of the table and
/// the number of pairs.
const SEARCH_HEADER: usize = 12;

/// Where the bytes of a table are.
pub(crate) enum Storage {
    Held(Bytes),
    /// In a file, from this offset on, so many bytes.
    File(Arc<dyn Content + Send + Sync>, u64, u64),
}

/// How an entry is found.
pub(crate) enum Search {
    /// The table that the linker made, `.eh_frame_hdr`, with its address.
    Linked(u64, Bytes),
    /// One made here: addresses and offsets of entries, in the order of addresses.
    Made(Box<[(u64, u32)]>),
}

/// A table of call frame information.
pub(crate) struct FrameTable {
    pub(crate) kind: Kind,
    /// The address of the table; 0 if it has none.
    pub(crate) address: u64,
    pub(crate) storage: Storage,
    pub(crate) search: Search,
}

/// An entry with its common part, as a table of its own.
pub(crate) struct Entry<'a> {
    pub(crate) kind: Kind,
    pub(crate) bytes: &'a [u8],
    /// Where the entry begins in `bytes`.
    pub(crate) frame: usize,
    /// The address that `bytes` would have for the entry to be at its own.
    pub(crate) base: u64,
}

impl FrameTable {
    /// The bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        let held = match &self.storage {
            Storage::Held(bytes) => bytes.len(),
            Storage::File(..) => 0,
        };
        let search = match &self.search {
            Search::Linked(_, bytes) => bytes.len(),
            Search::Made(pairs) => size_of_val(&**pairs),
        };
        held + search
    }

    /// The entry that may cover an address, in `buffer`.
    pub(crate) fn entry<'a>(&self, address: u64, buffer: &'a mut Vec<u8>) -> Option<Entry<'a>> {
        let at = self.find(address)?;
        let mut frame = [0; FIRST_READ];
        let (length, owner) = self.header(at, &mut frame)?;
        buffer.clear();
        let (common_length, _) = self.header(owner, &mut [0; FIRST_READ])?;
        self.append(owner, common_length, buffer)?;
        let frame = buffer.len();
        self.append(at, length, buffer)?;
        // In this small table the common part is at the start.
        let back = match self.kind {
            Kind::EhFrame => u32::try_from(frame + 4).ok()?,
            Kind::DebugFrame => 0,
        };
        buffer.get_mut(frame + 4..frame + 8)?.copy_from_slice(&back.to_le_bytes());
        // Who wrote it may be hostile; this bounds what running it can cost.
        cfi::check(buffer, self.kind, &mut || ())?;
        let base = self.address.wrapping_add(at).wrapping_sub(frame as u64);
        Some(Entry { kind: self.kind, bytes: buffer, frame, base })
    }

    /// The length of an entry with its own length, and where its common part is if it has one.
    fn header(&self, at: u64, start: &mut [u8; FIRST_READ]) -> Option<(usize, u64)> {
        let got = self.read(at, start);
        let word = |from: usize| {
            let bytes = start.get(..got)?.get(from..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let length = word(0)?;
        let length =
            usize::try_from(length).ok().filter(|length| (8..=MAX_ENTRY).contains(length))?;
        let id = u64::from(word(4)?);
        let owner = match self.kind {
            Kind::EhFrame => (at + 4).checked_sub(id)?,
            Kind::DebugFrame => id,
        };
        Some((length + 4, owner))
    }

    fn append(&self, at: u64, length: usize, buffer: &mut Vec<u8>) -> Option<()> {
        let from = buffer.len();
        buffer.resize(from + length, 0);
        let into = buffer.get_mut(from..)?;
        (self.read(at, into) == length).then_some(())
    }

    /// Reads as many bytes as there are.
    fn read(&self, at: u64, buffer: &mut [u8]) -> usize {
        match &self.storage {
            Storage::Held(bytes) => bytes.read_at(buffer, at).unwrap_or(0),
            Storage::File(content, offset, size) => {
                let most = size.saturating_sub(at).min(buffer.len() as u64) as usize;
                let buffer = buffer.get_mut(..most).unwrap_or_default();
                content.read_at(buffer, offset.saturating_add(at)).unwrap_or(0)
            }
        }
    }

    /// The offset of the last entry that begins at or before an address.
    fn find(&self, address: u64) -> Option<u64> {
        match &self.search {
            Search::Made(pairs) => {
                let at = pairs.partition_point(|(start, _)| *start <= address);
                pairs.get(at.checked_sub(1)?).map(|(_, offset)| u64::from(*offset))
            }
            Search::Linked(header, bytes) => {
                let distance = i32::try_from(address.wrapping_sub(*header) as i64).ok()?;
                let (pairs, _) = bytes.get(SEARCH_HEADER..)?.as_chunks::<8>();
                let count = bytes.get(8..).and_then(|it| it.first_chunk::<4>());
                let count = count.map_or(0, |it| u32::from_le_bytes(*it) as usize);
                let pairs = pairs.get(..count.min(pairs.len()))?;
                let at = pairs.partition_point(|[a, b, c, d, ..]| {
                    i32::from_le_bytes([*a, *b, *c, *d]) <= distance
                });
                let [.., a, b, c, d] = pairs.get(at.checked_sub(1)?)?;
                let entry = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
                header.checked_add_signed(entry)?.checked_sub(self.address)
            }
        }
    }
}

/// Makes the search table of a checked table that has none. `breathe` is called now and then.
pub(crate) fn search(
    table: &[u8],
    address: u64,
    kind: Kind,
    breathe: &mut dyn FnMut(),
) -> Option<Search> {
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut pairs = match kind {
        Kind::EhFrame => {
            let mut section = EhFrame::new(table, LittleEndian);
            section.set_address_size(8);
            starts(&section, &bases, breathe)?
        }
        Kind::DebugFrame => {
            let mut section = DebugFrame::new(table, LittleEndian);
            section.set_address_size(8);
            starts(&section, &bases, breathe)?
        }
    };
    pairs.sort_unstable();
    Some(Search::Made(pairs.into()))
}

fn starts<'a, S: UnwindSection<EndianSlice<'a, LittleEndian>>>(
    section: &S,
    bases: &BaseAddresses,
    breathe: &mut dyn FnMut(),
) -> Option<Vec<(u64, u32)>> {
    let mut pairs = Vec::new();
    let mut entries = section.entries(bases);
    while let Some(entry) = entries.next().ok()? {
        if let gimli::CieOrFde::Fde(frame) = entry
            && let Ok(frame) = frame.parse(S::cie_from_offset)
            // What the linker left out begins at nothing.
            && frame.initial_address() != 0
        {
            pairs.push((frame.initial_address(), u32::try_from(frame.offset()).ok()?));
        }
        if pairs.len().is_multiple_of(1024) {
            breathe();
        }
    }
    Some(pairs)
}
