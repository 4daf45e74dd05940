//! The protobuf message to tables.
//!
//! The message is walked several times, once for each kind of row, instead of being kept as a tree:
//! rows refer to each other in any order, and a tree of hostile bytes takes many times their size.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::DecodeError;
use super::labels::{self, Label};
use super::wire::{Fields, Payload, WireError};
use crate::profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_GO, PPROF_COMMENT, PPROF_DEFAULT_SAMPLE_TYPE, PPROF_DOC_URL,
    PPROF_DROP_FRAMES, PPROF_HAS_FILENAMES, PPROF_HAS_FUNCTIONS, PPROF_HAS_INLINE_FRAMES,
    PPROF_HAS_LINE_NUMBERS, PPROF_IS_FOLDED, PPROF_KEEP_FRAMES, PPROF_SAMPLE_TYPE_ORDER,
    SAMPLES_LOST,
};
use crate::profile::{
    AttributeIx, Dictionary, Function, FunctionIx, Index, KeyValue, Line, LinkIx, LocationIx,
    LocationRef, MappingIx, MappingRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    Scope, ScopeProfiles, StringIx, Value, ValueType,
};
use crate::settings::ByteSize;

/// What a profile takes in memory beside its samples, about.
const PROFILE_COST: usize = 512;
/// What a sample without attributes takes in memory.
const SAMPLE_COST: usize = 32;

pub(super) fn decode(message: &[u8], limit: usize) -> Result<Profiles, DecodeError> {
    if message.is_empty() {
        return Err(DecodeError::Empty);
    }
    decode_message(message, limit).map_err(|error| match error {
        // Bytes that are not even protobuf deserve to be called by their name.
        DecodeError::Malformed(_) => foreign(message).map_or(error, DecodeError::Foreign),
        error => error,
    })
}

fn decode_message(message: &[u8], limit: usize) -> Result<Profiles, DecodeError> {
    let mut dictionary = Dictionary::default();
    let header = Header::read(message, &mut dictionary)?;
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

/// What a message that is no pprof profile is instead.
fn foreign(message: &[u8]) -> Option<&'static str> {
    const LEGACY: &str = "a profile in a legacy text format, which is not read: \
                          convert it with `go tool pprof -proto`";
    let text = message.trim_ascii_start();
    let known: [(&[u8], &str); 13] = [
        (b"heap profile:", LEGACY),
        (b"heapz ", LEGACY),
        (b"heap_v2/", LEGACY),
        (b"goroutine profile:", LEGACY),
        (b"threadcreate profile:", LEGACY),
        (b"--- threadz ", LEGACY),
        (b"--- contention", LEGACY),
        (b"--- contentionz ", LEGACY),
        (b"--- heapz ", LEGACY),
        (b"--- mutex:", LEGACY),
        (b"--- Memory map: ---", LEGACY),
        (b"{", "JSON, not a pprof profile"),
        (b"<", "HTML or XML, not a pprof profile"),
    ];
    if let Some((_, what)) = known.iter().find(|(start, _)| text.starts_with(start)) {
        return Some(what);
    }
    // gperftools: words of 4 or 8 bytes: 0, 3, 0, the period, 0; in either byte order.
    let is_legacy_cpu = [4, 8].into_iter().any(|size| {
        let mut words = message.chunks_exact(size).map(|word| {
            let little = word.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            let big = word.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            little.min(big)
        });
        words.next() == Some(0) && words.next() == Some(3) && words.next() == Some(0)
    });
    is_legacy_cpu.then_some(
        "a CPU profile in the legacy binary format, which is not read: convert it with `go tool \
         pprof -proto`",
    )
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

/// Everything of a profile that does not repeat by the thousand, and the string table.
#[derive(Default)]
struct Header {
    strings: Vec<StringIx>,
    sample_types: Vec<(i64, i64)>,
    samples: usize,
    drop_frames: i64,
    keep_frames: i64,
    time_nanos: i64,
    duration_nanos: i64,
    period_type: (i64, i64),
    period: i64,
    comments: Vec<i64>,
    default_sample_type: i64,
    doc_url: i64,
}

impl Header {
    fn read(message: &[u8], dictionary: &mut Dictionary) -> Result<Self, DecodeError> {
        let mut header = Self::default();
        let mut fields = Fields(message);
        let wire = |error: WireError| malformed(error.to_string());
        while let Some((field, payload)) = fields.next().map_err(wire)? {
            header.field(field, payload, dictionary).map_err(wire)?;
            if field == 6 && header.strings.first() != Some(&StringIx::NONE) {
                return Err(malformed("the first string is not empty"));
            }
            if field == 9 {
                if header.time_nanos != 0 {
                    return Err(DecodeError::Concatenated);
                }
                header.time_nanos = payload.int().map_err(wire)?;
            }
        }
        Ok(header)
    }

    fn field(
        &mut self,
        field: u64,
        payload: Payload<'_>,
        dictionary: &mut Dictionary,
    ) -> Result<(), WireError> {
        match field {
            1 => self.sample_types.push(value_type(payload)?),
            2 => self.samples += 1,
            6 => {
                let text = String::from_utf8_lossy(payload.bytes()?);
                self.strings.push(dictionary.strings.intern(&text));
            }
            7 => self.drop_frames = payload.int()?,
            8 => self.keep_frames = payload.int()?,
            10 => self.duration_nanos = payload.int()?,
            11 => self.period_type = value_type(payload)?,
            12 => self.period = payload.int()?,
            13 => payload.each_uint(|comment| self.comments.push(comment as i64))?,
            14 => self.default_sample_type = payload.int()?,
            15 => self.doc_url = payload.int()?,
            _ => {}
        }
        Ok(())
    }

    fn string(&self, at: i64) -> Result<StringIx, DecodeError> {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.strings.get(at))
            .copied()
            .ok_or_else(|| malformed(format!("there is no string {at}")))
    }

    fn value_type(&self, (kind, unit): (i64, i64)) -> Result<ValueType, DecodeError> {
        Ok(ValueType { kind: self.string(kind)?, unit: self.string(unit)? })
    }
}

