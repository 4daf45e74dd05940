//! Labels of samples: what the attributes of their resource and their own become.
//!
//! They are called as Pyroscope calls them (`service.name` is `service_name`). An attribute of a sample
//! goes before one of its resource. What describes the hardware, and ids of spans, are no labels.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use profpipe_formats::pyroscope::{label_name, label_value};
use profpipe_profile::attribute_names::{
    CPU_LOGICAL_NUMBER, PROCESS_EXECUTABLE_NAME, PROCESS_PID, SERVICE_NAME, STACK_STATE, THREAD_ID,
};
use profpipe_profile::{AttributeIx, Dictionary, KeyValue, Value};

use super::TypeId;
use crate::matcher::Matchers;

/// Attributes that are no labels; a name that ends with `.` stands for all that begin so.
const EXCLUDED: [&str; 9] = [
    "profpipe.environment.",
    "host.cpu.",
    "pprof.",
    "process.command",
    "process.creation.time",
    "process.start_time",
    "profile_id",
    "span_id",
    "trace_id",
];
/// The label of the file that a sample is from, where there are several.
const FILE: &str = "file";

/// The values of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelValues {
    /// The label's name.
    pub name: String,
    /// The values with their weights, the heaviest first.
    pub values: Vec<(String, i64)>,
    /// How many values there are beyond these.
    pub more: usize,
}

/// How far a stack was unwound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Complete,
    Guessed,
    Truncated,
    Switched,
    Broken,
}

/// A name and a value, by their numbers.
type Pair = (u32, u32);

/// The labels of samples.
#[derive(Debug)]
struct Set {
    /// The labels of the resource.
    base: u32,
    own: Box<[Pair]>,
    state: State,
}

/// All sets of labels, each once.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    texts: Vec<String>,
    numbers: HashMap<String, u32, RandomState>,
    bases: Vec<Base>,
    sets: Vec<Set>,
    known: HashMap<(u32, Box<[AttributeIx]>), u32, RandomState>,
    /// What an attribute of the dictionary is as a label.
    attributes: HashMap<AttributeIx, Option<Pair>, RandomState>,
}

/// What all samples of a resource have.
#[derive(Debug)]
struct Base {
    labels: Vec<Pair>,
    /// The position of the resource in the batch.
    resource: u32,
    file: u32,
}

