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
use super::sizing::{Counts, Listed};
use super::values::Values;
use super::wire::{
    CanonicalReader, Fault, FaultKind, FieldUse, Raw, Read, Reader, fields, index, indices, runs,
    text,
};
use profpipe_profile::{
    Dictionary, Function, FunctionIx, Functions, Index, Line, Link, Links, Locations, MappingIx,
    Mappings, Stacks, StringIx, Strings, Value,
};

/// The dictionary under construction. A request may carry it in several pieces; protobuf says
/// that their tables are then concatenated.
#[derive(Debug, Default)]
pub(super) struct Tables<'a> {
    counts: Counts,
    /// The tables whose row 0 was read.
    seen: [bool; 8],
    arena: Vec<u8>,
    ends: Vec<u32>,
    attributes: Vec<&'a [u8]>,
    dictionary: Dictionary,
}

impl<'a> Tables<'a> {
    /// Counts the rows of one piece, so that columns are allocated once; with `exact`, what their
    /// lists hold, too.
    pub(super) fn count(&mut self, bytes: &'a [u8], exact: bool) -> Read<()> {
        let counts = &mut self.counts;
        runs(&schema::DICTIONARY, bytes, |number, raw, run| {
            let (1..=7, Raw::Bytes(row)) = (number, raw) else { return Ok(FieldUse::No) };
            let at = number as usize;
            let (Some(count), Some(listed)) = (counts.rows.get_mut(at), counts.listed.get_mut(at))
            else {
                return Ok(FieldUse::No);
            };
            if exact {
                let into = if *count == 0 { &mut counts.zero } else { &mut *listed };
                into.add(Listed::of(number, row));
            }
            let (mut rows, mut length) = (1, row.len());
            while let Some(row) = run.row(row_key(number)) {
                rows += 1;
                length += row.len();
                if exact {
                    listed.add(Listed::of(number, row));
                }
            }
            *count += rows;
            match number {
                5 => counts.text += length,
                7 if !exact => listed.indices += length,
                _ => {}
            }
            Ok(FieldUse::Yes)
        })
    }

    /// What the columns of what was counted take, if it was counted exactly.
    pub(super) fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    /// Makes room for what was counted.
    pub(super) fn reserve(&mut self, exact: bool) {
        if !exact {
            self.counts.guess();
        }
        let [_, _, _, _, _, strings, attributes, _] = self.counts.rows;
        self.arena.reserve(self.counts.text);
        self.ends.reserve(strings);
        self.attributes.reserve(attributes);
        self.counts.reserve(&mut self.dictionary);
    }

    /// Reads the rows of one piece.
    pub(super) fn read(&mut self, bytes: &'a [u8]) -> Read<()> {
        runs(&schema::DICTIONARY, bytes, |number, raw, run| {
            let (1..=7, Raw::Bytes(row)) = (number, raw) else { return Ok(FieldUse::No) };
            let Some(seen) = self.seen.get_mut(number as usize) else { return Ok(FieldUse::No) };
            if !std::mem::replace(seen, true) {
                self.row_0(number, row)?;
                return Ok(FieldUse::Yes);
            }
            let tables = &mut self.dictionary;
            match number {
                1 => each(row, run, 1, |row| mapping(&mut tables.mappings, row)),
                2 => each(row, run, 2, |row| location(&mut tables.locations, row)),
                3 => each(row, run, 3, |row| function(&mut tables.functions, row)),
                4 => each(row, run, 4, |row| link(&mut tables.links, row)),
                5 => each(row, run, 5, |row| {
                    self.arena.extend_from_slice(row);
                    self.ends.push(self.arena.len() as u32);
                    Ok(())
                }),
                6 => each(row, run, 6, |row| {
                    self.attributes.push(row);
                    Ok(())
                }),
                _ => each(row, run, 7, |row| stack(&mut tables.stacks, row)),
            }?;
            Ok(FieldUse::Yes)
        })
    }

