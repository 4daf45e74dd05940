//! The payload of a published process context (OTEP 4719): what an SDK says of its process.
//!
//! `opentelemetry.proto.processcontext.v1development.ProcessContext` is no part of OTLP, but made of
//! the same messages.

use super::budget::Budget;
use super::decode::explain;
use super::error::DecodeError;
use super::schema;
use super::values::Values;
use super::wire::{FieldUse, Raw, Read, fields};
use profpipe_profile::{Resource, Strings};

/// See [`super::decode_process_context`].
pub(super) fn decode(payload: &[u8]) -> Result<Resource, DecodeError> {
    let strings = Strings::default();
    let mut budget = Budget::new(payload.len(), None);
    let mut values = Values { strings: &strings, budget: &mut budget };
    let mut resource = Resource::default();
    let mut read = |bytes: &[u8]| -> Read<()> {
        fields(&schema::RESOURCE, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => resource.attributes.push(values.key_value(bytes, 0)?),
                (2, Raw::Varint(count)) => resource.dropped_attributes_count = count as u32,
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })
    };
    fields(&schema::PROCESS_CONTEXT, payload, |number, raw| match (number, raw) {
        (1, Raw::Bytes(bytes)) => read(bytes).map(|()| FieldUse::Yes),
        // What is no part of the resource is for readers that know it.
        (2, Raw::Bytes(_)) => Ok(FieldUse::Yes),
        _ => Ok(FieldUse::No),
    })
    .map_err(|fault| explain(*fault, payload))?;
    Ok(resource)
}
