//! Checks unwinding tables before they are used.
//!
//! The tables are programs of other people that run inside of this process: call frame
//! instructions, and in them DWARF expressions, which can loop for ever. This walks over all
//! entries once, when an image is first unwound, and accepts only what ends by itself: entries
//! that begin where entries begin, instructions that are known and of bounded length, expressions
//! without jumps. Tables of compilers pass; an image whose tables do not is walked along frame
//! pointers.
//!
//! Formats: Linux Standard Base, "Exception Frames"; DWARF 5, 6.4.2 and 2.5.

use super::sections::SEARCH_FORM;

/// The most bytes of instructions in one entry; real ones have some dozens.
const MAX_INSTRUCTIONS: usize = 1 << 14;
/// The most CIEs of a table; large programs have some hundred.
const MAX_COMMON: usize = 1 << 14;
/// The most bytes of one expression.
const MAX_EXPRESSION: u64 = 256;

/// Which kind of table it is: how an entry tells a CIE from an FDE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    EhFrame,
    DebugFrame,
}

/// Where entries begin in a checked table.
#[derive(Debug)]
pub(crate) struct Entries {
    /// One bit for every byte.
    starts: Vec<u64>,
}

impl Entries {
    fn new(length: usize) -> Self {
        Self { starts: vec![0; length / 64 + 1] }
    }

    fn add(&mut self, at: usize) {
        if let Some(word) = self.starts.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn has(&self, at: usize) -> bool {
        self.starts.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }
}

/// Checks a table; returns where its FDEs begin.
/// `breathe` is called now and then: a large table takes long.
pub(crate) fn check(table: &[u8], kind: Kind, breathe: &mut dyn FnMut()) -> Option<Entries> {
    let mut common = Entries::new(table.len());
    let mut frames = Entries::new(table.len());
    let mut augmented = CommonEntries::default();
    let mut at = 0;
    let mut entries = 0_u32;
    while at < table.len() {
        entries = entries.wrapping_add(1);
        if entries.is_multiple_of(1024) {
            breathe();
        }
        let mut cursor = Cursor(table.get(at..)?);
        let length = cursor.u32()?;
        if length == 0 && kind == Kind::EhFrame {
            break;
        }
        let mut header = 4;
        // The 64-bit form is for tables beyond 4 GiB.
        if length >= 0xffff_fff0 {
            return None;
        }
        if length == 0 {
            at += header;
            continue;
        }
        let body = cursor.bytes(length as usize)?;
        let mut entry = Cursor(body);
        let id = entry.u32()? as usize;
        let is_common = match kind {
            Kind::EhFrame => id == 0,
            Kind::DebugFrame => id == u32::MAX as usize,
        };
        if is_common {
            if augmented.all.len() >= MAX_COMMON {
                return None;
            }
            common.add(at);
            let size = common_entry(&mut entry)?;
            augmented.insert(at, size);
        } else {
            // In .eh_frame the distance back from the field itself, else the offset.
            let owner = match kind {
                Kind::EhFrame => (at + header).checked_sub(id)?,
                Kind::DebugFrame => id,
            };
            if !common.has(owner) {
                return None;
            }
            frames.add(at);
            // Two addresses of unknown encoding and the augmentation lie between here and the
            // instructions; `frame_entry` knows how long they are.
            frame_entry(&mut entry, augmented.get(owner)?)?;
        }
        header += length as usize;
        at += header;
    }
    Some(frames)
}

/// Checks the search table that belongs to a checked .eh_frame: it may only point to FDEs. The
/// arguments are the addresses and bytes of both sections.
pub(crate) fn check_search(
    (address, search): (u64, &[u8]),
    rules_address: u64,
    frames: &Entries,
) -> bool {
    let walk = || {
        let mut cursor = Cursor(search);
        // Version 1; pointers as 4 signed bytes from here, a count in 4 bytes, and pairs of 4
        // signed bytes from the start of the section: the one form that linkers write.
        if cursor.bytes(4)? != SEARCH_FORM {
            return None;
        }
        cursor.u32()?;
        let count = cursor.u32()? as usize;
        let pairs = cursor.bytes(count.checked_mul(8)?)?;
        for pair in pairs.as_chunks::<8>().0 {
            let [.., a, b, c, d] = *pair;
            let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
            let frame = address.checked_add_signed(distance)?.checked_sub(rules_address)?;
            if !frames.has(usize::try_from(frame).ok()?) {
                return None;
            }
        }
        Some(())
    };
    walk().is_some()
}

/// What an FDE must know of its CIE.
#[derive(Debug, Clone, Copy)]
struct Common {
    /// How addresses are encoded.
    pointers: u8,
    /// There is augmentation data with a length.
    augmented: bool,
}

/// CIEs by offset. A table has few, and an FDE follows its own, so the last is asked first.
#[derive(Debug, Default)]
struct CommonEntries {
    all: std::collections::BTreeMap<usize, Common>,
    last: Option<(usize, Common)>,
}

impl CommonEntries {
    fn insert(&mut self, at: usize, common: Common) {
        self.all.insert(at, common);
        self.last = Some((at, common));
    }