    /// A row 0 is read like any other, and thrown away.
    #[inline(never)]
    fn row_0(&mut self, number: u32, row: &'a [u8]) -> Read<()> {
        let mut zero = Dictionary::default();
        Counts::reserve_row_0(number, row, &mut zero);
        match number {
            1 => mapping(&mut zero.mappings, row),
            2 => location(&mut zero.locations, row),
            3 => function(&mut zero.functions, row),
            4 => link(&mut zero.links, row),
            5 => {
                self.ends.push(0);
                text(row).map(drop)
            }
            6 => {
                self.attributes.push(row);
                Ok(())
            }
            _ => stack(&mut zero.stacks, row),
        }
    }

    /// The dictionary, every index checked by the caller's next step.
    ///
    /// With `lenient`, attributes whose references lead nowhere are empty, and returned beside it.
    /// Last, whether every table has a row 0.
    pub(super) fn finish(
        mut self,
        request: &[u8],
        budget: &mut Budget<'_>,
        lenient: bool,
    ) -> Read<(Dictionary, Vec<usize>, bool)> {
        let mut unresolved = Vec::new();
        let complete = self.seen.iter().skip(1).all(|seen| *seen);
        if !self.ends.is_empty() {
            self.dictionary.strings =
                strings(self.arena, self.ends).ok_or_else(|| find_bad_text(request))?;
        }
        let table = &mut self.dictionary.attributes;
        table.reserve(self.attributes.len());
        for (row, bytes) in self.attributes.into_iter().enumerate() {
            let (mut key, mut unit, mut value) = (0, 0, Value::Empty);
            budget.limited(bytes, size_of::<Value>())?;
            let mut values = Values { strings: &self.dictionary.strings, budget };
            let read = fields(&schema::ATTRIBUTE, bytes, |number, raw| {
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
                    _ => return Ok(FieldUse::No),
                }
                Ok(FieldUse::Yes)
            });
            match read {
                Err(fault) if lenient && fault.is_of_index() => unresolved.push(row),
                read => read?,
            }
            if row > 0 {
                table.push(StringIx::new(key), value, StringIx::new(unit));
            }
        }
        Ok((self.dictionary, unresolved, complete))
    }
}

/// The key of a row of the table `number`.
#[inline(always)]
fn row_key(number: u32) -> u8 {
    (number << 3 | 2) as u8
}

/// Reads a row of the table `number` and those that follow it at once.
#[inline(always)]
fn each<'a>(
    row: &'a [u8],
    run: &mut Reader<'a>,
    number: u32,
    mut read: impl FnMut(&'a [u8]) -> Read<()>,
) -> Read<()> {
    read(row)?;
    while let Some(row) = run.row(row_key(number)) {
        read(row)?;
    }
    Ok(())
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
                Ok(FieldUse::Yes)
            })?;
        }
        Ok(FieldUse::Yes)
    })
    .err()
    .unwrap_or_else(|| Reader::new(request).fault(FaultKind::Utf8))
}

fn mapping(table: &mut Mappings, bytes: &[u8]) -> Read<()> {
    let (mut start, mut limit, mut offset, mut filename) = (0, 0, 0, 0);
    fields(&schema::MAPPING, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(number)) => start = number,
            (2, Raw::Varint(number)) => limit = number,
            (3, Raw::Varint(number)) => offset = number,
            (4, Raw::Varint(row)) => filename = index(row),
            (5, raw) => return indices(raw, table.attributes.open_items()),
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })?;
    table.memory_starts.push(start);
    table.memory_limits.push(limit);
    table.file_offsets.push(offset);
    table.filenames.push(StringIx::new(filename));
    table.attributes.finish_row();
    Ok(())
}

#[inline(always)]
fn location(table: &mut Locations, bytes: &[u8]) -> Read<()> {
    if usual_location(table, bytes).is_some() {
        return Ok(());
    }
    any_location(table, bytes)
}

