//! The samples of a file, and their labels.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::ids::Ids;
use super::{Reader, each, malformed, within};
use crate::pprof::DecodeError;
use crate::pprof::labels::{self, Label};
use crate::pprof::wire::{Payload, WireError};
use profpipe_profile::{
    AttributeIx, Index, Link, LinkIx, LocationIx, Profile, SampleRef, StringIx, Value,
};

/// One label as it stands in the file, its key looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RawLabel {
    Text(StringIx),
    Number(i64, StringIx),
}

impl Reader {
    pub(super) fn samples(
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
            let link = self.take_link(&mut labels);
            if !link.is_none() {
                self.budget.take(2 * size_of::<Link>())?;
            }
            self.sample_attributes(&labels, &mut keys, &mut attributes)?;
            self.budget.take(attributes.len().saturating_mul(types).saturating_mul(4))?;
            let stack = self.dictionary.stacks.intern(&stack);
            for (profile, value) in profiles.iter_mut().zip(&values) {
                profile.samples.push(SampleRef {
                    stack,
                    attributes: &attributes,
                    link,
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

    /// The trace span that two of a sample's labels name, which are then no labels any more. Only
    /// what would be written in the same way is taken for one.
    fn take_link(&mut self, all: &mut Vec<(StringIx, RawLabel)>) -> LinkIx {
        if all.len() < 2 {
            return LinkIx::NONE;
        }
        let strings = &self.dictionary.strings;
        let is = |key: &StringIx, name: &str| strings.get(*key) == name;
        let only = |name: &str| {
            let mut named = all.iter().filter(|(key, _)| is(key, name));
            match (named.next(), named.next()) {
                (Some((_, RawLabel::Text(text))), None) => Some(strings.get(*text)),
                _ => None,
            }
        };
        let ids = only(labels::TRACE_ID).zip(only(labels::SPAN_ID));
        let ids = ids.and_then(|(trace, span)| labels::from_hex(trace).zip(labels::from_hex(span)));
        let Some((trace_id, span_id)) = ids else { return LinkIx::NONE };
        all.retain(|(key, _)| !is(key, labels::TRACE_ID) && !is(key, labels::SPAN_ID));
        self.dictionary.links.intern(Link { trace_id, span_id })
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