    fn get(&mut self, at: usize) -> Option<Common> {
        if let Some((last, common)) = self.last
            && last == at
        {
            return Some(common);
        }
        let common = *self.all.get(&at)?;
        self.last = Some((at, common));
        Some(common)
    }
}

fn common_entry(entry: &mut Cursor<'_>) -> Option<Common> {
    let version = entry.byte()?;
    let end = entry.0.iter().position(|byte| *byte == 0)?;
    let augmentation = entry.bytes(end)?;
    entry.byte()?;
    match version {
        1 | 3 => {}
        4 => {
            // Address and segment selector size.
            if entry.bytes(2)? != [8, 0] {
                return None;
            }
        }
        _ => return None,
    }
    entry.leb()?;
    entry.leb()?;
    if version == 1 {
        entry.byte()?;
    } else {
        entry.leb()?;
    }
    let mut common = Common { pointers: 0, augmented: false };
    if let [b'z', letters @ ..] = augmentation {
        common.augmented = true;
        let length = usize::try_from(entry.leb()?).ok()?;
        let mut data = Cursor(entry.bytes(length)?);
        for letter in letters {
            match letter {
                b'L' => drop(data.byte()?),
                b'R' => common.pointers = data.byte()?,
                b'P' => {
                    let encoding = data.byte()?;
                    data.pointer(encoding)?;
                }
                b'S' | b'B' => {}
                _ => return None,
            }
        }
    } else if !augmentation.is_empty() {
        return None;
    }
    instructions(entry.0, common.pointers)?;
    Some(common)
}

fn frame_entry(entry: &mut Cursor<'_>, common: Common) -> Option<()> {
    entry.pointer(common.pointers)?;
    entry.pointer(common.pointers & 0x0f)?;
    if common.augmented {
        let length = usize::try_from(entry.leb()?).ok()?;
        entry.bytes(length)?;
    }
    instructions(entry.0, common.pointers)
}

fn instructions(bytes: &[u8], pointers: u8) -> Option<()> {
    if bytes.len() > MAX_INSTRUCTIONS {
        return None;
    }
    let mut cursor = Cursor(bytes);
    while let Some(opcode) = cursor.byte() {
        match opcode {
            // advance_loc, restore; nop, remember_state, restore_state, window_save/negate_ra_state
            0x40..=0x7f | 0xc0..=0xff | 0x00 | 0x0a | 0x0b | 0x2d | 0x2c => {}
            0x01 => drop(cursor.pointer(pointers)?),
            0x02 => drop(cursor.bytes(1)?),
            0x03 => drop(cursor.bytes(2)?),
            0x04 => drop(cursor.bytes(4)?),
            // One number: offset; restore_extended, undefined, same_value, def_cfa_register,
            // def_cfa_offset, def_cfa_offset_sf, args_size
            0x80..=0xbf | 0x06 | 0x07 | 0x08 | 0x0d | 0x0e | 0x13 | 0x2e => drop(cursor.leb()?),
            // Two: offset_extended, register, def_cfa, offset_extended_sf, def_cfa_sf, val_offset,
            // val_offset_sf, negative_offset_extended
            0x05 | 0x09 | 0x0c | 0x11 | 0x12 | 0x14 | 0x15 | 0x2f => {
                cursor.leb()?;
                cursor.leb()?;
            }
            // def_cfa_expression; expression, val_expression
            0x0f => expression(&mut cursor)?,
            0x10 | 0x16 => {
                cursor.leb()?;
                expression(&mut cursor)?;
            }
            _ => return None,
        }
    }
    Some(())
}

fn expression(cursor: &mut Cursor<'_>) -> Option<()> {
    let length = cursor.leb()?;
    if length > MAX_EXPRESSION {
        return None;
    }
    let mut cursor = Cursor(cursor.bytes(length as usize)?);
    while let Some(opcode) = cursor.byte() {
        match opcode {
            // deref, dup…over, swap…xor, comparisons, literals, registers, nop, call_frame_cfa;
            // not bra (0x28) and skip (0x2f), nor calls
            0x06 | 0x12..=0x14 | 0x16..=0x22 | 0x24..=0x27 | 0x29..=0x2e | 0x30..=0x6f => {}
            0x96 | 0x9c => {}
            0x03 | 0x0e | 0x0f => drop(cursor.bytes(8)?),
            0x08 | 0x09 | 0x15 | 0x94 => drop(cursor.bytes(1)?),
            0x0a | 0x0b => drop(cursor.bytes(2)?),
            0x0c | 0x0d => drop(cursor.bytes(4)?),
            0x10 | 0x11 | 0x23 | 0x70..=0x91 | 0x93 => drop(cursor.leb()?),
            0x92 => {
                cursor.leb()?;
                cursor.leb()?;
            }
            _ => return None,
        }
    }
    Some(())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A number in LEB128, of at most ten bytes; for signed ones only the length matters.
    #[inline]
    fn leb(&mut self) -> Option<u64> {
        // Nearly all are one byte long.
        match self.0.split_first()? {
            (byte, rest) if byte & 0x80 == 0 => {
                self.0 = rest;
                Some(u64::from(*byte))
            }
            _ => self.long_leb(),
        }
    }

    fn long_leb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Skips an address in one of the encodings of exception frames.
    fn pointer(&mut self, encoding: u8) -> Option<()> {
        match encoding & 0x0f {
            _ if encoding == 0xff => {}
            0x00 | 0x04 | 0x0c => drop(self.bytes(8)?),
            0x01 | 0x09 => drop(self.leb()?),
            0x02 | 0x0a => drop(self.bytes(2)?),
            0x03 | 0x0b => drop(self.bytes(4)?),
            _ => return None,
        }
        Some(())
    }
}
