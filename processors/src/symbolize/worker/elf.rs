//! Names from ELF symbol tables.
//!
//! An address belongs to the symbol whose bytes it is in; a symbol without a size ends at the next
//! one, with its section, or where something else is known to begin. Of several symbols at one address the same one always wins: functions
//! before labels, global before weak before local, sized before not, the shorter name.
//!
//! Tables are not sorted and not copied. A compiler's library has half a million symbols, of which
//! a profile wants a dozen: one pass over the mapped table finds these, and leaves nothing behind.
//! The pass also finds how far around an address the answer is the same, so that the processor
//! does not ask again for the next instruction of that function.

use std::cmp::Ordering;

use object::elf;
use object::read::elf::{FileHeader, Sym, SymbolTable};

/// A search for the symbols of a few addresses, over any number of tables.
#[derive(Debug)]
pub(super) struct Search<'a> {
    /// Ascending.
    queries: Vec<SymbolQuery<'a>>,
    /// Comparisons left; a table in which every symbol is around every address runs out of them.
    work: usize,
}

#[derive(Debug)]
struct SymbolQuery<'a> {
    address: u64,
    /// No symbol or section starts or ends between these two but where they are.
    from: u64,
    /// See `from`.
    to: u64,
    /// The best symbol with a size that has the address in it.
    around: Option<Row<'a>>,
    /// The best symbol of the last ones that start at or before the address.
    nearest: Option<Row<'a>>,
}

/// What was found for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundSymbol<'a> {
    /// The address.
    pub(super) address: u64,
    /// The name of the symbol that it is in.
    pub(super) name: Option<&'a [u8]>,
    /// The same holds from here on.
    pub(super) from: u64,
    /// And up to before here.
    pub(super) to: u64,
}

#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    start: u64,
    /// The address after the last it can have.
    end: u64,
    /// Lower is better.
    rank: u8,
    name: &'a [u8],
}

/// The bit of a rank that says that a symbol has no size.
const SIZELESS: u8 = 4;
/// The rank of what is not a symbol.
const MADE_UP: u8 = !SIZELESS;
/// Comparisons in one search.
const MAX_WORK: usize = 1 << 27;

impl<'a> Row<'a> {
    /// Whether this one is the better answer to the same query.
    fn compare(&self, other: &Self) -> Ordering {
        let order = other.start.cmp(&self.start).then(self.rank.cmp(&other.rank));
        order.then_with(|| (self.name.len(), self.name).cmp(&(other.name.len(), other.name)))
    }

    fn compete(self, place: &mut Option<Row<'a>>) {
        if place.as_ref().is_none_or(|old| self.compare(old) == Ordering::Less) {
            *place = Some(self);
        }
    }
}

impl<'a> Search<'a> {
    /// A search for these addresses, in sections of code that are at `sections`.
    pub(super) fn new(addresses: &[u64], sections: &[(u64, u64)]) -> Self {
        let query =
            |address| SymbolQuery { address, from: 0, to: u64::MAX, around: None, nearest: None };
        let mut queries: Vec<_> = addresses.iter().copied().map(query).collect();
        queries.sort_unstable_by_key(|query| query.address);
        let mut search = Self { queries, work: MAX_WORK };
        for (from, to) in sections {
            search.add_border(*from);
            search.add_border(*to);
        }
        search
    }

    /// True if one of the addresses is in this range.
    pub(super) fn asks_for(&self, start: u64, end: u64) -> bool {
        let at = self.queries.partition_point(|query| query.address < start);
        self.queries.get(at).is_some_and(|query| query.address < end)
    }

