//! The methods of `querier.v1.QuerierService`.

use std::collections::BTreeSet;

use bytes::Bytes;
use profpipe_formats::pprof::encode_plain;
use profpipe_profile::{LinkIx, Profiles, SampleRef, Samples, aggregate};
use profpipe_store::{Matchers, QueryError, Selection, Table, Tree, TypeId};
use prost::Message as _;

use super::flamegraph::{flame_graph, tree_bytes};
use super::messages::{
    AnalyzeQueryRequest, AnalyzeQueryResponse, DiffRequest, DiffResponse, Empty, FlameGraph,
    GetProfileStatsResponse, GoPgo, LabelNamesRequest, LabelPair, LabelValuesRequest, Labels,
    Level, NamesResponse, Point, ProfileType, ProfileTypesRequest, ProfileTypesResponse,
    QueryImpact, QueryScope, SelectMergeProfileRequest, SelectMergeSpanProfileRequest,
    SelectMergeStacktracesRequest, SelectMergeStacktracesResponse, SelectSeriesRequest,
    SelectSeriesResponse, Series, SeriesRequest, SeriesResponse, StackTraceSelector,
};
use super::wire::Codec;
use super::{Failure, dot, pprof};
use crate::options::Options;

/// The methods that are answered.
pub(crate) const METHODS: [&str; 11] = [
    "ProfileTypes",
    "LabelNames",
    "LabelValues",
    "Series",
    "SelectMergeStacktraces",
    "SelectMergeSpanProfile",
    "SelectMergeProfile",
    "SelectSeries",
    "Diff",
    "GetProfileStats",
    "AnalyzeQuery",
];
/// How many nodes a tree has unless it is said, and at most.
const USUAL_NODES: i64 = 8192;
const MAX_NODES: i64 = 1 << 20;

/// Answers a call of a method.
pub(super) fn answer(
    options: &Options,
    method: &str,
    codec: Codec,
    body: &[u8],
) -> Result<Bytes, Failure> {
    let table = options.source.table(None)?;
    let table = table.as_ref();
    match method {
        "ProfileTypes" => {
            let request: ProfileTypesRequest = codec.decode(body)?;
            Ok(codec.encode(&profile_types(table, request.start, request.end)?))
        }
        "LabelNames" => {
            let request: LabelNamesRequest = codec.decode(body)?;
            let sets = sets(table, &request.matchers, request.start, request.end)?;
            let names: BTreeSet<String> =
                sets.into_iter().flat_map(|set| set.into_keys()).collect();
            Ok(codec.encode(&NamesResponse { names: names.into_iter().collect() }))
        }
        "LabelValues" => {
            let request: LabelValuesRequest = codec.decode(body)?;
            let names = label_values(table, &request)?;
            Ok(codec.encode(&NamesResponse { names }))
        }
        "Series" => Ok(codec.encode(&series(table, &codec.decode(body)?)?)),
        "SelectMergeStacktraces" => Ok(codec.encode(&stacktraces(table, &codec.decode(body)?)?)),
        "SelectMergeSpanProfile" => {
            let request: SelectMergeSpanProfileRequest = codec.decode(body)?;
            let request = SelectMergeStacktracesRequest {
                profile_type: request.profile_type,
                label_selector: request.label_selector,
                start: request.start,
                end: request.end,
                max_nodes: request.max_nodes,
                format: request.format,
                span_selector: request.span_selector,
                ..SelectMergeStacktracesRequest::default()
            };
            Ok(codec.encode(&stacktraces(table, &request)?))
        }
        "SelectMergeProfile" => profile(table, codec, &codec.decode(body)?),
        "SelectSeries" => Ok(codec.encode(&select_series(table, &codec.decode(body)?)?)),
        "Diff" => {
            let request: DiffRequest = codec.decode(body)?;
            Ok(codec.encode(&diff(table, &request)?))
        }
        "GetProfileStats" => {
            let _: Empty = codec.decode(body)?;
            Ok(codec.encode(&stats(table)))
        }
        "AnalyzeQuery" => {
            let request: AnalyzeQueryRequest = codec.decode(body)?;
            Ok(codec.encode(&analyze(table, &request)?))
        }
        other => {
            let name: String = other.chars().take(100).collect();
            Err(Failure::Unimplemented(format!("profpipe does not have the method `{name}`")))
        }
    }
}

