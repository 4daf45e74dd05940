//! Trees as Pyroscope writes them: levels of boxes (`FlameGraph`), two values a box (`FlameGraphDiff`), bytes
//! of a tree.
//!
//! A box is `[gap, total, self, name]`: the gap is what lies between it and the box before it in its level.
//! Children begin behind the weight of their parent itself, in the order of their names; what was folded
//! is `other`, the last one.

use profpipe_store::{Table, Tree};

use super::messages::{FlameGraph, Level};

/// What folded boxes are called.
const OTHER: &str = "other";

/// A node with its children in the order of their names, by number.
struct Named<'t, const N: usize> {
    name: &'t str,
    total: [i64; N],
    own: [i64; N],
    children: Vec<usize>,
}

/// The nodes of a tree with their children in the order of names; the first is the root.
fn by_name<'t, const N: usize>(table: &'t Table, tree: &Tree<N>) -> Vec<Named<'t, N>> {
    let mut nodes: Vec<Named<'t, N>> = Vec::with_capacity(tree.nodes.len());
    let mut open: Vec<usize> = Vec::new();
    for (at, node) in tree.nodes.iter().enumerate() {
        let name = match (node.function, node.folded) {
            (Some(function), _) => table.function_name(function).0,
            (None, 0) => "total",
            (None, _) => OTHER,
        };
        open.truncate(node.depth as usize);
        if let Some(parent) = open.last().and_then(|parent| nodes.get_mut(*parent)) {
            parent.children.push(at);
        }
        open.push(at);
        nodes.push(Named { name, total: node.total, own: node.own, children: Vec::new() });
    }
    let keys: Vec<(bool, &str)> =
        nodes.iter().zip(&tree.nodes).map(|(node, of)| (of.folded > 0, node.name)).collect();
    for node in &mut nodes {
        node.children.sort_by_key(|child| keys.get(*child).copied());
    }
    nodes
}

/// A tree as levels of boxes. `N` is 1, or 2 with the left one first.
pub(super) fn flame_graph<const N: usize>(table: &Table, tree: &Tree<N>) -> FlameGraph {
    let nodes = by_name(table, tree);
    let mut names: Vec<String> = Vec::new();
    let mut numbers = std::collections::HashMap::new();
    let mut levels: Vec<Vec<Vec<i64>>> = Vec::new();
    let mut max_self = 0;
    // The last child comes first: so are names numbered.
    let mut next: Vec<(usize, usize, [i64; N])> = vec![(0, 0, [0; N])];
    while let Some((at, level, start)) = next.pop() {
        let Some(node) = nodes.get(at) else { continue };
        let number = *numbers.entry(node.name).or_insert_with(|| {
            names.push(node.name.to_owned());
            names.len() - 1
        });
        max_self = node.own.iter().copied().fold(max_self, i64::max);
        let mut values: Vec<i64> = Vec::with_capacity(3 * N + 1);
        for ((start, total), own) in start.iter().zip(&node.total).zip(&node.own) {
            values.extend([*start, *total, *own]);
        }
        values.push(number as i64);
        if levels.len() == level {
            levels.push(Vec::new());
        }
        if let Some(boxes) = levels.get_mut(level) {
            boxes.push(values);
        }
        let mut begin: [i64; N] =
            std::array::from_fn(|side| start[side].saturating_add(node.own[side]));
        for child in &node.children {
            next.push((*child, level + 1, begin));
            if let Some(child) = nodes.get(*child) {
                begin = std::array::from_fn(|side| begin[side].saturating_add(child.total[side]));
            }
        }
    }
    let levels = levels.into_iter().map(gaps::<N>).collect();
    let total = tree.nodes.first().map_or([0; N], |root| root.total);
    let sum = total.iter().fold(0_i64, |sum, side| sum.saturating_add(*side));
    let ticks = if N == 1 { [0, 0] } else { [total[0], total[N - 1]] };
    FlameGraph { names, levels, total: sum, max_self, left_ticks: ticks[0], right_ticks: ticks[1] }
}

/// The boxes of a level, which come last first, with gaps instead of places.
fn gaps<const N: usize>(boxes: Vec<Vec<i64>>) -> Level {
    let mut ends = [0_i64; N];
    let mut values = Vec::with_capacity(boxes.len() * (3 * N + 1));
    for mut one in boxes.into_iter().rev() {
        for (end, side) in ends.iter_mut().zip(one.chunks_exact_mut(3)) {
            let start = side[0];
            side[0] = start.saturating_sub(*end);
            *end = start.saturating_add(side[1]);
        }
        values.extend(one);
    }
    Level { values }
}

/// A tree in Pyroscope's bytes: of each node, depth first and the last child first, the length of its name,
/// the name, its own weight, and how many children it has. The first is a root without a name.
pub(super) fn tree_bytes(table: &Table, tree: &Tree<1>) -> Vec<u8> {
    let nodes = by_name(table, tree);
    let mut bytes = Vec::new();
    let mut next = vec![0];
    while let Some(at) = next.pop() {
        let Some(node) = nodes.get(at) else { continue };
        let name = if at == 0 { "" } else { node.name };
        push_varint(&mut bytes, name.len() as u64);
        bytes.extend_from_slice(name.as_bytes());
        push_varint(&mut bytes, u64::try_from(node.own[0]).unwrap_or(0));
        push_varint(&mut bytes, node.children.len() as u64);
        next.extend(&node.children);
    }
    bytes
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
