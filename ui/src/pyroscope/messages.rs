//! The messages of `querier.v1` and `types.v1`, in protobuf and JSON.
//!
//! Written after the definitions in Pyroscope's `api/` (Apache-2.0). Fields that nothing is made of are left
//! out: both readers skip what they do not know. JSON has names in camelCase; those of the definitions are
//! read, too.

use prost::Message;
use serde::{Deserialize, Serialize};

use super::json::{self, is_default, nullable};

/// `types.v1.LabelPair`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(super) struct LabelPair {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// `querier.v1.ProfileTypesRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProfileTypesRequest {
    #[prost(int64, tag = "1")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "2")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
}

/// `types.v1.ProfileType`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProfileType {
    #[prost(string, tag = "1")]
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) sample_type: String,
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) sample_unit: String,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) period_type: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) period_unit: String,
}

/// `querier.v1.ProfileTypesResponse`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProfileTypesResponse {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) profile_types: Vec<ProfileType>,
}

/// `types.v1.LabelNamesRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LabelNamesRequest {
    #[prost(string, repeated, tag = "1")]
    #[serde(deserialize_with = "nullable")]
    pub(super) matchers: Vec<String>,
    #[prost(int64, tag = "2")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
}

/// `types.v1.LabelValuesRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LabelValuesRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable")]
    pub(super) matchers: Vec<String>,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
}

/// `types.v1.LabelNamesResponse` and `types.v1.LabelValuesResponse`, which are equal.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(super) struct NamesResponse {
    #[prost(string, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) names: Vec<String>,
}

/// `querier.v1.SeriesRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SeriesRequest {
    #[prost(string, repeated, tag = "1")]
    #[serde(deserialize_with = "nullable")]
    pub(super) matchers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    #[serde(alias = "label_names", deserialize_with = "nullable")]
    pub(super) label_names: Vec<String>,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
}

/// `types.v1.Labels`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(super) struct Labels {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) labels: Vec<LabelPair>,
}

/// `querier.v1.SeriesResponse`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeriesResponse {
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) labels_set: Vec<Labels>,
}

/// `types.v1.Location`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(default)]
pub(super) struct CallSite {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable")]
    pub(super) name: String,
}

/// `types.v1.GoPGO`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GoPgo {
    #[prost(uint32, tag = "1")]
    #[serde(alias = "keep_locations", deserialize_with = "nullable")]
    pub(super) keep_locations: u32,
    #[prost(bool, tag = "2")]
    #[serde(alias = "aggregate_callees", deserialize_with = "nullable")]
    pub(super) aggregate_callees: bool,
}

/// `types.v1.StackTraceSelector`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StackTraceSelector {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "call_site", deserialize_with = "nullable")]
    pub(super) call_site: Vec<CallSite>,
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "goPgo", alias = "go_pgo")]
    pub(super) go_pgo: Option<GoPgo>,
}

/// `querier.v1.SelectMergeStacktracesRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectMergeStacktracesRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID", deserialize_with = "nullable")]
    pub(super) profile_type: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector", deserialize_with = "nullable")]
    pub(super) label_selector: String,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
    #[prost(int64, optional, tag = "5")]
    #[serde(alias = "max_nodes", with = "json::optional_int64")]
    pub(super) max_nodes: Option<i64>,
    #[prost(int32, tag = "6")]
    #[serde(deserialize_with = "json::format")]
    pub(super) format: i32,
    #[prost(message, optional, tag = "7")]
    #[serde(alias = "stack_trace_selector")]
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    #[prost(string, repeated, tag = "8")]
    #[serde(alias = "profile_id_selector", deserialize_with = "nullable")]
    pub(super) profile_id_selector: Vec<String>,
    /// Of 2.x.
    #[prost(string, repeated, tag = "9")]
    #[serde(alias = "span_selector", deserialize_with = "nullable")]
    pub(super) span_selector: Vec<String>,
}

/// `querier.v1.Level`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(super) struct Level {
    #[prost(int64, repeated, tag = "1")]
    #[serde(serialize_with = "json::int64s::serialize")]
    pub(super) values: Vec<i64>,
}

/// `querier.v1.FlameGraph`, and `FlameGraphDiff`, which has two fields more.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FlameGraph {
    #[prost(string, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) levels: Vec<Level>,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) total: i64,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) max_self: i64,
    #[prost(int64, tag = "5")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) left_ticks: i64,
    #[prost(int64, tag = "6")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) right_ticks: i64,
}

/// `querier.v1.SelectMergeStacktracesResponse`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(super) struct SelectMergeStacktracesResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flamegraph: Option<FlameGraph>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(serialize_with = "json::base64", skip_serializing_if = "is_default")]
    pub(super) tree: Vec<u8>,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) dot: String,
}

