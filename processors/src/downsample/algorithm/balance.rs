//! Which sums a selection is balanced on: those of heavy functions and heavy nodes of the tree.
//!
//! There may be hundreds, and many are nearly the same, such as a function and the one that it is
//! mostly called by. So those are taken that leave least to chance: one after the other the sum
//! whose relative error would be largest, given those taken (a pivoted Cholesky decomposition of
//! the errors' covariance, were items chosen independently).

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::design::Item;
use super::forest::{Node, Paths};
use super::lanes;
use super::random::mixed;

/// A frame is heavy from this share of the total: one in a hundred.
pub(super) const HEAVY: u128 = 100;
/// How many sums are considered, the number of items included.
const CONSIDERED: usize = 64 * WORDS;
const WORDS: usize = 12;
/// Sums with a smaller relative error (standard deviation) than this are left to chance.
const ENOUGH: f64 = 0.002;
/// About how many patterns are looked at to find which sums are nearly the same.
const LOOKED_AT: usize = 2500;

/// A set of considered sums.
type Set = [u64; WORDS];

fn members(set: &Set) -> impl Iterator<Item = u16> {
    set.iter().enumerate().flat_map(|(word, bits)| {
        let mut bits = *bits;
        std::iter::from_fn(move || {
            let bit = (bits != 0).then(|| bits.trailing_zeros() as u16);
            bits &= bits.wrapping_sub(1);
            bit.map(|bit| word as u16 * 64 + bit)
        })
    })
}

fn put(set: &mut Set, sum: usize) {
    set[sum / 64] |= 1 << (sum % 64);
}

fn unite(all: &mut Set, other: &Set) {
    all.iter_mut().zip(other).for_each(|(all, other)| *all |= other);
}

/// What items count for: each for one of some patterns, sets of sums.
#[derive(Debug)]
pub(super) struct Columns {
    /// The pattern of each item, in depth-first order.
    pub(super) pattern_of: Vec<u32>,
    /// The considered sums of each pattern, ascending; 0, the number of items, is in all.
    pub(super) patterns: Vec<Vec<u16>>,
    /// The relative weight of each considered sum.
    shares: Vec<f64>,
}

impl Columns {
    /// The number of considered sums.
    pub(super) fn sums(&self) -> usize {
        self.shares.len()
    }

    /// What items count for if nothing but their number does.
    pub(super) fn of_number(items: usize) -> Self {
        Self { pattern_of: vec![0; items], patterns: vec![vec![0]], shares: vec![1.0] }
    }

    /// What items count for, of functions and nodes that weigh at least one in `HEAVY`.
    pub(super) fn of(
        items: &[Item],
        frame_count: usize,
        paths: &Paths,
        (order, nodes): (&[u32], &[Node]),
        is_light: impl Fn(usize) -> bool,
    ) -> Self {
        let total: f64 = items.iter().map(|item| item.weight as f64).sum();
        let sums = heavy_sums(items, frame_count, paths, (order, nodes), is_light, total);
        // The sum of each function, by its own weight and by total weight: 0 for most, which is in
        // every set anyway.
        let mut of_leaf = vec![0_usize; frame_count];
        let mut of_frame = of_leaf.clone();
        // Where sums of nodes begin and end.
        let mut turns: Vec<(u32, usize)> = Vec::new();
        for (at, (_, sum)) in (1..).zip(&sums) {
            match sum {
                Sum::Own(frame) => of_leaf[*frame as usize] = at,
                Sum::Total(frame) => of_frame[*frame as usize] = at,
                Sum::Node(node) => turns.extend([(node.start, at), (node.end, at)]),
            }
        }
        turns.sort_unstable();
        let mut known: HashMap<Set, u32, RandomState> = HashMap::default();
        let mut patterns: Vec<Vec<u16>> = Vec::new();
        let mut turns = turns.into_iter().peekable();
        let mut inside: Set = [0; WORDS];
        inside[0] = 1;
        // The sums of the frames so far, along the path of the last item: a set for every frame that
        // adds to it, and which set it is up to each frame.
        let mut last: &[u32] = &[];
        let mut sets: Vec<Set> = vec![[0; WORDS]];
        let mut so_far: Vec<u32> = vec![0];
        let mut pattern_of = Vec::with_capacity(order.len());
        for (at, item) in order.iter().enumerate() {
            while let Some((_, sum)) = turns.next_if(|(turn, _)| *turn as usize <= at) {
                inside[sum / 64] ^= 1 << (sum % 64);
            }
            let path = paths.frames(*item as usize);
            let same = last.iter().zip(path).take_while(|(a, b)| a == b).count();
            so_far.truncate(same + 1);
            sets.truncate(so_far.last().map_or(1, |set| *set as usize + 1));
            for frame in path.get(same..).unwrap_or_default() {
                let frame = *frame as usize - 1;
                if of_frame[frame] > 0 {
                    let mut next = sets.last().copied().unwrap_or_default();
                    put(&mut next, of_frame[frame]);
                    sets.push(next);
                }
                so_far.push(sets.len() as u32 - 1);
            }
            last = path;
            let mut set = inside;
            unite(&mut set, sets.last().unwrap_or(&[0; WORDS]));
            if let Some(frame) = path.last() {
                put(&mut set, of_leaf[*frame as usize - 1]);
            }
            pattern_of.push(*known.entry(set).or_insert_with(|| {
                patterns.push(members(&set).collect());
                patterns.len() as u32 - 1
            }));
        }
        let shares = std::iter::once(1.0).chain(sums.iter().map(|(weight, _)| weight / total));
        Self { pattern_of, patterns, shares: shares.collect() }
    }

