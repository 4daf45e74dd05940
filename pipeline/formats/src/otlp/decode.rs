//! Decoding a request: the dictionary first, wherever it stands, then what points into it.

use super::budget::{Budget, Room};
use super::error::DecodeError;
use super::lenient::Lenient;
use super::schema;
use super::sizing::{Ahead, Exact, SAMPLE_KEY};
use super::tables::{Tables, id};
use super::values::{MAX_VALUE_DEPTH, Values};
use super::wire::{
    CanonicalReader, Fault, FaultKind, FieldUse, Raw, Read, Reader, fields, index, indices,
    numbers, runs, text,
};
use profpipe_profile::{
    Dictionary, Index, KeyValue, LinkIx, OutOfRange, Profile, Profiles, Resource, ResourceProfiles,
    Samples, Scope, ScopeProfiles, StackIx, StringIx, ValueType,
};

const PROTO_1_9: &str = "1.9 or older";
/// Attributes that room is made for before they are read.
const MOST_AT_ONCE: usize = 32;
const PROTO_1_7: &str = "1.7 or older";

/// See [`super::decode`].
pub(super) fn decode(request: &[u8]) -> Result<Profiles, DecodeError> {
    read(request, None, None).map(|read| read.profiles)
}

/// What was read, and how.
pub(super) struct Decoded {
    pub(super) profiles: Profiles,
    /// References into the string table were resolved.
    pub(super) resolved: bool,
    /// Every table has a row 0.
    pub(super) complete: bool,
}

/// Reads a request; with `lenient`, profiles that point outside of the tables are left out and
/// counted there; with `room`, memory is asked for before it is taken.
pub(super) fn read(
    request: &[u8],
    lenient: Option<&mut Lenient>,
    room: Option<Room<'_>>,
) -> Result<Decoded, DecodeError> {
    // Protobuf itself stops at 2 GiB, and row ends are 32 bits wide.
    if request.len() > i32::MAX as usize {
        return Err(DecodeError::TooLarge { request: request.len(), limit: i32::MAX as usize });
    }
    let mut budget = Budget::new(request.len(), room);
    let read = dictionary(request, &mut budget, lenient.is_some());
    let (mut dictionary, unresolved, complete) = read.map_err(|fault| explain(*fault, request))?;
    let mut lenient = lenient;
    match (dictionary.check(), &mut lenient) {
        (Ok(()), None) => {}
        (Ok(()), Some(_)) if unresolved.is_empty() => {}
        (checked, Some(lenient)) => lenient.mend(&mut dictionary, unresolved, checked.err()),
        (Err(fault), None) => return Err(out_of_range(fault)),
    }
    let mut decoder =
        Decoder { dictionary: &dictionary, budget, lenient, samples: 0, valueless: 0 };
    let resources = decoder.resources(request)?;
    if decoder.samples > 0 && decoder.valueless == decoder.samples {
        return Err(DecodeError::Dialect {
            dialect: PROTO_1_9,
            sign: "no sample has a value or a timestamp",
        });
    }
    let resolved = decoder.budget.resolved;
    Ok(Decoded { profiles: Profiles { dictionary, resources }, resolved, complete })
}

/// The dictionary, the rows of the attribute table whose references lead nowhere (if that is
/// tolerated), and whether every table has a row 0.
fn dictionary(
    request: &[u8],
    budget: &mut Budget<'_>,
    lenient: bool,
) -> Read<(Dictionary, Vec<usize>, bool)> {
    let mut tables = Tables::default();
    let asked = budget.is_asked();
    fields(&schema::REQUEST, request, |number, raw| match (number, raw) {
        (2, Raw::Bytes(bytes)) => tables.count(bytes, asked).map(|()| FieldUse::Yes),
        (1, Raw::Bytes(_)) => Ok(FieldUse::Yes),
        _ => Ok(FieldUse::No),
    })?;
    budget.ask(request, tables.bytes())?;
    tables.reserve(asked);
    fields(&schema::REQUEST, request, |number, raw| match (number, raw) {
        (2, Raw::Bytes(bytes)) => tables.read(bytes).map(|()| FieldUse::Yes),
        _ => Ok(FieldUse::Yes),
    })?;
    tables.finish(request, budget, lenient)
}

pub(super) fn out_of_range(fault: OutOfRange) -> DecodeError {
    DecodeError::Index {
        field: fault.field,
        index: i64::from(fault.index.cast_signed()),
        rows: fault.rows,
    }
}

