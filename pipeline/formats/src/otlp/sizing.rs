//! What rows hold, counted before they are read: columns are then allocated once.
//!
//! Where memory has to be paid for before it is taken, everything is counted, and columns get room
//! for exactly that. Elsewhere a guess will do, which costs less.

use super::schema;
use super::wire::{CanonicalReader, FieldUse, Raw, Read, fields, runs};
use profpipe_profile::{Dictionary, Function, Line, Link, Profile, Samples, Value};

/// The key of a sample in a profile.
pub(super) const SAMPLE_KEY: u8 = 2 << 3 | 2;

/// What allocations may take beside what is asked of them, for each set of columns: their headers,
/// and the least that a column makes room for.
const ROUND: usize = 512;

/// How many numbers bytes can hold: each ends with a byte that has no continuation bit.
pub(super) fn numbers(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte < 0x80).count()
}

/// How many numbers a field holds, packed or not.
fn numbers_of(raw: Raw<'_>) -> usize {
    match raw {
        Raw::Bytes(packed) => numbers(packed),
        _ => 1,
    }
}

/// What the lists of rows of a table hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Listed {
    pub(super) indices: usize,
    pub(super) lines: usize,
}

impl Listed {
    /// What a row of the table `number` holds. At a fault it stops, and so will whoever reads.
    pub(super) fn of(number: u32, row: &[u8]) -> Self {
        let mut listed = Self::default();
        let (message, indices, lines) = match number {
            1 => (&schema::MAPPING, 5, 0),
            2 => match Self::of_usual_location(row) {
                Some(usual) => return usual,
                None => (&schema::LOCATION, 4, 3),
            },
            7 => match Self::of_usual_stack(row) {
                Some(usual) => return usual,
                None => (&schema::STACK, 1, 0),
            },
            _ => return listed,
        };
        let _ = fields(message, row, |number, raw| {
            if number == indices {
                listed.indices += numbers_of(raw);
            } else if number == lines {
                listed.lines += 1;
            }
            Ok(FieldUse::Yes)
        });
        listed
    }

    fn of_usual_location(row: &[u8]) -> Option<Self> {
        let mut message = CanonicalReader::new(row);
        message.number(1)?;
        message.number(2)?;
        let mut lines = 0;
        while message.is_next(3, 2) {
            message.rest_of_field()?;
            lines += 1;
        }
        let indices = numbers(message.bytes(4)?);
        message.end()?;
        Some(Self { indices, lines })
    }

    fn of_usual_stack(row: &[u8]) -> Option<Self> {
        let mut message = CanonicalReader::new(row);
        let indices = numbers(message.bytes(1)?);
        message.end()?;
        Some(Self { indices, lines: 0 })
    }

    pub(super) fn add(&mut self, more: Self) {
        self.indices += more.indices;
        self.lines += more.lines;
    }

    /// What they take.
    fn bytes(self) -> usize {
        4 * self.indices + size_of::<Line>() * self.lines
    }
}

/// What the tables hold: rows, by field number, what their lists hold, and the bytes of all texts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) rows: [usize; 8],
    pub(super) listed: [Listed; 8],
    pub(super) text: usize,
    /// What rows 0 hold, which are read and thrown away.
    pub(super) zero: Listed,
}

impl Counts {
    /// What the columns of these tables take, reading included.
    pub(super) fn bytes(&self) -> usize {
        let [_, mappings, locations, functions, links, strings, attributes, stacks] = self.rows;
        let lists: usize = self.listed.iter().map(|listed| listed.bytes()).sum();
        // Beside its columns, a row has a mark if something is wrong with the dictionary.
        let columns = mappings * (28 + 4 + 1)
            + locations * (12 + 8 + 1)
            + functions * (size_of::<Function>() + 1)
            + links * size_of::<Link>()
            + strings * 4
            // The key, the unit, the value, where it stands, and that it could not be resolved.
            + attributes * (8 + size_of::<Value>() + size_of::<&[u8]>() + 16 + 1)
            + stacks * (4 + 1);
        columns + lists + self.text + self.zero.bytes() + 8 * ROUND
    }

    /// Guesses what was not counted.
    pub(super) fn guess(&mut self) {
        let [_, mappings, locations, _, _, _, _, stacks] = &mut self.listed;
        mappings.indices = self.rows.get(1).copied().unwrap_or_default();
        locations.lines = self.rows.get(2).copied().unwrap_or_default();
        // Most indices take two bytes.
        stacks.indices /= 2;
    }

    /// Makes room for the rows.
    pub(super) fn reserve(&self, dictionary: &mut Dictionary) {
        let [_, mappings, locations, functions, links, _, _, stacks] = self.rows;
        let [_, of_mappings, of_locations, _, _, _, _, of_stacks] = self.listed;
        let table = &mut dictionary.mappings;
        table.memory_starts.reserve(mappings);
        table.memory_limits.reserve(mappings);
        table.file_offsets.reserve(mappings);
        table.filenames.reserve(mappings);
        table.attributes.reserve(mappings, of_mappings.indices);
        let table = &mut dictionary.locations;
        table.mappings.reserve(locations);
        table.addresses.reserve(locations);
        table.lines.reserve(locations, of_locations.lines);
        table.attributes.reserve(locations, of_locations.indices);
        dictionary.functions.reserve(functions);
        dictionary.links.reserve(links);
        dictionary.stacks.reserve(stacks, of_stacks.indices);
    }

