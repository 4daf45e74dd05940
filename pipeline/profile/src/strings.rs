//! The string table: every text of a batch, once, in one arena.

use super::StringIx;
use super::index::Index;
use super::interner::Interner;

/// Texts by number; row 0 is the empty string. The arena holds at most 4 GiB.
#[derive(Debug, Clone)]
pub struct Strings {
    arena: String,
    ends: Vec<u32>,
    interner: Interner,
}

impl Default for Strings {
    fn default() -> Self {
        Self { arena: String::new(), ends: vec![0], interner: Interner::default() }
    }
}

impl Strings {
    /// The table of an arena whose row `i` ends at byte `ends[i]`. Row 0 must be empty, the ends
    /// ascending, within the arena and between characters.
    pub fn from_arena(arena: String, ends: Vec<u32>) -> Self {
        debug_assert_eq!(ends.first(), Some(&0));
        Self { arena, ends, interner: Interner::default() }
    }

    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The text of a row.
    pub fn get(&self, row: StringIx) -> &str {
        self.at(row.at())
    }

    fn at(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.arena[start..self.ends[row] as usize]
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<StringIx> {
        ((at as usize) < self.len()).then(|| StringIx::new(at))
    }

    /// The row that holds `text`, appended if there is none.
    pub fn intern(&mut self, text: &str) -> StringIx {
        if text.is_empty() {
            return StringIx::NONE;
        }
        self.catch_up();
        let hash = self.interner.hash(text);
        if let Some(row) = self.interner.find(hash, |row| self.at(row as usize) == text) {
            return StringIx::new(row);
        }
        let row = self.push(text);
        self.interner.insert(hash, row.raw());
        row
    }

    /// The row that holds `text`, if there is one.
    pub fn find(&mut self, text: &str) -> Option<StringIx> {
        if text.is_empty() {
            return Some(StringIx::NONE);
        }
        self.catch_up();
        let hash = self.interner.hash(text);
        self.interner.find(hash, |row| self.at(row as usize) == text).map(StringIx::new)
    }

    /// Makes room for `rows` more rows of `bytes` more bytes in all.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.ends.reserve(rows);
        self.arena.reserve(bytes);
    }

    /// Makes room in the hash index for `rows` more rows.
    pub(super) fn reserve_index(&mut self, rows: usize) {
        self.interner.reserve(rows);
    }

    /// Appends a row without looking whether the text is there already: for decoders, which must
    /// keep the numbers of the wire.
    pub fn push(&mut self, text: &str) -> StringIx {
        self.arena.push_str(text);
        self.ends.push(self.arena.len() as u32);
        StringIx::new(self.ends.len() as u32 - 1)
    }

    /// Every text, row 0 first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|row| self.at(row))
    }

    /// The bytes of all texts together.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    fn catch_up(&mut self) {
        while self.interner.is_behind(self.len()) {
            let row = self.interner.next();
            let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
            let (arena, ends) = (&self.arena, &self.ends);
            let text = &arena[start..ends[row] as usize];
            let hash = self.interner.hash(text);
            self.interner.add_next(hash, |other| {
                let other = other as usize;
                let start = if other == 0 { 0 } else { ends[other - 1] as usize };
                &arena[start..ends[other] as usize] == text
            });
        }
    }
}
