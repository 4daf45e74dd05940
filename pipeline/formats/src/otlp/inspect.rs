//! Whether a request can be passed on as it is: everything that decoding checks, without building
//! anything, so that a gateway that only forwards does not pay for tables.
//!
//! It knows only what generated encoders write. What it does not know is not wrong, it is for
//! [`super::lenient`] to judge, which reads everything and costs more.

use super::schema;
use super::values::MAX_VALUE_DEPTH;
use super::wire::{CanonicalReader, FieldUse, Raw, Read, Reader, fields, packed_below, runs, text};

/// How much a request holds that can be passed on as it is; `None` if it needs a closer look.
///
/// Such a request decodes, keeps its samples when it is encoded anew, has a row 0 in every table,
/// and no references from attributes into the string table.
pub(super) fn validate_passthrough(request: &[u8]) -> Option<usize> {
    if request.len() > i32::MAX as usize {
        return None;
    }
    let mut dictionary = None;
    let mut pieces = 0;
    fields(&schema::REQUEST, request, |number, raw| {
        if let (2, Raw::Bytes(bytes)) = (number, raw) {
            dictionary = Some(bytes);
            pieces += 1;
        }
        Ok(FieldUse::Yes)
    })
    .ok()?;
    let (Some(dictionary), 1) = (dictionary, pieces) else { return None };
    let rows = Rows::count(dictionary)?;
    rows.dictionary(dictionary)?;
    let mut samples = 0;
    let mut clean = true;
    fields(&schema::REQUEST, request, |number, raw| {
        match (number, raw) {
            (1, Raw::Bytes(bytes)) => match rows.resource_profiles(bytes) {
                Some(more) => samples += more,
                None => clean = false,
            },
            (2, Raw::Bytes(_)) => {}
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })
    .ok()?;
    clean.then_some(samples)
}

/// The number of rows of each table, by field number.
struct Rows([usize; 8]);

const MAPPINGS: usize = 1;
const LOCATIONS: usize = 2;
const FUNCTIONS: usize = 3;
const LINKS: usize = 4;
const STRINGS: usize = 5;
const ATTRIBUTES: usize = 6;
const STACKS: usize = 7;

impl Rows {
    fn count(dictionary: &[u8]) -> Option<Self> {
        let mut rows = [0; 8];
        runs(&schema::DICTIONARY, dictionary, |number, raw, run| {
            let (1..=7, Raw::Bytes(_)) = (number, raw) else { return Ok(FieldUse::No) };
            let mut more = 1;
            while run.row((number << 3 | 2) as u8).is_some() {
                more += 1;
            }
            if let Some(count) = rows.get_mut(number as usize) {
                *count += more;
            }
            Ok(FieldUse::Yes)
        })
        .ok()?;
        rows.iter().skip(1).all(|count| *count > 0).then_some(Self(rows))
    }

    fn of(&self, table: usize) -> u64 {
        self.0.get(table).map_or(0, |rows| *rows as u64)
    }

    fn list(&self, packed: &[u8], table: usize) -> Option<()> {
        (packed.is_empty() || packed_below(packed, self.of(table) as usize)).then_some(())
    }

    /// The index in a field.
    #[inline(always)]
    fn index(&self, message: &mut CanonicalReader<'_>, field: u8, table: usize) -> Option<()> {
        (message.number(field)? < self.of(table)).then_some(())
    }

    fn dictionary(&self, dictionary: &[u8]) -> Option<()> {
        let mut clean = true;
        runs(&schema::DICTIONARY, dictionary, |number, raw, run| {
            let (1..=7, Raw::Bytes(mut row)) = (number, raw) else { return Ok(FieldUse::No) };
            loop {
                let good = match number {
                    1 => self.mapping(row),
                    2 => self.location(row),
                    3 => self.function(row),
                    4 => link(row),
                    5 => text(row).ok().map(drop),
                    6 => self.attribute(row),
                    _ => self.stack(row),
                };
                clean &= good.is_some();
                match run.row((number << 3 | 2) as u8) {
                    Some(next) => row = next,
                    None => return Ok(FieldUse::Yes),
                }
            }
        })
        .ok()?;
        clean.then_some(())
    }

    fn mapping(&self, row: &[u8]) -> Option<()> {
        let mut message = CanonicalReader::new(row);
        for field in 1..=3 {
            message.number(field)?;
        }
        self.index(&mut message, 4, STRINGS)?;
        self.list(message.bytes(5)?, ATTRIBUTES)?;
        message.end()
    }

    #[inline(always)]
    fn location(&self, row: &[u8]) -> Option<()> {
        let mut message = CanonicalReader::new(row);
        self.index(&mut message, 1, MAPPINGS)?;
        message.number(2)?;
        while message.is_next(3, 2) {
            let mut line = CanonicalReader::new(message.rest_of_field()?);
            self.index(&mut line, 1, FUNCTIONS)?;
            line.number(2)?;
            line.number(3)?;
            line.end()?;
        }
        self.list(message.bytes(4)?, ATTRIBUTES)?;
        message.end()
    }

    #[inline(always)]
    fn function(&self, row: &[u8]) -> Option<()> {
        let mut message = CanonicalReader::new(row);
        for field in 1..=3 {
            self.index(&mut message, field, STRINGS)?;
        }
        message.number(4)?;
        message.end()
    }

    fn attribute(&self, row: &[u8]) -> Option<()> {
        let mut message = CanonicalReader::new(row);
        self.index(&mut message, 1, STRINGS)?;
        value(message.bytes(2)?, 0)?;
        self.index(&mut message, 3, STRINGS)?;
        message.end()
    }

    #[inline(always)]
    fn stack(&self, row: &[u8]) -> Option<()> {
        let mut message = CanonicalReader::new(row);
        self.list(message.bytes(1)?, LOCATIONS)?;
        message.end()
    }

    fn resource_profiles(&self, bytes: &[u8]) -> Option<usize> {
        let mut samples = 0;
        all(&schema::RESOURCE_PROFILES, bytes, |number, raw| match (number, raw) {
            (1, Raw::Bytes(resource)) => {
                // Entities are not looked at, and stay.
                all(&schema::RESOURCE, resource, |number, raw| match (number, raw) {
                    (1, Raw::Bytes(bytes)) => key_value(bytes, 0),
                    (2, Raw::Varint(_)) => Some(()),
                    (number, _) => (number > 2).then_some(()),
                })
            }
            (2, Raw::Bytes(scope)) => {
                samples += self.scope_profiles(scope)?;
                Some(())
            }
            (3, Raw::Bytes(bytes)) => text(bytes).ok().map(drop),
            (number, _) => (number > 3).then_some(()),
        })?;
        Some(samples)
    }

    fn scope_profiles(&self, bytes: &[u8]) -> Option<usize> {
        let mut samples = 0;
        all(&schema::SCOPE_PROFILES, bytes, |number, raw| match (number, raw) {
            (1, Raw::Bytes(scope)) => {
                all(&schema::SCOPE, scope, |number, raw| match (number, raw) {
                    (1 | 2, Raw::Bytes(bytes)) => text(bytes).ok().map(drop),
                    (3, Raw::Bytes(bytes)) => key_value(bytes, 0),
                    (4, Raw::Varint(_)) => Some(()),
                    (number, _) => (number > 4).then_some(()),
                })
            }
            (2, Raw::Bytes(profile)) => {
                samples += self.profile(profile)?;
                Some(())
            }
            (3, Raw::Bytes(bytes)) => text(bytes).ok().map(drop),
            (number, _) => (number > 3).then_some(()),
        })?;
        Some(samples)
    }

    fn profile(&self, bytes: &[u8]) -> Option<usize> {
        let mut samples = 0;
        let mut clean = true;
        runs(&schema::PROFILE, bytes, |number, raw, run| {
            let good = match (number, raw) {
                (1 | 5, Raw::Bytes(bytes)) => {
                    let mut message = CanonicalReader::new(bytes);
                    let kind = self.index(&mut message, 1, STRINGS);
                    let unit = self.index(&mut message, 2, STRINGS);
                    kind.and(unit).and_then(|()| message.end())
                }
                (2, Raw::Bytes(mut row)) => loop {
                    samples += 1;
                    let good = self.sample(row);
                    if good.is_none() {
                        break None;
                    }
                    match run.row(2 << 3 | 2) {
                        Some(next) => row = next,
                        None => break good,
                    }
                },
                (3, Raw::Fixed64(_)) | (4 | 6 | 8, Raw::Varint(_)) => Some(()),
                (7, Raw::Bytes(id)) => matches!(id.len(), 0 | 16).then_some(()),
                (9, Raw::Bytes(bytes)) => text(bytes).ok().map(drop),
                (10, Raw::Bytes(_)) => Some(()),
                (11, Raw::Bytes(packed)) => self.list(packed, ATTRIBUTES),
                (number, _) => (number > 11).then_some(()),
            };
            clean &= good.is_some();
            Ok(FieldUse::Yes)
        })
        .ok()?;
        clean.then_some(samples)
    }

    #[inline(always)]
    fn sample(&self, row: &[u8]) -> Option<()> {
        let mut message = CanonicalReader::new(row);
        self.index(&mut message, 1, STACKS)?;
        let attributes = message.bytes(2)?;
        self.list(attributes, ATTRIBUTES)?;
        self.index(&mut message, 3, LINKS)?;
        let packed = message.bytes(4)?;
        let mut values = Reader::new(packed);
        while !values.is_empty() {
            values.varint().ok()?;
        }
        let times = message.bytes(5)?;
        if times.len() % 8 != 0 {
            return None;
        }
        message.end()?;
        if packed.is_empty() && !attributes.is_empty() {
            // An older protocol has values where attributes are. As many of them as timestamps are
            // a sign of it, to be looked at closer.
            let count = attributes.iter().filter(|byte| **byte < 0x80).count();
            let times = times.len() / 8;
            if times == 0 || (count > 1 && count == times) {
                return None;
            }
        }
        Some(())
    }
}

/// Reads a message in which every field must be good.
#[inline(always)]
fn all<'a>(
    message: &'static schema::Message,
    bytes: &'a [u8],
    mut good: impl FnMut(u32, Raw<'a>) -> Option<()>,
) -> Option<()> {
    let mut clean = true;
    let read: Read<()> = fields(message, bytes, |number, raw| {
        clean &= good(number, raw).is_some();
        Ok(FieldUse::Yes)
    });
    read.ok()?;
    clean.then_some(())
}

fn link(row: &[u8]) -> Option<()> {
    let mut message = CanonicalReader::new(row);
    let (trace, span) = (message.bytes(1)?, message.bytes(2)?);
    message.end()?;
    (matches!(trace.len(), 0 | 16) && matches!(span.len(), 0 | 8)).then_some(())
}

/// A `KeyValue` without a reference.
fn key_value(bytes: &[u8], depth: usize) -> Option<()> {
    all(&schema::KEY_VALUE, bytes, |number, raw| match (number, raw) {
        (1, Raw::Bytes(key)) => text(key).ok().map(drop),
        (2, Raw::Bytes(bytes)) => value(bytes, depth),
        (3, Raw::Varint(row)) => (row == 0).then_some(()),
        (number, _) => (number > 3).then_some(()),
    })
}

/// An `AnyValue` without a reference.
fn value(bytes: &[u8], depth: usize) -> Option<()> {
    if depth > MAX_VALUE_DEPTH {
        return None;
    }
    let mut alone = 0;
    all(&schema::ANY_VALUE, bytes, |number, raw| {
        alone += 1;
        match (number, raw) {
            (1, Raw::Bytes(bytes)) => text(bytes).ok().map(drop),
            (2 | 3, Raw::Varint(_)) | (4, Raw::Fixed64(_)) | (7, Raw::Bytes(_)) => Some(()),
            (5, Raw::Bytes(bytes)) => {
                all(&schema::ARRAY_VALUE, bytes, |number, raw| match (number, raw) {
                    (1, Raw::Bytes(bytes)) => value(bytes, depth + 1),
                    (number, _) => (number > 1).then_some(()),
                })
            }
            (6, Raw::Bytes(bytes)) => {
                all(&schema::KEY_VALUE_LIST, bytes, |number, raw| match (number, raw) {
                    (1, Raw::Bytes(bytes)) => key_value(bytes, depth + 1),
                    (number, _) => (number > 1).then_some(()),
                })
            }
            _ => None,
        }
    })?;
    (alone <= 1).then_some(())
}
