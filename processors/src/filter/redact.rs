//! Replacing texts: names of functions and files, and values of attributes.

use std::collections::HashMap;

use profpipe_engine::component::Error;
use profpipe_engine::config::Problems;
use profpipe_profile::{
    Attributes, Dictionary, Function, Functions, Index, KeyValue, MappingRef, Mappings, Profiles,
    StringIx, Value,
};
use regex::Regex;

use super::config::{Place, Redaction};
use crate::actions::compile as regex;

/// Reports redactions that make no sense.
pub(super) fn check(at: &str, redaction: &Redaction, problems: &mut Problems) {
    if redaction.places.is_empty() {
        problems.push(
            at,
            "needs `in`: a list of `function`, `file`, `mapping`, `attributes`, \
             `resource_attributes` and `scope_attributes`",
        );
    }
    if redaction.pattern.is_empty() {
        problems.push(at, "needs a `pattern`");
    } else if let Err(message) = regex(&redaction.pattern) {
        problems.push(&format!("{at}::pattern"), message);
    }
    if let Some(key) = &redaction.key {
        if let Err(message) = whole(key) {
            problems.push(&format!("{at}::key"), message);
        }
        if !redaction.places.iter().any(|place| is_keyed(*place)) && !redaction.places.is_empty() {
            problems.push(&format!("{at}::key"), "only attributes have keys");
        }
    }
}

fn is_keyed(place: Place) -> bool {
    matches!(place, Place::Attributes | Place::ResourceAttributes | Place::ScopeAttributes)
}

fn whole(key: &str) -> Result<Regex, String> {
    regex(&format!("^(?:{key})$"))
}

/// Redactions, ready to be done.
#[derive(Debug, Default)]
pub(super) struct Redactions(Vec<Compiled>);

#[derive(Debug)]
struct Compiled {
    places: Vec<Place>,
    key: Option<Regex>,
    pattern: Regex,
    replacement: String,
}

/// Compiles what was checked.
pub(super) fn compile(redactions: &[Redaction]) -> Result<Redactions, Error> {
    let one = |redaction: &Redaction| -> Result<Compiled, String> {
        Ok(Compiled {
            places: redaction.places.clone(),
            key: redaction.key.as_deref().map(whole).transpose()?,
            pattern: regex(&redaction.pattern)?,
            replacement: redaction.replacement.clone(),
        })
    };
    let all: Result<_, _> = redactions.iter().map(one).collect();
    all.map(Redactions).map_err(Error::new)
}

impl Redactions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces the texts of a batch; returns how many were.
    pub(super) fn apply(&self, profiles: &mut Profiles) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut count = self.functions(&mut profiles.dictionary);
        count += self.mappings(&mut profiles.dictionary);
        count += self.attributes(&mut profiles.dictionary);
        for resource in &mut profiles.resources {
            count += self.pairs(Place::ResourceAttributes, &mut resource.resource.attributes);
            for scope in &mut resource.scopes {
                count += self.pairs(Place::ScopeAttributes, &mut scope.scope.attributes);
            }
        }
        // The profile as its producer wrote it has what must not leave; nobody can say where.
        for profile in profiles.profiles_mut() {
            if !profile.original_payload.is_empty() {
                profile.original_payload = Default::default();
                profile.original_payload_format.clear();
                count += 1;
            }
        }
        count
    }

    /// What a text of this place becomes; nothing if it stays.
    fn text(&self, place: Place, key: Option<&str>, text: &str) -> Option<String> {
        let mut changed: Option<String> = None;
        for one in &self.0 {
            let keyed = match (&one.key, key) {
                (None, _) => true,
                (Some(wanted), Some(key)) => wanted.is_match(key),
                // A key says nothing about what has none.
                (Some(_), None) => true,
            };
            if !keyed || !one.places.contains(&place) {
                continue;
            }
            let now = changed.as_deref().unwrap_or(text);
            if one.pattern.is_match(now) {
                changed = Some(one.pattern.replace_all(now, one.replacement.as_str()).into_owned());
            }
        }
        changed.filter(|changed| changed != text)
    }

    fn has(&self, place: Place) -> bool {
        self.0.iter().any(|one| one.places.contains(&place))
    }

    /// The row of what a text becomes, each asked once.
    fn row(
        &self,
        dictionary: &mut Dictionary,
        known: &mut HashMap<(Place, StringIx), StringIx>,
        place: Place,
        row: StringIx,
        count: &mut u64,
    ) -> StringIx {
        if !self.has(place) || row.is_none() {
            return row;
        }
        if let Some(new) = known.get(&(place, row)) {
            return *new;
        }
        let new = match self.text(place, None, dictionary.strings.get(row)) {
            Some(text) => {
                *count += 1;
                dictionary.strings.intern(&text)
            }
            None => row,
        };
        known.insert((place, row), new);
        new
    }

    fn functions(&self, dictionary: &mut Dictionary) -> u64 {
        let (mut known, mut count) = (HashMap::new(), 0);
        let rows = dictionary.functions.rows().to_vec();
        let mut new = Vec::with_capacity(rows.len());
        for function in rows.into_iter().skip(1) {
            let mut row = |place, row| self.row(dictionary, &mut known, place, row, &mut count);
            let name = row(Place::Function, function.name);
            let system_name = row(Place::Function, function.system_name);
            let filename = row(Place::File, function.filename);
            new.push(Function { name, system_name, filename, ..function });
        }
        if count > 0 {
            dictionary.functions = Functions::default();
            for function in new {
                dictionary.functions.push(function);
            }
        }
        count
    }

    fn mappings(&self, dictionary: &mut Dictionary) -> u64 {
        if !self.has(Place::Mapping) {
            return 0;
        }
        let (mut known, mut count) = (HashMap::new(), 0);
        let old = std::mem::take(&mut dictionary.mappings);
        let mut new = Mappings::default();
        for mapping in old.iter().skip(1) {
            let filename =
                self.row(dictionary, &mut known, Place::Mapping, mapping.filename, &mut count);
            new.push(MappingRef { filename, ..mapping });
        }
        dictionary.mappings = new;
        count
    }

    fn attributes(&self, dictionary: &mut Dictionary) -> u64 {
        if !self.has(Place::Attributes) {
            return 0;
        }
        let mut count = 0;
        let old = std::mem::take(&mut dictionary.attributes);
        let mut new = Attributes::default();
        for at in 1..old.len() {
            let Some(row) = old.check(at as u32) else { continue };
            let key = dictionary.strings.get(old.key(row));
            let mut value = old.value(row).clone();
            count += self.value(Place::Attributes, key, &mut value);
            new.push(old.key(row), value, old.unit(row));
        }
        dictionary.attributes = new;
        count
    }

    fn pairs(&self, place: Place, pairs: &mut [KeyValue]) -> u64 {
        if !self.has(place) {
            return 0;
        }
        pairs.iter_mut().map(|pair| self.value(place, &pair.key, &mut pair.value)).sum()
    }

    /// Replaces the texts in a value.
    fn value(&self, place: Place, key: &str, value: &mut Value) -> u64 {
        match value {
            Value::String(text) => match self.text(place, Some(key), text) {
                Some(new) => {
                    *text = new;
                    1
                }
                None => 0,
            },
            Value::Array(items) => items.iter_mut().map(|item| self.value(place, key, item)).sum(),
            Value::Map(pairs) => {
                pairs.iter_mut().map(|(_, item)| self.value(place, key, item)).sum()
            }
            Value::Empty | Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Bytes(_) => 0,
        }
    }
}
