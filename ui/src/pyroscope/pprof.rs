//! `google.v1.Profile`, which is pprof, in protobuf's JSON. In protobuf it is passed on as it is encoded.

use prost::Message;
use serde::Serialize;

use super::json::{self, is_default};

macro_rules! messages {
    ($($(#[$about:meta])* $name:ident { $($tag:literal $kind:ident $field:ident $(as $serialize:literal)?,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, PartialEq, Message, Serialize)]
        #[serde(rename_all = "camelCase")]
        struct $name {
            $(
                #[prost($kind, tag = $tag)]
                #[serde(skip_serializing_if = "is_default" $(, serialize_with = $serialize)?)]
                $field: messages!(@type $kind),
            )*
        }
    )*};
    (@type int64) => { i64 };
    (@type uint64) => { u64 };
    (@type bool) => { bool };
}

messages! {
    /// `ValueType`
    ValueType { "1" int64 r#type as "json::int64::serialize", "2" int64 unit as "json::int64::serialize", }
    /// `Label`
    Label {
        "1" int64 key as "json::int64::serialize",
        "2" int64 str as "json::int64::serialize",
        "3" int64 num as "json::int64::serialize",
        "4" int64 num_unit as "json::int64::serialize",
    }
    /// `Mapping`
    Mapping {
        "1" uint64 id as "json::uint64",
        "2" uint64 memory_start as "json::uint64",
        "3" uint64 memory_limit as "json::uint64",
        "4" uint64 file_offset as "json::uint64",
        "5" int64 filename as "json::int64::serialize",
        "6" int64 build_id as "json::int64::serialize",
        "7" bool has_functions,
        "8" bool has_filenames,
        "9" bool has_line_numbers,
        "10" bool has_inline_frames,
    }
    /// `Line`
    Line { "1" uint64 function_id as "json::uint64", "2" int64 line as "json::int64::serialize", }
    /// `Function`
    Function {
        "1" uint64 id as "json::uint64",
        "2" int64 name as "json::int64::serialize",
        "3" int64 system_name as "json::int64::serialize",
        "4" int64 filename as "json::int64::serialize",
        "5" int64 start_line as "json::int64::serialize",
    }
}

/// `Sample`
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    #[serde(serialize_with = "json::uint64s::serialize")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    #[serde(serialize_with = "json::int64s::serialize")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    label: Vec<Label>,
}

/// `Location`
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[prost(uint64, tag = "1")]
    #[serde(serialize_with = "json::uint64")]
    id: u64,
    #[prost(uint64, tag = "2")]
    #[serde(serialize_with = "json::uint64", skip_serializing_if = "is_default")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    #[serde(serialize_with = "json::uint64", skip_serializing_if = "is_default")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    line: Vec<Line>,
    #[prost(bool, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    is_folded: bool,
}

/// `google.v1.Profile`
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    #[serde(serialize_with = "json::int64::serialize", skip_serializing_if = "is_default")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    #[serde(serialize_with = "json::int64::serialize", skip_serializing_if = "is_default")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    #[serde(skip_serializing_if = "Option::is_none")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    #[serde(serialize_with = "json::int64::serialize", skip_serializing_if = "is_default")]
    period: i64,
}