    /// The sums to balance on, at most `most`, the most important first; the first is the number of
    /// items. `spread` is for each pattern the variance of its number of items, and `tau` the share
    /// of the total that an item stands for.
    pub(super) fn choose(&self, spread: &[f64], tau: f64, most: usize) -> Vec<u16> {
        let sums = self.sums();
        let step = self.patterns.len().div_ceil(LOOKED_AT).max(1);
        let mut looked_at: Vec<usize> = (0..self.patterns.len()).collect();
        looked_at.sort_unstable_by(|a, b| spread[*b].total_cmp(&spread[*a]));
        // The largest, and of the others some that stand for all.
        let (large, small) = looked_at.split_at(looked_at.len().min(LOOKED_AT / 2));
        let weighted = large
            .iter()
            .map(|at| (*at, 1.0))
            .chain(small.iter().step_by(step).map(|at| (*at, step as f64)));
        let looked_at: Vec<(&[u16], f64)> = weighted
            .map(|(at, times)| (self.patterns[at].as_slice(), times * spread[at]))
            .filter(|(_, spread)| *spread > 0.0)
            .collect();
        // Errors are relative to the sum.
        let scale = self.shares.iter().map(|share| tau / share).collect();
        let mut doubt = Doubt::new(&looked_at, scale);
        let mut chosen: Vec<u16> = Vec::new();
        while chosen.len() < most.min(sums) {
            let next = if chosen.is_empty() { Some(0) } else { doubt.largest() };
            let Some(next) = next else { break };
            chosen.push(doubt.sums[next]);
            doubt.settle(next);
            doubt.drop_certain();
        }
        chosen
    }
}

/// The sums that are not certain yet, and the decomposition of their errors' covariance so far.
/// Positions are those in `sums`.
struct Doubt {
    sums: Vec<u16>,
    /// By how much of its sum an item changes it.
    scale: Vec<f64>,
    /// The variance of each sum's error, given the sums that were settled.
    left: Vec<f64>,
    /// The sums of each pattern, and the variance of its number of items.
    patterns: Vec<(Vec<u16>, f64)>,
    /// The patterns of each sum.
    with: Vec<Vec<u32>>,
    /// Row by row of the decomposition, each with an entry for every sum.
    rows: Vec<Vec<f64>>,
}

impl Doubt {
    fn new(patterns: &[(&[u16], f64)], scale: Vec<f64>) -> Self {
        let mut with: Vec<Vec<u32>> = vec![Vec::new(); scale.len()];
        let mut left = vec![0.0; scale.len()];
        for (at, (pattern, spread)) in patterns.iter().enumerate() {
            for sum in *pattern {
                with[*sum as usize].push(at as u32);
                left[*sum as usize] += spread * scale[*sum as usize] * scale[*sum as usize];
            }
        }
        let sums = (0..scale.len() as u16).collect();
        let patterns = patterns.iter().map(|(sums, spread)| (sums.to_vec(), *spread)).collect();
        Self { sums, scale, left, patterns, with, rows: Vec::new() }
    }

    /// The sum that most is left to chance of, if it is too much.
    fn largest(&self) -> Option<usize> {
        let all = 0..self.sums.len();
        let largest = all.max_by(|a, b| self.left[*a].total_cmp(&self.left[*b]));
        largest.filter(|sum| self.left[*sum] > ENOUGH * ENOUGH)
    }

    /// Takes a sum for known.
    fn settle(&mut self, next: usize) {
        let scale_next = self.scale[next];
        let mut row = vec![0.0; self.sums.len()];
        for at in &self.with[next] {
            let (pattern, spread) = &self.patterns[*at as usize];
            for sum in pattern {
                row[*sum as usize] += spread;
            }
        }
        row.iter_mut().zip(&self.scale).for_each(|(place, scale)| *place *= scale * scale_next);
        for before in &self.rows {
            let factor = before[next];
            if factor.abs() > 1e-15 {
                lanes::take(&mut row, before, factor);
            }
        }
        let pivot = row[next].max(0.0).sqrt();
        if pivot > 0.0 {
            row.iter_mut().for_each(|place| *place /= pivot);
            for (left, place) in self.left.iter_mut().zip(&row) {
                *left = (*left - place * place).max(0.0);
            }
            self.rows.push(row);
        }
        self.left[next] = 0.0;
    }

