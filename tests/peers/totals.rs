//! What a profile says, whatever it came in: the total of each type, and of each function in it. The
//! far end of every path must say the same as its source. Reads OTLP and pprof with generated types and
//! derived messages, by nothing of profpipe.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{ProfilesData, ProfilesDictionary};

use crate::pprof;

/// By type and unit.
pub(crate) type Totals = BTreeMap<(String, String), Column>;

/// One sample type.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) total: i64,
    pub(crate) functions: BTreeMap<String, Sums>,
}

/// A function's own share and what it shares with those it called.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Sums {
    pub(crate) own: i64,
    pub(crate) total: i64,
}

impl Column {
    /// Adds a sample; `names` from the leaf on.
    pub(crate) fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, value: i64) {
        self.total += value;
        let mut seen = BTreeSet::new();
        for (depth, name) in names.into_iter().enumerate() {
            let sums = self.functions.entry(name.into()).or_default();
            if depth == 0 {
                sums.own += value;
            }
            if seen.insert(name) {
                sums.total += value;
            }
        }
    }

    /// Functions as Pyroscope calls them: of generic Go functions it leaves out what they are for
    /// (`slices.Sort[go.shape.int]`), and which of them it does that to depends on who sent them.
    pub(crate) fn without_type_parameters(&self) -> Self {
        let mut short = Self { total: self.total, ..Self::default() };
        for (name, sums) in &self.functions {
            let (start, end) = (name.find("[go.shape."), name.rfind(']'));
            let name = match (start, end) {
                (Some(start), Some(end)) if start < end => {
                    [&name[..start], &name[end + 1..]].concat()
                }
                _ => name.clone(),
            };
            let all = short.functions.entry(name).or_default();
            all.own += sums.own;
            all.total += sums.total;
        }
        short
    }
}

/// All types together, to see whether something is still missing.
pub(crate) fn count(totals: &Totals) -> i64 {
    totals.values().map(|column| column.total).sum()
}

/// The resource attributes of what a service sent, and the attributes of its samples.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) samples: BTreeSet<(String, String)>,
}

/// Adds what another profile says.
pub(crate) fn add(totals: &mut Totals, other: Totals) {
    for (key, column) in other {
        let sum = totals.entry(key).or_default();
        sum.total += column.total;
        for (name, sums) in column.functions {
            let all = sum.functions.entry(name).or_default();
            all.own += sums.own;
            all.total += sums.total;
        }
    }
}

/// Without the functions and the types that amount to nothing: a pprof profile writes down zeros where one
/// of its types has a value, which others need not.
pub(crate) fn without_zeros(totals: &Totals) -> Totals {
    let mut kept = totals.clone();
    for column in kept.values_mut() {
        column.functions.retain(|_, sums| *sums != Sums::default());
    }
    kept.retain(|_, column| *column != Column::default());
    kept
}

/// What the requests say, of whatever service.
pub(crate) fn of_all_otlp(requests: &[ProfilesData]) -> Totals {
    of_those(requests, |_| true).0
}

/// What the requests say of the service.
pub(crate) fn of_otlp(requests: &[ProfilesData], service: &str) -> (Totals, Labels) {
    of_those(requests, |name| name.unwrap_or("unknown_service") == service)
}

fn of_those(requests: &[ProfilesData], is: impl Fn(Option<&str>) -> bool) -> (Totals, Labels) {
    let (mut totals, mut labels) = (Totals::new(), Labels::default());
    let none = ProfilesDictionary::default();
    for request in requests {
        let dictionary = request.dictionary.as_ref().unwrap_or(&none);
        let string = |index: i32| dictionary.string_table[index as usize].as_str();
        for resource in &request.resource_profiles {
            let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
            let attributes: BTreeMap<_, _> =
                attributes.map(|attribute| pair(attribute, dictionary)).collect();
            if !is(attributes.get("service.name").map(String::as_str)) {
                continue;
            }
            labels.resource.extend(attributes);
            for profile in resource.scope_profiles.iter().flat_map(|scope| &scope.profiles) {
                let sample_type = profile.sample_type.unwrap_or_default();
                let key = (string(sample_type.type_strindex), string(sample_type.unit_strindex));
                let column = totals.entry((key.0.into(), key.1.into())).or_default();
                for sample in &profile.samples {
                    let value = match &sample.values[..] {
                        [] => sample.timestamps_unix_nano.len() as i64,
                        values => values.iter().sum(),
                    };
                    let stack = &dictionary.stack_table[sample.stack_index as usize];
                    let locations = stack.location_indices.iter();
                    let lines = locations
                        .flat_map(|&index| &dictionary.location_table[index as usize].lines);
                    let functions =
                        lines.map(|line| &dictionary.function_table[line.function_index as usize]);
                    column.add(functions.map(|function| string(function.name_strindex)), value);
                    for &index in &sample.attribute_indices {
                        let attribute = &dictionary.attribute_table[index as usize];
                        let value = text(attribute.value.as_ref(), dictionary);
                        labels.samples.insert((string(attribute.key_strindex).into(), value));
                    }
                }
            }
        }
    }
    (totals, labels)
}

fn pair(attribute: &KeyValue, dictionary: &ProfilesDictionary) -> (String, String) {
    let key = match attribute.key_strindex {
        0 => attribute.key.clone(),
        index => dictionary.string_table[index as usize].clone(),
    };
    (key, text(attribute.value.as_ref(), dictionary))
}

fn text(value: Option<&AnyValue>, dictionary: &ProfilesDictionary) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::StringValueStrindex(index)) => dictionary.string_table[*index as usize].clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// What a pprof profile says.
pub(crate) fn of_pprof(profile: &pprof::Profile) -> Totals {
    let string = |index: i64| profile.string_table[index as usize].as_str();
    let functions: BTreeMap<u64, &str> =
        profile.function.iter().map(|function| (function.id, string(function.name))).collect();
    let locations: BTreeMap<u64, &pprof::Location> =
        profile.location.iter().map(|location| (location.id, location)).collect();
    let mut totals = Totals::new();
    for (position, kind) in profile.sample_type.iter().enumerate() {
        let key = (string(kind.r#type).to_owned(), string(kind.unit).to_owned());
        let column = totals.entry(key).or_default();
        for sample in &profile.sample {
            let lines = sample.location_id.iter().flat_map(|id| &locations[id].line);
            column.add(lines.map(|line| functions[&line.function_id]), sample.value[position]);
        }
    }
    totals
}