    /// Looks through the functions of a symbol table.
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
            let end = start.saturating_add(size);
            let first = self.add_border(start);
            let last = if size == 0 { first } else { self.add_border(end) };
            // The symbols whose name matters are few; the others' names are not even looked at.
            let near = self
                .queries
                .get(first)
                .is_some_and(|query| query.nearest.as_ref().is_none_or(|row| row.start <= start));
            if first == last && !near {
                continue;
            }
            let Some(work) = self.work.checked_sub(1 + sections.len() / 16) else { return };
            self.work = work;
            // A function is in code; the section headers of a stripped file say where that is.
            let section = sections.iter().find(|(from, to)| (*from..*to).contains(&start));
            let Ok(name) = symbol.name(endian, table.strings()) else { continue };
            if (section.is_none() && !sections.is_empty()) || is_marker(name) {
                continue;
            }
            let binding = match symbol.st_bind() {
                elf::STB_GLOBAL | elf::STB_GNU_UNIQUE => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            let label = u8::from(kind == elf::STT_NOTYPE);
            let sizeless = if size == 0 { SIZELESS } else { 0 };
            let end = match (size, section) {
                (0, Some((_, end))) => *end,
                (0, None) => u64::MAX,
                _ => end,
            };
            let name = name.get(..name.len().min(super::super::protocol::MAX_NAME * 4));
            let name = name.unwrap_or_default();
            self.add_row(
                Row { start, end, rank: label << 3 | sizeless | binding, name },
                (first, last),
            );
        }
    }

    /// Adds one name for a range, worse than any symbol.
    pub(super) fn add_range(&mut self, start: u64, end: u64, name: &'a [u8]) {
        let places = (self.add_border(start), self.add_border(end));
        self.add_row(Row { start, end, rank: MADE_UP, name }, places);
    }

    fn add_row(&mut self, row: Row<'a>, (first, last): (usize, usize)) {
        if let Some(query) = self.queries.get_mut(first) {
            row.compete(&mut query.nearest);
        }
        let inside = self.queries.get_mut(first..last).unwrap_or_default();
        let Some(work) = self.work.checked_sub(inside.len()) else { return };
        self.work = work;
        for query in inside {
            row.compete(&mut query.around);
        }
    }

    /// Notes that the answer may change at an address; returns the first query from there on.
    fn add_border(&mut self, border: u64) -> usize {
        let at = self.queries.partition_point(|query| query.address < border);
        if let Some(query) = self.queries.get_mut(at) {
            query.from = query.from.max(border);
        }
        if let Some(query) = at.checked_sub(1).and_then(|at| self.queries.get_mut(at)) {
            query.to = query.to.min(border);
        }
        at
    }

    /// The answers, ascending. `is_of` says whether an address can be in the function of a symbol
    /// without a size, by where that starts.
    pub(super) fn finish(mut self, is_of: impl Fn(u64, u64) -> bool) -> Vec<FoundSymbol<'a>> {
        // What is noted for one query holds for those after it, or before it, too.
        let mut to = u64::MAX;
        for query in self.queries.iter_mut().rev() {
            to = to.min(query.to);
            query.to = to;
        }
        let (mut from, mut nearest) = (0, None::<Row<'a>>);
        let answer = |query: SymbolQuery<'a>| {
            from = query.from.max(from);
            if query.nearest.is_some() {
                nearest = query.nearest;
            }
            let mut best = query.around;
            let sizeless = nearest.filter(|row| row.rank & SIZELESS != 0);
            if let Some(row) = sizeless.filter(|row| query.address < row.end) {
                if is_of(row.start, query.address) {
                    row.compete(&mut best);
                }
                // Of the next address that may not be so.
                let (address, name) = (query.address, best.map(|row| row.name));
                return FoundSymbol { address, name, from: address, to: address.saturating_add(1) };
            }
            let to = best.map_or(query.to, |row| row.end.min(query.to));
            FoundSymbol { address: query.address, name: best.map(|row| row.name), from, to }
        };
        self.queries.into_iter().map(answer).collect()
    }
}

/// Symbols that assemblers put between code and data (`$x`, `$d.1` on ARM), and local labels.
fn is_marker(name: &[u8]) -> bool {
    name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L")
}