    /// Forgets sums that will not be chosen any more, if they are many: they cost time.
    fn drop_certain(&mut self) {
        let stays: Vec<bool> = self.left.iter().map(|left| *left > ENOUGH * ENOUGH).collect();
        let count = stays.iter().filter(|stays| **stays).count();
        if count * 8 > stays.len() * 7 {
            return;
        }
        let mut number = vec![u16::MAX; stays.len()];
        let staying = (0..stays.len()).filter(|at| stays[*at]);
        staying.zip(0..).for_each(|(at, next)| number[at] = next);
        for (pattern, _) in &mut self.patterns {
            pattern.retain_mut(|sum| {
                *sum = number[*sum as usize];
                *sum != u16::MAX
            });
        }
        retain(&mut self.sums, &stays);
        retain(&mut self.scale, &stays);
        retain(&mut self.left, &stays);
        retain(&mut self.with, &stays);
        self.rows.iter_mut().for_each(|row| retain(row, &stays));
    }
}

fn retain<T>(list: &mut Vec<T>, stays: &[bool]) {
    let mut stays = stays.iter();
    list.retain(|_| stays.next().is_some_and(|stays| *stays));
}

/// What an item may count for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// The item's innermost function is this frame.
    Own(u32),
    /// This frame is on its stack.
    Total(u32),
    /// It is in this run of the depth-first order.
    Node(Node),
}

/// A function's weight, and a fingerprint of the items that it is in.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    weight: f64,
    print: u64,
    /// How often it is on the stack of the item that is looked at, and since which.
    on_stack: u32,
    since: u32,
}

/// The sums of functions and nodes that weigh at least one in `HEAVY`: functions by their own weight
/// first, then by total weight, then nodes. Of sums of the same items there is one, and no more than
/// are considered.
fn heavy_sums(
    items: &[Item],
    frame_count: usize,
    paths: &Paths,
    (order, nodes): (&[u32], &[Node]),
    is_light: impl Fn(usize) -> bool,
    total: f64,
) -> Vec<(f64, Sum)> {
    let least = total / HEAVY as f64;
    // Sets of light items are equal if sums of random numbers of theirs are.
    let print = |item: usize| if is_light(item) { mixed(item as u64) } else { 0 };
    let mut own = vec![Weight::default(); frame_count];
    let mut totals = own.clone();
    // What the items before each weigh, and their fingerprint.
    let (mut weights, mut prints) = (vec![0.0_f64], vec![0_u64]);
    let mut last: &[u32] = &[];
    for (at, item) in order.iter().map(|item| *item as usize).chain([usize::MAX]).enumerate() {
        let path = if item == usize::MAX { &[] } else { paths.frames(item) };
        let (weight, print) = match items.get(item) {
            Some(item_at) => (item_at.weight as f64, print(item)),
            None => (0.0, 0),
        };
        // Neighbours share most of their frames: a function counts for all items from the first
        // that it is on the stack of to the one that it is not.
        let same = last.iter().zip(path).take_while(|(a, b)| a == b).count();
        for frame in last.get(same..).unwrap_or_default() {
            let total = &mut totals[*frame as usize - 1];
            total.on_stack -= 1;
            if total.on_stack == 0 {
                let since = total.since as usize;
                total.weight += weights[at] - weights[since];
                total.print = total.print.wrapping_add(prints[at].wrapping_sub(prints[since]));
            }
        }
        for frame in path.get(same..).unwrap_or_default() {
            let total = &mut totals[*frame as usize - 1];
            if total.on_stack == 0 {
                total.since = at as u32;
            }
            total.on_stack += 1;
        }
        last = path;
        if let Some(frame) = path.last() {
            let own = &mut own[*frame as usize - 1];
            own.weight += weight;
            own.print = own.print.wrapping_add(print);
        }
        weights.push(weights[at] + weight);
        prints.push(prints[at].wrapping_add(print));
    }
    let all_items = prints.last().copied().unwrap_or(0);
    let of_functions = |weights: Vec<Weight>, sum: fn(u32) -> Sum| {
        let heavy = weights.into_iter().enumerate().filter(|(_, weight)| weight.weight >= least);
        heavy.map(|(at, weight)| (weight.weight, weight.print, sum(at as u32))).collect::<Vec<_>>()
    };
    let of_nodes = nodes.iter().map(|node| {
        let print = prints[node.end as usize].wrapping_sub(prints[node.start as usize]);
        (node.weight as f64, print, Sum::Node(*node))
    });
    let mut known: HashSet<u64, RandomState> = HashSet::default();
    // No item at all, and all of them.
    known.extend([0, all_items]);
    let classes =
        [of_functions(own, Sum::Own), of_functions(totals, Sum::Total), of_nodes.collect()];
    let mut sums = Vec::new();
    for mut class in classes {
        class.sort_by(|a, b| b.0.total_cmp(&a.0));
        let new = class.into_iter().filter(|(_, print, _)| known.insert(*print));
        sums.extend(new.map(|(weight, _, sum)| (weight, sum)));
    }
    sums.truncate(CONSIDERED - 1);
    sums
}
