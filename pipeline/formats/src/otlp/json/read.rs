//! JSON to protobuf.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::camel_case;
use super::output::Output;
use super::surrogates;
use crate::otlp::budget::Room;
use crate::otlp::error::DecodeError;
use crate::otlp::schema::{self, Field, Kind, Message};
use crate::otlp::sink::Sink;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
/// What a number takes with its key, at most.
const NUMBER: usize = 16;

/// The request as protobuf; with `room`, memory is asked for before it is taken.
pub(in crate::otlp) fn to_protobuf(
    json: &[u8],
    room: Option<Room<'_>>,
) -> Result<Vec<u8>, DecodeError> {
    let mut out = Output::new(room);
    let read = read(json, &mut out);
    match read {
        Ok(()) => out.finish(),
        Err(error) => Err(out.refusal().unwrap_or_else(|| DecodeError::Json(error.to_string()))),
    }
}

fn read(json: &[u8], out: &mut Output<'_>) -> Result<(), serde_json::Error> {
    // A text with escapes is copied, into a buffer that doubles, and once more if it is base64.
    out.ask::<serde_json::Error>(longest_text(json).saturating_mul(3))?;
    out.spare::<serde_json::Error>(json.len() / 4)?;
    if surrogates::is_needed(json) {
        out.ask::<serde_json::Error>(json.len())?;
    }
    let json = &*surrogates::mended(json);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    MessageSeed { message: &schema::REQUEST, out }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The length of the longest text, as it stands there.
fn longest_text(json: &[u8]) -> usize {
    let (mut longest, mut start, mut escaped) = (0, None, false);
    for (at, byte) in json.iter().enumerate() {
        match (byte, start) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', None) => start = Some(at),
            (b'"', Some(from)) => {
                longest = longest.max(at - from);
                start = None;
            }
            _ => {}
        }
    }
    // The last may have no end.
    longest.max(start.map_or(0, |from| json.len() - from))
}

/// A JSON object to be written as a message, without its length.
struct MessageSeed<'a, 'r> {
    message: &'static Message,
    out: &'a mut Output<'r>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "an object ({})", self.message.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let message = self.message;
        let below = message.leads_to_samples();
        let (mut has_known, mut has_below, mut unknown) = (false, false, None);
        while let Some(key) = map.next_key_seed(KeySeed(message))? {
            match key {
                Key::Known(field) => {
                    has_known = true;
                    has_below |= below == Some(field.name);
                    map.next_value_seed(FieldSeed { message, field, out: &mut *self.out })?;
                }
                Key::Older(error) => return Err(self.out.refuse(error)),
                Key::Unknown(key) => {
                    let Skipped { is_list } = map.next_value()?;
                    // Samples may have been in a list; where nothing is known, in anything.
                    if unknown.as_ref().is_none_or(|(_, was_list)| is_list && !was_list) {
                        unknown = Some((key, is_list));
                    }
                }
            }
        }
        let is_sample = std::ptr::eq(message, &schema::SAMPLE);
        let Some((key, is_list)) = unknown else {
            self.out.count_samples(usize::from(is_sample));
            return Ok(());
        };
        self.out.count_samples(usize::from(is_sample && has_known));
        if (is_list || !has_known) && !has_below && (is_sample || below.is_some()) {
            self.out.note_unknown(message.name, key);
        }
        Ok(())
    }
}

/// A key of a message.
enum Key {
    Known(&'static Field),
    /// One that only older, incompatible versions of the protocol have.
    Older(DecodeError),
    /// Another, shortened if it is long.
    Unknown(String),
}

/// The longest piece of an unknown key that an error repeats.
const MAX_QUOTE: usize = 40;

/// A key, which is a field of the message or unknown.
struct KeySeed(&'static Message);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a key of {}", self.0.name)
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let known = self.0.fields.iter().find(|field| camel_case(field.name).eq(key.chars()));
        if let Some(field) = known {
            return Ok(Key::Known(field));
        }
        if let Some(error) = self.0.older_key(key) {
            return Ok(Key::Older(error));
        }
        Ok(Key::Unknown(key.chars().filter(|char| !char.is_control()).take(MAX_QUOTE).collect()))
    }
}

/// The value of an unknown key: nothing is kept of it.
struct Skipped {
    /// Whether it is a list of something.
    is_list: bool,
}

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SkippedVisitor)
    }
}

struct SkippedVisitor;