    /// Makes room for the row 0 of the table `number`, in tables of its own.
    pub(super) fn reserve_row_0(number: u32, row: &[u8], zero: &mut Dictionary) {
        let Listed { indices, lines } = Listed::of(number, row);
        match number {
            1 => zero.mappings.attributes.reserve(1, indices),
            2 => {
                zero.locations.lines.reserve(1, lines);
                zero.locations.attributes.reserve(1, indices);
            }
            7 => zero.stacks.reserve(1, indices),
            _ => {}
        }
    }
}

/// What the samples of a profile hold, and the rest of it.
#[derive(Debug, Default)]
pub(super) struct Exact {
    rows: usize,
    attributes: usize,
    values: usize,
    times: usize,
    /// The attributes of the profile itself.
    own: usize,
    /// The bytes of what the profile was made of.
    payload: usize,
}

impl Exact {
    /// What the profile holds.
    pub(super) fn of(profile: &[u8]) -> Read<Self> {
        let mut exact = Self::default();
        runs(&schema::PROFILE, profile, |number, raw, run| {
            match (number, raw) {
                (2, Raw::Bytes(row)) => {
                    exact.sample(row);
                    while let Some(row) = run.row(SAMPLE_KEY) {
                        exact.sample(row);
                    }
                }
                (9 | 10, Raw::Bytes(bytes)) => exact.payload += bytes.len(),
                (11, raw) => exact.own += numbers_of(raw),
                _ => {}
            }
            Ok(FieldUse::Yes)
        })?;
        Ok(exact)
    }

    fn sample(&mut self, row: &[u8]) {
        self.rows += 1;
        if let Some((attributes, values, times)) = lists(row) {
            self.attributes += numbers(attributes);
            self.values += numbers(values);
            self.times += times.len() / 8;
            return;
        }
        // At a fault it stops, and so will whoever reads.
        let _ = fields(&schema::SAMPLE, row, |number, raw| {
            match (number, raw) {
                (2, raw) => self.attributes += numbers_of(raw),
                (4, raw) => self.values += numbers_of(raw),
                (5, Raw::Bytes(packed)) => self.times += packed.len() / 8,
                (5, _) => self.times += 1,
                _ => {}
            }
            Ok(FieldUse::Yes)
        });
    }

    /// What all of it takes.
    pub(super) fn bytes(&self) -> usize {
        // A stack, a link, and the ends of three lists.
        self.rows * (4 + 4 + 3 * 4)
            + 4 * self.attributes
            + 8 * (self.values + self.times)
            + 4 * self.own
            + self.payload
            + ROUND
    }

    /// Makes room for it.
    pub(super) fn reserve(&self, into: &mut Profile) {
        into.attributes.reserve(self.own);
        let samples = &mut into.samples;
        samples.stacks.reserve(self.rows);
        samples.links.reserve(self.rows);
        samples.attributes.reserve(self.rows, self.attributes);
        samples.values.reserve(self.rows, self.values);
        samples.timestamps.reserve(self.rows, self.times);
    }
}

/// The attributes, values and timestamps of a sample, packed, if it is as generated encoders write
/// it.
fn lists(row: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut message = CanonicalReader::new(row);
    message.number(1)?;
    let attributes = message.bytes(2)?;
    message.number(3)?;
    let values = message.bytes(4)?;
    let times = message.bytes(5)?;
    message.end()?;
    Some((attributes, values, times))
}

/// What is known of a profile's samples at a glance.
#[derive(Default)]
pub(super) struct Ahead<'a> {
    pub(super) rows: usize,
    bytes: usize,
    first: &'a [u8],
}

impl<'a> Ahead<'a> {
    pub(super) fn of(profile: &'a [u8]) -> Read<Self> {
        let mut ahead = Self::default();
        runs(&schema::PROFILE, profile, |number, raw, run| {
            if let (2, Raw::Bytes(row)) = (number, raw) {
                if ahead.rows == 0 {
                    ahead.first = row;
                }
                ahead.rows += 1;
                ahead.bytes += row.len();
                while let Some(row) = run.row(SAMPLE_KEY) {
                    ahead.rows += 1;
                    ahead.bytes += row.len();
                }
            }
            Ok(FieldUse::Yes)
        })?;
        Ok(ahead)
    }

    /// Makes room for the samples. What the first has, all are taken to have; an item takes one
    /// byte at least, and a timestamp eight.
    pub(super) fn reserve(&self, into: &mut Samples) {
        let Self { rows, bytes, .. } = *self;
        let (attributes, values, times) = lists(self.first).unwrap_or_default();
        let (attributes, values) = (numbers(attributes), numbers(values));
        let timed = !times.is_empty();
        into.stacks.reserve(rows);
        into.links.reserve(rows);
        into.attributes.reserve(rows, rows.saturating_mul(attributes).min(bytes));
        into.values.reserve(rows, rows.saturating_mul(values).min(bytes));
        let times = if timed { bytes.saturating_sub(rows.saturating_mul(8)) / 8 } else { 0 };
        into.timestamps.reserve(rows, times);
    }
}
