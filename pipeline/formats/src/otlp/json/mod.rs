//! OTLP JSON, by way of the protobuf form.
//!
//! Reading writes protobuf as the JSON streams by, and [`super::decode`] does the rest, so that
//! there is one place where requests are checked; writing goes the other way. Both follow the
//! schema in `schema.rs`.
//!
//! The rules are those of the OTLP specification, which differ from protobuf's own JSON: keys in
//! lowerCamelCase only, ids in hex, other bytes in base64, 64-bit numbers as texts (read as
//! numbers, too), unknown keys ignored, `null` and a missing key mean the default. Two things are
//! refused all the same, since a sender that is answered with success would lose its samples: keys that
//! only incompatible older versions have, and a request without samples that has unknown keys where
//! they may have been. The depth is bounded by the parser, at 128.

mod output;
mod read;
mod surrogates;
mod write;

pub(super) use read::to_protobuf;
pub(super) use write::from_protobuf;

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