/// `querier.v1.SelectMergeSpanProfileRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectMergeSpanProfileRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID", deserialize_with = "nullable")]
    pub(super) profile_type: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector", deserialize_with = "nullable")]
    pub(super) label_selector: String,
    #[prost(string, repeated, tag = "3")]
    #[serde(alias = "span_selector", deserialize_with = "nullable")]
    pub(super) span_selector: Vec<String>,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "5")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
    #[prost(int64, optional, tag = "6")]
    #[serde(alias = "max_nodes", with = "json::optional_int64")]
    pub(super) max_nodes: Option<i64>,
    #[prost(int32, tag = "7")]
    #[serde(deserialize_with = "json::format")]
    pub(super) format: i32,
}

/// `querier.v1.SelectMergeProfileRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectMergeProfileRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID", deserialize_with = "nullable")]
    pub(super) profile_type: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector", deserialize_with = "nullable")]
    pub(super) label_selector: String,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
    #[prost(message, optional, tag = "6")]
    #[serde(alias = "stack_trace_selector")]
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    #[prost(string, repeated, tag = "7")]
    #[serde(alias = "profile_id_selector", deserialize_with = "nullable")]
    pub(super) profile_id_selector: Vec<String>,
}

/// `querier.v1.SelectSeriesRequest`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectSeriesRequest {
    #[prost(string, tag = "1")]
    #[serde(rename = "profileTypeID", alias = "profile_typeID", deserialize_with = "nullable")]
    pub(super) profile_type: String,
    #[prost(string, tag = "2")]
    #[serde(alias = "label_selector", deserialize_with = "nullable")]
    pub(super) label_selector: String,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "4")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
    #[prost(string, repeated, tag = "5")]
    #[serde(alias = "group_by", deserialize_with = "nullable")]
    pub(super) group_by: Vec<String>,
    #[prost(double, tag = "6")]
    #[serde(deserialize_with = "nullable")]
    pub(super) step: f64,
    #[prost(int32, optional, tag = "7")]
    #[serde(deserialize_with = "some_aggregation")]
    pub(super) aggregation: Option<i32>,
    #[prost(message, optional, tag = "8")]
    #[serde(alias = "stack_trace_selector")]
    pub(super) stack_trace_selector: Option<StackTraceSelector>,
    #[prost(int64, optional, tag = "9")]
    #[serde(with = "json::optional_int64")]
    pub(super) limit: Option<i64>,
}

fn some_aggregation<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
    json::aggregation(from).map(Some)
}

/// `types.v1.Point`
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Point {
    #[prost(double, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) value: f64,
    #[prost(int64, tag = "2")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) timestamp: i64,
}

/// `types.v1.Series`
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Series {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) points: Vec<Point>,
}

/// `querier.v1.SelectSeriesResponse`
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SelectSeriesResponse {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) series: Vec<Series>,
}

/// `querier.v1.DiffRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(default)]
pub(super) struct DiffRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) left: Option<SelectMergeStacktracesRequest>,
    #[prost(message, optional, tag = "2")]
    pub(super) right: Option<SelectMergeStacktracesRequest>,
}

/// `querier.v1.DiffResponse`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(super) struct DiffResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flamegraph: Option<FlameGraph>,
}

/// A message without fields.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub(super) struct Empty {}

/// `types.v1.GetProfileStatsResponse`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetProfileStatsResponse {
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(super) data_ingested: bool,
    #[prost(int64, tag = "2")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) oldest_profile_time: i64,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64", skip_serializing_if = "is_default")]
    pub(super) newest_profile_time: i64,
}

/// `querier.v1.AnalyzeQueryRequest`
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AnalyzeQueryRequest {
    #[prost(int64, tag = "2")]
    #[serde(with = "json::int64")]
    pub(super) start: i64,
    #[prost(int64, tag = "3")]
    #[serde(with = "json::int64")]
    pub(super) end: i64,
    #[prost(string, tag = "4")]
    #[serde(deserialize_with = "nullable")]
    pub(super) query: String,
}

/// `querier.v1.QueryScope`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryScope {
    #[prost(string, tag = "1")]
    pub(super) component_type: String,
    #[prost(uint64, tag = "2")]
    #[serde(serialize_with = "json::uint64")]
    pub(super) component_count: u64,
    #[prost(uint64, tag = "4")]
    #[serde(serialize_with = "json::uint64")]
    pub(super) series_count: u64,
}

/// `querier.v1.QueryImpact`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryImpact {
    #[prost(uint64, tag = "2")]
    #[serde(serialize_with = "json::uint64")]
    pub(super) total_bytes_in_time_range: u64,
    #[prost(uint64, tag = "3")]
    #[serde(serialize_with = "json::uint64")]
    pub(super) total_queried_series: u64,
}

/// `querier.v1.AnalyzeQueryResponse`
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnalyzeQueryResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) query_scopes: Vec<QueryScope>,
    #[prost(message, optional, tag = "2")]
    pub(super) query_impact: Option<QueryImpact>,
}
