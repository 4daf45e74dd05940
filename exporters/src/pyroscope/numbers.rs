//! The numbers that rows of a batch's tables, and texts, have in the profile being written.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use profpipe_formats::pprof::Writer;
use profpipe_profile::{Index, StringIx, Strings};

/// The longest text; the server, too, keeps its end.
const MAX_TEXT: usize = 65_535;

/// Numbers from 1 on, for rows of one table and what is made up beside them. One is used for all
/// profiles of a batch: to empty it costs nothing, however large the table and little of it in use.
#[derive(Debug)]
pub(super) struct Numbers {
    /// By row: the round in which it got its number, and the number.
    rows: Vec<u64>,
    round: u64,
    last: u64,
}

impl Numbers {
    /// For a table with so many rows.
    pub(super) fn new(rows: usize) -> Self {
        Self { rows: vec![0; rows], round: 1, last: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.last = 0;
        self.round += 1;
        if self.round > u64::from(u32::MAX) {
            self.rows.fill(0);
            self.round = 1;
        }
    }

    pub(super) fn get(&self, row: impl Index) -> Option<u64> {
        let entry = *self.rows.get(row.at())?;
        (entry >> 32 == self.round).then_some(entry & u64::from(u32::MAX))
    }

    /// A number for what is no row.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The next number, for a row that has none yet.
    pub(super) fn add(&mut self, row: impl Index) -> u64 {
        let number = self.next();
        self.set(row, number)
    }

    /// This number, for a row that has none yet.
    pub(super) fn set(&mut self, row: impl Index, number: u64) -> u64 {
        if let Some(entry) = self.rows.get_mut(row.at()) {
            *entry = self.round << 32 | number & u64::from(u32::MAX);
        }
        number
    }
}

/// The texts of a profile, written where they are first used.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    strings: &'a Strings,
    numbers: Numbers,
    /// Those that are not from the table.
    others: HashMap<String, u64, RandomState>,
    /// All of them, as fields of the profile.
    pub(super) written: Writer,
}

impl<'a> Texts<'a> {
    pub(super) fn new(strings: &'a Strings) -> Self {
        Self {
            strings,
            numbers: Numbers::new(strings.len()),
            others: HashMap::default(),
            written: Writer::default(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.others.clear();
        self.written.0.clear();
        self.written.bytes(6, b"");
    }

    /// The number of a text of the table.
    pub(super) fn row(&mut self, row: StringIx) -> u64 {
        if let Some(number) = self.numbers.get(row) {
            return number;
        }
        let text = tail(self.strings.get(row));
        if text.is_empty() {
            return 0;
        }
        self.written.bytes(6, text.as_bytes());
        self.numbers.add(row)
    }

    /// The number of any other text.
    pub(super) fn other(&mut self, text: &str) -> u64 {
        let text = tail(text);
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.others.get(text) {
            return *number;
        }
        self.written.bytes(6, text.as_bytes());
        let number = self.numbers.next();
        self.others.insert(text.to_owned(), number);
        number
    }
}

/// The end of a text that is too long, in whole characters.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(MAX_TEXT);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(start..).unwrap_or_default()
}
