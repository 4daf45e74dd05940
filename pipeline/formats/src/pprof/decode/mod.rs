//! The protobuf message to tables.
//!
//! The message is walked several times, once for each kind of row, instead of being kept as a tree:
//! rows refer to each other in any order, and a tree of hostile bytes takes many times their size.

mod foreign;
mod header;
mod ids;
mod inflate;
mod samples;
mod tables;

use std::collections::HashMap;

use foldhash::fast::RandomState;

use self::foreign::foreign;
pub(crate) use self::foreign::{foreign_text, top_fields};
use self::header::Header;
pub(crate) use self::inflate::inflate;
use self::samples::RawLabel;
use super::wire::{Fields, WireError};
use super::{DEFAULT_LIMIT, DecodeError, VALUE_BYTES};
use profpipe_profile::attribute_names::{
    PPROF_COMMENT, PPROF_DEFAULT_SAMPLE_TYPE, PPROF_DOC_URL, PPROF_DROP_FRAMES, PPROF_KEEP_FRAMES,
    PPROF_SAMPLE_TYPE_ORDER, SAMPLES_LOST,
};
use profpipe_profile::{
    AttributeIx, Dictionary, Index, KeyValue, Profile, Profiles, Resource, ResourceProfiles, Scope,
    ScopeProfiles, StringIx, Value, ValueType,
};

/// What a profile takes in memory beside its samples, about.
const PROFILE_COST: usize = 512;

pub(super) fn decode(data: &[u8], limit: usize) -> Result<Profiles, DecodeError> {
    let message = &*inflate(data, limit)?;
    if message.is_empty() {
        return Err(DecodeError::Empty);
    }
    decode_plain(message, limit)
}

/// Reads a message that is not compressed.
pub(crate) fn decode_plain(message: &[u8], limit: usize) -> Result<Profiles, DecodeError> {
    decode_message(message, limit).map_err(|error| match error {
        // Bytes that are not even protobuf deserve to be called by their name.
        DecodeError::Malformed(_) => foreign(message).map_or(error, DecodeError::Foreign),
        error => error,
    })
}

fn decode_message(message: &[u8], limit: usize) -> Result<Profiles, DecodeError> {
    let mut dictionary = Dictionary::default();
    let header = Header::read(message, &mut dictionary)?;
    let limit = limit.saturating_mul(VALUE_BYTES).min(limit.max(DEFAULT_LIMIT));
    let mut reader = Reader {
        dictionary,
        header,
        budget: Budget { left: limit, limit },
        labels: HashMap::default(),
    };
    let mappings = reader.mappings(message)?;
    let functions = reader.functions(message)?;
    let locations = reader.locations(message, &mappings, &functions)?;
    let mut profiles = reader.empty_profiles()?;
    reader.samples(message, &locations, &mut profiles)?;
    let scope = reader.scope(profiles)?;
    let resource = ResourceProfiles {
        resource: Resource::default(),
        scopes: vec![scope],
        schema_url: String::new(),
    };
    Ok(Profiles { dictionary: reader.dictionary, resources: vec![resource] })
}

fn malformed(what: impl Into<String>) -> DecodeError {
    DecodeError::Malformed(what.into())
}

/// Names the message in which a wire error happened.
fn within(kind: &'static str, at: usize) -> impl Fn(WireError) -> DecodeError {
    move |error| malformed(format!("{kind} {at}: {error}"))
}

/// The number of every message of one field of the profile, in order, with its content.
fn each<'a>(
    message: &'a [u8],
    field: u64,
    kind: &'static str,
    mut visit: impl FnMut(usize, Fields<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut fields = Fields(message);
    let mut at = 0;
    while let Some((number, payload)) = fields.next().map_err(within(kind, at))? {
        if number == field {
            visit(at, payload.message().map_err(within(kind, at))?)?;
            at += 1;
        }
    }
    Ok(())
}

/// Counts the memory that rows take which may be much larger than the bytes they came from.
struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let too_large = DecodeError::TooMuchMemory { limit: self.limit };
        self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
        Ok(())
    }
}

struct Reader {
    dictionary: Dictionary,
    header: Header,
    budget: Budget,
    labels: HashMap<(StringIx, RawLabel), AttributeIx, RandomState>,
}

