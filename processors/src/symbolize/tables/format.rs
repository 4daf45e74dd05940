//! The file of one binary's names: ranges of addresses and the frames they stand for.
//!
//! ```text
//! file   = magic "ppranges", version u32, length u32, crc u32, identity (postcard), block…
//! block  = marker u32, crc u32, window u64, kind u32, stored u32, size u32, payload
//! ```
//! Numbers are little-endian. A block is about one *window*, [`WINDOW`] addresses from a multiple of
//! that: all of them, or those that were asked for so far. It stands alone (strings, functions, chains
//! of frames, ranges; each once), so that one is read without the others, and files grow at their end.
//! The payload is postcard, compressed with zstd where that is shorter. The checksum is over all that
//! follows it in the block: what was not written to its end is not there.
//!
//! Everything is read as hostile: sizes are bounded before anything is allocated, every number that
//! refers to something is checked once, when a block is read.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::super::answer::{Frame, Reason, Resolution, ResolvedAddress};
use super::super::protocol::{Language, MAX_FRAMES, MAX_NAME, WireFunction};

/// The addresses that a block is about: as few as let an address be found by reading little, as many
/// as share most of their functions. See `benches/symbolize.rs`.
pub(crate) const WINDOW: u64 = 1 << 15;
/// The beginning of a file.
const MAGIC: &[u8; 8] = b"ppranges";
/// What has another version is not read. It changes with the layout, and with what names look like.
const VERSION: u32 = 1;
/// The bytes before the identity.
const FILE_HEADER: usize = 20;
/// The bytes before a payload.
pub(in super::super) const BLOCK_HEADER: usize = 28;
/// The beginning of a block.
const MARKER: u32 = 0x6b62_7070;
/// The longest identity.
const MAX_IDENTITY: usize = 16 << 10;
/// The largest payload, compressed or not.
const MAX_PAYLOAD: usize = 16 << 20;
/// How much a payload is compressed: more takes longer and saves little.
const LEVEL: i32 = 3;

/// Which binary a file is about, and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The name of the file, which is the build id or the hash of the content.
    pub(crate) key: String,
    /// What was read to make it.
    pub(crate) sources: Sources,
    /// When it was begun, in seconds since 1970.
    pub(crate) made_at: u64,
    /// Of a file that holds nothing else: the hash of the content of a binary in this state.
    pub(crate) content: Option<String>,
}

impl Identity {
    /// Whether it was begun not longer ago than this.
    pub(crate) fn is_younger(&self, than: Duration) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.as_secs().abs_diff(self.made_at) < than.as_secs()
    }
}

/// What a table was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sources {
    /// The file that is executed, not only its debug file.
    pub(crate) has_executable: bool,
    /// Debug information, and what it refers to in other files.
    pub(crate) has_debug_info: bool,
    /// Debug information that is there and was not read, because it takes so many bytes of memory.
    pub(crate) left_out_bytes: u64,
    /// The name of the debug file that the executable states.
    pub(crate) debug_link: Option<String>,
}

impl Sources {
    /// Whether nothing could be added.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_executable && self.has_debug_info
    }

    /// Whether names from these are as good as names from those.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.has_executable >= other.has_executable && self.has_debug_info >= other.has_debug_info
    }
}

/// The beginning of a file.
pub(crate) fn encode_identity(identity: &Identity) -> Option<Vec<u8>> {
    let body = postcard::to_stdvec(identity).ok().filter(|body| body.len() <= MAX_IDENTITY)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Some(bytes)
}

/// The bytes that hold what [`decode_identity`] wants.
pub(crate) const IDENTITY_BYTES: usize = FILE_HEADER + MAX_IDENTITY;

/// Whose names a file holds, and where its first block begins; none if it is not such a file, of
/// another version, or broken.
pub(crate) fn decode_identity(bytes: &[u8]) -> Option<(Identity, u64)> {
    let number = |at: usize| u32_at(bytes, at);
    if !bytes.starts_with(MAGIC) || number(8)? != VERSION {
        return None;
    }
    let length = number(12)? as usize;
    let body = bytes.get(FILE_HEADER..FILE_HEADER.checked_add(length)?)?;
    if length > MAX_IDENTITY || crc32fast::hash(body) != number(16)? {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, (FILE_HEADER + length) as u64))
}

