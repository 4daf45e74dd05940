//! The resources of a request, read and changed without decoding profiles: for processors that look
//! no deeper. The time goes with the frames of resources and what these hold, not with samples.

use super::budget::Budget;
use super::decode::explain;
use super::encode::attributes;
use super::error::DecodeError;
use super::schema;
use super::sink::Sink as _;
use super::values::Values;
use super::wire::{Fault, FieldUse, Raw, Read, Reader, fields, text};
use profpipe_profile::{Resource, Strings};

/// The resources of a request in order, each with the URL of its schema. References into the string
/// table are resolved. Profiles and tables are not looked at: a request whose resources can be read
/// may still not be one that [`super::decode`] accepts.
///
/// # Errors
/// If the frames or a resource are broken.
pub fn resources(request: &[u8]) -> Result<Vec<(Resource, String)>, DecodeError> {
    read(request).map_err(|fault| explain(*fault, request))
}

/// The request with every resource as `edit` leaves it; nothing if it changes none. Everything else,
/// also what is unknown, stays as it is, byte by byte.
///
/// # Errors
/// As [`resources`].
pub fn edit_resources(
    request: &[u8],
    mut edit: impl FnMut(&mut Resource),
) -> Result<Option<Vec<u8>>, DecodeError> {
    let mut resources: Vec<Resource> =
        resources(request)?.into_iter().map(|(resource, _)| resource).collect();
    let mut is_changed = false;
    for resource in &mut resources {
        let before = resource.clone();
        edit(resource);
        is_changed |= before != *resource;
    }
    if !is_changed {
        return Ok(None);
    }
    let written = write(request, &resources).map_err(|fault| explain(*fault, request))?;
    Ok(Some(written))
}

fn read(request: &[u8]) -> Read<Vec<(Resource, String)>> {
    // Few senders refer to the table of strings, which is the larger part of many requests.
    match read_with(request, &Strings::default()) {
        Err(fault) if fault.is_of_index() => read_with(request, &strings(request)?),
        read => read,
    }
}

fn read_with(request: &[u8], strings: &Strings) -> Read<Vec<(Resource, String)>> {
    let mut budget = Budget::new(request.len(), None);
    let mut found = Vec::new();
    fields(&schema::REQUEST, request, |number, raw| {
        let (1, Raw::Bytes(bytes)) = (number, raw) else { return Ok(FieldUse::Yes) };
        budget.item(bytes, size_of::<(Resource, String)>())?;
        let (mut resource, mut schema_url) = (Resource::default(), String::new());
        fields(&schema::RESOURCE_PROFILES, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => {
                    read_resource(bytes, &mut resource, strings, &mut budget)?;
                }
                (2, Raw::Bytes(_)) => {}
                (3, Raw::Bytes(bytes)) => {
                    budget.text(bytes, bytes.len())?;
                    schema_url = text(bytes)?.to_owned();
                }
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })?;
        found.push((resource, schema_url));
        Ok(FieldUse::Yes)
    })?;
    Ok(found)
}

fn read_resource(
    bytes: &[u8],
    into: &mut Resource,
    strings: &Strings,
    budget: &mut Budget<'_>,
) -> Read<()> {
    fields(&schema::RESOURCE, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Bytes(bytes)) => {
                let pair = Values { strings, budget }.key_value(bytes, 0)?;
                into.attributes.push(pair);
            }
            (2, Raw::Varint(count)) => into.dropped_attributes_count = count as u32,
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })
}

/// The table of strings.
fn strings(request: &[u8]) -> Read<Strings> {
    let (mut arena, mut ends) = (String::new(), Vec::new());
    fields(&schema::REQUEST, request, |number, raw| {
        let (2, Raw::Bytes(dictionary)) = (number, raw) else { return Ok(FieldUse::Yes) };
        fields(&schema::DICTIONARY, dictionary, |number, raw| {
            if let (5, Raw::Bytes(row)) = (number, raw) {
                // Row 0 is none, whatever it holds.
                if !ends.is_empty() {
                    arena.push_str(text(row)?);
                }
                ends.push(arena.len() as u32);
            }
            Ok(FieldUse::Yes)
        })?;
        Ok(FieldUse::Yes)
    })?;
    if ends.is_empty() {
        ends.push(0);
    }
    Ok(Strings::from_arena(arena, ends))
}

