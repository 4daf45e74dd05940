//! Trees for drawing, made by one sweep over sorted stacks and pruned by what can be seen.
//!
//! The sweep keeps a stack of open nodes; a node's total is known when it closes. What is below the
//! threshold is never made: its weight goes into one folded node of its parent, so that sums stay. The
//! threshold is what half a pixel shows, or, if that leaves too many nodes, the size that leaves as many
//! as are wanted.

#[cfg(test)]
mod tests;

use crate::error::QueryError;
use crate::hash;
use crate::select::{Item, Selected};
use crate::table::Table;

/// How a tree is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeOptions {
    /// The most nodes, folded ones left aside.
    pub nodes: usize,
    /// How wide it is drawn, in pixels: what is narrower than half of one is folded. 0 folds nothing for
    /// that reason.
    pub width: u32,
    /// Leaves first: callers below what they call.
    pub is_inverted: bool,
    /// The node to start from, by the hash of its path.
    pub root: Option<u64>,
    /// Nodes as large as the smallest one that is wanted stay all, as in Pyroscope, however many they are;
    /// else none of them does if a tenth too many would.
    pub keeps_ties: bool,
}

/// How much a path weighs on each side, whatever the sign: what nodes are kept by. Of a comparison the
/// larger side counts.
type Gross<const N: usize> = [u64; N];

impl Default for TreeOptions {
    fn default() -> Self {
        Self { nodes: 8_000, width: 2_000, is_inverted: false, root: None, keeps_ties: false }
    }
}

/// A node of a tree. `N` values: one, or base and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node<const N: usize> {
    /// The function's number; none for the root and for folded nodes.
    pub function: Option<u32>,
    /// 0 for the root.
    pub depth: u32,
    /// Where it begins, in weights of the last value from the left of the root.
    pub start: i64,
    /// With all below.
    pub total: [i64; N],
    /// What is in none of its children.
    pub own: [i64; N],
    /// How many children of its parent this node stands for; 0 for a node of its own.
    pub folded: u32,
    /// The hash of its path; of a folded node, of its parent's.
    pub hash: u64,
}

/// A tree, depth first, children by their size, the folded one last.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree<const N: usize> {
    /// The nodes; the first is the root.
    pub nodes: Vec<Node<N>>,
    /// The functions from the root of everything to the root of this tree.
    pub path: Vec<u32>,
    /// What was folded is smaller than this share of the root.
    pub threshold: f64,
}

impl Selected<'_> {
    /// The tree of the selection.
    ///
    /// # Errors
    /// If there is no such root.
    pub fn tree(&self, options: &TreeOptions) -> Result<Tree<1>, QueryError> {
        grow(self.table, &self.items(options.is_inverted), options)
    }

    /// Two selections as one tree, by names as [`Self::tree_by_name`], the other one first.
    ///
    /// # Errors
    /// If it is too large.
    pub fn tree_against(&self, base: &Selected<'_>, nodes: usize) -> Result<Tree<2>, QueryError> {
        let mut sides: Vec<Item<'_, 2>> = Vec::new();
        sides.extend(base.items_by_name().into_iter().map(|(path, [value])| (path, [value, 0])));
        sides.extend(self.items_by_name().into_iter().map(|(path, [value])| (path, [0, value])));
        sides.sort_by(|a, b| a.0.cmp(&b.0));
        let nodes = if nodes == 0 { usize::MAX } else { nodes };
        grow(
            self.table,
            &sides,
            &TreeOptions { nodes, width: 0, keeps_ties: true, ..TreeOptions::default() },
        )
    }

    /// The tree of the selection with functions of one name as one, whatever their module. At most so many
    /// nodes; 0 for all.
    ///
    /// # Errors
    /// If it is too large.
    pub fn tree_by_name(&self, nodes: usize) -> Result<Tree<1>, QueryError> {
        let nodes = if nodes == 0 { usize::MAX } else { nodes };
        let options = TreeOptions { nodes, width: 0, keeps_ties: true, ..TreeOptions::default() };
        grow(self.table, &self.items_by_name(), &options)
    }
}

fn gross<const N: usize>(values: &[i64; N]) -> Gross<N> {
    values.map(i64::unsigned_abs)
}

fn add_gross<const N: usize>(sum: &mut Gross<N>, values: &Gross<N>) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = sum.saturating_add(*value);
    }
}

fn size<const N: usize>(gross: &Gross<N>) -> u64 {
    gross.iter().copied().max().unwrap_or(0)
}

