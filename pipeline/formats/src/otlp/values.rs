//! Attribute values: `AnyValue` and `KeyValue`, with references into the string table resolved.

use super::budget::Budget;
use super::schema;
use super::wire::{FaultKind, FieldUse, Raw, Read, Reader, fields, index, text};
use profpipe_profile::{Index, KeyValue, StringIx, Strings, Value};

/// How deep values may hold values. The generated readers stop at 100 nested messages, which are
/// a little more levels of values than this.
pub(super) const MAX_VALUE_DEPTH: usize = 30;

/// Reads values against the string table that they may refer to.
pub(super) struct Values<'a, 'r> {
    pub(super) strings: &'a Strings,
    pub(super) budget: &'a mut Budget<'r>,
}

impl Values<'_, '_> {
    /// Reads an `AnyValue` into `into`. Called again it merges, as protobuf wants of a field that
    /// comes twice.
    pub(super) fn value(&mut self, bytes: &[u8], into: &mut Value, depth: usize) -> Read<()> {
        if depth > MAX_VALUE_DEPTH {
            return Err(Reader::new(bytes).fault(FaultKind::Depth));
        }
        fields(&schema::ANY_VALUE, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => *into = Value::String(self.text(bytes)?),
                (2, Raw::Varint(truth)) => *into = Value::Bool(truth != 0),
                (3, Raw::Varint(number)) => *into = Value::Int(number as i64),
                (4, Raw::Fixed64(bits)) => *into = Value::Double(f64::from_bits(bits)),
                (5, Raw::Bytes(bytes)) => {
                    if !matches!(into, Value::Array(_)) {
                        *into = Value::Array(Vec::new());
                    }
                    if let Value::Array(values) = into {
                        self.array(bytes, values, depth)?;
                    }
                }
                (6, Raw::Bytes(bytes)) => {
                    if !matches!(into, Value::Map(_)) {
                        *into = Value::Map(Vec::new());
                    }
                    if let Value::Map(pairs) = into {
                        self.map(bytes, pairs, depth)?;
                    }
                }
                (7, Raw::Bytes(bytes)) => {
                    self.budget.text(bytes, bytes.len())?;
                    *into = Value::Bytes(bytes.to_vec());
                }
                (8, Raw::Varint(row)) => *into = Value::String(self.resolve(bytes, index(row))?),
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })
    }

    fn array(&mut self, bytes: &[u8], values: &mut Vec<Value>, depth: usize) -> Read<()> {
        fields(&schema::ARRAY_VALUE, bytes, |number, raw| match (number, raw) {
            (1, Raw::Bytes(bytes)) => {
                self.budget.item(bytes, size_of::<Value>())?;
                if values.is_empty() {
                    values.reserve_exact(1);
                }
                let mut value = Value::Empty;
                self.value(bytes, &mut value, depth + 1)?;
                values.push(value);
                Ok(FieldUse::Yes)
            }
            _ => Ok(FieldUse::No),
        })
    }

    fn map(&mut self, bytes: &[u8], pairs: &mut Vec<(String, Value)>, depth: usize) -> Read<()> {
        fields(&schema::KEY_VALUE_LIST, bytes, |number, raw| match (number, raw) {
            (1, Raw::Bytes(bytes)) => {
                let pair = self.key_value(bytes, depth + 1)?;
                if pairs.is_empty() {
                    pairs.reserve_exact(1);
                }
                pairs.push((pair.key, pair.value));
                Ok(FieldUse::Yes)
            }
            _ => Ok(FieldUse::No),
        })
    }

    /// Reads a `KeyValue`. A key that stands there itself wins over a reference.
    pub(super) fn key_value(&mut self, bytes: &[u8], depth: usize) -> Read<KeyValue> {
        self.budget.item(bytes, size_of::<KeyValue>())?;
        let mut pair = KeyValue::default();
        let mut key_row = 0;
        fields(&schema::KEY_VALUE, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => pair.key = self.text(bytes)?,
                (2, Raw::Bytes(bytes)) => self.value(bytes, &mut pair.value, depth)?,
                (3, Raw::Varint(row)) => key_row = index(row),
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })?;
        if pair.key.is_empty() && key_row != 0 {
            pair.key =
                self.resolve(bytes, key_row).map_err(|fault| fault.or_in(&schema::KEY_VALUE, 3))?;
        }
        Ok(pair)
    }

    fn text(&mut self, bytes: &[u8]) -> Read<String> {
        self.budget.text(bytes, bytes.len())?;
        Ok(text(bytes)?.to_owned())
    }

    fn resolve(&mut self, bytes: &[u8], row: u32) -> Read<String> {
        if StringIx::new(row).is_none() {
            return Ok(String::new());
        }
        let Some(row) = self.strings.check(row) else {
            return Err(Reader::new(bytes).fault(FaultKind::Index(row, self.strings.len())));
        };
        let text = self.strings.get(row);
        self.budget.resolved = true;
        self.budget.text(bytes, text.len())?;
        Ok(text.to_owned())
    }
}
