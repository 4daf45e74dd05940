//! The link table: which trace span a sample belongs to.

use super::LinkIx;
use super::index::Index;
use super::interner::Interner;

/// A trace span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Link {
    /// The W3C trace id.
    pub trace_id: [u8; 16],
    /// The W3C span id.
    pub span_id: [u8; 8],
}

/// Links by number; row 0 is no link.
#[derive(Debug, Clone)]
pub struct Links {
    /// The rows; whoever changes one keeps row 0.
    pub rows: Vec<Link>,
    interner: Interner,
}

impl Default for Links {
    fn default() -> Self {
        Self { rows: vec![Link::default()], interner: Interner::default() }
    }
}

impl Links {
    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<LinkIx> {
        ((at as usize) < self.len()).then(|| LinkIx::new(at))
    }

    /// A row.
    pub fn get(&self, row: LinkIx) -> Link {
        self.rows[row.at()]
    }

    /// Every row, row 0 first.
    pub fn rows(&self) -> &[Link] {
        &self.rows
    }

    /// The row that holds `link`, appended if there is none.
    pub fn intern(&mut self, link: Link) -> LinkIx {
        while self.interner.is_behind(self.len()) {
            let (row, rows) = (self.interner.next(), &self.rows);
            let hash = self.interner.hash(rows[row]);
            self.interner.add_next(hash, |other| rows[other as usize] == rows[row]);
        }
        let hash = self.interner.hash(link);
        if let Some(row) = self.interner.find(hash, |row| self.rows[row as usize] == link) {
            return LinkIx::new(row);
        }
        let row = self.push(link);
        self.interner.insert(hash, row.raw());
        row
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
    }

    /// Makes room in the hash index for `rows` more rows.
    pub(super) fn reserve_index(&mut self, rows: usize) {
        self.interner.reserve(rows);
    }

    /// Appends a row without looking for an equal one: for decoders.
    pub fn push(&mut self, link: Link) -> LinkIx {
        self.rows.push(link);
        LinkIx::new(self.len() as u32 - 1)
    }
}
