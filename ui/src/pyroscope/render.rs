//! The older paths: `/pyroscope/render`, `/pyroscope/render-diff`, `/pyroscope/label-values`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use profpipe_store::{Matchers, QueryError, Selection, Table, TypeId};
use serde_json::{Value, json};

use super::flamegraph::flame_graph;
use super::messages::FlameGraph;
use super::queries::{difference, empty, nodes, or_empty};
use super::{Failure, dot, time};
use crate::answer::Answer;
use crate::options::Options;
use crate::parameters::Parameters;

/// The shortest step of a timeline, in seconds.
const MIN_STEP: i64 = 15;
/// How many steps a timeline has, about, at most.
const STEPS: i64 = 1500;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as i64
}

/// The selection of a query in which the type stands before the selector, and of times.
pub(crate) fn selection(
    parameters: &Parameters,
    query: &str,
    from: &str,
    until: &str,
) -> Result<Selection, QueryError> {
    let text = parameters.text(query);
    let at = text.find('{').unwrap_or(text.len());
    let (id, selector) = text.split_at(at);
    let wrong =
        |error: QueryError| QueryError::Invalid(format!("failed to parse \"{query}\": {error}"));
    let time =
        |name: &str| parameters.some(name).map(|text| time::parse(name, text, now())).transpose();
    Ok(Selection {
        profile_type: Some(TypeId::parse(id.trim()).map_err(wrong)?),
        matchers: Matchers::parse(selector).map_err(wrong)?,
        from: time(from)?,
        until: time(until)?,
        ..Selection::default()
    })
}

/// The most nodes, by either name.
fn wanted_nodes(parameters: &Parameters) -> Result<usize, QueryError> {
    let nodes_ = parameters.number("maxNodes")?;
    let other = parameters.number("max-nodes")?;
    Ok(nodes(nodes_.or(other)))
}

/// `/pyroscope/render`
pub(super) fn render(options: &Options, parameters: &Parameters) -> Result<Answer, Failure> {
    let table = options.source.table(None)?;
    let selection = selection(parameters, "query", "from", "until")?;
    let nodes = wanted_nodes(parameters)?;
    let selected = or_empty(table.select(&selection))?.filter(|it| it.total != 0);
    let tree = selected.as_ref().map(|it| it.tree_by_name(nodes)).transpose()?;
    match parameters.text("format") {
        "" | "json" => {}
        "dot" => {
            let text = match (&selected, &tree) {
                (Some(selected), Some(tree)) => dot::write(&table, selected, tree),
                _ => dot::EMPTY.to_owned(),
            };
            return Ok(Answer::new("text/plain; charset=utf-8", text));
        }
        other => {
            let other: String = other.chars().take(50).collect();
            return Err(Failure::Unimplemented(format!("the format `{other}` is not json or dot")));
        }
    }
    let graph = tree.map_or_else(|| empty(1), |tree| flame_graph(&table, &tree));
    let average = match parameters.text("aggregation") {
        "" | "sum" => false,
        "avg" => true,
        other => return Err(crate::parameters::invalid("aggregation", other, "sum or avg").into()),
    };
    let group_by = parameters.all("groupBy");
    let whole = timelines(&table, &selection, &[], average)?;
    let groups = match group_by {
        [] => Value::Null,
        names => timelines(&table, &selection, names, average)?
            .into_iter()
            .collect::<serde_json::Map<String, Value>>()
            .into(),
    };
    let timeline = whole.into_values().next();
    let mut answer = envelope("single", &selection, &graph);
    answer["timeline"] = match timeline {
        Some(timeline) => timeline,
        None => zeros(&table, &selection),
    };
    answer["groups"] = groups;
    Ok(Answer::json(&answer))
}

/// `/pyroscope/render-diff`
pub(super) fn render_diff(options: &Options, parameters: &Parameters) -> Result<Answer, Failure> {
    let table = options.source.table(None)?;
    let left = selection(parameters, "leftQuery", "leftFrom", "leftUntil")?;
    let right = selection(parameters, "rightQuery", "rightFrom", "rightUntil")?;
    let graph = difference(&table, &left, &right, wanted_nodes(parameters)?)?;
    let mut answer = envelope("double", &left, &graph);
    answer["leftTicks"] = graph.left_ticks.into();
    answer["rightTicks"] = graph.right_ticks.into();
    Ok(Answer::json(&answer))
}

