//! What else makes profiles smaller: thinning, the heaviest stacks alone, pruning small nodes.

use std::collections::{HashMap, HashSet};

use profpipe_profile::{Dictionary, StackIx};

use crate::answers::{Answers, Question, Trials, frames};

/// Random numbers, from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Prints the lines of the rivals, each with about `keep` stacks.
pub(crate) fn print(
    dictionary: &Dictionary,
    rows: &[(StackIx, u64)],
    answers: &Answers,
    keep: usize,
    factor: usize,
    count: usize,
) {
    // The weight of an event: rows count whole ones, and the lightest is one.
    let event = rows.iter().map(|(_, weight)| *weight).min().unwrap_or(1).max(1) as f64;
    let events: Vec<u32> =
        rows.iter().map(|(_, weight)| (*weight as f64 / event).round().max(1.0) as u32).collect();
    // So many events that as many stacks are left on average.
    let left = |p: f64| {
        let left = events.iter().map(|events| 1.0 - (1.0 - p).powi(*events as i32));
        left.sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if left(middle) < keep as f64 { low = middle } else { high = middle }
    }
    let thinned = crate::trials(count, |seed, trials| {
        let random = &mut Random(seed);
        let mut total = 0.0;
        let kept: Vec<(u32, f64)> = (0..)
            .zip(rows.iter().zip(&events))
            .filter_map(|(at, ((_, weight), events))| {
                let left = (0..*events).filter(|_| random.unit() < low).count();
                let value = *weight as f64 * left as f64 / f64::from(*events) / low;
                total += value;
                (left > 0).then_some((at, value))
            })
            .collect();
        trials.add(answers, &answers.estimate(kept.into_iter()), total);
    });
    crate::print(&format!("{factor}x thinning"), keep, &thinned, answers);
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_unstable_by_key(|at| std::cmp::Reverse(rows[*at as usize].1));
    let top = order.iter().take(keep).map(|at| (*at, rows[*at as usize].1 as f64));
    let mut once = Trials::default();
    let kept: f64 = top.clone().map(|(_, weight)| weight).sum();
    once.add(answers, &answers.estimate(top), kept);
    crate::print(&format!("{factor}x top-k"), keep, &once, answers);
    let (pruned, left) = prune(dictionary, rows, answers, keep);
    let mut once = Trials::default();
    once.add(answers, &pruned, answers.total as f64);
    crate::print(&format!("{factor}x min-node"), left, &once, answers);
}

/// The answers after nodes below some weight became "other", and how many stacks are left: at most
/// `keep`.
fn prune(
    dictionary: &Dictionary,
    rows: &[(StackIx, u64)],
    answers: &Answers,
    keep: usize,
) -> (Vec<f64>, usize) {
    let mut nodes: HashMap<(usize, String), usize> = HashMap::new();
    let mut weights: Vec<u64> = vec![0];
    let mut names: Vec<String> = vec![String::new()];
    let mut parents: Vec<usize> = vec![0];
    let paths: Vec<Vec<usize>> = rows
        .iter()
        .map(|(stack, weight)| {
            let mut node = 0;
            let path = frames(dictionary, *stack).into_iter().map(|name| {
                node = *nodes.entry((node, name.clone())).or_insert_with(|| {
                    weights.push(0);
                    names.push(name);
                    parents.push(node);
                    weights.len() - 1
                });
                weights[node] += weight;
                node
            });
            path.collect()
        })
        .collect();
    let cut = |path: &[usize], least: u64| {
        path.iter().take_while(|node| weights[**node] >= least).count()
    };
    let stacks = |least: u64| {
        let ends: HashSet<usize> = paths
            .iter()
            .map(|path| cut(path, least).checked_sub(1).map_or(0, |last| path[last]))
            .collect();
        ends.len()
    };
    let (mut low, mut high) = (1, answers.total);
    while low < high {
        let middle = low + (high - low) / 2;
        if stacks(middle) > keep { low = middle + 1 } else { high = middle }
    }
    let mut sums: HashMap<Question, f64> = HashMap::new();
    for (path, (_, weight)) in paths.iter().zip(rows) {
        let left = cut(path, low);
        let mut seen = HashSet::new();
        for node in &path[..left] {
            if seen.insert(&names[*node]) {
                *sums.entry(Question::Total(names[*node].clone())).or_default() += *weight as f64;
            }
        }
        if left == path.len()
            && let Some(node) = path.last()
        {
            *sums.entry(Question::Own(names[*node].clone())).or_default() += *weight as f64;
        }
    }
    let of = |question: &Question| match question {
        // A node of more than that stays as it is.
        Question::Node(path) => {
            let mut node = 0;
            for name in path {
                node = nodes.get(&(node, name.clone())).copied().unwrap_or(0);
            }
            if weights[node] >= low { weights[node] as f64 } else { 0.0 }
        }
        other => sums.get(other).copied().unwrap_or(0.0),
    };
    (answers.questions.iter().map(of).collect(), stacks(low))
}