/// The header of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// The first address of the window.
    pub(crate) window: u64,
    /// All addresses of the window are in it.
    pub(crate) is_whole: bool,
    /// Bytes of the payload in the file.
    pub(crate) stored: u32,
    /// The same once decompressed.
    size: u32,
    crc: u32,
}

impl BlockHeader {
    /// Reads one; none if it is not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at| u32_at(bytes, at);
        let window = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        let (kind, stored, size) = (number(16)?, number(20)?, number(24)?);
        let is_good = number(0)? == MARKER
            && kind <= 1
            && window.is_multiple_of(WINDOW)
            && stored <= size
            && size as usize <= MAX_PAYLOAD;
        is_good.then_some(Self { window, is_whole: kind == 1, stored, size, crc: number(4)? })
    }
}

/// What a payload holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Payload {
    /// All strings, end to end.
    text: String,
    /// The length of each.
    strings: Vec<u32>,
    /// Name, system name, file (each a string), first line, language.
    functions: Vec<(u32, u32, u32, u32, Language)>,
    /// The frames of all chains, end to end: function, line, column.
    frames: Vec<(u32, u32, u32)>,
    /// The number of frames of each chain.
    chains: Vec<u32>,
    /// How many addresses, and their chain: [`UNKNOWN`], [`NAMELESS`] or, from [`FIRST`] on, a
    /// position in `chains`.
    ranges: Vec<(u32, u32)>,
}

/// Nobody has asked for these addresses yet.
const UNKNOWN: u32 = 0;
/// These have no symbol.
const NAMELESS: u32 = 1;
/// These have the first chain.
const FIRST: u32 = 2;

/// A window, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The first address of the window.
    pub(crate) window: u64,
    /// Where ranges start in the window, ascending from 0.
    starts: Vec<u32>,
    /// What each of them stands for.
    answers: Vec<u32>,
    /// Where the frames of each chain end in `payload.frames`.
    chain_ends: Vec<u32>,
    /// Where each string ends in the text.
    string_ends: Vec<u32>,
    payload: Payload,
    /// Those that were asked for, made once.
    functions: Vec<Option<Arc<WireFunction>>>,
    /// The same for chains.
    resolutions: Vec<Option<Resolution>>,
}