/// A fault as an error, with positions counted from the start of the request.
pub(super) fn explain(fault: Fault, request: &[u8]) -> DecodeError {
    let at = fault.address.wrapping_sub(request.as_ptr() as usize);
    let at = at.min(request.len());
    let field = match fault.field {
        Some((message, number)) => message.path(number),
        None => schema::REQUEST.name.to_owned(),
    };
    match fault.kind {
        FaultKind::Truncated => DecodeError::Truncated { field, at },
        FaultKind::Malformed(what) => DecodeError::Malformed { field, at, what },
        FaultKind::WireType(found) => DecodeError::WireType { field, at, found },
        FaultKind::Utf8 => DecodeError::Utf8 { field, at },
        FaultKind::IdLength(found, expected) => {
            DecodeError::IdLength { field, at, found, expected }
        }
        FaultKind::Index(index, rows) => {
            DecodeError::Index { field, index: i64::from(index.cast_signed()), rows }
        }
        FaultKind::Depth => DecodeError::Depth { field, limit: MAX_VALUE_DEPTH },
        FaultKind::TooLarge => {
            DecodeError::TooLarge { request: request.len(), limit: Budget::limit(request.len()) }
        }
        FaultKind::NoRoom => DecodeError::NoRoom,
        FaultKind::Dialect(dialect, sign) => DecodeError::Dialect { dialect, sign },
        FaultKind::Checked(error) => error,
    }
}

/// What is known while the profiles are read.
struct Decoder<'a, 'r> {
    dictionary: &'a Dictionary,
    budget: Budget<'r>,
    lenient: Option<&'a mut Lenient>,
    /// Samples read.
    samples: usize,
    /// Those with attributes but neither values nor timestamps. If all are so, they are of an
    /// older protocol, which has the values where attributes are now.
    valueless: usize,
}

impl Decoder<'_, '_> {
    fn resources(&mut self, request: &[u8]) -> Result<Vec<ResourceProfiles>, DecodeError> {
        let mut resources = Vec::new();
        fields(&schema::REQUEST, request, |number, raw| {
            if let (1, Raw::Bytes(bytes)) = (number, raw) {
                let before = self.lenient.as_ref().map(|lenient| lenient.rejected.clone());
                match (self.resource_profiles(bytes), &mut self.lenient, before) {
                    (Ok(resource), ..) => resources.push(resource),
                    // Attributes of the resource or of a scope of it lead nowhere.
                    (Err(fault), Some(lenient), Some(before)) if fault.is_of_index() => {
                        lenient.rejected = before;
                        lenient.reject_all(bytes, explain(*fault, request).to_string())?;
                    }
                    (Err(fault), ..) => return Err(fault),
                }
            }
            Ok(FieldUse::Yes)
        })
        .map_err(|fault| explain(*fault, request))?;
        Ok(resources)
    }

