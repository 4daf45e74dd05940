//! OTLP JSON, by way of the protobuf form.
//!
//! Reading writes protobuf as the JSON streams by, and [`super::decode`] does the rest, so that
//! there is one place where requests are checked; writing goes the other way. Both follow the
//! schema in `schema.rs`.
//!
//! The rules are those of the OTLP specification, which differ from protobuf's own JSON: keys in
//! lowerCamelCase only, ids in hex, other bytes in base64, 64-bit numbers as texts (read as
//! numbers, too), unknown keys ignored, `null` and a missing key mean the default. The depth is
//! bounded by the parser, at 128.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::DecodeError;
use super::schema::{self, Field, Kind, Message};
use super::sink::Sink;
use super::wire::{Raw, Reader};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// The request as protobuf.
pub(super) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(json.len() / 4);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    MessageSeed { message: &schema::REQUEST, out: &mut out }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| DecodeError::Json(error.to_string()))?;
    Ok(out)
}

/// A JSON object to be written as a message, without its length.
struct MessageSeed<'a> {
    message: &'static Message,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "an object ({})", self.message.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed(self.message))? {
            match field {
                Some(field) => {
                    map.next_value_seed(FieldSeed { message: self.message, field, out: self.out })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A key, which is a field of the message or unknown.
struct KeySeed(&'static Message);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a key of {}", self.0.name)
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|field| camel_case(field.name).eq(key.chars())))
    }
}

/// A name of the proto file in lowerCamelCase.
fn camel_case(name: &str) -> impl Iterator<Item = char> {
    let mut after_underscore = false;
    name.chars().filter_map(move |letter| {
        if letter == '_' {
            after_underscore = true;
            return None;
        }
        let upper = std::mem::take(&mut after_underscore);
        Some(if upper { letter.to_ascii_uppercase() } else { letter })
    })
}