/// Every field of a message with the bytes that it takes.
fn each<'a>(
    message: &'a [u8],
    mut take: impl FnMut(u32, Raw<'a>, &'a [u8]) -> Result<(), Box<Fault>>,
) -> Read<()> {
    let mut reader = Reader::new(message);
    while !reader.is_empty() {
        let before = reader.rest();
        let (number, raw) = reader.field()?;
        let length = before.len().saturating_sub(reader.rest().len());
        take(number, raw, before.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

/// The request with these resources in place of its own.
fn write(request: &[u8], resources: &[Resource]) -> Read<Vec<u8>> {
    let mut out = Vec::with_capacity(request.len() + resources.len() * 256);
    let mut resources = resources.iter();
    each(request, |number, raw, whole| {
        let (1, Raw::Bytes(group)) = (number, raw) else {
            out.extend_from_slice(whole);
            return Ok(());
        };
        let Some(resource) = resources.next() else { return Ok(()) };
        // What it was, in pieces or not, without its attributes.
        let (mut kept, mut rest) = (Vec::new(), Vec::new());
        each(group, |number, raw, whole| {
            match (number, raw) {
                (1, Raw::Bytes(old)) => each(old, |number, _, whole| {
                    if number != 1 {
                        kept.extend_from_slice(whole);
                    }
                    Ok(())
                })?,
                _ => rest.push(whole),
            }
            Ok(())
        })?;
        let length = rest.iter().map(|whole| whole.len()).sum::<usize>();
        out.message(1, length + 256, |out| {
            out.message(1, 256, |out| {
                attributes(out, 1, &resource.attributes);
                out.raw(&kept);
            });
            for whole in &rest {
                out.raw(whole);
            }
        });
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::{edit_resources, resources};
    use crate::otlp::{decode, encode};
    use profpipe_profile::{Profiles, Resource, ResourceProfiles, Value};

    fn batch(values: &[(String, i64)]) -> Profiles {
        let mut profiles = Profiles::new();
        for (text, number) in values {
            let mut resource = Resource::default();
            resource.set("text", text.as_str());
            resource.set("number", *number);
            resource.dropped_attributes_count = 3;
            let group = ResourceProfiles {
                resource,
                schema_url: format!("https://{number}"),
                ..ResourceProfiles::default()
            };
            profiles.resources.push(group);
        }
        profiles
    }

    proptest! {
        /// Scenario: requests of any number of resources, read, and changed.
        /// Guarantees: what decoding the whole says, before and after; without a change nothing is
        /// written.
        #[test]
        fn resources_are_those_of_the_request(
            values in prop::collection::vec(("[a-zé]{0,9}", any::<i64>()), 0..6),
        ) {
            let request = encode(&batch(&values));
            let whole = decode(&request).unwrap();
            let found = resources(&request).unwrap();
            let same = whole.resources.iter().zip(&found);
            prop_assert_eq!(found.len(), whole.resources.len());
            for (group, (resource, schema_url)) in same {
                prop_assert_eq!(&group.resource, resource);
                prop_assert_eq!(&group.schema_url, schema_url);
            }
            let unchanged = edit_resources(&request, |_| {}).unwrap();
            prop_assert!(unchanged.is_none());
            let edit = |resource: &mut Resource| resource.set("new", true);
            let edited = edit_resources(&request, edit).unwrap();
            let mut expected = whole;
            for group in &mut expected.resources {
                edit(&mut group.resource);
            }
            prop_assert_eq!(edited.unwrap_or(request), encode(&expected));
        }

        /// Scenario: any bytes, and requests with a byte changed.
        /// Guarantees: no panic; whatever decodes can be edited.
        #[test]
        fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), byte: u8) {
            let _ = edit_resources(&bytes, |resource| resource.set("a", 1));
            bytes = encode(&batch(&[("x".to_owned(), 1), ("y".to_owned(), 2)]));
            if let Some(place) = bytes.get_mut(at.index(200)) {
                *place = byte;
            }
            let edited = edit_resources(&bytes, |resource| resource.set("a", 1));
            if decode(&bytes).is_ok() {
                let edited = decode(&edited.unwrap().unwrap_or(bytes));
                prop_assert!(edited.is_ok());
            }
        }
    }

    /// Scenario: attributes whose keys and values are references into the string table, and a field
    /// of a newer protocol beside them.
    /// Guarantees: they are resolved and written inline; the unknown field stays.
    #[test]
    fn references_are_resolved() {
        let message = |field: u8, content: &[u8]| {
            let mut bytes = vec![field << 3 | 2, content.len() as u8];
            bytes.extend_from_slice(content);
            bytes
        };
        // Key and value are rows 1 and 2; field 9 of the resource is unknown.
        let pair = [message(2, &[8 << 3, 2]), vec![3 << 3, 1]].concat();
        let resource = [message(1, &pair), message(9, b"new")].concat();
        let strings = [message(5, b""), message(5, b"key"), message(5, b"value")].concat();
        let request = [message(1, &message(1, &resource)), message(2, &strings)].concat();
        let found = resources(&request).unwrap();
        assert_eq!(found[0].0.get("key"), Some(&Value::from("value")));
        let edited = edit_resources(&request, |resource| resource.set("b", "c")).unwrap().unwrap();
        let attributes = &decode(&edited).unwrap().resources[0].resource.attributes;
        assert_eq!(attributes.len(), 2);
        assert!(edited.windows(5).any(|window| window == message(9, b"new")));
        let dangling = message(1, &message(1, &message(1, &[3 << 3, 7])));
        assert!(resources(&dangling).is_err());
    }
}