/// A selection as requests say it. Without start and end it is of all times.
pub(super) fn selection(
    profile_type: &str,
    selector: &str,
    start: i64,
    end: i64,
    stacks: Option<&StackTraceSelector>,
) -> Result<Selection, QueryError> {
    let any_type = profile_type.is_empty();
    let call_site = stacks.map(|it| it.call_site.iter().map(|site| site.name.clone()).collect());
    Ok(Selection {
        profile_type: if any_type { None } else { Some(TypeId::parse(profile_type)?) },
        matchers: Matchers::parse(selector)?,
        from: (start != 0).then_some(start),
        until: (end != 0).then_some(end),
        call_site: call_site.unwrap_or_default(),
        ..Selection::default()
    })
}

/// The result, or nothing where there is no such type: what has no profiles is empty, not an error.
pub(super) fn or_empty<T>(result: Result<T, QueryError>) -> Result<Option<T>, QueryError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(QueryError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn typed(profile_type: &str) -> Result<(), QueryError> {
    // An empty text is no id, either.
    TypeId::parse(profile_type).map(|_| ())
}

fn profile_types(table: &Table, start: i64, end: i64) -> Result<ProfileTypesResponse, QueryError> {
    let mut profile_types: Vec<ProfileType> = Vec::new();
    for one in table.types() {
        let of_type = selection(one.id.as_str(), "{}", start, end, None)?;
        if !table.has_samples(&of_type)? {
            continue;
        }
        let [name, sample_type, sample_unit, period_type, period_unit] =
            one.id.parts().map(str::to_owned);
        let id = one.id.as_str().to_owned();
        profile_types.push(ProfileType {
            id,
            name,
            sample_type,
            sample_unit,
            period_type,
            period_unit,
        });
    }
    profile_types.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(ProfileTypesResponse { profile_types })
}

type LabelSet = std::collections::BTreeMap<String, String>;

/// The label sets that satisfy any of the selectors; all if there are none.
fn sets(
    table: &Table,
    matchers: &[String],
    start: i64,
    end: i64,
) -> Result<Vec<LabelSet>, QueryError> {
    let mut selections = Vec::new();
    for selector in matchers {
        selections.push(selection("", selector, start, end, None)?);
    }
    if selections.is_empty() {
        selections.push(selection("", "{}", start, end, None)?);
    }
    table.label_sets(&selections)
}

fn label_values(table: &Table, request: &LabelValuesRequest) -> Result<Vec<String>, QueryError> {
    if request.name.is_empty() {
        return Err(QueryError::Invalid("name is required".to_owned()));
    }
    let sets = sets(table, &request.matchers, request.start, request.end)?;
    let values: BTreeSet<String> =
        sets.into_iter().filter_map(|mut set| set.remove(&request.name)).collect();
    Ok(values.into_iter().collect())
}

fn pair(name: &str, value: &str) -> LabelPair {
    LabelPair { name: name.to_owned(), value: value.to_owned() }
}

fn series(table: &Table, request: &SeriesRequest) -> Result<SeriesResponse, QueryError> {
    let sets = sets(table, &request.matchers, request.start, request.end)?;
    let labels = |set: &LabelSet| -> Vec<LabelPair> {
        match request.label_names.as_slice() {
            [] => set.iter().map(|(name, value)| pair(name, value)).collect(),
            names => {
                let values = names.iter().filter_map(|name| Some((name, set.get(name)?)));
                values.map(|(name, value)| pair(name, value)).collect()
            }
        }
    };
    let mut seen = BTreeSet::new();
    let mut labels_set = Vec::new();
    for set in &sets {
        let labels = labels(set);
        let key: Vec<(String, String)> =
            labels.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
        if seen.insert(key) {
            labels_set.push(Labels { labels });
        }
    }
    Ok(SeriesResponse { labels_set })
}

/// The most nodes of a tree.
pub(super) fn nodes(asked: Option<i64>) -> usize {
    let nodes = match asked {
        None | Some(..=0) => USUAL_NODES,
        Some(nodes) => nodes.min(MAX_NODES),
    };
    usize::try_from(nodes).unwrap_or(1)
}

/// The answer where there is nothing.
pub(super) fn empty(sides: usize) -> FlameGraph {
    let levels = vec![Level { values: vec![0; 3 * sides + 1] }];
    FlameGraph { names: vec!["total".to_owned()], levels, ..FlameGraph::default() }
}

fn spans(texts: &[String]) -> Result<Vec<[u8; 8]>, QueryError> {
    let parse = |text: &String| {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        number.map(u64::to_be_bytes).ok_or_else(|| {
            let text: String = text.chars().take(50).collect();
            QueryError::Invalid(format!(
                "`{text}` is not the id of a span, which has 16 hex digits"
            ))
        })
    };
    texts.iter().map(parse).collect()
}

fn no_profile_ids(ids: &[String]) -> Result<(), Failure> {
    match ids {
        [] => Ok(()),
        _ => Err(Failure::Unimplemented("profiles have no ids here".to_owned())),
    }
}

fn stacktraces(
    table: &Table,
    request: &SelectMergeStacktracesRequest,
) -> Result<SelectMergeStacktracesResponse, Failure> {
    let selection = of_request(request)?;
    let nodes = nodes(request.max_nodes);
    let mut response = SelectMergeStacktracesResponse::default();
    let selected = or_empty(table.select(&selection))?.filter(|it| it.total != 0);
    let tree = selected.as_ref().map(|it| it.tree_by_name(nodes)).transpose()?;
    match request.format {
        0 | 1 => {
            let graph = tree.map_or_else(|| empty(1), |tree: Tree<1>| flame_graph(table, &tree));
            response.flamegraph = Some(graph);
        }
        2 => response.tree = tree.map(|tree| tree_bytes(table, &tree)).unwrap_or_default(),
        3 => {
            response.dot = match (&selected, tree) {
                (Some(selected), Some(tree)) => dot::write(table, selected, &tree),
                _ => dot::EMPTY.to_owned(),
            }
        }
        _ => return Err(Failure::Unimplemented("profpipe does not have this format".to_owned())),
    }
    Ok(response)
}

fn of_request(request: &SelectMergeStacktracesRequest) -> Result<Selection, Failure> {
    no_profile_ids(&request.profile_id_selector)?;
    typed(&request.profile_type)?;
    let mut selection = selection(
        &request.profile_type,
        &request.label_selector,
        request.start,
        request.end,
        request.stack_trace_selector.as_ref(),
    )?;
    selection.spans = spans(&request.span_selector)?;
    Ok(selection)
}

fn diff(table: &Table, request: &DiffRequest) -> Result<DiffResponse, Failure> {
    let (Some(left), Some(right)) = (&request.left, &request.right) else {
        return Err(QueryError::Invalid("left and right are required".to_owned()).into());
    };
    if [left, right].iter().any(|side| !matches!(side.format, 0 | 1)) {
        return Err(Failure::Unimplemented("profpipe does not have this format".to_owned()));
    }
    let nodes = nodes(left.max_nodes.max(right.max_nodes));
    let graph = difference(table, &of_request(left)?, &of_request(right)?, nodes)?;
    Ok(DiffResponse { flamegraph: Some(graph) })
}

/// Two selections as one tree.
pub(super) fn difference(
    table: &Table,
    left: &Selection,
    right: &Selection,
    nodes: usize,
) -> Result<FlameGraph, QueryError> {
    let types = [left, right].map(|side| table.select_type(side).is_ok());
    // A side whose type is not there is one that nothing is selected of.
    let none = |side: &Selection| Selection {
        profile_type: side.profile_type.clone(),
        files: Some(Vec::new()),
        ..Selection::default()
    };
    let (left, right) = match types {
        [true, true] => (left.clone(), right.clone()),
        [true, false] => (left.clone(), none(left)),
        [false, true] => (none(right), right.clone()),
        [false, false] => return Ok(empty(2)),
    };
    let (base, new) = (table.select(&left)?, table.select(&right)?);
    Ok(flame_graph(table, &new.tree_against(&base, nodes)?))
}

fn profile(
    table: &Table,
    codec: Codec,
    request: &SelectMergeProfileRequest,
) -> Result<Bytes, Failure> {
    no_profile_ids(&request.profile_id_selector)?;
    typed(&request.profile_type)?;
    let stacks = request.stack_trace_selector.as_ref();
    let selection = selection(
        &request.profile_type,
        &request.label_selector,
        request.start,
        request.end,
        stacks,
    )?;
    let mut profiles = or_empty(table.export(&selection))?.unwrap_or_default();
    if let Some(pgo) = stacks.and_then(|it| it.go_pgo.as_ref()) {
        keep_locations(&mut profiles, pgo);
    }
    let profiles = without_labels(profiles);
    let plain = encode_plain(&profiles).map_err(|error| QueryError::TooLarge(error.to_string()))?;
    match codec {
        Codec::Protobuf => Ok(plain.into()),
        Codec::Json => {
            let profile = pprof::Profile::decode(plain.as_slice())
                .map_err(|error| QueryError::Invalid(error.to_string()))?;
            Ok(codec.encode(&profile))
        }
    }
}

/// The profiles with equal stacks as one sample, whatever their labels were: of one type that is all there is
/// to tell them apart.
fn without_labels(mut profiles: Profiles) -> Profiles {
    let mut samples = Samples::default();
    for profile in profiles.profiles_mut() {
        for sample in std::mem::take(&mut profile.samples).iter() {
            samples.push(SampleRef {
                attributes: &[],
                link: LinkIx::NONE,
                values: &[sample.weight()],
                timestamps_unix_nano: &[],
                ..sample
            });
        }
        profile.samples = std::mem::take(&mut samples);
    }
    // Labels of resources would become labels of samples.
    for resource in &mut profiles.resources {
        resource.resource.attributes.clear();
    }
    aggregate([profiles])
}

/// Cuts stacks to what a compiler of Go looks at: so many locations from the leaf on.
fn keep_locations(profiles: &mut Profiles, pgo: &GoPgo) {
    let keep = match pgo.keep_locations {
        0 => return,
        keep => keep as usize,
    };
    let mut cut = std::collections::HashMap::new();
    let used: BTreeSet<_> = profiles.iter().flat_map(|it| it.2.samples.stacks.clone()).collect();
    for stack in used {
        let locations = profiles.dictionary.stacks.get(stack);
        let kept = locations.get(..keep).unwrap_or(locations).to_vec();
        cut.insert(stack, profiles.dictionary.stacks.intern(&kept));
    }
    for profile in profiles.profiles_mut() {
        for stack in profile.samples.stacks_mut() {
            *stack = cut.get(stack).copied().unwrap_or(*stack);
        }
    }
}

fn select_series(
    table: &Table,
    request: &SelectSeriesRequest,
) -> Result<SelectSeriesResponse, Failure> {
    typed(&request.profile_type)?;
    if !(request.step > 0.0 && request.step.is_finite()) {
        return Err(QueryError::Invalid("step must be more than 0 seconds".to_owned()).into());
    }
    let stacks = request.stack_trace_selector.as_ref();
    let selection = selection(
        &request.profile_type,
        &request.label_selector,
        request.start,
        request.end,
        stacks,
    )?;
    let is_average = match request.aggregation {
        None | Some(0) => false,
        Some(1) => true,
        Some(_) => {
            return Err(Failure::Unimplemented(
                "profpipe does not have this aggregation".to_owned(),
            ));
        }
    };
    let step = (request.step * 1000.0).max(1.0) as i64;
    let groups = or_empty(table.points(&selection, &request.group_by, request.start, step))?;
    let mut series: Vec<(i64, Series)> = Vec::new();
    for (labels, sums) in groups.unwrap_or_default() {
        let total = sums.values().fold(0_i64, |sum, value| sum.saturating_add(value.0));
        let value = |(sum, profiles): (i64, u32)| match is_average {
            true => sum as f64 / f64::from(profiles.max(1)),
            false => sum as f64,
        };
        let points = sums.into_iter().map(|(timestamp, of)| Point { value: value(of), timestamp });
        let points = points.collect();
        let labels = labels.iter().map(|(name, value)| pair(name, value)).collect();
        series.push((total, Series { labels, points }));
    }
    if let Some(limit) = request.limit.filter(|limit| *limit > 0) {
        series.sort_by_key(|one| std::cmp::Reverse(one.0));
        series.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(SelectSeriesResponse { series: series.into_iter().map(|one| one.1).collect() })
}

fn stats(table: &Table) -> GetProfileStatsResponse {
    let times = table.types().iter().filter_map(|one| one.time);
    let ends = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let millis = |nanos: i64| nanos.div_euclid(1_000_000);
    GetProfileStatsResponse {
        data_ingested: !table.types().is_empty(),
        oldest_profile_time: ends.map_or(0, |ends| millis(ends.0)),
        newest_profile_time: ends.map_or(0, |ends| millis(ends.1)),
    }
}

fn analyze(
    table: &Table,
    request: &AnalyzeQueryRequest,
) -> Result<AnalyzeQueryResponse, QueryError> {
    // The id of the type stands before the selector.
    let selector = request.query.find('{').and_then(|at| request.query.get(at..)).unwrap_or("{}");
    let sets = sets(table, &[selector.to_owned()], request.start, request.end)?;
    let scope = QueryScope {
        component_type: "Files".to_owned(),
        component_count: table.files().len() as u64,
        series_count: sets.len() as u64,
    };
    let bytes = table.files().iter().map(|file| file.bytes).sum();
    let impact =
        QueryImpact { total_bytes_in_time_range: bytes, total_queried_series: sets.len() as u64 };
    Ok(AnalyzeQueryResponse { query_scopes: vec![scope], query_impact: Some(impact) })
}
