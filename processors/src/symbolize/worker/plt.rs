//! Names for the stubs through which a program calls other libraries (`memcpy@plt`).
//!
//! A stub jumps to the address in a slot; the relocation of the slot names the symbol. Reading the
//! jump itself works for every layout of stubs that linkers have made so far.

use std::collections::HashMap;
use std::ops::Range;

use object::read::elf::{ElfFile, FileHeader, SectionHeader as _};
use object::{Architecture, Endianness, Object, ObjectSection, RelocationTarget};

use super::arena::Arena;
use super::elf::Search;

/// More slots or stubs than this are not read.
const MAX_SLOTS: usize = 1 << 16;
/// The size of a stub, where the section does not say 8.
const STUB: usize = 16;

/// The sections that have stubs.
pub(super) const SECTIONS: [&str; 3] = [".plt", ".plt.sec", ".plt.got"];

/// Stubs: where each starts and ends, and its name.
pub(super) type Stubs<'a> = Vec<(u64, u64, &'a [u8])>;

/// True if the search is for an address in this section.
pub(super) fn contains<E: FileHeader<Endian = Endianness>>(
    file: &ElfFile<'_, E>,
    section: &str,
    search: &Search<'_>,
) -> bool {
    file.section_by_name(section).is_some_and(|section| {
        let start = section.address();
        search.asks_for(start, start.saturating_add(section.size()))
    })
}

/// Reads the stubs of a file.
pub(super) fn read<'a, E: FileHeader<Endian = Endianness>>(
    file: &ElfFile<'a, E>,
    arena: &'a Arena,
) -> Stubs<'a> {
    let target = match file.architecture() {
        Architecture::X86_64 => x86_64 as fn(&[u8], u64) -> Option<u64>,
        Architecture::Aarch64 => aarch64,
        _ => return Stubs::new(),
    };
    let mut slots = HashMap::new();
    let table = file.elf_dynamic_symbol_table();
    for (slot, relocation) in file.dynamic_relocations().into_iter().flatten().take(MAX_SLOTS) {
        let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
        let Ok(symbol) = table.symbol(symbol) else { continue };
        let name = table.symbol_name(file.endian(), symbol).unwrap_or_default();
        if !name.is_empty() && name.len() < 4096 {
            slots.insert(slot, name);
        }
    }
    let mut names = Vec::new();
    let mut stubs = Vec::new();
    for section in SECTIONS {
        let Some(section) = file.section_by_name(section) else { continue };
        let Ok(code) = section.data() else { continue };
        let entry: u64 = section.elf_section_header().sh_entsize(file.endian()).into();
        let size = if entry == 8 { 8 } else { STUB };
        for (at, stub) in code.chunks_exact(size).enumerate().take(MAX_SLOTS) {
            let address = section.address().wrapping_add((at * size) as u64);
            let Some(name) = target(stub, address).and_then(|slot| slots.get(&slot)) else {
                continue;
            };
            let from = names.len();
            names.extend_from_slice(name);
            names.extend_from_slice(b"@plt");
            stubs.push((address, size as u64, from..names.len()));
        }
    }
    let names = arena.keep(names);
    let stub = |(address, size, name): (u64, u64, Range<usize>)| {
        (address, address.saturating_add(size), names.get(name).unwrap_or_default())
    };
    stubs.into_iter().map(stub).collect()
}

/// The slot that `jmp *displacement(%rip)` in a stub reads.
fn x86_64(stub: &[u8], address: u64) -> Option<u64> {
    let at = stub.windows(2).position(|code| code == [0xff, 0x25])?;
    let displacement: [u8; 4] = stub.get(at + 2..at + 6)?.try_into().ok()?;
    let next = address.wrapping_add(at as u64 + 6);
    Some(next.wrapping_add_signed(i32::from_le_bytes(displacement).into()))
}

/// The slot that `adrp x16, page` and `ldr x17, [x16, #offset]` in a stub read.
fn aarch64(stub: &[u8], address: u64) -> Option<u64> {
    let words: Vec<u32> = stub
        .chunks_exact(4)
        .filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)))
        .collect();
    let at = words.iter().position(|word| word & 0x9f00_001f == 0x9000_0010)?;
    let (page, load) = (*words.get(at)?, *words.get(at + 1)?);
    if load & 0xffc0_03ff != 0xf940_0211 {
        return None;
    }
    let low = (page >> 29) & 3;
    let high = (page >> 5) & 0x7_ffff;
    // 21 bits with a sign, in pages.
    let pages = ((high << 2 | low) << 11) as i32 >> 11;
    let base = address.wrapping_add(at as u64 * 4) & !0xfff;
    let page = base.wrapping_add_signed(i64::from(pages) << 12);
    Some(page.wrapping_add(u64::from((load >> 10) & 0xfff) * 8))
}