/// Makes the tree of sorted items.
pub(crate) fn grow<const N: usize>(
    table: &Table,
    items: &[Item<'_, N>],
    options: &TreeOptions,
) -> Result<Tree<N>, QueryError> {
    let (path, items) = match options.root {
        None => (Vec::new(), items),
        Some(hash::ROOT) => (Vec::new(), items),
        Some(root) => below(table, items, root)?,
    };
    let skipped = path.len();
    let mut whole = [0; N];
    items.iter().for_each(|(_, values)| add_gross(&mut whole, &gross(values)));
    let whole = size(&whole);
    let visible = match options.width {
        0 => 1,
        width => (whole / (2 * u64::from(width))).max(1),
    };
    let threshold = threshold(items, skipped, visible, options);
    let mut growing = Growing { table, skipped, threshold, made: Vec::new() };
    let root_hash =
        path.iter().fold(hash::ROOT, |hash, at| hash::child(hash, table.function(*at).hash));
    let root = growing.grow(items, path.last().copied(), root_hash);
    let nodes = growing.flatten(root);
    let share = if whole == 0 { 0.0 } else { threshold as f64 / whole as f64 };
    Ok(Tree { nodes, path, threshold: share })
}

/// The size from which on nodes are kept: what can be seen, or that of the last one that is wanted.
fn threshold<const N: usize>(
    items: &[Item<'_, N>],
    skipped: usize,
    visible: u64,
    options: &TreeOptions,
) -> u64 {
    let wanted = options.nodes.max(1);
    let room = wanted.saturating_mul(4).max(1 << 16);
    let (mut sizes, mut least, mut has_more) = (Vec::new(), visible, false);
    sweep_sizes(items, skipped, |size| {
        if size < least {
            return;
        }
        sizes.push(size);
        if sizes.len() >= room {
            // Only the largest matter, however many there are.
            let (_, limit, _) = sizes.select_nth_unstable_by(wanted - 1, |a, b| b.cmp(a));
            least = *limit;
            sizes.truncate(wanted);
            has_more = true;
        }
    });
    if sizes.len() <= wanted && !has_more {
        return visible;
    }
    let (_, limit, _) = sizes.select_nth_unstable_by(wanted - 1, |a, b| b.cmp(a));
    let limit = *limit;
    // Which of those of one size would stay is chance: all of them do, or none.
    if !options.keeps_ties {
        let mut kept = 0_usize;
        sweep_sizes(items, skipped, |size| kept += usize::from(size >= limit));
        if kept > wanted.saturating_add(wanted / 10) {
            return limit.saturating_add(1);
        }
    }
    limit
}

/// The items below a node, and its path.
fn below<'s, 'i, const N: usize>(
    table: &Table,
    items: &'s [Item<'i, N>],
    root: u64,
) -> Result<(Vec<u32>, &'s [Item<'i, N>]), QueryError> {
    let mut open: Vec<(u32, u64)> = Vec::new();
    for (at, (path, _)) in items.iter().enumerate() {
        let common = open.iter().zip(path.iter()).take_while(|(open, new)| open.0 == **new).count();
        open.truncate(common);
        for function in path.iter().skip(common) {
            let parent = open.last().map_or(hash::ROOT, |open| open.1);
            let hash = hash::child(parent, table.function(*function).hash);
            open.push((*function, hash));
            if hash == root {
                let path: Vec<u32> = open.iter().map(|open| open.0).collect();
                let rest = items.get(at..).unwrap_or_default();
                let count = rest.iter().take_while(|item| item.0.starts_with(&path)).count();
                return Ok((path, rest.get(..count).unwrap_or_default()));
            }
        }
    }
    Err(QueryError::NotFound(format!("there is no path {root:016x} in the selection")))
}

/// Calls with the size of every node below the root.
fn sweep_sizes<const N: usize>(items: &[Item<'_, N>], skipped: usize, mut closed: impl FnMut(u64)) {
    let mut open: Vec<(u32, Gross<N>)> = Vec::new();
    let mut close = |open: &mut Vec<(u32, Gross<N>)>, to: usize| {
        while open.len() > to
            && let Some((_, of_node)) = open.pop()
        {
            closed(size(&of_node));
            if let Some(parent) = open.last_mut() {
                add_gross(&mut parent.1, &of_node);
            }
        }
    };
    for (path, values) in items {
        let path = path.get(skipped..).unwrap_or_default();
        let common = open.iter().zip(path).take_while(|(open, new)| open.0 == **new).count();
        close(&mut open, common);
        open.extend(path.iter().skip(common).map(|function| (*function, [0; N])));
        if let Some(leaf) = open.last_mut() {
            add_gross(&mut leaf.1, &gross(values));
        }
    }
    close(&mut open, 0);
}

/// A node with where its children are.
struct Made<const N: usize> {
    node: Node<N>,
    size: u64,
    children: Vec<u32>,
}

/// A node whose end is not reached.
struct Open<const N: usize> {
    node: Node<N>,
    gross: Gross<N>,
    children: Vec<u32>,
    folded: u32,
    of_folded: [i64; N],
}

impl<const N: usize> Open<N> {
    fn new(function: Option<u32>, hash: u64) -> Self {
        let node =
            Node { function, depth: 0, start: 0, total: [0; N], own: [0; N], folded: 0, hash };
        Self { node, gross: [0; N], children: Vec::new(), folded: 0, of_folded: [0; N] }
    }
}

fn add<const N: usize>(sum: &mut [i64; N], values: &[i64; N]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum = sum.saturating_add(*value);
    }
}