impl Labels {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", String::as_str)
    }

    /// Adds a resource; `file` is the number of its file, and its name if it is a label.
    pub(super) fn add_resource(
        &mut self,
        position: usize,
        attributes: &[KeyValue],
        file: (u32, Option<&str>),
    ) -> u32 {
        let mut labels: BTreeMap<u32, u32> = BTreeMap::new();
        for attribute in attributes.iter().filter(|it| is_label(&it.key)) {
            if let Some(value) = label_value(&attribute.value) {
                let (name, value) = (self.number(&label_name(&attribute.key)), self.number(&value));
                labels.entry(name).or_insert(value);
            }
        }
        let text = |key: &str| {
            attributes.iter().find(|it| it.key == key).and_then(|it| label_value(&it.value))
        };
        let service = text(SERVICE_NAME).or_else(|| text("service_name")).unwrap_or_else(|| {
            let program = text(PROCESS_EXECUTABLE_NAME);
            program.map_or("unknown_service".into(), |it| format!("unknown_service:{it}"))
        });
        let service = (self.number("service_name"), self.number(&service));
        labels.insert(service.0, service.1);
        if let Some(name) = file.1 {
            let file = (self.number(FILE), self.number(name));
            labels.entry(file.0).or_insert(file.1);
        }
        let labels = labels.into_iter().collect();
        self.bases.push(Base { labels, resource: position as u32, file: file.0 });
        self.bases.len() as u32 - 1
    }

    /// The set of a sample of a resource.
    pub(super) fn intern(
        &mut self,
        dictionary: &Dictionary,
        base: u32,
        attributes: &[AttributeIx],
    ) -> u32 {
        let key = (base, attributes.into());
        if let Some(set) = self.known.get(&key) {
            return *set;
        }
        let mut own: Vec<Pair> = Vec::new();
        let mut state = State::Complete;
        for at in attributes {
            let name = dictionary.strings.get(dictionary.attributes.key(*at));
            if name == STACK_STATE {
                state = state_of(dictionary.attributes.value(*at));
                continue;
            }
            let pair = match self.attributes.get(at) {
                Some(pair) => *pair,
                None => {
                    let pair = self.pair(name, dictionary.attributes.value(*at));
                    self.attributes.insert(*at, pair);
                    pair
                }
            };
            if let Some(pair) = pair
                && own.iter().all(|other| other.0 != pair.0)
            {
                own.push(pair);
            }
        }
        let set = self.sets.len() as u32;
        self.sets.push(Set { base, own: own.into(), state });
        self.known.insert(key, set);
        set
    }

    /// What an attribute of a sample is as a label.
    fn pair(&mut self, name: &str, value: &Value) -> Option<Pair> {
        if !is_label(name) {
            return None;
        }
        let is_number_wanted = [THREAD_ID, PROCESS_PID, CPU_LOGICAL_NUMBER].contains(&name);
        let value = match value {
            Value::String(_) | Value::Bool(_) => label_value(value),
            Value::Int(_) if is_number_wanted => label_value(value),
            Value::Array(items) => {
                items.iter().find(|it| it.as_str().is_some()).and_then(label_value)
            }
            _ => None,
        }?;
        Some((self.number(&label_name(name)), self.number(&value)))
    }

    /// Forgets what only [`Self::intern`] needs.
    pub(super) fn finish(&mut self) {
        self.known = HashMap::default();
        self.attributes = HashMap::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    pub(crate) fn name_number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The value of a label in a set, by numbers.
    fn value_number(&self, set: usize, name: u32) -> Option<u32> {
        let set = self.sets.get(set)?;
        let find = |pairs: &[Pair]| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1);
        find(&set.own).or_else(|| find(&self.bases.get(set.base as usize)?.labels))
    }

    /// The value of a label in a set; the empty text if it has none.
    pub(crate) fn value(&self, set: u32, name: u32) -> &str {
        self.value_number(set as usize, name).map_or("", |number| self.text(number))
    }

    /// All labels of a set, by name.
    pub(crate) fn of(&self, set: u32) -> BTreeMap<&str, &str> {
        let Some(set) = self.sets.get(set as usize) else { return BTreeMap::new() };
        let base = self.bases.get(set.base as usize).map(|base| base.labels.as_slice());
        let pairs = base.unwrap_or_default().iter().chain(&set.own);
        pairs.map(|(name, value)| (self.text(*name), self.text(*value))).collect()
    }

    pub(crate) fn state(&self, set: u32) -> State {
        self.sets.get(set as usize).map_or(State::Complete, |set| set.state)
    }

    /// The position of the resource that a set is of.
    pub(crate) fn resource(&self, set: u32) -> u32 {
        self.base(set).map_or(0, |base| base.resource)
    }

    /// The number of the file that a set is of.
    pub(crate) fn file(&self, set: u32) -> u32 {
        self.base(set).map_or(0, |base| base.file)
    }

    fn base(&self, set: u32) -> Option<&Base> {
        self.bases.get(self.sets.get(set as usize)?.base as usize)
    }

    /// Which sets satisfy all conditions, of samples of a type.
    pub(crate) fn matching(&self, matchers: &Matchers, of: &TypeId) -> Vec<bool> {
        let mut matching = vec![true; self.sets.len()];
        for matcher in &matchers.0 {
            if let Some(value) = type_label(of, &matcher.name) {
                if !matcher.matches(value) {
                    matching.fill(false);
                }
                continue;
            }
            let is_service = matcher.name == SERVICE;
            let name = self.name_number(if is_service { "service_name" } else { &matcher.name });
            let mut of_values: HashMap<Option<u32>, bool, RandomState> = HashMap::default();
            for (set, is_matching) in matching.iter_mut().enumerate().filter(|(_, is)| **is) {
                let value = name.and_then(|name| self.value_number(set, name));
                *is_matching = *of_values.entry(value).or_insert_with(|| {
                    matcher.matches(value.map_or("", |number| self.text(number)))
                });
            }
        }
        matching
    }

    /// The names of labels that there are.
    pub(crate) fn names(&self) -> Vec<u32> {
        let of_bases = self.bases.iter().flat_map(|base| &base.labels);
        let of_sets = self.sets.iter().flat_map(|set| &set.own);
        let mut names: Vec<u32> = of_bases.chain(of_sets).map(|pair| pair.0).collect();
        names.sort_unstable();
        names.dedup();
        names.sort_by(|a, b| self.text(*a).cmp(self.text(*b)));
        names
    }

    pub(crate) fn name_text(&self, name: u32) -> &str {
        self.text(name)
    }

    /// Sums by value of a label, of sets with their weights: the heaviest first, at most `limit`.
    pub(crate) fn sums(&self, name: u32, of_sets: &[(u32, i64)], limit: usize) -> LabelValues {
        let mut sums: HashMap<u32, i64, RandomState> = HashMap::default();
        for (set, weight) in of_sets {
            if let Some(value) = self.value_number(*set as usize, name) {
                let sum = sums.entry(value).or_default();
                *sum = sum.saturating_add(*weight);
            }
        }
        let mut values: Vec<(&str, i64)> =
            sums.into_iter().map(|(value, sum)| (self.text(value), sum)).collect();
        values.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let more = values.len().saturating_sub(limit);
        values.truncate(limit);
        let values = values.into_iter().map(|(value, sum)| (value.to_owned(), sum)).collect();
        LabelValues { name: self.text(name).to_owned(), values, more }
    }
}

/// Labels that the type of a sample is.
pub(crate) const TYPE_LABELS: [&str; 6] =
    ["__name__", "__period_type__", "__period_unit__", "__profile_type__", "__type__", "__unit__"];
/// What Pyroscope also calls the service.
pub(crate) const SERVICE: &str = "__service_name__";

/// A label that the type of a sample is, if it is one.
pub(crate) fn type_label<'a>(of: &'a TypeId, name: &str) -> Option<&'a str> {
    let [of_name, kind, unit, period_type, period_unit] = of.parts();
    Some(match name {
        "__profile_type__" => of.as_str(),
        "__name__" => of_name,
        "__type__" => kind,
        "__unit__" => unit,
        "__period_type__" => period_type,
        "__period_unit__" => period_unit,
        _ => return None,
    })
}

fn is_label(name: &str) -> bool {
    let is_excluded = |excluded: &&str| match excluded.ends_with('.') {
        true => name.starts_with(excluded),
        false => {
            name == *excluded || (name.starts_with("process.command") && name.starts_with(excluded))
        }
    };
    !name.is_empty() && !name.starts_with("__") && !EXCLUDED.iter().any(is_excluded)
}

fn state_of(value: &Value) -> State {
    match value.as_str() {
        Some("guessed") => State::Guessed,
        Some("truncated") => State::Truncated,
        Some("switched") => State::Switched,
        Some("broken") => State::Broken,
        _ => State::Complete,
    }
}
