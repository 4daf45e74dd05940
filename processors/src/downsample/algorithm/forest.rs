//! The call forest of some items: their paths from the root, in depth-first order.

use profpipe_profile::Dictionary;

use super::design::Item;
use super::frames::Kinds;

/// The path of each item from the root: its resource, then its frames.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// All counted from 1.
    steps: Vec<u32>,
    ends: Vec<u32>,
}

impl Paths {
    pub(super) fn of(dictionary: &Dictionary, kinds: &Kinds, items: &[Item]) -> Option<Self> {
        let stacks = items.iter().map(|item| dictionary.stacks.get(item.stack));
        let locations: usize = stacks.clone().map(|stack| stack.len() + 1).sum();
        let mut paths =
            Self { steps: Vec::with_capacity(locations), ends: Vec::with_capacity(items.len()) };
        for (item, stack) in items.iter().zip(stacks) {
            paths.steps.push(item.resource + 1);
            for location in stack.iter().rev() {
                paths.steps.extend(kinds.frames(*location).iter().map(|frame| frame + 1));
            }
            // Positions are 32 bits wide.
            paths.ends.push(u32::try_from(paths.steps.len()).ok()?);
        }
        Some(paths)
    }

    /// The frames of an item, root first, each counted from 1.
    pub(super) fn frames(&self, item: usize) -> &[u32] {
        let start = self.start(item) + 1;
        self.steps.get(start..self.ends[item] as usize).unwrap_or_default()
    }

    fn start(&self, item: usize) -> usize {
        if item == 0 { 0 } else { self.ends[item - 1] as usize }
    }
}

/// A node of the forest: a run of items in depth-first order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) weight: u128,
}

/// Items in depth-first order, and the nodes that weigh at least `least`. Of nodes with the same
/// items there is one. Within nodes lighter than `fine` the order is that of the items.
pub(super) fn in_order(
    paths: &Paths,
    items: &[Item],
    least: u128,
    fine: u128,
) -> (Vec<u32>, Vec<Node>) {
    // Where the next step of each item is: 0 behind the leaf, which no frame and no resource is.
    let step = |item: u32, depth: usize| {
        let at = paths.start(item as usize) + depth;
        if at < paths.ends[item as usize] as usize { paths.steps[at] } else { 0 }
    };
    let mut order: Vec<u32> = (0..items.len() as u32).collect();
    let weights: Vec<u64> = items.iter().map(|item| item.weight).collect();
    let mut nodes = Vec::new();
    let mut keyed: Vec<(u32, u32)> = Vec::new();
    let mut waiting = vec![(0_usize, items.len(), 0_usize)];
    while let Some((start, end, mut depth)) = waiting.pop() {
        let run = &mut order[start..end];
        let weight = run.iter().map(|item| u128::from(weights[*item as usize])).sum();
        if weight >= least {
            nodes.push(Node { start: start as u32, end: end as u32, weight });
        }
        let &mut [first, .., last] = run else { continue };
        if weight < fine {
            continue;
        }
        // All go the same way for a while.
        let ended = loop {
            let next = step(first, depth);
            if step(last, depth) != next || run.iter().any(|item| step(*item, depth) != next) {
                break false;
            }
            if next == 0 {
                break true;
            }
            depth += 1;
        };
        if ended {
            continue;
        }
        keyed.clear();
        keyed.extend(run.iter().map(|item| (step(*item, depth), *item)));
        // Stable: few different keys, and often in order already.
        keyed.sort_by_key(|(key, _)| *key);
        let mut begin = start;
        for group in keyed.chunk_by(|a, b| a.0 == b.0) {
            let next = begin + group.len();
            order[begin..next].iter_mut().zip(group).for_each(|(place, (_, item))| *place = *item);
            if group.len() > 1 || least > 0 {
                waiting.push((begin, next, depth + 1));
            }
            begin = next;
        }
    }
    (order, nodes)
}
