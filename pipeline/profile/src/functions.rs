//! The function table.

use super::index::Index;
use super::interner::Interner;
use super::{FunctionIx, StringIx};

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Function {
    /// The name for people, demangled.
    pub name: StringIx,
    /// The name as the binary has it.
    pub system_name: StringIx,
    /// The source file.
    pub filename: StringIx,
    /// The line where the function starts, 0 if unknown.
    pub start_line: i64,
}

/// Functions by number; row 0 is the zero function.
#[derive(Debug, Clone)]
pub struct Functions {
    /// The rows; whoever changes one keeps row 0 and all indices in range.
    pub rows: Vec<Function>,
    interner: Interner,
}

impl Default for Functions {
    fn default() -> Self {
        Self { rows: vec![Function::default()], interner: Interner::default() }
    }
}

impl Functions {
    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<FunctionIx> {
        ((at as usize) < self.len()).then(|| FunctionIx::new(at))
    }

    /// A row.
    pub fn get(&self, row: FunctionIx) -> Function {
        self.rows[row.at()]
    }

    /// Every row, row 0 first.
    pub fn rows(&self) -> &[Function] {
        &self.rows
    }

    /// The row that holds `function`, appended if there is none.
    pub fn intern(&mut self, function: Function) -> FunctionIx {
        while self.interner.is_behind(self.len()) {
            let (row, rows) = (self.interner.next(), &self.rows);
            let hash = self.interner.hash(rows[row]);
            self.interner.add_next(hash, |other| rows[other as usize] == rows[row]);
        }
        let hash = self.interner.hash(function);
        if let Some(row) = self.interner.find(hash, |row| self.rows[row as usize] == function) {
            return FunctionIx::new(row);
        }
        let row = self.push(function);
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
    pub fn push(&mut self, function: Function) -> FunctionIx {
        self.rows.push(function);
        FunctionIx::new(self.len() as u32 - 1)
    }
}
