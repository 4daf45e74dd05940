//! Names from ELF symbol tables.
//!
//! An address belongs to the symbol whose bytes it is in; a symbol without a size ends at the next
//! one or with its section. Of several symbols at one address the same one always wins: functions
//! before labels, global before weak before local, sized before not, the shorter name.

use object::elf;
use object::read::elf::{FileHeader, Sym, SymbolTable};

/// The symbols of one binary, from any number of tables.
#[derive(Debug, Default)]
pub(super) struct Symbols<'a> {
    rows: Vec<Row<'a>>,
    /// The largest end among the rows up to each row.
    reach: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    start: u64,
    /// The address after the last; [`u64::MAX`] until [`Symbols::finish`] for one without a size.
    end: u64,
    /// Lower is better.
    rank: u8,
    name: &'a [u8],
}

/// How many rows before the nearest one are looked at for one that contains an address.
const MAX_ENCLOSING: usize = 64;

impl<'a> Symbols<'a> {
    /// Adds the functions of a symbol table.
    pub(super) fn add<Elf: FileHeader>(
        &mut self,
        endian: Elf::Endian,
        table: &SymbolTable<'a, Elf>,
        sections: &[(u64, u64)],
    ) {
        for symbol in table.symbols() {
            let kind = symbol.st_type();
            if !matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE)
                || symbol.is_undefined(endian)
            {
                continue;
            }
            let start: u64 = symbol.st_value(endian).into();
            let size: u64 = symbol.st_size(endian).into();
            let Ok(name) = symbol.name(endian, table.strings()) else { continue };
            // A function is in code; the section headers of a stripped file say where that is.
            let section = sections.iter().find(|(from, to)| (*from..*to).contains(&start));
            if (section.is_none() && !sections.is_empty()) || is_marker(name) {
                continue;
            }
            let binding = match symbol.st_bind() {
                elf::STB_GLOBAL | elf::STB_GNU_UNIQUE => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            let label = u8::from(kind == elf::STT_NOTYPE);
            let rank = label << 3 | u8::from(size == 0) << 2 | binding;
            let end = match (size, section) {
                (0, Some((_, end))) => *end,
                (0, None) => u64::MAX,
                (size, _) => start.saturating_add(size),
            };
            let name = name.get(..name.len().min(super::super::protocol::MAX_NAME * 4));
            self.rows.push(Row { start, end, rank, name: name.unwrap_or_default() });
        }
    }

    /// Adds one name for a range, worse than any symbol.
    pub(super) fn add_range(&mut self, start: u64, end: u64, name: &'a [u8]) {
        self.rows.push(Row { start, end, rank: u8::MAX, name });
    }

    /// Orders the rows; call it after the last `add`.
    pub(super) fn finish(&mut self) {
        self.rows.sort_by(|a, b| {
            (a.start, a.rank, a.name.len(), a.name).cmp(&(b.start, b.rank, b.name.len(), b.name))
        });
        self.rows.dedup_by_key(|row| row.start);
        // Without a size: to the next symbol.
        let starts: Vec<u64> = self.rows.iter().skip(1).map(|row| row.start).collect();
        for (row, next) in self.rows.iter_mut().zip(starts) {
            if row.rank & 4 != 0 && row.rank != u8::MAX {
                row.end = row.end.min(next);
            }
        }
        self.rows.shrink_to_fit();
        let mut reach = 0;
        self.reach = self
            .rows
            .iter()
            .map(|row| {
                reach = row.end.max(reach);
                reach
            })
            .collect();
    }

    /// The name of the symbol that an address is in.
    pub(super) fn find(&self, address: u64) -> Option<&'a [u8]> {
        let after = self.rows.partition_point(|row| row.start <= address);
        let rows = self.rows.iter().zip(&self.reach).take(after).rev().take(MAX_ENCLOSING);
        for (row, reach) in rows {
            if address < row.end {
                return Some(row.name);
            }
            if *reach <= address {
                break;
            }
        }
        None
    }
}

/// Symbols that assemblers put between code and data (`$x`, `$d.1` on ARM), and local labels.
fn is_marker(name: &[u8]) -> bool {
    name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L")
}