/// The value of a field, to be written with its key.
struct FieldSeed<'a> {
    message: &'static Message,
    field: &'static Field,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
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
            return Err(Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let packed = matches!(self.field.kind, Kind::Int32 | Kind::Int64 | Kind::Fixed64);
        let mut items = Vec::new();
        let into = if packed { &mut items } else { &mut *self.out };
        while let Some(()) = seq.next_element_seed(ItemSeed {
            message: self.message,
            field: self.field,
            with_key: !packed,
            out: into,
        })? {}
        if packed {
            self.out.bytes(self.field.number, &items);
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

impl<'a> FieldSeed<'a> {
    /// The value of a field that is not a list.
    fn single<E: Error>(self) -> Result<ItemSeed<'a>, E> {
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
struct ItemSeed<'a> {
    message: &'static Message,
    field: &'static Field,
    /// Whether the field's key goes before it; it does not in packed lists.
    with_key: bool,
    out: &'a mut Vec<u8>,
}

impl ItemSeed<'_> {
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
        match (self.field.kind, self.with_key) {
            (Kind::Fixed64, true) => self.out.fixed64(self.field.number, word),
            (Kind::Fixed64, false) => self.out.raw(&word.to_le_bytes()),
            (_, true) => self.out.always_number(self.field.number, word),
            (_, false) => self.out.varint(word),
        }
        Ok(())
    }

    fn double<E: Error>(self, number: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => self.out.fixed64(self.field.number, number.to_bits()),
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

impl<'de> DeserializeSeed<'de> for ItemSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (message, field) = (self.message, self.field);
        FieldSeed { message, field, out: &mut Vec::new() }.expecting(formatter)
    }

    /// An item of a list is there even if it is the default.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.field.kind {
            Kind::Message(_) | Kind::Text => self.out.always_bytes(self.field.number, &[]),
            _ => return self.integer(0),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else {
            return Err(Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        let mut content = Vec::new();
        MessageSeed { message, out: &mut content }.visit_map(map)?;
        self.out.always_bytes(self.field.number, &content);
        Ok(())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => self.out.always_number(self.field.number, u64::from(truth)),
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
            Kind::Text => self.out.always_bytes(number, text.as_bytes()),
            Kind::Bytes => {
                let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
                match engine.decode(text) {
                    Ok(bytes) => self.out.always_bytes(number, &bytes),
                    Err(error) => return Err(E::custom(format_args!("{}: {error}", self.path()))),
                }
            }
            Kind::Id => match from_hex(text) {
                Some(bytes) => self.out.always_bytes(number, &bytes),
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

/// A request in protobuf, written by [`super::encode`], as JSON.
pub(super) fn from_protobuf(request: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len() * 3);
    object(&schema::REQUEST, request, &mut out);
    out
}

/// Writes a message. Its fields are in order, and lists in one run, because we wrote it.
fn object(message: &'static Message, bytes: &[u8], out: &mut Vec<u8>) {
    let mut reader = Reader::new(bytes);
    let mut open = None;
    out.push(b'{');
    while !reader.is_empty() {
        let Ok((number, raw)) = reader.field() else { break };
        let Some(field) = message.field(number) else { continue };
        if field.repeated && open == Some(number) {
            out.push(b',');
        } else {
            close(&mut open, message, out);
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.push(b'"');
            out.extend(camel_case(field.name).map(|letter| letter as u8));
            out.extend_from_slice(b"\":");
            if field.repeated {
                out.push(b'[');
            }
            open = Some(number);
        }
        value(field, raw, out);
    }
    close(&mut open, message, out);
    out.push(b'}');
}

fn close(open: &mut Option<u32>, message: &'static Message, out: &mut Vec<u8>) {
    if open.take().and_then(|number| message.field(number)).is_some_and(|field| field.repeated) {
        out.push(b']');
    }
}

fn value(field: &Field, raw: Raw<'_>, out: &mut Vec<u8>) {
    match (field.kind, raw) {
        (Kind::Message(message), Raw::Bytes(bytes)) => object(message, bytes, out),
        (Kind::Text, Raw::Bytes(bytes)) => quoted(&String::from_utf8_lossy(bytes), out),
        (Kind::Bytes, Raw::Bytes(bytes)) => quoted(&BASE64.encode(bytes), out),
        (Kind::Id, Raw::Bytes(bytes)) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            quoted(&hex, out);
        }
        (Kind::Bool, Raw::Varint(truth)) => {
            out.extend_from_slice(if truth == 0 { b"false" } else { b"true" });
        }
        (Kind::Double, Raw::Fixed64(bits)) => double(f64::from_bits(bits), out),
        (kind, Raw::Varint(word) | Raw::Fixed64(word)) => integer(kind, word, out),
        (kind, Raw::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            let mut first = true;
            while !reader.is_empty() {
                let next =
                    if matches!(kind, Kind::Fixed64) { reader.fixed64() } else { reader.varint() };
                let Ok(word) = next else { break };
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                integer(kind, word, out);
            }
        }
        (_, Raw::Other) => out.extend_from_slice(b"null"),
    }
}

fn integer(kind: Kind, word: u64, out: &mut Vec<u8>) {
    let text = match kind {
        Kind::Int64 => format!("\"{}\"", word as i64),
        Kind::Uint64 | Kind::Fixed64 => format!("\"{word}\""),
        Kind::Uint32 => (word as u32).to_string(),
        _ => (word as i32).to_string(),
    };
    out.extend_from_slice(text.as_bytes());
}

fn double(number: f64, out: &mut Vec<u8>) {
    let text = if number.is_nan() {
        "\"NaN\"".to_owned()
    } else if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        format!("\"{sign}Infinity\"")
    } else {
        // The shortest form that reads as the same number, with an exponent where it is large.
        format!("{number:?}")
    };
    out.extend_from_slice(text.as_bytes());
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            control if control < ' ' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
