//! Decoding the dictionary.
//!
//! Rows are pushed as they come, with indices unchecked, because tables refer to each other in any
//! order; [`Dictionary::check`] looks at every column once when all of them are there.
//!
//! Row 0 of a table means "none" by the specification. Whatever a sender wrote there is read as
//! the zero value: an index 0 cannot be told from one that is not set. A table without any row is
//! read as one that has only row 0, because older senders leave tables out that they do not use.

use super::budget::Budget;
use super::schema;
use super::values::Values;
use super::wire::{Fault, FaultKind, Raw, Read, Reader, Took, fields, index, numbers, text};
use crate::profile::{
    AttributeIx, Dictionary, Function, FunctionIx, Index, Line, Link, LocationIx, MappingIx,
    StringIx, Strings, Value,
};

/// Rows of each table, by field number, and the bytes of all strings.
#[derive(Debug, Default)]
struct Counts {
    rows: [usize; 8],
    text: usize,
}

/// The dictionary under construction. A request may carry it in several pieces; protobuf says
/// that their tables are then concatenated.
#[derive(Debug, Default)]
pub(super) struct Tables<'a> {
    counts: Counts,
    seen: [usize; 8],
    arena: Vec<u8>,
    ends: Vec<u32>,
    attributes: Vec<&'a [u8]>,
    dictionary: Dictionary,
}

impl<'a> Tables<'a> {
    /// Counts the rows of one piece, so that columns are allocated once.
    pub(super) fn count(&mut self, bytes: &'a [u8]) -> Read<()> {
        let counts = &mut self.counts;
        fields(&schema::DICTIONARY, bytes, |number, raw| match (number, raw) {
            (1..=7, Raw::Bytes(row)) => {
                if let Some(rows) = counts.rows.get_mut(number as usize) {
                    *rows += 1;
                }
                if number == 5 {
                    counts.text += row.len();
                }
                Ok(Took::Yes)
            }
            _ => Ok(Took::No),
        })
    }

    /// Makes room for what was counted.
    pub(super) fn reserve(&mut self) {
        let [_, mappings, locations, functions, links, strings, attributes, stacks] =
            self.counts.rows;
        self.arena.reserve(self.counts.text);
        self.ends.reserve(strings);
        self.attributes.reserve(attributes);
        self.dictionary.mappings.reserve(mappings);
        self.dictionary.locations.reserve(locations);
        self.dictionary.functions.reserve(functions);
        self.dictionary.links.reserve(links);
        self.dictionary.stacks.reserve(stacks, 0);
    }

    /// Reads the rows of one piece.
    pub(super) fn read(&mut self, bytes: &'a [u8]) -> Read<()> {
        fields(&schema::DICTIONARY, bytes, |number, raw| {
            let (1..=7, Raw::Bytes(row)) = (number, raw) else { return Ok(Took::No) };
            let Some(seen) = self.seen.get_mut(number as usize) else { return Ok(Took::No) };
            *seen += 1;
            let first = *seen == 1;
            match number {
                5 => {
                    if first {
                        text(row)?;
                    } else {
                        self.arena.extend_from_slice(row);
                    }
                    self.ends.push(self.arena.len() as u32);
                }
                6 => self.attributes.push(row),
                4 if first => skip_link(row)?,
                4 => {
                    let link = link(row)?;
                    self.dictionary.links.push(link);
                }
                1 => mapping(&mut self.dictionary, row, first)?,
                2 => location(&mut self.dictionary, row, first)?,
                3 => function(&mut self.dictionary, row, first)?,
                _ => stack(&mut self.dictionary, row, first)?,
            }
            Ok(Took::Yes)
        })
    }

    /// The dictionary, every index checked by the caller's next step.
    pub(super) fn finish(mut self, request: &[u8], budget: &mut Budget) -> Read<Dictionary> {
        if !self.ends.is_empty() {
            self.dictionary.strings =
                strings(self.arena, self.ends).ok_or_else(|| find_bad_text(request))?;
        }
        let table = &mut self.dictionary.attributes;
        table.reserve(self.attributes.len());
        for (row, bytes) in self.attributes.into_iter().enumerate() {
            let (mut key, mut unit, mut value) = (0, 0, Value::Empty);
            budget.charge(bytes, size_of::<Value>())?;
            let mut values = Values { strings: &self.dictionary.strings, budget };
            fields(&schema::ATTRIBUTE, bytes, |number, raw| {
                match (number, raw) {
                    (1, Raw::Varint(row)) => key = index(row),
                    (1, Raw::Bytes(_)) => {
                        return Err(Reader::new(bytes).fault(FaultKind::Dialect(
                            "1.7 or older",
                            "attributes have text keys",
                        )));
                    }
                    (2, Raw::Bytes(bytes)) => values.value(bytes, &mut value, 0)?,
                    (3, Raw::Varint(row)) => unit = index(row),
                    _ => return Ok(Took::No),
                }
                Ok(Took::Yes)
            })?;
            if row > 0 {
                table.push(StringIx::new(key), value, StringIx::new(unit));
            }
        }
        Ok(self.dictionary)
    }
}

/// The string table of an arena. The arena is checked as a whole, which is much faster than text
/// by text: every text is UTF-8 if all of it is and no text ends inside a character.
fn strings(arena: Vec<u8>, ends: Vec<u32>) -> Option<Strings> {
    let arena = String::from_utf8(arena).ok()?;
    let whole = ends.iter().all(|end| arena.is_char_boundary(*end as usize));
    whole.then(|| Strings::from_arena(arena, ends))
}

