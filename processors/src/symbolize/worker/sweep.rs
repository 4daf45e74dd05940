//! Names for all addresses of a range, for a table that is kept.
//!
//! The answers are those that each address alone would have: the same functions give them. What is
//! found here is only how far each holds. Symbols change at the borders that symbol tables, stubs,
//! sections and the unwinding table state, so one search for all of these answers for everything in
//! between. Within, lines change with the rows of the line table. Where nothing says how far nothing is
//! known, each address is asked for.

use std::ops::Range;
use std::time::Duration;

use addr2line::Context;
use object::read::elf::{ElfFile, FileHeader, Sym as _, SymbolTable};
use object::{Endianness, elf};

use super::super::protocol::MAX_FRAMES;
use super::arena::Arena;
use super::binary::{Binary, Elf, Tables, find_symbols, with_elf, write_dwarf, write_go};
use super::demangle;
use super::dwarf::{self, DwarfFrame, Reader};
use super::elf::{FoundSymbol, Search};
use super::names::NamesWriter;
use super::plt;
use super::split::Splits;

impl<'a> Binary<'a> {
    /// See [`super::binary::LoadedBinary::sweep`].
    pub(super) fn sweep(
        &mut self,
        arena: &'a Arena,
        range: Range<u64>,
        names: &mut NamesWriter,
        memory: u64,
        until: Slice,
    ) {
        self.read_debug(arena, memory);
        let Some(tables) = &mut self.tables else { return };
        let files = (&self.main, self.debug.as_ref());
        let pieces = match tables.pieces.take().filter(|pieces| pieces.goes_on_at(&range)) {
            Some(pieces) => pieces,
            None => Pieces::find(files, tables, arena, &range),
        };
        let mut at = range.start;
        'all: for (end, symbol) in pieces.rest(at) {
            let mut piece = Piece { tables, symbol, end };
            while at < end {
                let next = piece.write(at, names).clamp(at + 1, end);
                let goes_on = names.finish_address(at, &(at..next));
                at = next;
                if !goes_on || until.is_over() {
                    break 'all;
                }
            }
        }
        tables.pieces = Some(Pieces { next: at, ..pieces });
    }
}

/// When it is enough for one answer: after so much CPU time, because a worker may be held for most of the
/// time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice(Duration);

impl Slice {
    /// From now on.
    pub(super) fn of(length: Duration) -> Self {
        Self(cpu_time() + length)
    }

    fn is_over(self) -> bool {
        cpu_time() > self.0
    }
}

/// What this thread has taken, or the time where that is not known.
fn cpu_time() -> Duration {
    #[cfg(target_os = "linux")]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    #[cfg(not(target_os = "linux"))]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.try_into().unwrap_or_default())
}

/// The parts of a range in each of which all addresses are in the same symbol.
pub(super) struct Pieces<'a> {
    /// Where each ends, ascending.
    parts: Vec<(u64, FoundSymbol<'a>)>,
    /// The end of the range.
    end: u64,
    /// The first address that has not been answered.
    next: u64,
}

impl<'a> Pieces<'a> {
    fn find(
        files: (&Elf<'a>, Option<&Elf<'a>>),
        tables: &mut Tables<'a>,
        arena: &'a Arena,
        range: &Range<u64>,
    ) -> Self {
        let borders = borders(files, tables, arena, range);
        let search = Search::new(&borders, &tables.code);
        let found = find_symbols(files.0, files.1, tables, arena, search);
        let ends = borders.iter().skip(1).copied().chain([range.end]);
        Self { parts: ends.zip(found).collect(), end: range.end, next: range.start }
    }

    /// Whether a range is what is left of this one.
    fn goes_on_at(&self, range: &Range<u64>) -> bool {
        (self.next, self.end) == (range.start, range.end)
    }

    /// The parts from an address on.
    fn rest(&self, from: u64) -> impl Iterator<Item = (u64, FoundSymbol<'a>)> {
        let first = self.parts.partition_point(|(end, _)| *end <= from);
        self.parts.iter().skip(first).copied()
    }
}

/// The addresses up to one, which are in the same symbol.
struct Piece<'t, 'a> {
    tables: &'t mut Tables<'a>,
    symbol: FoundSymbol<'a>,
    end: u64,
}