impl Reader {
    fn attribute(&mut self, key: &str, value: Value) -> AttributeIx {
        let key = self.dictionary.strings.intern(key);
        self.dictionary.attributes.intern(key, value, StringIx::NONE)
    }

    fn text(&mut self, row: StringIx) -> Result<String, DecodeError> {
        let text = self.dictionary.strings.get(row);
        self.budget.take(text.len())?;
        Ok(text.to_owned())
    }

    /// One profile for each sample type, with all that they have in common.
    fn empty_profiles(&mut self) -> Result<Vec<Profile>, DecodeError> {
        let types = self.header.sample_types.len();
        if types == 0 && self.header.samples > 0 {
            return Err(malformed("there are samples but no sample types"));
        }
        self.budget.take(types.saturating_mul(PROFILE_COST))?;
        self.budget.take(types.saturating_mul(self.header.samples).saturating_mul(VALUE_BYTES))?;
        let mut common = Profile {
            time_unix_nano: self.header.time_nanos as u64,
            duration_nano: self.header.duration_nanos as u64,
            period_type: self.header.value_type(self.header.period_type)?,
            period: self.header.period,
            attributes: self.profile_attributes()?,
            ..Profile::default()
        };
        let sample_types: Result<Vec<_>, _> =
            self.header.sample_types.iter().map(|kind| self.header.value_type(*kind)).collect();
        let mut sample_types = sample_types?;
        if sample_types.is_empty() {
            sample_types.push(ValueType::default());
        }
        let profiles = sample_types.into_iter().map(|sample_type| {
            common.sample_type = sample_type;
            let mut profile = common.clone();
            profile.samples.reserve(self.header.samples);
            profile
        });
        Ok(profiles.collect())
    }

    fn profile_attributes(&mut self) -> Result<Vec<AttributeIx>, DecodeError> {
        let mut attributes = Vec::new();
        let texts = [
            (PPROF_DROP_FRAMES, self.header.drop_frames),
            (PPROF_KEEP_FRAMES, self.header.keep_frames),
            (PPROF_DOC_URL, self.header.doc_url),
        ];
        for (name, at) in texts {
            let text = self.header.string(at)?;
            if !text.is_none() {
                let text = self.text(text)?;
                attributes.push(self.attribute(name, text.into()));
            }
        }
        let mut comments = Vec::with_capacity(self.header.comments.len());
        for at in std::mem::take(&mut self.header.comments) {
            let row = self.header.string(at)?;
            self.budget.take(size_of::<Value>())?;
            comments.push(Value::String(self.text(row)?));
        }
        if let Some(lost) = comments.last().and_then(Value::as_str).and_then(lost_samples) {
            comments.pop();
            attributes.push(self.attribute(SAMPLES_LOST, lost.into()));
        }
        if !comments.is_empty() {
            attributes.push(self.attribute(PPROF_COMMENT, Value::Array(comments)));
        }
        Ok(attributes)
    }

    fn scope(&mut self, mut profiles: Vec<Profile>) -> Result<ScopeProfiles, DecodeError> {
        let mut scope = Scope::default();
        let default = self.header.string(self.header.default_sample_type)?;
        if !default.is_none() {
            let value = Value::String(self.text(default)?);
            scope.attributes.push(KeyValue { key: PPROF_DEFAULT_SAMPLE_TYPE.to_owned(), value });
        }
        if self.header.sample_types.len() != 1 {
            let mut order: Vec<_> =
                (0..self.header.sample_types.len()).map(|at| Value::Int(at as i64)).collect();
            let named = profiles
                .iter()
                .position(|profile| !default.is_none() && profile.sample_type.kind == default);
            let shown = named.unwrap_or(order.len().saturating_sub(1));
            if shown > 0 {
                profiles.swap(0, shown);
                order.swap(0, shown);
            }
            let value = Value::Array(order);
            scope.attributes.push(KeyValue { key: PPROF_SAMPLE_TYPE_ORDER.to_owned(), value });
        }
        Ok(ScopeProfiles { scope, profiles, schema_url: String::new() })
    }
}

/// The number in a comment that [`super::encode`] wrote for it.
fn lost_samples(comment: &str) -> Option<i64> {
    let digits = comment.strip_prefix(SAMPLES_LOST)?.strip_prefix('=')?;
    let lost: i64 = digits.parse().ok()?;
    // Only as we write it, so that writing it again gives the same comment.
    (lost >= 0 && lost.to_string() == digits).then_some(lost)
}