impl Block {
    /// Reads a block by its header and the bytes of its payload.
    pub(crate) fn decode(
        header: &BlockHeader,
        header_bytes: &[u8],
        payload: &[u8],
    ) -> Option<Self> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(header_bytes.get(8..BLOCK_HEADER)?);
        crc.update(payload);
        if crc.finalize() != header.crc || payload.len() != header.stored as usize {
            return None;
        }
        if header.stored == header.size {
            return Self::of_payload(header.window, payload);
        }
        let inflated = zstd::bulk::decompress(payload, header.size as usize).ok()?;
        Self::of_payload(header.window, &inflated)
    }

    /// Reads a payload, whatever it is.
    pub(crate) fn of_payload(window: u64, bytes: &[u8]) -> Option<Self> {
        let payload: Payload = postcard::from_bytes(bytes).ok()?;
        let string_ends = ends(&payload.strings)?;
        let chain_ends = ends(&payload.chains)?;
        let is_text = |end: &u32| payload.text.is_char_boundary(*end as usize);
        let count = |length: usize| u32::try_from(length).ok();
        let (strings, functions) = (count(string_ends.len())?, count(payload.functions.len())?);
        let chains = count(chain_ends.len())?;
        let is_good = string_ends.iter().all(is_text)
            && payload.strings.iter().all(|length| *length as usize <= MAX_NAME)
            && payload.functions.iter().all(|it| it.0.max(it.1).max(it.2) < strings)
            && payload.frames.iter().all(|frame| frame.0 < functions)
            && payload.chains.iter().all(|count| (1..=MAX_FRAMES as u32).contains(count))
            && chain_ends.last().copied().unwrap_or_default() == count(payload.frames.len())?;
        if !is_good {
            return None;
        }
        let mut starts = Vec::with_capacity(payload.ranges.len());
        let mut answers = Vec::with_capacity(payload.ranges.len());
        let mut at = 0_u32;
        for (length, answer) in &payload.ranges {
            if *length == 0 || *answer >= FIRST.checked_add(chains)? {
                return None;
            }
            starts.push(at);
            answers.push(*answer);
            at = at.checked_add(*length).filter(|end| u64::from(*end) <= WINDOW)?;
        }
        if u64::from(at) != WINDOW {
            return None;
        }
        let functions = vec![None; payload.functions.len()];
        let resolutions = vec![None; chain_ends.len()];
        // What is kept is read by position only.
        let payload =
            Payload { strings: Vec::new(), chains: Vec::new(), ranges: Vec::new(), ..payload };
        Some(Self {
            window,
            starts,
            answers,
            chain_ends,
            string_ends,
            payload,
            functions,
            resolutions,
        })
    }

    /// What is known about an address.
    pub(in super::super) fn find(&mut self, address: u64) -> Option<ResolvedAddress> {
        let offset = u32::try_from(address.checked_sub(self.window)?).ok()?;
        let at = self.starts.partition_point(|start| *start <= offset).checked_sub(1)?;
        let start = *self.starts.get(at)?;
        let end = self.starts.get(at + 1).copied().unwrap_or(WINDOW as u32);
        if offset >= end {
            return None;
        }
        let answer = match *self.answers.get(at)? {
            UNKNOWN => return None,
            NAMELESS => Resolution::Unnamed(Reason::NoSymbol),
            chain => self.resolution((chain - FIRST) as usize)?,
        };
        let same = self.window + u64::from(start)..self.window.checked_add(end.into())?;
        Some(ResolvedAddress { address, same, answer })
    }

    fn resolution(&mut self, chain: usize) -> Option<Resolution> {
        if let Some(known) = self.resolutions.get(chain)? {
            return Some(known.clone());
        }
        let range = part(&self.chain_ends, chain)?;
        let frames: Option<Arc<[Frame]>> = range
            .map(|at| {
                let (function, line, column) = *self.payload.frames.get(at)?;
                Some(Frame { function: self.function(function as usize)?, line, column })
            })
            .collect();
        let resolution = Resolution::Named(frames?);
        *self.resolutions.get_mut(chain)? = Some(resolution.clone());
        Some(resolution)
    }

    fn function(&mut self, at: usize) -> Option<Arc<WireFunction>> {
        if let Some(known) = self.functions.get(at)? {
            return Some(Arc::clone(known));
        }
        let (name, system_name, file, start_line, language) = *self.payload.functions.get(at)?;
        let text = |string: u32| {
            let range = part(&self.string_ends, string as usize)?;
            self.payload.text.get(range).map(str::to_owned)
        };
        let (name, system_name, file) = (text(name)?, text(system_name)?, text(file)?);
        let function = Arc::new(WireFunction { name, system_name, file, start_line, language });
        *self.functions.get_mut(at)? = Some(Arc::clone(&function));
        Some(function)
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let each = size_of::<Option<Arc<WireFunction>>>() + size_of::<(u32, u32, u32, u32, u32)>();
        self.starts.len() * 8
            + self.payload.text.len()
            + self.string_ends.len() * 4
            + self.functions.len() * each
            + self.payload.frames.len() * 12
            + self.resolutions.len() * (4 + size_of::<Option<Resolution>>())
            // Functions and chains that were asked for; they are shared with the answers.
            + 256
    }
}

/// Ends of parts with these lengths; none if they are too many.
fn ends(lengths: &[u32]) -> Option<Vec<u32>> {
    let mut end = 0_u32;
    let add = |length: &u32| {
        end = end.checked_add(*length)?;
        Some(end)
    };
    lengths.iter().map(add).collect()
}

/// The part at a position.
fn part(ends: &[u32], at: usize) -> Option<Range<usize>> {
    let start = at.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
    Some(start as usize..*ends.get(at)? as usize)
}