#[inline(never)]
fn any_location(table: &mut Locations, bytes: &[u8]) -> Read<()> {
    table.lines.abandon_row();
    table.attributes.abandon_row();
    let (mut mapping, mut address) = (0, 0);
    fields(&schema::LOCATION, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => mapping = index(row),
            (2, Raw::Varint(number)) => address = number,
            (3, Raw::Bytes(bytes)) => {
                let line = line(bytes)?;
                table.lines.push_item(line);
            }
            (4, raw) => return indices(raw, table.attributes.open_items()),
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })?;
    table.mappings.push(MappingIx::new(mapping));
    table.addresses.push(address);
    table.lines.finish_row();
    table.attributes.finish_row();
    Ok(())
}

#[inline(always)]
fn usual_location(table: &mut Locations, bytes: &[u8]) -> Option<()> {
    let mut message = CanonicalReader::new(bytes);
    let mapping = message.index(1)?;
    let address = message.number(2)?;
    while message.is_next(3, 2) {
        let mut line = CanonicalReader::new(message.rest_of_field()?);
        table.lines.push_item(Line {
            function: line.index(1)?,
            line: line.number(2)? as i64,
            column: line.number(3)? as i64,
        });
        line.end()?;
    }
    message.indices(4, table.attributes.open_items())?;
    message.end()?;
    table.mappings.push(mapping);
    table.addresses.push(address);
    table.lines.finish_row();
    table.attributes.finish_row();
    Some(())
}

fn line(bytes: &[u8]) -> Read<Line> {
    let mut line = Line::default();
    fields(&schema::LINE, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => line.function = FunctionIx::new(index(row)),
            (2, Raw::Varint(number)) => line.line = number as i64,
            (3, Raw::Varint(number)) => line.column = number as i64,
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })?;
    Ok(line)
}

#[inline(always)]
fn usual_function(bytes: &[u8]) -> Option<Function> {
    let mut message = CanonicalReader::new(bytes);
    let function = Function {
        name: message.index(1)?,
        system_name: message.index(2)?,
        filename: message.index(3)?,
        start_line: message.number(4)? as i64,
    };
    message.end()?;
    Some(function)
}

#[inline(always)]
fn function(table: &mut Functions, bytes: &[u8]) -> Read<()> {
    if let Some(function) = usual_function(bytes) {
        table.push(function);
        return Ok(());
    }
    any_function(table, bytes)
}

#[inline(never)]
fn any_function(table: &mut Functions, bytes: &[u8]) -> Read<()> {
    let mut function = Function::default();
    fields(&schema::FUNCTION, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => function.name = StringIx::new(index(row)),
            (2, Raw::Varint(row)) => function.system_name = StringIx::new(index(row)),
            (3, Raw::Varint(row)) => function.filename = StringIx::new(index(row)),
            (4, Raw::Varint(number)) => function.start_line = number as i64,
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })?;
    table.push(function);
    Ok(())
}

fn link(table: &mut Links, bytes: &[u8]) -> Read<()> {
    let mut link = Link::default();
    fields(&schema::LINK, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Bytes(bytes)) => link.trace_id = id(bytes)?,
            (2, Raw::Bytes(bytes)) => link.span_id = id(bytes)?,
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })?;
    table.push(link);
    Ok(())
}

/// An id: as long as it must be, or missing, which is zero.
pub(super) fn id<const LENGTH: usize>(bytes: &[u8]) -> Read<[u8; LENGTH]> {
    if bytes.is_empty() {
        return Ok([0; LENGTH]);
    }
    bytes.try_into().map_err(|_| Reader::new(bytes).fault(FaultKind::IdLength(bytes.len(), LENGTH)))
}

#[inline(always)]
fn stack(table: &mut Stacks, bytes: &[u8]) -> Read<()> {
    let mut message = CanonicalReader::new(bytes);
    let usual = message.indices(1, table.locations.open_items());
    if usual.and_then(|()| message.end()).is_some() {
        table.locations.finish_row();
        return Ok(());
    }
    any_stack(table, bytes)
}

#[inline(never)]
fn any_stack(table: &mut Stacks, bytes: &[u8]) -> Read<()> {
    table.locations.abandon_row();
    fields(&schema::STACK, bytes, |number, raw| match number {
        1 => indices(raw, table.locations.open_items()),
        _ => Ok(FieldUse::No),
    })?;
    table.locations.finish_row();
    Ok(())
}
