//! CPU profiles of V8, `.cpuprofile`: what `node --cpu-prof`, Chrome's tools and Deno write.
//!
//! A tree of calls, the numbers of the nodes that were on top when samples were taken, and the
//! microseconds between them. A sample stands for the time until the next one, as in Chrome's tools, and
//! becomes `wall` in nanoseconds; `(idle)`, `(program)` and `(garbage collector)` are frames like others,
//! `(root)` is left out. Without times, hits of nodes become `samples` in `count`.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use profpipe_profile::{LocationIx, Profiles};
use serde::Deserialize;

use crate::draft::{Draft, TooManyFrames};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is not JSON, or not of this form.
    #[error("cpuprofile: {0}")]
    Json(#[from] serde_json::Error),
    /// A node or a sample breaks a rule of the format.
    #[error("cpuprofile: {0}")]
    Malformed(String),
    /// The stacks have more frames than fit in memory.
    #[error("cpuprofile: {0}")]
    TooManyFrames(#[from] TooManyFrames),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(borrow)]
    nodes: Vec<Node<'a>>,
    #[serde(default)]
    start_time: f64,
    #[serde(default)]
    end_time: f64,
    #[serde(default)]
    samples: Vec<u64>,
    #[serde(default)]
    time_deltas: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    id: u64,
    #[serde(borrow)]
    call_frame: CallFrame<'a>,
    #[serde(default)]
    hit_count: i64,
    #[serde(default)]
    children: Vec<u64>,
    /// Chrome's traces have this instead of children.
    parent: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame<'a> {
    #[serde(default, borrow)]
    function_name: Cow<'a, str>,
    #[serde(default, borrow)]
    url: Cow<'a, str>,
    /// From 0; below that it is unknown.
    line_number: Option<i64>,
    column_number: Option<i64>,
}

/// Reads a file.
///
/// # Errors
/// If it is not of this format.
pub fn decode(json: &[u8]) -> Result<Profiles, DecodeError> {
    let file: File<'_> = serde_json::from_slice(json)?;
    let mut draft = Draft::new();
    let tree = Tree::of(&file.nodes, &mut draft)?;
    let mut stack = Vec::new();
    if file.samples.is_empty() || file.time_deltas.is_empty() {
        draft.begin("samples", "count", None);
        for node in file.nodes.iter().filter(|node| node.hit_count > 0) {
            tree.stack(node.id, &mut stack)?;
            draft.sample(&stack, node.hit_count)?;
        }
        return Ok(draft.finish());
    }
    if file.samples.len() != file.time_deltas.len() {
        let (samples, deltas) = (file.samples.len(), file.time_deltas.len());
        let what = format!("{samples} samples have {deltas} times");
        return Err(DecodeError::Malformed(what));
    }
    draft.begin("wall", "nanoseconds", None);
    let taken: f64 = file.time_deltas.iter().sum();
    let rest = (file.end_time - file.start_time - taken).max(0.0);
    let until_next = file.time_deltas.iter().skip(1).copied().chain([rest]);
    for (node, microseconds) in file.samples.iter().zip(until_next) {
        tree.stack(*node, &mut stack)?;
        // Samples are not always delivered in order; Chrome's tools count such a step as none.
        draft.sample(&stack, (microseconds.max(0.0) * 1e3) as i64)?;
    }
    // Microseconds of a clock that may have begun anywhere: only how long it took is of use.
    draft.profile().duration_nano = ((file.end_time - file.start_time).max(0.0) * 1e3) as u64;
    Ok(draft.finish())
}

/// Calls by who made them.
struct Tree {
    /// Where a node is, by its id.
    positions: HashMap<u64, usize, RandomState>,
    /// Of each node its place in the source, none for the root, and its caller.
    nodes: Vec<(Option<LocationIx>, Option<usize>)>,
}

impl Tree {
    fn of(nodes: &[Node<'_>], draft: &mut Draft) -> Result<Self, DecodeError> {
        let positions: HashMap<u64, usize, RandomState> =
            nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        let place = |node: &Node<'_>| {
            let frame = &node.call_frame;
            let name = match &*frame.function_name {
                "(root)" => return None,
                "" => "(anonymous)",
                name => name,
            };
            let from_one =
                |number: Option<i64>| number.map_or(0, |number| number.saturating_add(1));
            let (line, column) = (from_one(frame.line_number), from_one(frame.column_number));
            Some(draft.frame(name, &frame.url, line, column))
        };
        let places: Vec<_> = nodes.iter().map(place).collect();
        let find = |id: u64| {
            let found = positions.get(&id).copied();
            found.ok_or_else(|| DecodeError::Malformed(format!("there is no node {id}")))
        };
        let mut callers = vec![None; nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            if let (Some(parent), Some(caller)) = (node.parent, callers.get_mut(at)) {
                *caller = Some(find(parent)?);
            }
            for child in &node.children {
                if let Some(caller) = callers.get_mut(find(*child)?) {
                    *caller = Some(at);
                }
            }
        }
        Ok(Self { positions, nodes: places.into_iter().zip(callers).collect() })
    }

    /// The calls that led to a node, the last one first.
    fn stack(&self, id: u64, into: &mut Vec<LocationIx>) -> Result<(), DecodeError> {
        into.clear();
        let malformed = |what: String| DecodeError::Malformed(what);
        let first = self.positions.get(&id).copied();
        let mut at = Some(first.ok_or_else(|| malformed(format!("there is no node {id}")))?);
        for _ in 0..=self.nodes.len() {
            let Some((place, caller)) = at.and_then(|at| self.nodes.get(at)) else { return Ok(()) };
            into.extend(place);
            at = *caller;
        }
        Err(malformed(format!("the calls of node {id} lead back to it")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::decode;
    use crate::folded;
    use crate::report::collapse;

    /// A tree of (root) → main → work and (root) → (idle), with these fields beside it.
    fn file(fields: &str) -> Vec<u8> {
        let frame = |name: &str| {
            format!(
                r#""callFrame":{{"functionName":"{name}","scriptId":"1","url":"file:///a.js",
                "lineNumber":6,"columnNumber":-1}}"#
            )
        };
        format!(
            r#"{{"nodes":[{{"id":1,{},"hitCount":0,"children":[2,4]}},
            {{"id":2,{},"hitCount":1,"children":[3]}},{{"id":3,{},"hitCount":5}},
            {{"id":4,{},"hitCount":2}}]{fields}}}"#,
            frame("(root)"),
            frame("main"),
            frame(""),
            frame("(idle)")
        )
        .into_bytes()
    }

    fn read(fields: &str) -> (String, String) {
        let profiles = decode(&file(fields)).unwrap();
        let collapsed = collapse(&profiles, None).unwrap();
        let kind = format!("{}/{}", collapsed.profile_type, collapsed.unit);
        (folded::write(&collapsed), kind)
    }

    /// Scenario: samples with the time between them, out of order once; hits of nodes without times;
    /// callers instead of children, as in Chrome's traces.
    /// Guarantees: a sample stands for the time until the next, the last until the end.
    #[test]
    fn samples_and_hits() {
        let timed =
            r#","startTime":1000,"endTime":1100,"samples":[2,3,3,4],"timeDeltas":[5,10,20,30]"#;
        let (stacks, kind) = read(timed);
        assert_eq!(stacks, "(idle) 35000\nmain 10000\nmain;(anonymous) 50000\n");
        assert_eq!(kind, "wall/nanoseconds");
        let profiles = decode(&file(timed)).unwrap();
        let profile = &profiles.resources[0].scopes[0].profiles[0];
        assert_eq!(profile.duration_nano, 100_000);
        let location = profiles.dictionary.locations.iter().nth(1).unwrap();
        assert_eq!((location.lines[0].line, location.lines[0].column), (7, 0));

        let back = r#","startTime":0,"endTime":20,"samples":[2,3,4],"timeDeltas":[0,-3,20]"#;
        assert_eq!(read(back).0, "(idle) 3000\nmain;(anonymous) 20000\n");
        let (stacks, kind) = read("");
        assert_eq!(stacks, "(idle) 2\nmain 1\nmain;(anonymous) 5\n");
        assert_eq!(kind, "samples/count");
        let parents = br#"{"nodes":[{"id":1,"callFrame":{"functionName":"a"}},
            {"id":2,"callFrame":{"functionName":"b"},"parent":1,"hitCount":3}]}"#;
        let collapsed = collapse(&decode(parents).unwrap(), None).unwrap();
        assert_eq!(folded::write(&collapsed), "a;b 3\n");
    }

    /// Scenario: nodes that there are not, calls in a circle, lists of other lengths.
    /// Guarantees: an error of one line.
    #[test]
    fn malformed() {
        let circle = br#"{"nodes":[{"id":1,"callFrame":{},"children":[2]},
            {"id":2,"callFrame":{},"children":[1],"hitCount":1}]}"#;
        for (bytes, expected) in [
            (file(r#","samples":[9],"timeDeltas":[1]"#), "there is no node 9"),
            (file(r#","samples":[2,3],"timeDeltas":[1]"#), "2 samples have 1 times"),
            (circle.to_vec(), "lead back"),
            (
                br#"{"nodes":[{"id":1,"callFrame":{},"children":[7]}]}"#.to_vec(),
                "there is no node 7",
            ),
            (br#"{"nodes":[{"id":"x"}]}"#.to_vec(), "invalid type"),
        ] {
            let error = decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
