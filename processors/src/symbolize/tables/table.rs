//! One binary's names in its file: which blocks there are, and those that were asked for, decoded.
//!
//! Blocks are read by position, not mapped: whoever may write to the file could cut it short, which
//! would kill who has it mapped.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use super::super::answer::ResolvedAddress;
use super::format::{
    BLOCK_HEADER, Block, BlockHeader, IDENTITY_BYTES, Identity, WINDOW, decode_identity,
};

/// The most blocks of one file that are known.
const MAX_BLOCKS: usize = 1 << 16;
/// Blocks of one window that hold a part of it; beyond, it is time for a whole one.
pub(super) const MAX_PARTS: usize = 8;
/// How often it is looked whether another process has added something.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A table that is open.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) file: File,
    pub(super) identity: Identity,
    windows: HashMap<u64, Window>,
    blocks: usize,
    /// Up to where the file is known.
    end: u64,
    looked_at: Instant,
}

/// What there is of a window.
#[derive(Debug, Default)]
struct Window {
    places: Vec<Place>,
    is_whole: bool,
}

/// A block.
#[derive(Debug)]
struct Place {
    at: u64,
    header: BlockHeader,
    /// With when it was last used.
    decoded: Option<(u64, Block)>,
}

impl Table {
    /// A table from its file; none if it is not one, or not of `key`.
    pub(super) fn open(file: File, key: &str) -> Option<Self> {
        let mut bytes = vec![0; IDENTITY_BYTES];
        let length = read_up_to(&file, &mut bytes, 0)?;
        let (identity, end) = decode_identity(bytes.get(..length)?)?;
        if identity.key != key {
            return None;
        }
        let mut table = Self {
            file,
            identity,
            windows: HashMap::new(),
            blocks: 0,
            end,
            looked_at: Instant::now(),
        };
        table.look();
        Some(table)
    }

    /// Finds blocks that were added; returns where the last good one ends.
    pub(super) fn look(&mut self) -> u64 {
        self.looked_at = Instant::now();
        let size = self.file.metadata().map_or(0, |facts| facts.len());
        while self.blocks < MAX_BLOCKS {
            let mut header = [0; BLOCK_HEADER];
            let Some(BLOCK_HEADER) = read_up_to(&self.file, &mut header, self.end) else { break };
            let Some(header) = BlockHeader::decode(&header) else { break };
            let next = self.end + BLOCK_HEADER as u64 + u64::from(header.stored);
            if next > size {
                break;
            }
            let window = self.windows.entry(header.window).or_default();
            let place = Place { at: self.end, header, decoded: None };
            if header.is_whole {
                window.places.clear();
                window.is_whole = true;
            }
            if header.is_whole || !window.is_whole && window.places.len() < 2 * MAX_PARTS {
                window.places.push(place);
            }
            self.blocks += 1;
            self.end = next;
        }
        self.end
    }

    /// Whether nobody will find it again.
    pub(super) fn is_deleted(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        self.file.metadata().is_ok_and(|facts| facts.nlink() == 0)
    }

    /// Whether another process may have added something since it was last looked.
    fn refresh(&mut self) {
        if self.looked_at.elapsed() >= LOOK_INTERVAL {
            self.look();
        }
    }

    /// What is known about an address. `clock` says when, `bytes` is what all decoded blocks take.
    pub(super) fn find(
        &mut self,
        address: u64,
        clock: u64,
        bytes: &mut usize,
    ) -> Option<ResolvedAddress> {
        let start = address - address % WINDOW;
        if !self.windows.get(&start).is_some_and(|window| window.is_whole) {
            self.refresh();
        }
        let Self { file, windows, .. } = self;
        let window = windows.get_mut(&start)?;
        let mut found = None;
        window.places.retain_mut(|place| {
            if found.is_some() {
                return true;
            }
            if place.decoded.is_none() {
                let Some(block) = decode(file, place) else { return false };
                *bytes += block.bytes();
                place.decoded = Some((clock, block));
            }
            if let Some((used, block)) = &mut place.decoded {
                *used = clock;
                found = block.find(address);
            }
            true
        });
        if window.places.is_empty() {
            // It was broken: what is in its place is made again.
            windows.remove(&start);
        }
        found
    }

    /// Whether all of a window is known.
    pub(super) fn is_whole(&self, window: u64) -> bool {
        self.windows.get(&window).is_some_and(|window| window.is_whole)
    }

    /// How many blocks hold parts of a window.
    pub(super) fn parts(&self, window: u64) -> usize {
        self.windows.get(&window).map_or(0, |window| window.places.len())
    }

    /// Forgets decoded blocks that were used before this; the bytes that they took.
    pub(super) fn forget_before(&mut self, clock: u64) -> usize {
        let windows = self.windows.values_mut();
        windows.map(|window| window.forget(|used| used < clock)).sum()
    }

    /// Forgets the decoded blocks of a window; the bytes that they took.
    pub(super) fn forget_window(&mut self, window: u64) -> usize {
        self.windows.get_mut(&window).map_or(0, |window| window.forget(|_| true))
    }

    /// The bytes of decoded blocks.
    pub(super) fn bytes(&self) -> usize {
        let places = self.windows.values().flat_map(|window| &window.places);
        places.filter_map(|place| Some(place.decoded.as_ref()?.1.bytes())).sum()
    }
}

impl Window {
    /// Forgets the blocks that were last used at such a time.
    fn forget(&mut self, is_meant: impl Fn(u64) -> bool) -> usize {
        let mut bytes = 0;
        for place in &mut self.places {
            if let Some((_, block)) = place.decoded.take_if(|(used, _)| is_meant(*used)) {
                bytes += block.bytes();
            }
        }
        bytes
    }
}

fn decode(file: &File, place: &Place) -> Option<Block> {
    let mut bytes = vec![0; BLOCK_HEADER + place.header.stored as usize];
    file.read_exact_at(&mut bytes, place.at).ok()?;
    let (header, payload) = bytes.split_at_checked(BLOCK_HEADER)?;
    if BlockHeader::decode(header)? != place.header {
        return None;
    }
    Block::decode(&place.header, header, payload)
}

/// Reads as many bytes as there are.
fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> Option<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(filled)
}