struct Growing<'t, const N: usize> {
    table: &'t Table,
    skipped: usize,
    threshold: u64,
    made: Vec<Made<N>>,
}

impl<const N: usize> Growing<'_, N> {
    /// Makes all nodes; returns the root's number.
    fn grow(&mut self, items: &[Item<'_, N>], function: Option<u32>, hash: u64) -> u32 {
        let mut open = vec![Open::new(function, hash)];
        for (path, values) in items {
            let path = path.get(self.skipped..).unwrap_or_default();
            let is_same = |(open, new): &(&Open<N>, &u32)| open.node.function == Some(**new);
            let common = open.iter().skip(1).zip(path).take_while(is_same).count();
            self.close(&mut open, common + 1);
            for function in path.iter().skip(common) {
                let parent = open.last().map_or(hash, |open| open.node.hash);
                let hash = hash::child(parent, self.table.function(*function).hash);
                open.push(Open::new(Some(*function), hash));
            }
            if let Some(leaf) = open.last_mut() {
                add(&mut leaf.node.own, values);
                add(&mut leaf.node.total, values);
                add_gross(&mut leaf.gross, &gross(values));
            }
        }
        self.close(&mut open, 1);
        let root = open.pop().unwrap_or_else(|| Open::new(function, hash));
        self.keep(root)
    }

    fn close(&mut self, open: &mut Vec<Open<N>>, to: usize) {
        while open.len() > to
            && let Some(closed) = open.pop()
        {
            let Some(parent) = open.last_mut() else { return };
            let total = closed.node.total;
            add(&mut parent.node.total, &total);
            add_gross(&mut parent.gross, &closed.gross);
            if size(&closed.gross) >= self.threshold {
                let number = self.keep(closed);
                parent.children.push(number);
            } else {
                parent.folded += 1;
                add(&mut parent.of_folded, &total);
            }
        }
    }

    fn keep(&mut self, open: Open<N>) -> u32 {
        let Open { node, gross, mut children, folded, of_folded } = open;
        let size = size(&gross);
        let name = |made: &Made<N>| made.node.function.map(|at| &self.table.function(at).name);
        children.sort_by(|a, b| {
            let (a, b) = (&self.made[*a as usize], &self.made[*b as usize]);
            let by_size = |of: &Made<N>| of.node.total[N - 1];
            by_size(b)
                .cmp(&by_size(a))
                .then(b.size.cmp(&a.size))
                .then_with(|| name(a).cmp(&name(b)))
        });
        if folded > 0 {
            let node = Node { function: None, total: of_folded, own: of_folded, folded, ..node };
            self.made.push(Made { node, size: 0, children: Vec::new() });
            children.push(self.made.len() as u32 - 1);
        }
        self.made.push(Made { node, size, children });
        self.made.len() as u32 - 1
    }

    /// The nodes from the root on, depth first, with their places.
    fn flatten(&self, root: u32) -> Vec<Node<N>> {
        let mut nodes = Vec::with_capacity(self.made.len());
        // Not by recursion: stacks are as deep as their senders want.
        let mut next = vec![(root, 0_u32, 0_i64)];
        while let Some((at, depth, start)) = next.pop() {
            let made = &self.made[at as usize];
            nodes.push(Node { depth, start, ..made.node });
            let mut begin = start;
            let first = next.len();
            for child in &made.children {
                next.push((*child, depth + 1, begin));
                let width = self.made[*child as usize].node.total[N - 1];
                begin = begin.saturating_add(width.max(0));
            }
            next[first..].reverse();
        }
        nodes
    }
}

impl<const N: usize> Tree<N> {
    /// What a node is called.
    pub fn name(&self, table: &Table, node: &Node<N>) -> String {
        match (node.function, node.folded) {
            (Some(function), _) => table.function(function).name.clone(),
            (None, 0) => "total".to_owned(),
            (None, 1) => format!("(1 function below {})", self.share()),
            (None, folded) => format!("({folded} functions below {})", self.share()),
        }
    }

    fn share(&self) -> String {
        let percent = self.threshold * 100.0;
        match percent {
            0.1.. => format!("{percent:.1} %"),
            0.001.. => format!("{percent:.3} %"),
            _ => format!("{percent:.0e} %"),
        }
    }
}

impl Table {
    /// The name and the module of a function of a tree.
    pub fn function_name(&self, number: u32) -> (&str, &str) {
        let function = self.function(number);
        (&function.name, &function.module)
    }
}