    fn resource_profiles(&mut self, bytes: &[u8]) -> Read<ResourceProfiles> {
        self.budget.item(bytes, size_of::<ResourceProfiles>())?;
        let mut into = ResourceProfiles::default();
        fields(&schema::RESOURCE_PROFILES, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => self.resource(bytes, &mut into.resource)?,
                (2, Raw::Bytes(bytes)) => {
                    // One is usual, and a vector's own first step is four.
                    if into.scopes.is_empty() {
                        into.scopes.reserve_exact(1);
                    }
                    into.scopes.push(self.scope_profiles(bytes)?);
                }
                (3, Raw::Bytes(bytes)) => into.schema_url = self.text(bytes)?,
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })?;
        Ok(into)
    }

    fn text(&mut self, bytes: &[u8]) -> Read<String> {
        self.budget.ask_text(bytes, bytes.len())?;
        Ok(text(bytes)?.to_owned())
    }

    fn key_value(&mut self, bytes: &[u8]) -> Read<KeyValue> {
        Values { strings: &self.dictionary.strings, budget: &mut self.budget }.key_value(bytes, 0)
    }

    fn resource(&mut self, bytes: &[u8], into: &mut Resource) -> Read<()> {
        runs(&schema::RESOURCE, bytes, |number, raw, run| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => {
                    if into.attributes.is_empty() {
                        let mut ahead = *run;
                        let more = std::iter::from_fn(|| ahead.row(1 << 3 | 2)).take(MOST_AT_ONCE);
                        into.attributes.reserve_exact(1 + more.count());
                    }
                    into.attributes.push(self.key_value(bytes)?);
                    while let Some(bytes) = run.row(1 << 3 | 2) {
                        into.attributes.push(self.key_value(bytes)?);
                    }
                }
                (2, Raw::Varint(count)) => into.dropped_attributes_count = count as u32,
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })
    }

    fn scope_profiles(&mut self, bytes: &[u8]) -> Read<ScopeProfiles> {
        self.budget.item(bytes, size_of::<ScopeProfiles>())?;
        let mut into = ScopeProfiles::default();
        fields(&schema::SCOPE_PROFILES, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => self.scope(bytes, &mut into.scope)?,
                (2, Raw::Bytes(bytes)) => {
                    if into.profiles.is_empty() {
                        into.profiles.reserve_exact(1);
                    }
                    match (self.profile(bytes), &mut self.lenient) {
                        (Ok(profile), None) => into.profiles.push(profile),
                        (Ok(profile), Some(lenient)) => match lenient.fault_of(&profile) {
                            None => into.profiles.push(profile),
                            Some(fault) => lenient.reject(profile.samples.len(), fault),
                        },
                        (Err(fault), Some(lenient)) if fault.is_of_index() => {
                            let samples = Ahead::of(bytes)?.rows;
                            lenient.reject(samples, explain(*fault, bytes).to_string());
                        }
                        (Err(fault), _) => return Err(fault),
                    }
                }
                (3, Raw::Bytes(bytes)) => into.schema_url = self.text(bytes)?,
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })?;
        Ok(into)
    }

    fn scope(&mut self, bytes: &[u8], into: &mut Scope) -> Read<()> {
        fields(&schema::SCOPE, bytes, |number, raw| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => into.name = self.text(bytes)?,
                (2, Raw::Bytes(bytes)) => into.version = self.text(bytes)?,
                (3, Raw::Bytes(bytes)) => {
                    if into.attributes.is_empty() {
                        into.attributes.reserve_exact(1);
                    }
                    into.attributes.push(self.key_value(bytes)?);
                }
                (4, Raw::Varint(count)) => into.dropped_attributes_count = count as u32,
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })
    }

    fn profile(&mut self, bytes: &[u8]) -> Read<Profile> {
        self.budget.item(bytes, size_of::<Profile>())?;
        let mut into = Profile::default();
        match self.budget.is_asked() {
            true => {
                let exact = Exact::of(bytes)?;
                self.budget.ask(bytes, exact.bytes())?;
                exact.reserve(&mut into);
            }
            false => Ahead::of(bytes)?.reserve(&mut into.samples),
        }
        runs(&schema::PROFILE, bytes, |number, raw, run| {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => value_type(bytes, &mut into.sample_type)?,
                (2, Raw::Bytes(bytes)) => {
                    self.valueless += sample(bytes, &mut into.samples)?;
                    while let Some(bytes) = run.row(SAMPLE_KEY) {
                        self.valueless += sample(bytes, &mut into.samples)?;
                    }
                }
                (3, Raw::Fixed64(time)) => into.time_unix_nano = time,
                (3, Raw::Bytes(_)) => return Err(old(bytes, "profiles hold location indices")),
                (4, Raw::Varint(duration)) => into.duration_nano = duration,
                (5, Raw::Bytes(bytes)) => value_type(bytes, &mut into.period_type)?,
                (5, Raw::Varint(_)) => return Err(old(bytes, "the period type is a number")),
                (6, Raw::Varint(period)) => into.period = period as i64,
                (7, Raw::Bytes(bytes)) => into.profile_id = id(bytes)?,
                (8, Raw::Varint(count)) => into.dropped_attributes_count = count as u32,
                (8, Raw::Bytes(_)) => {
                    return Err(Reader::new(bytes).fault(FaultKind::Dialect(
                        "1.8 or older",
                        "the count of dropped attributes is an id",
                    )));
                }
                (9, Raw::Bytes(bytes)) => into.original_payload_format = text(bytes)?.to_owned(),
                (10, Raw::Bytes(bytes)) => {
                    into.original_payload = bytes::Bytes::copy_from_slice(bytes);
                }
                (11, raw) => return indices(raw, &mut into.attributes),
                _ => return Ok(FieldUse::No),
            }
            Ok(FieldUse::Yes)
        })?;
        self.samples += into.samples.len();
        match self.check(&into) {
            Ok(()) => Ok(into),
            Err(error) => Err(Reader::new(bytes).fault(FaultKind::Checked(error))),
        }
    }

    fn check(&self, profile: &Profile) -> Result<(), DecodeError> {
        profile.check(self.dictionary).map_err(|fault| {
            // A value read as an attribute index is rarely in range.
            let in_sample =
                profile.samples.attributes.row_of_item(fault.item).filter(|_| fault.in_samples());
            match in_sample {
                Some(row) if profile.samples.values.get(row).is_empty() => DecodeError::Dialect {
                    dialect: PROTO_1_9,
                    sign: "samples without values have attributes that the table does not",
                },
                _ => out_of_range(fault),
            }
        })
    }
}