fn value_type(payload: Payload<'_>) -> Result<(i64, i64), WireError> {
    let mut fields = payload.message()?;
    let (mut kind, mut unit) = (0, 0);
    while let Some((field, payload)) = fields.next()? {
        match field {
            1 => kind = payload.int()?,
            2 => unit = payload.int()?,
            _ => {}
        }
    }
    Ok((kind, unit))
}

/// Counts the memory that rows take which may be much larger than the bytes they came from.
struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let limit = ByteSize(self.limit as u64);
        self.left = self.left.checked_sub(bytes).ok_or(DecodeError::TooLarge { limit })?;
        Ok(())
    }
}

/// Rows by the id that a file gave them: a vector where ids count up, as nearly all do.
struct Ids {
    kind: &'static str,
    dense: Vec<u32>,
    sparse: HashMap<u64, u32, RandomState>,
}

impl Ids {
    fn new(kind: &'static str) -> Self {
        Self { kind, dense: Vec::new(), sparse: HashMap::default() }
    }

    fn insert(&mut self, id: u64, row: u32) -> Result<(), DecodeError> {
        let kind = self.kind;
        if id == 0 {
            return Err(malformed(format!("a {kind} has the id 0")));
        }
        let former = if id == self.dense.len() as u64 + 1 && !self.sparse.contains_key(&id) {
            self.dense.push(row);
            None
        } else {
            match usize::try_from(id - 1).ok().and_then(|at| self.dense.get_mut(at)) {
                Some(former) => Some(*former),
                None => self.sparse.insert(id, row),
            }
        };
        match former {
            Some(_) => Err(malformed(format!("two {kind}s have the id {id}"))),
            None => Ok(()),
        }
    }

    fn get(&self, id: u64) -> Option<u32> {
        let dense = usize::try_from(id.wrapping_sub(1)).ok().and_then(|at| self.dense.get(at));
        dense.copied().or_else(|| self.sparse.get(&id).copied())
    }
}