/// `/pyroscope/label-values`: the types for `__name__`, else the values of the label.
pub(super) fn label_values(options: &Options, parameters: &Parameters) -> Result<Answer, Failure> {
    let table = options.source.table(None)?;
    let values: Vec<String> = match parameters.text("label") {
        "" => return Err(QueryError::Invalid("label is required".to_owned()).into()),
        "__name__" => {
            let mut ids: Vec<String> =
                table.types().iter().map(|one| one.id.as_str().to_owned()).collect();
            ids.sort_unstable();
            ids
        }
        label => {
            let sets = table.label_sets(&[Selection::default()])?;
            let values = sets.into_iter().filter_map(|mut set| set.remove(label));
            values.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        }
    };
    Ok(Answer::json(&values))
}

/// What all pictures have.
fn envelope(format: &str, selection: &Selection, graph: &FlameGraph) -> Value {
    let levels: Vec<&[i64]> = graph.levels.iter().map(|level| level.values.as_slice()).collect();
    let parts = selection.profile_type.as_ref().map_or([""; 5], TypeId::parts);
    let [_, kind, unit, ..] = parts;
    // In the words of the page, which makes seconds of samples by their rate.
    let (units, rate) = match kind {
        "cpu" => ("samples", 1_000_000_000),
        "inuse_objects" | "alloc_objects" | "goroutine" | "samples" => ("objects", 100),
        _ => (unit, 100),
    };
    json!({
        "version": 1,
        "flamebearer": {
            "names": graph.names,
            "levels": levels,
            "numTicks": graph.total,
            "maxSelf": graph.max_self,
        },
        "metadata": {
            "format": format, "spyName": "", "sampleRate": rate, "units": units, "name": kind,
        },
        "timeline": null,
        "groups": null,
        "heatmap": null,
    })
}

/// The start, the step and the number of steps of a timeline, in seconds.
fn steps(table: &Table, selection: &Selection) -> (i64, i64, i64) {
    let time = table.select_type(selection).ok().and_then(|of| of.time).unwrap_or_default();
    let seconds = |millis: i64| millis.div_euclid(1000);
    let from = seconds(selection.from.unwrap_or(time.0 / 1_000_000));
    let until = seconds(selection.until.unwrap_or(time.1 / 1_000_000 + 999));
    let range = until.saturating_sub(from).max(0);
    let step = ((range + STEPS / 2) / STEPS).max(MIN_STEP);
    let start = from.div_euclid(step).saturating_mul(step);
    let count = until.saturating_sub(start).div_euclid(step).clamp(1, 2 * STEPS);
    (start, step, count)
}

fn zeros(table: &Table, selection: &Selection) -> Value {
    let (start, step, count) = steps(table, selection);
    timeline(start, step, vec![0; usize::try_from(count).unwrap_or(1)])
}

fn timeline(start: i64, step: i64, samples: Vec<i64>) -> Value {
    json!({ "startTime": start, "samples": samples, "durationDelta": step, "watermarks": null })
}

/// Timelines by the values of labels, with commas between; `*` for what has none of them.
fn timelines(
    table: &Table,
    selection: &Selection,
    group_by: &[String],
    is_average: bool,
) -> Result<BTreeMap<String, Value>, QueryError> {
    let (start, step, count) = steps(table, selection);
    let (from, millis) = (start.saturating_mul(1000), step.saturating_mul(1000));
    let of = Selection { from: Some(from), ..selection.clone() };
    let groups = or_empty(table.points(&of, group_by, from, millis))?;
    let mut timelines = BTreeMap::new();
    for (labels, sums) in groups.unwrap_or_default() {
        let mut samples = vec![0_i64; usize::try_from(count).unwrap_or(1)];
        let last = samples.len() - 1;
        for (time, (sum, profiles)) in sums {
            let at = (time / 1000).saturating_sub(start).div_euclid(step).max(0);
            let at = usize::try_from(at).unwrap_or(last).min(last);
            let value = if is_average { sum / i64::from(profiles.max(1)) } else { sum };
            if let Some(sample) = samples.get_mut(at) {
                *sample = sample.saturating_add(value);
            }
        }
        let values: Vec<String> = labels.into_values().collect();
        let key = if values.is_empty() { "*".to_owned() } else { values.join(", ") };
        timelines.insert(key, timeline(start, step, samples));
    }
    Ok(timelines)
}