fn old(bytes: &[u8], sign: &'static str) -> Box<Fault> {
    Reader::new(bytes).fault(FaultKind::Dialect(PROTO_1_7, sign))
}

fn value_type(bytes: &[u8], into: &mut ValueType) -> Read<()> {
    fields(&schema::VALUE_TYPE, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => into.kind = StringIx::new(index(row)),
            (2, Raw::Varint(row)) => into.unit = StringIx::new(index(row)),
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })
}

/// Reads one sample. Returns 1 if it has attributes but neither values nor timestamps.
#[inline(always)]
fn sample(bytes: &[u8], into: &mut Samples) -> Read<usize> {
    let (stack, link) = match usual_sample(bytes, into) {
        Some(usual) => usual,
        None => any_sample(bytes, into)?,
    };
    into.stacks.push(stack);
    into.links.push(link);
    let attributes = into.attributes.finish_row();
    let values = into.values.finish_row();
    let timestamps = into.timestamps.finish_row();
    if values > 0 || attributes == 0 {
        return Ok(0);
    }
    // Attributes have unique keys, values may well repeat.
    if attributes > 1
        && attributes == timestamps
        && matches!(into.attributes.last(), [first, second, ..] if first == second)
    {
        return Err(values_as_attributes(bytes));
    }
    Ok(usize::from(timestamps == 0))
}

#[cold]
fn values_as_attributes(bytes: &[u8]) -> Box<Fault> {
    let sign = "samples hold values where attributes are";
    Reader::new(bytes).fault(FaultKind::Dialect(PROTO_1_9, sign))
}

/// A sample as generated encoders write it.
#[inline(always)]
fn usual_sample(bytes: &[u8], into: &mut Samples) -> Option<(StackIx, LinkIx)> {
    let mut message = CanonicalReader::new(bytes);
    let stack = message.index(1)?;
    message.indices(2, into.attributes.open_items())?;
    let link = message.index(3)?;
    let mut values = Reader::new(message.bytes(4)?);
    while !values.is_empty() {
        into.values.push_item(values.varint().ok()? as i64);
    }
    let (words, rest) = message.bytes(5)?.as_chunks::<8>();
    message.end()?;
    if !rest.is_empty() {
        return None;
    }
    into.timestamps.open_items().extend(words.iter().map(|word| u64::from_le_bytes(*word)));
    Some((stack, link))
}

/// A sample as protobuf and older protocols allow it.
#[inline(never)]
fn any_sample(bytes: &[u8], into: &mut Samples) -> Read<(StackIx, LinkIx)> {
    into.attributes.abandon_row();
    into.values.abandon_row();
    into.timestamps.abandon_row();
    let (mut stack, mut link) = (StackIx::NONE, LinkIx::NONE);
    let (mut packed_attributes, mut loose_attributes, mut loose_values) = (false, false, false);
    fields(&schema::SAMPLE, bytes, |number, raw| {
        match (number, raw) {
            (1, Raw::Varint(row)) => stack = StackIx::new(index(row)),
            (2, raw) => {
                match raw {
                    Raw::Bytes(_) => packed_attributes = true,
                    _ => loose_attributes = true,
                }
                return indices(raw, into.attributes.open_items());
            }
            (3, Raw::Varint(row)) => link = LinkIx::new(index(row)),
            (3, Raw::Bytes(_)) => {
                let dialect = if loose_attributes { PROTO_1_7 } else { PROTO_1_9 };
                let sign = "samples hold a list where the link is";
                return Err(Reader::new(bytes).fault(FaultKind::Dialect(dialect, sign)));
            }
            (4, raw) => {
                loose_values |= matches!(raw, Raw::Varint(_));
                return numbers(raw, |value| into.values.push_item(value as i64));
            }
            (5, Raw::Bytes(packed)) => {
                let (words, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Reader::new(rest).fault(FaultKind::Truncated));
                }
                for word in words {
                    into.timestamps.push_item(u64::from_le_bytes(*word));
                }
            }
            (5, Raw::Fixed64(time)) => into.timestamps.push_item(time),
            _ => return Ok(FieldUse::No),
        }
        Ok(FieldUse::Yes)
    })?;
    // One encoder packs all lists of a message or none: this is a list of values and a link.
    if packed_attributes && loose_values {
        return Err(values_as_attributes(bytes));
    }
    Ok((stack, link))
}
