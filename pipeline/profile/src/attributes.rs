//! The attribute table: a key with a value and a unit, referenced by number.

use super::index::Index;
use super::interner::Interner;
use super::{AttributeIx, StringIx, Value};

/// Attributes by number; row 0 has no key and no value.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// The key of each row. All columns have as many rows; whoever changes them keeps row 0, and
    /// indices in range.
    pub keys: Vec<StringIx>,
    /// The UCUM unit of the value.
    pub units: Vec<StringIx>,
    /// The value.
    pub values: Vec<Value>,
    interner: Interner,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            keys: vec![StringIx::NONE],
            units: vec![StringIx::NONE],
            values: vec![Value::Empty],
            interner: Interner::default(),
        }
    }
}

impl Attributes {
    /// The number of rows, row 0 included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is only row 0.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The typed index of row `at`, if there is such a row.
    pub fn check(&self, at: u32) -> Option<AttributeIx> {
        ((at as usize) < self.len()).then(|| AttributeIx::new(at))
    }

    /// The key of a row.
    pub fn key(&self, row: AttributeIx) -> StringIx {
        self.keys[row.at()]
    }

    /// The value of a row.
    pub fn value(&self, row: AttributeIx) -> &Value {
        &self.values[row.at()]
    }

    /// The UCUM unit of a row's value.
    pub fn unit(&self, row: AttributeIx) -> StringIx {
        self.units[row.at()]
    }

    /// The row with this key, value and unit, appended if there is none.
    pub fn intern(&mut self, key: StringIx, value: Value, unit: StringIx) -> AttributeIx {
        match self.look_up(key, &value, unit) {
            (_, Some(row)) => row,
            (hash, None) => self.add(hash, key, value, unit),
        }
    }

    /// As [`Attributes::intern`], but copies the value only if the row is new.
    pub fn intern_ref(&mut self, key: StringIx, value: &Value, unit: StringIx) -> AttributeIx {
        match self.look_up(key, value, unit) {
            (_, Some(row)) => row,
            (hash, None) => self.add(hash, key, value.clone(), unit),
        }
    }

    fn add(&mut self, hash: u64, key: StringIx, value: Value, unit: StringIx) -> AttributeIx {
        let row = self.push(key, value, unit);
        self.interner.insert(hash, row.raw());
        row
    }

    /// The hash of a row, and where it is.
    fn look_up(
        &mut self,
        key: StringIx,
        value: &Value,
        unit: StringIx,
    ) -> (u64, Option<AttributeIx>) {
        while self.interner.is_behind(self.len()) {
            let row = self.interner.next();
            let (keys, units, values) = (&self.keys, &self.units, &self.values);
            let hash = self.interner.hash((keys[row], units[row], &values[row]));
            self.interner.add_next(hash, |other| {
                let other = other as usize;
                keys[other] == keys[row]
                    && units[other] == units[row]
                    && values[other].is_identical(&values[row])
            });
        }
        let hash = self.interner.hash((key, unit, value));
        let found = self.interner.find(hash, |row| {
            let row = row as usize;
            self.keys[row] == key && self.units[row] == unit && self.values[row].is_identical(value)
        });
        (hash, found.map(AttributeIx::new))
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.keys.reserve(rows);
        self.units.reserve(rows);
        self.values.reserve(rows);
    }

    /// Makes room in the hash index for `rows` more rows.
    pub(super) fn reserve_index(&mut self, rows: usize) {
        self.interner.reserve(rows);
    }

    /// Appends a row without looking for an equal one: for decoders.
    pub fn push(&mut self, key: StringIx, value: Value, unit: StringIx) -> AttributeIx {
        self.keys.push(key);
        self.units.push(unit);
        self.values.push(value);
        AttributeIx::new(self.len() as u32 - 1)
    }
}