impl<'de> Visitor<'de> for SkippedVisitor {
    type Value = Skipped;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Skipped, E> {
        Ok(Skipped { is_list: false })
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Skipped, E> {
        self.visit_unit()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Skipped, E> {
        self.visit_unit()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Skipped, E> {
        self.visit_unit()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Skipped, E> {
        self.visit_unit()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Skipped, E> {
        self.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Skipped, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Skipped, A::Error> {
        let mut is_list = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            is_list = true;
        }
        Ok(Skipped { is_list })
    }
}

/// The value of a field, to be written with its key.
struct FieldSeed<'a, 'r> {
    message: &'static Message,
    field: &'static Field,
    out: &'a mut Output<'r>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = if self.field.repeated { "a list of " } else { "" };
        let what = match self.field.kind {
            Kind::Int32 | Kind::Uint32 => "a 32-bit number",
            Kind::Int64 | Kind::Uint64 | Kind::Fixed64 => "a 64-bit number or its text",
            Kind::Double => "a number",
            Kind::Bool => "true or false",
            Kind::Text => "a text",
            Kind::Bytes => "base64",
            Kind::Id => "an id in hex",
            Kind::Message(message) => message.name,
        };
        write!(formatter, "{list}{what} for {}", self.message.path(self.field.number))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !self.field.repeated {
            if std::ptr::eq(self.message, &schema::PROFILE) && self.field.name == "sample_type" {
                return Err(self.out.refuse(schema::SAMPLE_TYPE_LIST));
            }
            return Err(Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let packed = matches!(self.field.kind, Kind::Int32 | Kind::Int64 | Kind::Fixed64);
        let start = if packed { Some(self.out.begin(self.field.number)?) } else { None };
        while let Some(()) = seq.next_element_seed(ItemSeed {
            message: self.message,
            field: self.field,
            with_key: !packed,
            out: &mut *self.out,
        })? {}
        if let Some(start) = start {
            self.out.end_unless_empty(start)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.single()?.visit_map(map)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.single()?.visit_bool(truth)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.single()?.visit_u64(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.single()?.visit_i64(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.single()?.visit_f64(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.single()?.visit_str(text)
    }
}

impl<'a, 'r> FieldSeed<'a, 'r> {
    /// The value of a field that is not a list.
    fn single<E: Error>(self) -> Result<ItemSeed<'a, 'r>, E> {
        if self.field.repeated {
            return Err(E::custom(format_args!(
                "{} must be a list",
                self.message.path(self.field.number)
            )));
        }
        Ok(ItemSeed { message: self.message, field: self.field, with_key: true, out: self.out })
    }
}

/// One value.
struct ItemSeed<'a, 'r> {
    message: &'static Message,
    field: &'static Field,
    /// Whether the field's key goes before it; it does not in packed lists.
    with_key: bool,
    out: &'a mut Output<'r>,
}

impl ItemSeed<'_, '_> {
    fn path(&self) -> String {
        self.message.path(self.field.number)
    }

    fn integer<E: Error>(self, number: i128) -> Result<(), E> {
        let range = match self.field.kind {
            Kind::Int32 => i128::from(i32::MIN)..=i128::from(i32::MAX),
            Kind::Uint32 => 0..=i128::from(u32::MAX),
            Kind::Int64 => i128::from(i64::MIN)..=i128::from(i64::MAX),
            Kind::Uint64 | Kind::Fixed64 => 0..=i128::from(u64::MAX),
            Kind::Double => return self.double(number as f64),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Other("a number"), &self)),
        };
        if !range.contains(&number) {
            return Err(E::custom(format_args!("{}: {number} is out of range", self.path())));
        }
        // Negative numbers are extended to 64 bits on the wire, in fields of 32 bits, too.
        let word = number as u64;
        let out = self.out.spare(NUMBER)?;
        match (self.field.kind, self.with_key) {
            (Kind::Fixed64, true) => out.fixed64(self.field.number, word),
            (Kind::Fixed64, false) => out.raw(&word.to_le_bytes()),
            (_, true) => out.always_number(self.field.number, word),
            (_, false) => out.varint(word),
        }
        Ok(())
    }

    fn double<E: Error>(self, number: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => {
                self.out.spare(NUMBER)?.fixed64(self.field.number, number.to_bits());
            }
            // Every integral number of this size is an exact i128.
            _ if number.fract() == 0.0 && number.abs() < 1e20 => {
                return self.integer(number as i128);
            }
            _ => {
                return Err(E::custom(format_args!("{}: {number} is not integral", self.path())));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ItemSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (message, field) = (self.message, self.field);
        FieldSeed { message, field, out: &mut Output::new(None) }.expecting(formatter)
    }

    /// An item of a list is there even if it is the default.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.field.kind {
            Kind::Message(_) | Kind::Text => {
                self.out.spare(NUMBER)?.always_bytes(self.field.number, &[]);
            }
            _ => return self.integer(0),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else {
            return Err(Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        let start = self.out.begin(self.field.number)?;
        MessageSeed { message, out: &mut *self.out }.visit_map(map)?;
        self.out.end(start)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => {
                self.out.spare(NUMBER)?.always_number(self.field.number, u64::from(truth));
            }
            _ => return Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.integer(i128::from(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.integer(i128::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Text | Kind::Bytes | Kind::Id | Kind::Bool | Kind::Message(_) => {
                Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
            }
            _ => self.double(number),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Kind::Text => self.out.bytes(number, text.as_bytes())?,
            Kind::Bytes => {
                let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
                match engine.decode(text) {
                    Ok(bytes) => self.out.bytes(number, &bytes)?,
                    Err(error) => return Err(E::custom(format_args!("{}: {error}", self.path()))),
                }
            }
            Kind::Id => match from_hex(text) {
                Some(bytes) => self.out.bytes(number, &bytes)?,
                None => return Err(E::custom(format_args!("{}: not hex", self.path()))),
            },
            Kind::Bool | Kind::Message(_) => {
                return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self));
            }
            _ => match (text.parse::<i128>(), text.parse::<f64>()) {
                (Ok(number), _) => return self.integer(number),
                // Rust reads more spellings of infinity than JSON has.
                (_, Ok(number))
                    if number.is_finite() || ["NaN", "Infinity", "-Infinity"].contains(&text) =>
                {
                    return self.double(number);
                }
                _ => {
                    return Err(E::custom(format_args!("{}: not a number", self.path())));
                }
            },
        }
        Ok(())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| char::from(letter).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
