//! serde's deserializer over the tree: types scalars as their target wants them, and gives every
//! fault the place where it is.

use std::cell::RefCell;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::error::ConfigError;
use super::node::{Content, Entry, Node, Scalar, Step};
use super::reader::{Fault, Trail};
use super::scalar::Typed;
use super::suggest::did_you_mean;

/// A node, and the way to it.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a, 'p> {
    pub(super) node: &'a Node,
    pub(super) trail: &'p Trail<'p>,
    /// Keys that no struct knew.
    pub(super) unknown: &'p RefCell<Vec<(Vec<Step>, ConfigError)>>,
}

impl<'a> Reader<'a, '_> {
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(message).locate(self.trail, &self.node.mark)
    }

    fn wrong(&self, expected: &str) -> Fault {
        let mut fault = self.fault(format!("expected {expected}, found {}", self.node.describe()));
        // An item of a list cannot be as if it were not there.
        fault.silent = self.node.is_null() && matches!(self.trail, Trail::Key(..));
        fault
    }

    fn scalar(&self, expected: &str) -> Result<&'a Scalar, Fault> {
        match &self.node.content {
            Content::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            _ => Err(self.wrong(expected)),
        }
    }

    /// The text of a scalar, or of the variable that stands here, whatever is in it.
    fn text(&self) -> Result<&'a str, Fault> {
        match &self.node.referenced {
            Some(text) => Ok(text),
            None => Ok(&self.scalar("a text")?.text),
        }
    }

    fn entries(&self) -> Result<&'a [Entry], Fault> {
        match &self.node.content {
            Content::Map(entries) => Ok(entries),
            _ if self.node.is_null() => Ok(&[]),
            _ => Err(self.wrong("a map")),
        }
    }

    fn integer(&self) -> Result<i128, Fault> {
        const EXPECTED: &str = "a whole number";
        let scalar = self.scalar(EXPECTED)?;
        scalar.as_integer().ok_or_else(|| {
            let mut fault = self.wrong(EXPECTED);
            fault.message.push_str(scalar.number_hint());
            fault
        })
    }

    fn visit_integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = self.integer()?;
        let visited = if let Ok(number) = u64::try_from(number) {
            visitor.visit_u64(number)
        } else if let Ok(number) = i64::try_from(number) {
            visitor.visit_i64(number)
        } else {
            Err(self.fault("this number is too large"))
        };
        visited.map_err(|fault| fault.locate(self.trail, &self.node.mark))
    }

    fn visit_map<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        known: Option<&'static [&'static str]>,
    ) -> Result<V::Value, Fault> {
        let entries = Entries { reader: self, rest: self.entries()?.iter(), value: None, known };
        visitor.visit_map(entries).map_err(|fault| fault.locate(self.trail, &self.node.mark))
    }

    fn visit_list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Content::List(items) = &self.node.content else {
            let mut fault = self.wrong("a list");
            if matches!(self.node.content, Content::Scalar(_)) {
                fault.message.push_str("; write it in brackets");
            }
            return Err(fault);
        };
        let items = Items { reader: self, rest: items.iter().enumerate() };
        visitor.visit_seq(items).map_err(|fault| fault.locate(self.trail, &self.node.mark))
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.visit_integer(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'_, '_> {
    type Error = Fault;

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let visited = match &self.node.content {
            Content::Map(_) => return self.visit_map(visitor, None),
            Content::List(_) => return self.visit_list(visitor),
            Content::Scalar(scalar) => match scalar.typed() {
                Typed::Null => visitor.visit_unit().map_err(|mut fault: Fault| {
                    fault.silent = matches!(self.trail, Trail::Key(..));
                    fault
                }),
                Typed::Bool(truth) => visitor.visit_bool(truth),
                Typed::Unsigned(number) => visitor.visit_u64(number),
                Typed::Signed(number) => visitor.visit_i64(number),
                Typed::Float(number) => visitor.visit_f64(number),
                Typed::Text(text) => visitor.visit_str(text),
            },
        };
        visited.map_err(|fault| fault.locate(self.trail, &self.node.mark))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        const EXPECTED: &str = "`true` or `false`";
        match self.scalar(EXPECTED)?.as_bool() {
            Some(truth) => visitor.visit_bool(truth),
            None => Err(self.wrong(EXPECTED)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        const EXPECTED: &str = "a number";
        let scalar = self.scalar(EXPECTED)?;
        match scalar.as_float() {
            Some(number) => visitor.visit_f64(number),
            None => {
                let mut fault = self.wrong(EXPECTED);
                fault.message.push_str(scalar.number_hint());
                Err(fault)
            }
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let visited = visitor.visit_str(self.text()?);
        visited.map_err(|fault: Fault| fault.locate(self.trail, &self.node.mark))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bytes(self.text()?.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() { visitor.visit_unit() } else { Err(self.wrong("nothing")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        for entry in self.entries()? {
            self.note_unknown(entry, &[]);
        }
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.visit_list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit_list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_map(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit_map(visitor, Some(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let visited = match &self.node.content {
            Content::Map(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Choice { reader: self, entry }),
                _ => Err(self.fault(format!("write exactly one of {}", variants.join(", ")))),
            },
            _ => {
                let expected = format!("one of {}", variants.join(", "));
                let text = self.scalar(&expected)?.text.as_str();
                visitor.visit_enum(IntoDeserializer::<Fault>::into_deserializer(text))
            }
        };
        visited.map_err(|fault| fault.locate(self.trail, &self.node.mark))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

impl Reader<'_, '_> {
    fn note_unknown(&self, entry: &Entry, known: &[&'static str]) {
        let hint = did_you_mean(&entry.key, known.iter().copied());
        let hint = match (hint.is_empty(), known) {
            (true, []) => "; there are no settings here".to_owned(),
            (true, known) if known.len() <= 12 => format!("; known are: {}", known.join(", ")),
            _ => hint,
        };
        let steps = Trail::Key(self.trail, &entry.key).steps();
        let error = ConfigError::at(&entry.mark, "", format!("unknown key{hint}"));
        self.unknown.borrow_mut().push((steps, error));
    }
}

/// The entries of a map, one after the other.
struct Entries<'a, 'p> {
    reader: Reader<'a, 'p>,
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
    /// The keys that the struct knows, if it is one.
    known: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        for entry in self.rest.by_ref() {
            if let Some(known) = self.known
                && !known.contains(&entry.key.as_str())
            {
                self.reader.note_unknown(entry, known);
                continue;
            }
            self.value = Some(entry);
            let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
            let trail = Trail::Key(self.reader.trail, &entry.key);
            return seed.deserialize(key).map(Some).map_err(|f| f.locate(&trail, &entry.mark));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.value.take() else {
            return Err(self.reader.fault("a value was read before its key"));
        };
        let trail = Trail::Key(self.reader.trail, &entry.key);
        let reader = Reader { node: &entry.value, trail: &trail, unknown: self.reader.unknown };
        seed.deserialize(reader).map_err(|fault| fault.locate(&trail, &entry.value.mark))
    }
}

/// The items of a list, one after the other.
struct Items<'a, 'p> {
    reader: Reader<'a, 'p>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((at, node)) = self.rest.next() else { return Ok(None) };
        let trail = Trail::Index(self.reader.trail, at);
        let reader = Reader { node, trail: &trail, unknown: self.reader.unknown };
        seed.deserialize(reader).map(Some).map_err(|fault| fault.locate(&trail, &node.mark))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant with content: `choice: {content}`.
struct Choice<'a, 'p> {
    reader: Reader<'a, 'p>,
    entry: &'a Entry,
}

impl<'a, 'p, 'de> EnumAccess<'de> for Choice<'a, 'p> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let key: StrDeserializer<'_, Fault> = self.entry.key.as_str().into_deserializer();
        let trail = Trail::Key(self.reader.trail, &self.entry.key);
        let variant =
            seed.deserialize(key).map_err(|fault| fault.locate(&trail, &self.entry.mark))?;
        Ok((variant, self))
    }
}

impl Choice<'_, '_> {
    fn content<R>(
        &self,
        read: impl FnOnce(Reader<'_, '_>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let trail = Trail::Key(self.reader.trail, &self.entry.key);
        let node = &self.entry.value;
        read(Reader { node, trail: &trail, unknown: self.reader.unknown })
            .map_err(|fault| fault.locate(&trail, &node.mark))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.content(|reader| match reader.node.is_null() {
            true => Ok(()),
            false => Err(reader.wrong("nothing")),
        })
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        self.content(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content(|reader| reader.visit_list(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.content(|reader| reader.visit_map(visitor, Some(fields)))
    }
}
