//! How much a batch holds, without decoding it: a walk over the frames of the messages, about
//! thirty times faster than decoding.

use super::decode::explain;
use super::error::DecodeError;
use super::schema;
use super::wire::{FieldUse, Raw, Read, fields};
use profpipe_profile::Profiles;

/// How much a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// `ResourceProfiles` messages.
    pub resources: usize,
    /// Profiles: the unit in which OTLP counts what was rejected.
    pub profiles: usize,
    /// Samples (rows, not events).
    pub samples: usize,
    /// Bytes that the batch occupies: the request's length, or the memory of its tables.
    pub bytes: usize,
}

impl Summary {
    /// Of tables.
    pub fn of_tables(profiles: &Profiles) -> Self {
        Self {
            resources: profiles.resources.len(),
            profiles: profiles.iter().count(),
            samples: profiles.sample_count(),
            bytes: profiles.memory(),
        }
    }
}

/// Counts what a request holds. Only the frames of messages down to the samples are looked at:
/// a request that can be counted may still not be one that [`super::decode`] accepts.
///
/// # Errors
/// If the frames are broken.
pub fn summary(request: &[u8]) -> Result<Summary, DecodeError> {
    let mut summary = Summary { bytes: request.len(), ..Summary::default() };
    walk(request, &mut summary).map_err(|fault| explain(*fault, request))?;
    Ok(summary)
}

fn walk(request: &[u8], summary: &mut Summary) -> Read<()> {
    fields(&schema::REQUEST, request, |number, raw| {
        let (1, Raw::Bytes(resource)) = (number, raw) else { return Ok(FieldUse::Yes) };
        summary.resources += 1;
        walk_resource(resource, summary)?;
        Ok(FieldUse::Yes)
    })
}

/// Counts what one `ResourceProfiles` holds.
pub(super) fn of_resource(resource: &[u8]) -> Read<Summary> {
    let mut summary = Summary { bytes: resource.len(), resources: 1, ..Summary::default() };
    walk_resource(resource, &mut summary)?;
    Ok(summary)
}

fn walk_resource(resource: &[u8], summary: &mut Summary) -> Read<()> {
    fields(&schema::RESOURCE_PROFILES, resource, |number, raw| {
        let (2, Raw::Bytes(scope)) = (number, raw) else { return Ok(FieldUse::Yes) };
        fields(&schema::SCOPE_PROFILES, scope, |number, raw| {
            let (2, Raw::Bytes(profile)) = (number, raw) else { return Ok(FieldUse::Yes) };
            summary.profiles += 1;
            fields(&schema::PROFILE, profile, |number, _| {
                summary.samples += usize::from(number == 2);
                Ok(FieldUse::Yes)
            })?;
            Ok(FieldUse::Yes)
        })?;
        Ok(FieldUse::Yes)
    })
}
