//! Names from ELF symbol tables.
//!
//! An address belongs to the symbol whose bytes it is in; a symbol without a size ends at the next
//! one or with its section. Of several symbols at one address the same one always wins: functions
//! before labels, global before weak before local, sized before not, the shorter name.
//!
//! Tables are not sorted and not copied. A compiler's library has half a million symbols, of which
//! a profile wants a dozen: one pass over the mapped table finds these, and leaves nothing behind.
//! The pass also tells how far around an address the answer is the same, so that the processor
//! does not ask again for the next instruction of that function.

use std::cmp::Ordering;

use object::elf;
use object::read::elf::{FileHeader, Sym, SymbolTable};

/// A search for the symbols of a few addresses, over any number of tables.
#[derive(Debug)]
pub(super) struct Search<'a> {
    /// Ascending.
    questions: Vec<Question<'a>>,
    /// Comparisons left; a table in which every symbol is around every address runs out of them.
    work: usize,
}

#[derive(Debug)]
struct Question<'a> {
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
pub(super) struct Found<'a> {
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
/// The rank of what is no symbol.
const MADE_UP: u8 = !SIZELESS;
/// Comparisons in one search.
const MAX_WORK: usize = 1 << 27;

impl<'a> Row<'a> {
    /// Whether this one is the better answer to the same question.
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
        let question =
            |address| Question { address, from: 0, to: u64::MAX, around: None, nearest: None };
        let mut questions: Vec<_> = addresses.iter().copied().map(question).collect();
        questions.sort_unstable_by_key(|question| question.address);
        let mut search = Self { questions, work: MAX_WORK };
        for (from, to) in sections {
            search.add_border(*from);
            search.add_border(*to);
        }
        search
    }

    /// True if one of the addresses is in this range.
    pub(super) fn asks_for(&self, start: u64, end: u64) -> bool {
        let at = self.questions.partition_point(|question| question.address < start);
        self.questions.get(at).is_some_and(|question| question.address < end)
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
            let near = self.questions.get(first).is_some_and(|question| {
                question.nearest.as_ref().is_none_or(|row| row.start <= start)
            });
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
        if let Some(question) = self.questions.get_mut(first) {
            row.compete(&mut question.nearest);
        }
        let inside = self.questions.get_mut(first..last).unwrap_or_default();
        let Some(work) = self.work.checked_sub(inside.len()) else { return };
        self.work = work;
        for question in inside {
            row.compete(&mut question.around);
        }
    }

    /// Notes that the answer may change at an address; returns the first question from there on.
    fn add_border(&mut self, border: u64) -> usize {
        let at = self.questions.partition_point(|question| question.address < border);
        if let Some(question) = self.questions.get_mut(at) {
            question.from = question.from.max(border);
        }
        if let Some(question) = at.checked_sub(1).and_then(|at| self.questions.get_mut(at)) {
            question.to = question.to.min(border);
        }
        at
    }

    /// The answers, ascending.
    pub(super) fn finish(mut self) -> Vec<Found<'a>> {
        // What is noted for one question holds for those after it, or before it, too.
        let mut to = u64::MAX;
        for question in self.questions.iter_mut().rev() {
            to = to.min(question.to);
            question.to = to;
        }
        let (mut from, mut nearest) = (0, None::<Row<'a>>);
        let answer = |question: Question<'a>| {
            from = question.from.max(from);
            if question.nearest.is_some() {
                nearest = question.nearest;
            }
            let mut best = question.around;
            let sizeless = nearest.filter(|row| row.rank & SIZELESS != 0);
            if let Some(row) = sizeless.filter(|row| question.address < row.end) {
                row.compete(&mut best);
            }
            let to = best.map_or(question.to, |row| row.end.min(question.to));
            Found { address: question.address, name: best.map(|row| row.name), from, to }
        };
        self.questions.into_iter().map(answer).collect()
    }
}

/// Symbols that assemblers put between code and data (`$x`, `$d.1` on ARM), and local labels.
fn is_marker(name: &[u8]) -> bool {
    name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L")
}
