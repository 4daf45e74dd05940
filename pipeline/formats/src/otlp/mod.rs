//! OTLP profiles: protobuf and JSON, to and from [`profpipe_profile`].
//!
//! Proto 1.10 and 1.11 (`v1development`, development version 1). Older versions did not change the
//! package name but the field numbers, and some of their requests decode silently wrong in a
//! generated reader; [`decode`] recognises them and says so ([`DecodeError::Dialect`]).
//!
//! # What decoding promises
//! - It never panics, whatever the bytes are, and takes memory of at most a fixed multiple of the
//!   request (about 16 to 32 times, for bytes made to take the most) and 16 MiB.
//! - Every index is checked, so that a [`Profiles`] can be used without checks.
//! - Fields may come in any order and split as protobuf allows; unknown ones are skipped.
//! - References of attributes into the string table (`key_strindex`, `string_value_strindex`) are
//!   resolved; [`encode`] writes texts inline, which every receiver understands.
//! - Index 0 means "none" in every table: what a sender wrote into a row 0 is not looked at, and
//!   a table without rows is taken for one that has only row 0.
//!
//! # What is lost
//! Fields that the model does not have: `Resource.entity_refs` and fields newer than proto 1.11.
//! Whether a message was missing or empty is not kept. A gateway that only forwards keeps the
//! bytes as they are ([`Payload::from_wire`]) and loses nothing.

mod budget;
mod decode;
mod encode;
mod error;
mod inspect;
mod json;
mod lenient;
mod payload;
mod process_context;
mod resources;
mod schema;
mod sink;
mod sizing;
mod summary;
mod tables;
mod values;
mod wire;

pub use error::DecodeError;
pub use lenient::{Rejected, admit, admit_clean, admit_within, decode_lenient};
pub use payload::Payload;
pub use resources::{edit_resources, resources};
pub use summary::{Summary, summary};

use profpipe_profile::{self as profile, Profiles, Resource};

/// Reads an `ExportProfilesServiceRequest` (or `ProfilesData`, which has the same fields).
///
/// # Errors
/// If the bytes are not one, or are of a dialect that cannot be read.
pub fn decode(request: &[u8]) -> Result<Profiles, DecodeError> {
    decode::decode(request)
}

/// Writes an `ExportProfilesServiceRequest`.
pub fn encode(profiles: &Profiles) -> Vec<u8> {
    encode::encode(profiles)
}

/// The length of what [`encode`] writes.
pub fn encoded_len(profiles: &Profiles) -> usize {
    encode::encoded_len(profiles)
}

/// Cuts a batch into parts that are at most `max_bytes` long once encoded, as
/// [`split`](profile::split()) does.
pub fn split(profiles: Profiles, max_bytes: usize) -> Vec<Profiles> {
    if encoded_len(&profiles) <= max_bytes {
        return vec![profiles];
    }
    profile::split(&profiles, max_bytes, &encode::EncodedLengths(&profiles.dictionary))
}

/// Reads a request in OTLP JSON.
///
/// # Errors
/// If the text is not JSON, a known key has a value of the wrong type, or [`decode`] would refuse
/// the same request in protobuf.
pub fn decode_json(request: &[u8]) -> Result<Profiles, DecodeError> {
    decode(&json::to_protobuf(request, None)?)
}

/// Reads the resource of a `ProcessContext`, which an SDK publishes in the memory of its process.
///
/// # Errors
/// If the payload is not one. The text may hold what the process wrote: do not show it.
pub fn decode_process_context(payload: &[u8]) -> Result<Resource, DecodeError> {
    process_context::decode(payload)
}

/// A request in OTLP JSON as protobuf, not looked at any further.
///
/// # Errors
/// If the text is not JSON, or a known key has a value of the wrong type.
pub fn json_to_protobuf(request: &[u8]) -> Result<Vec<u8>, DecodeError> {
    json::to_protobuf(request, None)
}

/// As [`json_to_protobuf`], within memory that is shared with others: `room` is asked for bytes before
/// they are taken.
///
/// # Errors
/// As [`json_to_protobuf`], and [`DecodeError::NoRoom`] after `room` said no.
pub fn json_to_protobuf_within(
    request: &[u8],
    mut room: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecodeError> {
    json::to_protobuf(request, Some(&mut room))
}

/// Writes a request in OTLP JSON, without spaces. Fields that have their default are left out.
pub fn encode_json(profiles: &Profiles) -> Vec<u8> {
    json::from_protobuf(&encode(profiles))
}
