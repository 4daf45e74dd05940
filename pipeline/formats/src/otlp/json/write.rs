//! Protobuf to JSON.

use base64::Engine;

use super::camel_case;
use super::read::BASE64;
use crate::otlp::schema::{self, Field, Kind, Message};
use crate::otlp::wire::{Raw, Reader};

/// A request in protobuf, written by [`crate::otlp::encode`], as JSON.
pub(in crate::otlp) fn from_protobuf(request: &[u8]) -> Vec<u8> {
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
