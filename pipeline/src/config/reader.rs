//! A part of the tree into a type of its own, with every mistake and not only the first.
//!
//! A type built by serde stops at the first value it cannot take. So a mistake is noted, the value
//! is cut out of a copy of the tree and the type is read again, which then takes its default there
//! and gets to the next mistake; at most [`MAX_ROUNDS`] times. Keys that a struct does not know are
//! noted on the way, whether or not it says `deny_unknown_fields`.
//!
//! Null is "as if it were not there", as in the Collector: a field keeps its default. Where a
//! struct is optional, null means that it is there with its defaults (`grpc:` under `protocols`).

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::error::ConfigError;
use super::node::{Content, Entry, Mark, Node, Scalar, Step, join};
use super::scalar::Typed;
use super::suggest::did_you_mean;

/// How often a type is read again.
const MAX_ROUNDS: usize = 200;

/// Reads `node`, which is at the path `base`, into a type.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn read<T: DeserializeOwned>(node: &Node, base: &str) -> Result<T, Vec<ConfigError>> {
    let mut node = node.clone();
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut pruned: Vec<Vec<Step>> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let unknown = RefCell::default();
        let reader = Reader { node: &node, trail: &Trail::Root, unknown: &unknown };
        let result = T::deserialize(reader).map_err(|fault| fault.locate(&Trail::Root, &node.mark));
        for (steps, error) in unknown.into_inner() {
            node.prune(&steps);
            errors.push(ConfigError { path: join(base, &as_written(&steps, &pruned)), ..error });
        }
        let fault = match result {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(fault) => fault,
        };
        let (steps, mark) = fault.place.unwrap_or_default();
        let written = as_written(&steps, &pruned);
        let mut of_field = written.clone();
        of_field.extend(fault.missing.map(|field| Step::Key(field.to_owned())));
        // A field that was cut out for a mistake is not missing on top of that.
        if !fault.silent && !pruned.contains(&of_field) {
            errors.push(ConfigError::at(&mark, join(base, &of_field), fault.message));
        }
        if !node.prune(&steps) {
            break;
        }
        if !fault.silent {
            pruned.push(written);
        }
    }
    if errors.is_empty() {
        errors.push(ConfigError::at(&node.mark, base, "has more mistakes than can be told apart"));
    }
    Err(errors)
}

/// The path as it was before items were cut out of the lists on it.
fn as_written(steps: &[Step], pruned: &[Vec<Step>]) -> Vec<Step> {
    let mut written: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        let Step::Index(at) = step else {
            written.push(step.clone());
            continue;
        };
        let mut gone: Vec<usize> = pruned
            .iter()
            .filter_map(|path| match path.split_last() {
                Some((Step::Index(at), parents)) if *parents == *written => Some(*at),
                _ => None,
            })
            .collect();
        gone.sort_unstable();
        let at = gone.into_iter().fold(*at, |at, gone| if gone <= at { at + 1 } else { at });
        written.push(Step::Index(at));
    }
    written
}

/// The way from the node that is read down to the one at hand, kept on the stack.
enum Trail<'p> {
    Root,
    Key(&'p Trail<'p>, &'p str),
    Index(&'p Trail<'p>, usize),
}

impl Trail<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = match self {
            Self::Root => return Vec::new(),
            Self::Key(parent, _) | Self::Index(parent, _) => parent.steps(),
        };
        steps.push(match self {
            Self::Key(_, key) => Step::Key((*key).to_owned()),
            Self::Index(_, at) => Step::Index(*at),
            Self::Root => return steps,
        });
        steps
    }
}

/// Why a type cannot take a value.
#[derive(Debug)]
struct Fault {
    message: String,
    /// Where; unknown until it passes a reader on its way up.
    place: Option<(Vec<Step>, Mark)>,
    /// The field that is missing there.
    missing: Option<&'static str>,
    /// True if the value is only null, which is no mistake.
    silent: bool,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, missing: None, silent: false }
    }

    fn locate(mut self, trail: &Trail<'_>, mark: &Mark) -> Self {
        if self.place.is_none() {
            self.place = Some((trail.steps(), mark.clone()));
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" => "a number from 0 to 255".to_owned(),
            "u16" => "a number from 0 to 65535".to_owned(),
            "u32" => "a number from 0 to 4294967295".to_owned(),
            "u64" | "usize" => "a number that is not negative".to_owned(),
            "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a number above 0".to_owned(),
            other => other.to_owned(),
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new("this is required") }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = did_you_mean(variant, expected.iter().copied());
        let known: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::new(format!("`{variant}` is not known here; use {}{hint}", known.join(" or ")))
    }
}

#[derive(Clone, Copy)]
struct Reader<'a, 'p> {
    node: &'a Node,
    trail: &'p Trail<'p>,
    /// Keys that no struct knew.
    unknown: &'p RefCell<Vec<(Vec<Step>, ConfigError)>>,
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
        let Content::List(items) = &self.node.content else { return Err(self.wrong("a list")) };
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
                Typed::Null => visitor.visit_unit().map_err(|fault: Fault| Fault {
                    silent: matches!(self.trail, Trail::Key(..)),
                    ..fault
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
        let visited = visitor.visit_str(&self.scalar("a text")?.text);
        visited.map_err(|fault: Fault| fault.locate(self.trail, &self.node.mark))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bytes(self.scalar("a text")?.text.as_bytes())
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
                _ => Err(self.wrong(&format!("one of {}", variants.join(", ")))),
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
