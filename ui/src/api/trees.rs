//! Trees, as columns: names once, nodes by number.

use std::collections::HashMap;

use profpipe_store::{Loss, QueryError, Selected, Table, Tree, TreeOptions};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Question, hex};
use crate::answer::Answer;
use crate::parameters::invalid;

/// The most nodes of an answer.
const MAX_NODES: usize = 20_000;

/// A tree as it is sent.
#[derive(Debug, Serialize)]
pub(super) struct TreeAnswer {
    unit: String,
    total: i64,
    samples: i64,
    root: Value,
    names: Vec<String>,
    modules: Vec<String>,
    nodes: Columns,
    loss: Value,
}

#[derive(Debug, Default, Serialize)]
struct Columns {
    depth: Vec<u32>,
    start: Vec<i64>,
    total: Vec<i64>,
    #[serde(rename = "self")]
    own: Vec<i64>,
    /// Only of comparisons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    base: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    base_self: Vec<i64>,
    name: Vec<usize>,
    module: Vec<usize>,
    folded: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hash: Vec<String>,
}

/// Losses as they are sent.
pub(super) fn loss(of: &Loss) -> Value {
    json!({
        "complete": of.complete,
        "guessed": of.guessed,
        "truncated": of.truncated,
        "switched": of.switched,
        "broken": of.broken,
        "unnamed": of.unnamed,
        "lost": of.lost,
    })
}

/// Texts by number, each once.
#[derive(Default)]
struct Texts {
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Texts {
    fn number(&mut self, text: String) -> usize {
        let new = self.texts.len();
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            new
        })
    }
}

impl Question<'_> {
    /// How a tree is wanted.
    pub(super) fn tree_options(&self) -> Result<TreeOptions, QueryError> {
        let usual = TreeOptions::default();
        let root = self.parameters.some("root");
        let parse = |text: &str| {
            u64::from_str_radix(text, 16).map_err(|_| invalid("root", text, "a hash of 16 digits"))
        };
        Ok(TreeOptions {
            nodes: self.parameters.number("nodes")?.unwrap_or(usual.nodes).clamp(1, MAX_NODES),
            width: self.parameters.number("width")?.unwrap_or(usual.width),
            is_inverted: self.parameters.is_set("invert")?,
            root: root.map(parse).transpose()?,
            keeps_ties: false,
        })
    }

    /// Whether hashes of nodes are wanted: half of an answer, and not compressible.
    pub(super) fn wants_hashes(&self) -> bool {
        self.parameters.text("hash") != "0"
    }
}

/// `N` is 1, or 2 for a comparison, whose first value is the base.
pub(super) fn answer_of<const N: usize>(
    table: &Table,
    tree: &Tree<N>,
    selected: &Selected<'_>,
    has_hashes: bool,
) -> TreeAnswer {
    let (mut names, mut modules) = (Texts::default(), Texts::default());
    let mut columns = Columns::default();
    for node in &tree.nodes {
        let module = node.function.map_or("", |function| table.function_name(function).1);
        columns.depth.push(node.depth);
        columns.start.push(node.start);
        columns.total.push(node.total[N - 1]);
        columns.own.push(node.own[N - 1]);
        if N > 1 {
            columns.base.push(node.total[0]);
            columns.base_self.push(node.own[0]);
        }
        columns.name.push(names.number(tree.name(table, node)));
        columns.module.push(modules.number(module.to_owned()));
        columns.folded.push(node.folded);
        if has_hashes {
            // Folded nodes have none of their own.
            columns.hash.push(if node.folded > 0 { String::new() } else { hex(node.hash) });
        }
    }
    let path = tree.path.iter().map(|function| table.function_name(*function).0);
    let root = tree.nodes.first().map_or(0, |node| node.hash);
    TreeAnswer {
        unit: selected.unit().to_owned(),
        total: selected.total,
        samples: selected.samples,
        root: json!({ "hash": hex(root), "path": path.collect::<Vec<_>>() }),
        names: names.texts,
        modules: modules.texts,
        nodes: columns,
        loss: loss(&selected.loss),
    }
}

/// `api/tree`
pub(super) fn tree(question: &Question<'_>) -> Result<Answer, QueryError> {
    let options = question.tree_options()?;
    let selected = question.table.select(&question.parameters.selection()?)?;
    let tree = selected.tree(&options)?;
    let answer = answer_of(question.table, &tree, &selected, question.wants_hashes());
    Ok(Answer::json(&answer))
}

/// `api/sandwich`
pub(super) fn sandwich(question: &Question<'_>) -> Result<Answer, QueryError> {
    let Question { parameters, table, .. } = question;
    let Some(function) = parameters.some("function") else {
        return Err(invalid("function", "", "the name of a function"));
    };
    let selected = table.select(&parameters.selection()?)?;
    let module = parameters.some("module");
    let sandwich = selected.sandwich(function, module, &question.tree_options()?)?;
    // Hashes are of paths from the function on, which nothing takes.
    let side = |tree| answer_of(table, tree, &selected, false);
    Ok(Answer::json(&json!({
        "unit": selected.unit(),
        "total": selected.total,
        "self": sandwich.own,
        "function_total": sandwich.total,
        "callers": side(&sandwich.callers),
        "callees": side(&sandwich.callees),
    })))
}