/// The fault of the first text of the string table that is not UTF-8.
#[cold]
fn find_bad_text(request: &[u8]) -> Box<Fault> {
    fields(&schema::REQUEST, request, |number, raw| {
        if let (2, Raw::Bytes(dictionary)) = (number, raw) {
            fields(&schema::DICTIONARY, dictionary, |number, raw| {
                if let (5, Raw::Bytes(row)) = (number, raw) {
                    text(row)?;
                }
                Ok(Took::Yes)
            })?;
        }
        Ok(Took::Yes)
    })
    .err()
    .unwrap_or_else(|| Reader::new(request).fault(FaultKind::Utf8))
}

fn mapping(dictionary: &mut Dictionary, bytes: &[u8], first: bool) -> Read<()> {
    let table = &mut dictionary.mappings;
    let (mut start, mut limit, mut offset, mut filename) = (0, 0, 0, 0);
    fields(&schema::MAPPING, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(number)) => start = number,
            (2, Raw::Varint(number)) => limit = number,
            (3, Raw::Varint(number)) => offset = number,
            (4, Raw::Varint(row)) => filename = index(row),
            (5, raw) => {
                return numbers(raw, |row| {
                    if !first {
                        table.attributes.push_item(AttributeIx::new(index(row)));
                    }
                });
            }
            _ => return Ok(Took::No),
        }
        Ok(Took::Yes)
    })?;
    if !first {
        table.memory_starts.push(start);
        table.memory_limits.push(limit);
        table.file_offsets.push(offset);
        table.filenames.push(StringIx::new(filename));
        table.attributes.finish_row();
    }
    Ok(())
}

fn location(dictionary: &mut Dictionary, bytes: &[u8], first: bool) -> Read<()> {
    let table = &mut dictionary.locations;
    let (mut mapping, mut address) = (0, 0);
    fields(&schema::LOCATION, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => mapping = index(row),
            (2, Raw::Varint(number)) => address = number,
            (3, Raw::Bytes(bytes)) => {
                let line = line(bytes)?;
                if !first {
                    table.lines.push_item(line);
                }
            }
            (4, raw) => {
                return numbers(raw, |row| {
                    if !first {
                        table.attributes.push_item(AttributeIx::new(index(row)));
                    }
                });
            }
            _ => return Ok(Took::No),
        }
        Ok(Took::Yes)
    })?;
    if !first {
        table.mappings.push(MappingIx::new(mapping));
        table.addresses.push(address);
        table.lines.finish_row();
        table.attributes.finish_row();
    }
    Ok(())
}

#[inline(always)]
fn line(bytes: &[u8]) -> Read<Line> {
    let mut line = Line::default();
    fields(&schema::LINE, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => line.function = FunctionIx::new(index(row)),
            (2, Raw::Varint(number)) => line.line = number as i64,
            (3, Raw::Varint(number)) => line.column = number as i64,
            _ => return Ok(Took::No),
        }
        Ok(Took::Yes)
    })?;
    Ok(line)
}

fn function(dictionary: &mut Dictionary, bytes: &[u8], first: bool) -> Read<()> {
    let mut function = Function::default();
    fields(&schema::FUNCTION, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => function.name = StringIx::new(index(row)),
            (2, Raw::Varint(row)) => function.system_name = StringIx::new(index(row)),
            (3, Raw::Varint(row)) => function.filename = StringIx::new(index(row)),
            (4, Raw::Varint(number)) => function.start_line = number as i64,
            _ => return Ok(Took::No),
        }
        Ok(Took::Yes)
    })?;
    if !first {
        dictionary.functions.push(function);
    }
    Ok(())
}

/// Row 0 of the link table may be empty or hold ids of zeros; it is none in any case.
fn skip_link(bytes: &[u8]) -> Read<()> {
    fields(&schema::LINK, bytes, |number, raw| match (number, raw) {
        (1 | 2, Raw::Bytes(_)) => Ok(Took::Yes),
        _ => Ok(Took::No),
    })
}

fn link(bytes: &[u8]) -> Read<Link> {
    let mut link = Link::default();
    fields(&schema::LINK, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Bytes(bytes)) => link.trace_id = id(bytes)?,
            (2, Raw::Bytes(bytes)) => link.span_id = id(bytes)?,
            _ => return Ok(Took::No),
        }
        Ok(Took::Yes)
    })?;
    Ok(link)
}

/// An id: as long as it must be, or missing, which is zero.
pub(super) fn id<const LENGTH: usize>(bytes: &[u8]) -> Read<[u8; LENGTH]> {
    if bytes.is_empty() {
        return Ok([0; LENGTH]);
    }
    bytes.try_into().map_err(|_| Reader::new(bytes).fault(FaultKind::IdLength(bytes.len(), LENGTH)))
}

fn stack(dictionary: &mut Dictionary, bytes: &[u8], first: bool) -> Read<()> {
    let table = &mut dictionary.stacks;
    fields(&schema::STACK, bytes, |number, raw| match number {
        1 => numbers(raw, |row| {
            if !first {
                table.locations.push_item(LocationIx::new(index(row)));
            }
        }),
        _ => Ok(Took::No),
    })?;
    if !first {
        table.locations.finish_row();
    }
    Ok(())
}