/// One label as it stands in the file, its key looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RawLabel {
    Text(StringIx),
    Number(i64, StringIx),
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

    fn mappings(&mut self, message: &[u8]) -> Result<Ids, DecodeError> {
        let mut ids = Ids::new("mapping");
        each(message, 3, "mapping", |at, mut fields| {
            let wire = within("mapping", at);
            let (mut id, mut row) = (0, MappingRef::default());
            let (mut filename, mut build_id, mut flags) = (0, 0, [false; 4]);
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => id = payload.uint().map_err(&wire)?,
                    2 => row.memory_start = payload.uint().map_err(&wire)?,
                    3 => row.memory_limit = payload.uint().map_err(&wire)?,
                    4 => row.file_offset = payload.uint().map_err(&wire)?,
                    5 => filename = payload.int().map_err(&wire)?,
                    6 => build_id = payload.int().map_err(&wire)?,
                    7 => flags[0] = payload.truth().map_err(&wire)?,
                    8 => flags[1] = payload.truth().map_err(&wire)?,
                    9 => flags[2] = payload.truth().map_err(&wire)?,
                    10 => flags[3] = payload.truth().map_err(&wire)?,
                    _ => {}
                }
            }
            row.filename = self.header.string(filename)?;
            let build_id = self.header.string(build_id)?;
            let mut attributes = Vec::new();
            if !build_id.is_none() {
                let text = self.text(build_id)?;
                let name = if text.contains('/') { BUILD_ID_GO } else { BUILD_ID_GNU };
                attributes.push(self.attribute(name, text.into()));
            }
            let names = [
                PPROF_HAS_FUNCTIONS,
                PPROF_HAS_FILENAMES,
                PPROF_HAS_LINE_NUMBERS,
                PPROF_HAS_INLINE_FRAMES,
            ];
            for (name, _) in names.iter().zip(flags).filter(|(_, flag)| *flag) {
                attributes.push(self.attribute(name, true.into()));
            }
            row.attributes = &attributes;
            // Not interned: the order of a file's mappings, and so their number, has a meaning.
            ids.insert(id, self.dictionary.mappings.push(row).raw())
        })?;
        Ok(ids)
    }

    fn functions(&mut self, message: &[u8]) -> Result<Ids, DecodeError> {
        let mut ids = Ids::new("function");
        each(message, 5, "function", |at, mut fields| {
            let wire = within("function", at);
            let (mut id, mut name, mut system_name, mut filename, mut start_line) = (0, 0, 0, 0, 0);
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => id = payload.uint().map_err(&wire)?,
                    2 => name = payload.int().map_err(&wire)?,
                    3 => system_name = payload.int().map_err(&wire)?,
                    4 => filename = payload.int().map_err(&wire)?,
                    5 => start_line = payload.int().map_err(&wire)?,
                    _ => {}
                }
            }
            let row = self.dictionary.functions.intern(Function {
                name: self.header.string(name)?,
                system_name: self.header.string(system_name)?,
                filename: self.header.string(filename)?,
                start_line,
            });
            ids.insert(id, row.raw())
        })?;
        Ok(ids)
    }

    fn locations(
        &mut self,
        message: &[u8],
        mappings: &Ids,
        functions: &Ids,
    ) -> Result<Ids, DecodeError> {
        let mut ids = Ids::new("location");
        let folded = [self.attribute(PPROF_IS_FOLDED, true.into())];
        let mut lines = Vec::new();
        each(message, 4, "location", |at, mut fields| {
            let wire = within("location", at);
            let (mut id, mut mapping, mut address, mut is_folded) = (0, 0, 0, false);
            lines.clear();
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => id = payload.uint().map_err(&wire)?,
                    2 => mapping = payload.uint().map_err(&wire)?,
                    3 => address = payload.uint().map_err(&wire)?,
                    4 => {
                        let (function, line, column) = line(payload).map_err(&wire)?;
                        let function = functions.get(function).map(FunctionIx::new);
                        let function = function.ok_or_else(|| {
                            malformed(format!("location {at} has a line without a function"))
                        })?;
                        lines.push(Line { function, line, column });
                    }
                    5 => is_folded = payload.truth().map_err(&wire)?,
                    _ => {}
                }
            }
            let row = self.dictionary.locations.intern(LocationRef {
                mapping: mappings.get(mapping).map_or(MappingIx::NONE, MappingIx::new),
                address,
                lines: &lines,
                attributes: if is_folded { &folded } else { &[] },
            });
            ids.insert(id, row.raw())
        })?;
        Ok(ids)
    }

    /// One profile for each sample type, with all that they have in common.
    fn empty_profiles(&mut self) -> Result<Vec<Profile>, DecodeError> {
        let types = self.header.sample_types.len();
        if types == 0 && self.header.samples > 0 {
            return Err(malformed("there are samples but no sample types"));
        }
        self.budget.take(types.saturating_mul(PROFILE_COST))?;
        self.budget.take(types.saturating_mul(self.header.samples).saturating_mul(SAMPLE_COST))?;
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

    fn scope(&mut self, profiles: Vec<Profile>) -> Result<ScopeProfiles, DecodeError> {
        let mut scope = Scope::default();
        let default = self.header.string(self.header.default_sample_type)?;
        if !default.is_none() {
            let value = Value::String(self.text(default)?);
            scope.attributes.push(KeyValue { key: PPROF_DEFAULT_SAMPLE_TYPE.to_owned(), value });
        }
        if self.header.sample_types.len() != 1 {
            let order = (0..self.header.sample_types.len()).map(|at| Value::Int(at as i64));
            let value = Value::Array(order.collect());
            scope.attributes.push(KeyValue { key: PPROF_SAMPLE_TYPE_ORDER.to_owned(), value });
        }
        Ok(ScopeProfiles { scope, profiles, schema_url: String::new() })
    }

    fn samples(
        &mut self,
        message: &[u8],
        locations: &Ids,
        profiles: &mut [Profile],
    ) -> Result<(), DecodeError> {
        let types = self.header.sample_types.len();
        let (mut stack, mut values, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        let mut labels = Vec::new();
        let mut keys = HashMap::default();
        each(message, 2, "sample", |at, mut fields| {
            let wire = within("sample", at);
            stack.clear();
            values.clear();
            labels.clear();
            let mut unknown = None;
            while let Some((field, payload)) = fields.next().map_err(&wire)? {
                match field {
                    1 => payload.each_uint(|id| match locations.get(id) {
                        Some(row) => stack.push(LocationIx::new(row)),
                        None => unknown = Some(id),
                    }),
                    2 => payload.each_uint(|value| values.push(value as i64)),
                    3 => {
                        labels.extend(self.label(payload, &wire)?);
                        Ok(())
                    }
                    _ => Ok(()),
                }
                .map_err(&wire)?;
            }
            if let Some(id) = unknown {
                return Err(malformed(format!("sample {at} has the unknown location {id}")));
            }
            if values.len() != types {
                let values = values.len();
                let what = format!("sample {at} has {values} values for {types} sample types");
                return Err(malformed(what));
            }
            self.sample_attributes(&labels, &mut keys, &mut attributes)?;
            self.budget.take(attributes.len().saturating_mul(types).saturating_mul(4))?;
            let stack = self.dictionary.stacks.intern(&stack);
            for (profile, value) in profiles.iter_mut().zip(&values) {
                profile.samples.push(SampleRef {
                    stack,
                    attributes: &attributes,
                    link: LinkIx::NONE,
                    values: std::slice::from_ref(value),
                    timestamps_unix_nano: &[],
                });
            }
            Ok(())
        })
    }

    fn label(
        &self,
        payload: Payload<'_>,
        wire: impl Fn(WireError) -> DecodeError,
    ) -> Result<Option<(StringIx, RawLabel)>, DecodeError> {
        let mut fields = payload.message().map_err(&wire)?;
        let (mut key, mut text, mut number, mut unit) = (0, 0, 0, 0);
        while let Some((field, payload)) = fields.next().map_err(&wire)? {
            match field {
                1 => key = payload.int().map_err(&wire)?,
                2 => text = payload.int().map_err(&wire)?,
                3 => number = payload.int().map_err(&wire)?,
                4 => unit = payload.int().map_err(&wire)?,
                _ => {}
            }
        }
        let key = self.header.string(key)?;
        let label = match text {
            0 => RawLabel::Number(number, self.header.string(unit)?),
            text => RawLabel::Text(self.header.string(text)?),
        };
        // Not even a key: nothing was said.
        let is_nothing = key.is_none() && label == RawLabel::Number(0, StringIx::NONE);
        Ok((!is_nothing).then_some((key, label)))
    }

    /// The attributes that stand for a sample's labels. `keys` is only lent, to be used again.
    fn sample_attributes(
        &mut self,
        labels: &[(StringIx, RawLabel)],
        keys: &mut HashMap<StringIx, usize, RandomState>,
        attributes: &mut Vec<AttributeIx>,
    ) -> Result<(), DecodeError> {
        attributes.clear();
        keys.clear();
        let mut groups: Vec<Vec<RawLabel>> = Vec::new();
        if labels.len() > 1 {
            let is_unique =
                labels.iter().enumerate().all(|(at, (key, _))| keys.insert(*key, at).is_none());
            if !is_unique {
                keys.clear();
                for (key, label) in labels {
                    let group = *keys.entry(*key).or_insert(groups.len());
                    match groups.get_mut(group) {
                        Some(group) => group.push(*label),
                        None => groups.push(vec![*label]),
                    }
                }
            }
        }
        if groups.is_empty() {
            for (key, label) in labels {
                attributes.push(self.label_attribute(*key, *label)?);
            }
            return Ok(());
        }
        let mut seen = vec![false; groups.len()];
        for (key, label) in labels {
            let Some(at) = keys.get(key).copied() else { continue };
            let (Some(seen), Some(group)) = (seen.get_mut(at), groups.get(at)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            attributes.push(match group.as_slice() {
                [_] => self.label_attribute(*key, *label)?,
                group => self.array_attribute(*key, group)?,
            });
        }
        Ok(())
    }

    fn label_attribute(
        &mut self,
        key: StringIx,
        label: RawLabel,
    ) -> Result<AttributeIx, DecodeError> {
        if let Some(row) = self.labels.get(&(key, label)) {
            return Ok(*row);
        }
        let (value, unit) = match label {
            RawLabel::Text(text) => (Value::String(self.text(text)?), StringIx::NONE),
            RawLabel::Number(number, unit) => (Value::Int(number), unit),
        };
        let row = self.dictionary.attributes.intern(key, value, unit);
        self.labels.insert((key, label), row);
        Ok(row)
    }

    fn array_attribute(
        &mut self,
        key: StringIx,
        group: &[RawLabel],
    ) -> Result<AttributeIx, DecodeError> {
        let strings = &self.dictionary.strings;
        let mut labels = Vec::with_capacity(group.len());
        for label in group {
            let label = match label {
                RawLabel::Text(text) => Label::Text(strings.get(*text).into()),
                RawLabel::Number(number, unit) => Label::Number(*number, strings.get(*unit).into()),
            };
            let (Label::Text(text) | Label::Number(_, text)) = &label;
            self.budget.take(text.len() + 4 * size_of::<Value>())?;
            labels.push(label);
        }
        let (value, unit) = labels::to_value(&labels);
        let unit = self.dictionary.strings.intern(&unit);
        Ok(self.dictionary.attributes.intern(key, value, unit))
    }
}

fn line(payload: Payload<'_>) -> Result<(u64, i64, i64), WireError> {
    let mut fields = payload.message()?;
    let (mut function, mut line, mut column) = (0, 0, 0);
    while let Some((field, payload)) = fields.next()? {
        match field {
            1 => function = payload.uint()?,
            2 => line = payload.int()?,
            3 => column = payload.int()?,
            _ => {}
        }
    }
    Ok((function, line, column))
}

/// The number in a comment that [`super::encode`] wrote for it.
fn lost_samples(comment: &str) -> Option<i64> {
    let digits = comment.strip_prefix(SAMPLES_LOST)?.strip_prefix('=')?;
    let lost: i64 = digits.parse().ok()?;
    // Only as we write it, so that writing it again gives the same comment.
    (lost >= 0 && lost.to_string() == digits).then_some(lost)
}
