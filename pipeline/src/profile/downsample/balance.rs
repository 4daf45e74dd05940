//! Which sums a selection is balanced on: those of heavy functions and heavy nodes of the tree.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::design::Item;
use super::forest::{Node, Paths};
use super::frames::Kinds;
use super::random::mixed;

/// Sums are sets of bits in one word.
pub(super) const MOST: usize = 64;
/// A frame is heavy from this share of the total: one in a hundred.
pub(super) const HEAVY: u128 = 100;

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

/// For every item the set of sums that it counts for, in depth-first order; and how many sums there
/// are. Sum 0 is the number of items. Items that are kept for sure, which `is_light` denies, are
/// never in doubt and count for none.
pub(super) fn columns(
    items: &[Item],
    kinds: &Kinds,
    paths: &Paths,
    (order, nodes): (&[u32], &[Node]),
    is_light: impl Fn(usize) -> bool,
    most: usize,
) -> (Vec<u64>, usize) {
    let total: u128 = items.iter().map(|item| u128::from(item.weight)).sum();
    let least = total / HEAVY;
    let sums = heavy_sums(items, kinds, paths, (order, nodes), &is_light, least, most);
    let mut of_kind = vec![0_u64; kinds.len() + 1];
    let mut of_leaf = vec![0_u64; kinds.frame_count];
    let mut of_frame = vec![0_u64; kinds.frame_count];
    for (at, sum) in sums.iter().enumerate() {
        let bit = 2_u64 << at;
        match sum {
            Sum::Own(frame) => of_leaf[*frame as usize] |= bit,
            Sum::Total(frame) => of_frame[*frame as usize] |= bit,
            Sum::Node(_) => {}
        }
    }
    for kind in 1..=kinds.len() as u32 {
        let frames = kinds.frames(kind).iter();
        of_kind[kind as usize] = frames.fold(0, |all, frame| all | of_frame[*frame as usize]);
    }
    let mut columns: Vec<u64> = order
        .iter()
        .map(|item| {
            let path = paths.kinds(*item as usize);
            let total = path.iter().fold(1, |all, kind| all | of_kind[*kind as usize]);
            let leaf = path.last().and_then(|kind| kinds.frames(*kind).last());
            total | leaf.map_or(0, |frame| of_leaf[*frame as usize])
        })
        .collect();
    for (at, sum) in sums.iter().enumerate() {
        if let Sum::Node(node) = sum {
            let run = &mut columns[node.start as usize..node.end as usize];
            run.iter_mut().for_each(|column| *column |= 2 << at);
        }
    }
    (columns, sums.len() + 1)
}

/// A function's weight, and a fingerprint of the items that it is in.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    weight: u128,
    print: u64,
    /// The item that was counted last, plus one.
    seen: u32,
}

/// The sums of functions and nodes that weigh at least `least`, at most `most` with the number of
/// items: functions by their own weight first, then by total weight, then nodes. Of sums of the
/// same items there is one.
fn heavy_sums(
    items: &[Item],
    kinds: &Kinds,
    paths: &Paths,
    (order, nodes): (&[u32], &[Node]),
    is_light: impl Fn(usize) -> bool,
    least: u128,
    most: usize,
) -> Vec<Sum> {
    // Sets of light items are equal if sums of random numbers of theirs are.
    let print = |item: usize| if is_light(item) { mixed(item as u64) } else { 0 };
    let mut own = vec![Weight::default(); kinds.frame_count];
    let mut totals = own.clone();
    for (at, item) in items.iter().enumerate() {
        let (weight, print) = (u128::from(item.weight), print(at));
        let path = paths.kinds(at);
        let add = |to: &mut Weight| {
            if to.seen != at as u32 + 1 {
                to.seen = at as u32 + 1;
                to.weight += weight;
                to.print = to.print.wrapping_add(print);
            }
        };
        for kind in path {
            kinds.frames(*kind).iter().for_each(|frame| add(&mut totals[*frame as usize]));
        }
        if let Some(frame) = path.last().and_then(|kind| kinds.frames(*kind).last()) {
            add(&mut own[*frame as usize]);
        }
    }
    let mut prints = Vec::with_capacity(order.len() + 1);
    prints.push(0_u64);
    let mut print_so_far = 0_u64;
    prints.extend(order.iter().map(|item| {
        print_so_far = print_so_far.wrapping_add(print(*item as usize));
        print_so_far
    }));
    let of_functions = |weights: Vec<Weight>, sum: fn(u32) -> Sum| {
        let heavy = weights.into_iter().enumerate().filter(|(_, weight)| weight.weight >= least);
        heavy.map(|(at, weight)| (weight.weight, weight.print, sum(at as u32))).collect::<Vec<_>>()
    };
    let of_nodes = nodes.iter().filter(|node| node.weight >= least).map(|node| {
        let print = prints[node.end as usize].wrapping_sub(prints[node.start as usize]);
        (node.weight, print, Sum::Node(*node))
    });
    let mut known: HashSet<u64, RandomState> = HashSet::default();
    // No item at all, and all of them.
    known.extend([0, print_so_far]);
    let classes =
        [of_functions(own, Sum::Own), of_functions(totals, Sum::Total), of_nodes.collect()];
    let mut sums = Vec::new();
    for mut class in classes {
        class.sort_by(|a, b| b.0.cmp(&a.0));
        sums.extend(class.into_iter().filter(|(_, print, _)| known.insert(*print)));
    }
    sums.truncate(most.min(MOST).saturating_sub(1));
    sums.into_iter().map(|(_, _, sum)| sum).collect()
}
