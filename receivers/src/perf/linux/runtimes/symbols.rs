//! Where an ELF file has its variables and functions.
//!
//! The file belongs to somebody else: tables are bounded, and every offset in them is checked.

use std::ops::Range;

use object::Endianness;
use profpipe_host::content::{self, Content};
use profpipe_host::elf::{Headers, MAX_HEADERS, Section};

/// The largest table of symbols or names that is read.
const MAX_TABLE: u64 = 32 << 20;
/// The bytes of a symbol.
const SYMBOL: usize = 24;

/// A variable or function: its address in the file's own address space, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) address: u64,
    pub(crate) size: u64,
}

impl Symbol {
    /// The addresses that it covers in a process, which has the file so far from its own addresses.
    pub(crate) fn range(self, bias: u64) -> Range<u64> {
        let start = self.address.wrapping_add(bias);
        start..start.saturating_add(self.size)
    }
}

/// The symbols of a file.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    tables: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Symbols {
    /// Reads the symbols that a file exports, if `wanted` is among their names.
    pub(crate) fn exported<C: Content + ?Sized>(content: &C, wanted: &str) -> Option<Self> {
        let headers = Headers::read(content, MAX_HEADERS).ok()??;
        if !headers.is_64 || headers.endian != Endianness::Little {
            return None;
        }
        let names = table(content, &headers, b".dynstr")?;
        let wanted: Vec<u8> = wanted.bytes().chain([0]).collect();
        if !contains(&names, &wanted) {
            return None;
        }
        let exported = table(content, &headers, b".dynsym")?;
        Some(Self { tables: vec![(exported, names)] })
    }

    /// Adds those that are not exported, if the file was not stripped of them.
    pub(crate) fn add_local<C: Content + ?Sized>(&mut self, content: &C) {
        let Ok(Some(headers)) = Headers::read(content, MAX_HEADERS) else { return };
        if let Some(symbols) = table(content, &headers, b".symtab")
            && let Some(names) = table(content, &headers, b".strtab")
        {
            self.tables.push((symbols, names));
        }
    }

    /// Every defined symbol, with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Symbol)> {
        self.tables.iter().flat_map(|(symbols, names)| {
            symbols.as_chunks::<SYMBOL>().0.iter().filter_map(move |bytes| {
                let (head, rest) = bytes.split_first_chunk::<4>()?;
                let (info, rest) = rest.split_first_chunk::<4>()?;
                let (address, size) = rest.split_first_chunk::<8>()?;
                let [_, _, section @ ..] = info;
                if u16::from_le_bytes(*section) == 0 {
                    return None;
                }
                let name = names.get(u32::from_le_bytes(*head) as usize..)?;
                let name = name.split(|byte| *byte == 0).next()?;
                let address = u64::from_le_bytes(*address);
                let size = u64::from_le_bytes(*size.first_chunk::<8>()?);
                Some((name, Symbol { address, size }))
            })
        })
    }

    /// The symbol of a name.
    pub(crate) fn find(&self, name: &str) -> Option<Symbol> {
        self.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, symbol)| symbol)
    }
}

fn table<C: Content + ?Sized>(content: &C, headers: &Headers, name: &[u8]) -> Option<Vec<u8>> {
    let mut sections = headers.sections.iter().flatten();
    let section: &Section = sections.find(|section| headers.name(section) == name)?;
    let is_plain = section.has_bytes() && !section.is_compressed();
    if !is_plain || section.size > MAX_TABLE {
        return None;
    }
    content::read(content, headers.length, section.offset, section.size).ok()
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    let Some(first) = wanted.first() else { return true };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let Some(from) = rest.get(at..) else { return false };
        if from.starts_with(wanted) {
            return true;
        }
        rest = from.get(1..).unwrap_or_default();
    }
    false
}
