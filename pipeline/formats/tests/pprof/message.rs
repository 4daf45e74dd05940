//! google/pprof's messages, read and written by generated code: what our codec is compared with.

use std::collections::HashMap;

use prost::Message as _;

/// `perftools.profiles.Profile`; tags as in google/pprof's `profile.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Profile {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(crate) string_table: Vec<String>,
    #[prost(int64, tag = "7")]
    pub(crate) drop_frames: i64,
    #[prost(int64, tag = "8")]
    pub(crate) keep_frames: i64,
    #[prost(int64, tag = "9")]
    pub(crate) time_nanos: i64,
    #[prost(int64, tag = "10")]
    pub(crate) duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub(crate) period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub(crate) period: i64,
    #[prost(int64, repeated, tag = "13")]
    pub(crate) comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub(crate) default_sample_type: i64,
    #[prost(int64, tag = "15")]
    pub(crate) doc_url: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(crate) kind: i64,
    #[prost(int64, tag = "2")]
    pub(crate) unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(crate) value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) label: Vec<Label>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Label {
    #[prost(int64, tag = "1")]
    pub(crate) key: i64,
    #[prost(int64, tag = "2")]
    pub(crate) text: i64,
    #[prost(int64, tag = "3")]
    pub(crate) number: i64,
    #[prost(int64, tag = "4")]
    pub(crate) unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) memory_start: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) memory_limit: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) file_offset: u64,
    #[prost(int64, tag = "5")]
    pub(crate) filename: i64,
    #[prost(int64, tag = "6")]
    pub(crate) build_id: i64,
    #[prost(bool, tag = "7")]
    pub(crate) has_functions: bool,
    #[prost(bool, tag = "8")]
    pub(crate) has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub(crate) has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    pub(crate) has_inline_frames: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Location {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) mapping_id: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) address: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) line: Vec<Line>,
    #[prost(bool, tag = "5")]
    pub(crate) is_folded: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Line {
    #[prost(uint64, tag = "1")]
    pub(crate) function_id: u64,
    #[prost(int64, tag = "2")]
    pub(crate) line: i64,
    #[prost(int64, tag = "3")]
    pub(crate) column: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Function {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(int64, tag = "2")]
    pub(crate) name: i64,
    #[prost(int64, tag = "3")]
    pub(crate) system_name: i64,
    #[prost(int64, tag = "4")]
    pub(crate) filename: i64,
    #[prost(int64, tag = "5")]
    pub(crate) start_line: i64,
}

/// A label's content: a text, or a number with its unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LabelValue {
    Text(String),
    Number(i64, String),
}

/// One frame: mapping position from 1 or 0, address, folded, and its lines as (name, system name,
/// file, start line, line, column).
pub(crate) type Frame = (usize, u64, bool, Vec<(String, String, String, i64, i64, i64)>);

/// A sample: its stack, its values, and its labels grouped by key.
pub(crate) type Row = (Vec<Frame>, Vec<i64>, Vec<(String, Vec<LabelValue>)>);

/// What a profile says, without the ids and numbers by which it says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Meaning {
    pub(crate) types: Vec<(String, String)>,
    pub(crate) default_type: String,
    pub(crate) frames: (String, String),
    pub(crate) interval: (i64, i64),
    pub(crate) period: (String, String, i64),
    pub(crate) comments: Vec<String>,
    pub(crate) doc_url: String,
    /// Each with its texts (file, build id) and with no ids.
    pub(crate) mappings: Vec<(Mapping, String, String)>,
    pub(crate) samples: Vec<Row>,
}

impl Profile {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self::decode(bytes).expect("what we write is protobuf")
    }

    pub(crate) fn text(&self, at: i64) -> String {
        self.string_table[usize::try_from(at).unwrap()].clone()
    }

    pub(crate) fn meaning(&self) -> Meaning {
        let text = |at| self.text(at);
        let mappings: HashMap<_, _> = self.mapping.iter().map(|one| one.id).zip(1..).collect();
        let functions: HashMap<_, _> = self.function.iter().map(|one| (one.id, one)).collect();
        let locations: HashMap<_, _> = self.location.iter().map(|one| (one.id, one)).collect();
        let frame = |id: &u64| {
            let location = locations[id];
            let lines = location.line.iter().map(|line| {
                let function = functions[&line.function_id];
                (
                    text(function.name),
                    text(function.system_name),
                    text(function.filename),
                    function.start_line,
                    line.line,
                    line.column,
                )
            });
            let mapping = mappings.get(&location.mapping_id).copied().unwrap_or(0);
            (mapping, location.address, location.is_folded, lines.collect())
        };
        let labels = |sample: &Sample| {
            let mut groups: Vec<(String, Vec<LabelValue>)> = Vec::new();
            for label in &sample.label {
                let key = text(label.key);
                let value = match label.text {
                    0 => LabelValue::Number(label.number, text(label.unit)),
                    at => LabelValue::Text(text(at)),
                };
                if key.is_empty() && value == LabelValue::Number(0, String::new()) {
                    continue;
                }
                match groups.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, values)) => values.push(value),
                    None => groups.push((key, vec![value])),
                }
            }
            groups
        };
        let period_type = self.period_type.clone().unwrap_or_default();
        Meaning {
            types: self.sample_type.iter().map(|one| (text(one.kind), text(one.unit))).collect(),
            default_type: text(self.default_sample_type),
            frames: (text(self.drop_frames), text(self.keep_frames)),
            interval: (self.time_nanos, self.duration_nanos),
            period: (text(period_type.kind), text(period_type.unit), self.period),
            comments: self.comment.iter().map(|at| text(*at)).collect(),
            doc_url: text(self.doc_url),
            mappings: self
                .mapping
                .iter()
                .map(|one| {
                    let plain = Mapping { id: 0, filename: 0, build_id: 0, ..*one };
                    (plain, text(one.filename), text(one.build_id))
                })
                .collect(),
            samples: self
                .sample
                .iter()
                .map(|one| {
                    let stack = one.location_id.iter().map(frame).collect();
                    (stack, one.value.clone(), labels(one))
                })
                .collect(),
        }
    }
}