impl<'a> Piece<'_, 'a> {
    /// Writes the frames of an address; returns the first after it where they may be others.
    fn write(&mut self, address: u64, names: &mut NamesWriter) -> u64 {
        let symbol = self.symbol.name;
        if let Some((frames, same)) = self.tables.go.as_ref().and_then(|go| go.frames(address)) {
            write_go(&frames, names);
            return same.end;
        }
        let Tables { go, debug, splits, .. } = &mut *self.tables;
        let mut debug = debug.as_mut().and_then(Option::as_mut);
        if let Some(context) = debug.as_mut().and_then(|units| units.at(address)) {
            let frames = dwarf::frames(context, splits, address, MAX_FRAMES);
            if write_dwarf(&frames, symbol, names) {
                return end_of_row(context, splits, address, self.end, &frames);
            }
        }
        if let Some(symbol) = symbol {
            names.frame_at((symbol, &[]), (0, 0), || demangle::function(symbol, "", false));
        }
        if go.is_none() && debug.is_none() {
            return self.end;
        }
        let is_known = |at: &u64| {
            go.as_ref().is_some_and(|go| go.frames(*at).is_some())
                || debug.as_mut().and_then(|units| units.at(*at)).is_some_and(|context| {
                    let frames = dwarf::frames(context, splits, *at, MAX_FRAMES);
                    write_dwarf(&frames, symbol, &mut NamesWriter::default())
                })
        };
        (address + 1..self.end).find(is_known).unwrap_or(self.end)
    }
}

/// Where the row of the line table ends that an address is in, if the frames are the same there.
fn end_of_row<'a>(
    context: &Context<Reader<'a>>,
    splits: &mut Splits<'a>,
    address: u64,
    limit: u64,
    frames: &[DwarfFrame<'_>],
) -> u64 {
    let rows = context.find_location_range(address, address.saturating_add(1));
    let row = rows.into_iter().flatten().next();
    let row = row.map(|(start, size, _)| start..start.saturating_add(size));
    let Some(row) = row.filter(|row| row.contains(&address)) else { return address + 1 };
    let end = row.end.min(limit);
    let last = end.saturating_sub(1);
    if last <= address || dwarf::frames(context, splits, last, MAX_FRAMES) == frames {
        return end;
    }
    address + 1
}

/// The start of a range, and where in it symbols may change; ascending.
fn borders<'a>(
    (main, debug): (&Elf<'a>, Option<&Elf<'a>>),
    tables: &mut Tables<'a>,
    arena: &'a Arena,
    range: &Range<u64>,
) -> Vec<u64> {
    let mut borders = vec![range.start];
    let mut add = |border: u64| {
        if range.contains(&border) {
            borders.push(border);
        }
    };
    for (from, to) in &tables.code {
        add(*from);
        add(*to);
    }
    for elf in [Some(main), debug, tables.small.as_ref()].into_iter().flatten() {
        with_elf!(elf, file => add_symbols(file, &mut add));
    }
    let functions =
        tables.functions.get_or_insert_with(|| main.functions(arena, &mut tables.budget));
    if let Some(functions) = functions {
        functions.borders(range, &mut add);
    }
    borders.sort_unstable();
    borders.dedup();
    let search = Search::new(&borders, &[]);
    let in_stubs = |section| with_elf!(main, file => plt::contains(file, section, &search));
    if plt::SECTIONS.into_iter().any(in_stubs) {
        let stubs =
            tables.stubs.get_or_insert_with(|| with_elf!(main, file => plt::read(file, arena)));
        let ends = stubs.iter().flat_map(|(start, end, _)| [*start, *end]);
        borders.extend(ends.filter(|border| range.contains(border)));
        borders.sort_unstable();
        borders.dedup();
    }
    borders
}

/// Where the functions of a file's symbol tables begin and end.
fn add_symbols<E: FileHeader<Endian = Endianness>>(
    file: &ElfFile<'_, E>,
    add: &mut impl FnMut(u64),
) {
    let mut of = |table: &SymbolTable<'_, E>| {
        for symbol in table.symbols() {
            let kind = symbol.st_type();
            if !matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE) {
                continue;
            }
            let start: u64 = symbol.st_value(file.endian()).into();
            let size: u64 = symbol.st_size(file.endian()).into();
            add(start);
            // One without a size may be alone with its first address.
            add(start.saturating_add(size.max(1)));
        }
    };
    of(file.elf_symbol_table());
    of(file.elf_dynamic_symbol_table());
}

/// Opens a file of which whole ranges are asked, for tests.
#[cfg(test)]
pub(in super::super) fn sweeper(
    file: &std::os::fd::OwnedFd,
) -> impl FnMut(Range<u64>) -> super::super::protocol::Names + use<> {
    let mut binary = super::binary::open(file).ok();
    move |range| {
        let mut names = NamesWriter::default();
        let until = Slice::of(Duration::from_micros(100));
        if let Some(binary) = &mut binary {
            binary.sweep(range, &mut names, 1 << 30, until);
        }
        names.finish()
    }
}