/// Writes a block of what is known of a window: answers for ranges, ascending; with header. None if
/// they overlap, or are too much.
pub(in super::super) fn encode_block(
    window: u64,
    is_whole: bool,
    ranges: &[(Range<u64>, Resolution)],
) -> Option<Vec<u8>> {
    let payload = postcard::to_stdvec(&collect(window, ranges)?).ok()?;
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let compressed = zstd::bulk::compress(&payload, LEVEL).ok();
    let stored = compressed.as_ref().filter(|short| short.len() < payload.len());
    let stored = stored.unwrap_or(&payload);
    let mut rest = window.to_le_bytes().to_vec();
    for number in [u32::from(is_whole), stored.len() as u32, payload.len() as u32] {
        rest.extend_from_slice(&number.to_le_bytes());
    }
    rest.extend_from_slice(stored);
    let mut bytes = MARKER.to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&rest).to_le_bytes());
    bytes.extend_from_slice(&rest);
    Some(bytes)
}

/// Puts each string, function and chain where it is only once.
fn collect(window: u64, ranges: &[(Range<u64>, Resolution)]) -> Option<Payload> {
    use std::collections::HashMap;
    let mut payload = Payload::default();
    let mut strings: HashMap<&str, u32> = HashMap::new();
    let mut functions: HashMap<&WireFunction, u32> = HashMap::new();
    let mut chains: HashMap<&[Frame], u32> = HashMap::new();
    let mut at = window;
    let end = window.checked_add(WINDOW)?;
    for (range, answer) in ranges {
        if range.start < at || range.end <= range.start || range.end > end {
            return None;
        }
        let answer = match answer {
            Resolution::Unnamed(_) => NAMELESS,
            Resolution::Named(frames) => {
                let chain = match chains.get(&**frames) {
                    Some(chain) => *chain,
                    None => {
                        for frame in &**frames {
                            let function = &*frame.function;
                            let place = functions.len() as u32;
                            let place = *functions.entry(function).or_insert_with(|| {
                                let [name, system_name, file] =
                                    [&function.name, &function.system_name, &function.file]
                                        .map(|text| intern(&mut payload, &mut strings, text));
                                let row = (name, system_name, file, function.start_line);
                                let (name, system_name, file, line) = row;
                                payload.functions.push((
                                    name,
                                    system_name,
                                    file,
                                    line,
                                    function.language,
                                ));
                                place
                            });
                            payload.frames.push((place, frame.line, frame.column));
                        }
                        payload.chains.push(u32::try_from(frames.len()).ok()?);
                        let chain = chains.len() as u32;
                        chains.insert(frames, chain);
                        chain
                    }
                };
                chain.checked_add(FIRST)?
            }
        };
        add_range(&mut payload.ranges, range.start - at, UNKNOWN);
        add_range(&mut payload.ranges, range.end - range.start, answer);
        at = range.end;
    }
    add_range(&mut payload.ranges, end - at, UNKNOWN);
    Some(payload)
}

fn intern<'s>(
    payload: &mut Payload,
    strings: &mut std::collections::HashMap<&'s str, u32>,
    text: &'s str,
) -> u32 {
    let next = strings.len() as u32;
    *strings.entry(text).or_insert_with(|| {
        payload.text.push_str(text);
        payload.strings.push(text.len() as u32);
        next
    })
}

/// Adds a range, or makes the last one longer.
fn add_range(ranges: &mut Vec<(u32, u32)>, length: u64, answer: u32) {
    if length == 0 {
        return;
    }
    // No range is longer than a window.
    let length = length as u32;
    match ranges.last_mut() {
        Some(last) if last.1 == answer => last.0 += length,
        _ => ranges.push((length, answer)),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The payload of the last block of a file, as it is before compression, for tests.
#[cfg(test)]
pub(in super::super) fn last_payload(file: &[u8]) -> Option<Vec<u8>> {
    let mut at = decode_identity(file)?.1 as usize;
    let mut last = None;
    while let Some(header) = file.get(at..).and_then(BlockHeader::decode) {
        let payload = file.get(at + BLOCK_HEADER..)?.get(..header.stored as usize)?;
        let is_plain = header.stored == header.size;
        last = if is_plain {
            Some(payload.to_vec())
        } else {
            zstd::bulk::decompress(payload, header.size as usize).ok()
        };
        at += BLOCK_HEADER + header.stored as usize;
    }
    last
}
