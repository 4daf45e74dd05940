//! How one stratum is sampled: everything that does not depend on chance, made once; and a draw.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use profpipe_profile::{Dictionary, StackIx};

use super::balance::{self, Columns};
use super::forest::{self, Paths};
use super::frames::Kinds;
use super::random::Random;
use super::threshold::Threshold;
use super::{cube, rake, systematic};

/// How many sums are balanced, about.
const LIKELY: usize = 300;

/// What is kept or dropped as a whole: samples of the same stack, attributes and link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Which of the resources of the stratum it is of.
    pub resource: u32,
    /// Where the program was.
    pub stack: StackIx,
    /// Its weight, below 2⁶³.
    pub weight: u64,
    /// The randomness of the trace that it belongs to, if it does: see [`trace_randomness`].
    pub trace: Option<u64>,
}

/// The 56 bits of a trace id that decide whether a trace is sampled (OpenTelemetry's consistent
/// probability sampling: the last seven bytes), if there is a trace.
pub fn trace_randomness(trace_id: [u8; 16]) -> Option<u64> {
    let id = u128::from_be_bytes(trace_id);
    (id != 0).then_some(id as u64 & ((1 << 56) - 1))
}

/// The outcome of a draw.
#[derive(Debug, Clone, Default)]
pub struct Draw {
    /// The items that are kept, in depth-first order: position, and what each stands for now.
    pub kept: Vec<(u32, u64)>,
    /// Whether values were calibrated.
    pub calibrated: bool,
}

/// How items are sampled.
#[derive(Debug)]
pub struct Design {
    items: Vec<Item>,
    /// Items in depth-first order.
    order: Vec<u32>,
    /// The threshold for items of traces.
    traced: Threshold,
    /// The threshold for the others.
    free: Threshold,
    /// How many of the free light items may be kept.
    most: usize,
    /// Whether the total can be kept although items of traces are kept by the trace's number alone.
    compensates: bool,
    /// The free light items, as positions in `order`, and their chances.
    light: Vec<u32>,
    chances: Vec<f64>,
    /// What items count for of all sums that are considered.
    columns: Columns,
    /// What each light item counts for of the sums that are balanced, as a position in `patterns`.
    pattern_of: Vec<u32>,
    patterns: Vec<Vec<u16>>,
    sums: usize,
}

impl Design {
    /// For keeping at most `keep` of the items, balanced on at most `balance` sums. `None` if there
    /// is nothing to drop, or weights are so large that what stands for several is no 63-bit number.
    pub fn new(
        dictionary: &Dictionary,
        items: Vec<Item>,
        keep: usize,
        balance: usize,
    ) -> Option<Self> {
        let weights = |of: fn(&Item) -> bool| {
            items.iter().filter(|item| of(item)).map(|item| item.weight).collect::<Vec<u64>>()
        };
        let all = Threshold::of(weights(|_| true), keep);
        let keep_free = if items.iter().all(|item| item.trace.is_none()) {
            keep
        } else {
            // The free items are chosen to a fixed number, so their threshold is one of their own.
            let chance = |item: &Item| match all.is_heavy(item.weight) {
                true => 1.0,
                false => item.weight as f64 / all.tau(),
            };
            let free = items.iter().filter(|item| item.trace.is_none());
            free.map(chance).sum::<f64>().round() as usize
        };
        let free = Threshold::of(weights(|item| item.trace.is_none()), keep_free);
        if all.draws == 0 {
            return None;
        }
        let kinds = Kinds::of(dictionary, items.iter().map(|item| item.stack));
        let paths = Paths::of(dictionary, &kinds, &items)?;
        // At least a third is left to chance alone.
        let most = balance.min(free.draws * 2 / 3);
        // Items that are neither dropped nor kept whole, one for each sum, are more than their
        // chances make them: these are somewhat below a half on average. So the threshold becomes
        // higher than it would have to be, and more items are left to chance; how many sums there
        // will be is not known yet.
        let fewer = |sums: usize| if sums > 1 { sums * 3 / 5 } else { 0 };
        let with_fewer = |sums: usize| {
            let keep = keep_free.saturating_sub(fewer(sums)).max(1);
            (Threshold::of(weights(|item| item.trace.is_none()), keep), keep)
        };
        let (likely, _) = with_fewer(most.min(LIKELY));
        let is_light = |free: Threshold, at: usize| {
            let item = &items[at];
            item.trace.is_none() && item.weight > 0 && !free.is_heavy(item.weight)
        };
        let (order, columns, chosen) = if most > 1 {
            let total: u128 = items.iter().map(|item| u128::from(item.weight)).sum();
            let least = (total / balance::HEAVY).max(1);
            let fine = (4.0 * likely.tau()) as u128;
            let fine = fine.min(least);
            let (order, nodes) = forest::in_order(&paths, &items, least, fine);
            let in_doubt = |at| is_light(likely, at);
            let columns =
                Columns::of(&items, kinds.frame_count, &paths, (&order, &nodes), in_doubt);
            let tau = likely.tau();
            let mut spread = vec![0.0; columns.patterns.len()];
            for (item, pattern) in order.iter().zip(&columns.pattern_of) {
                if in_doubt(*item as usize) {
                    let chance = items[*item as usize].weight as f64 / tau;
                    spread[*pattern as usize] += chance * (1.0 - chance);
                }
            }
            let chosen = columns.choose(&spread, tau / total as f64, most);
            (order, columns, chosen)
        } else {
            let (order, _) = forest::in_order(&paths, &items, u128::MAX, free.tau() as u128);
            let columns = Columns::of_number(order.len());
            (order, columns, vec![0])
        };
        let heavy = |threshold: Threshold, keep: usize| keep - threshold.draws.min(keep);
        let (free, keep_then) = with_fewer(chosen.len());
        let most = keep_free - heavy(free, keep_then).min(keep_free);
        // Thrice, for calibration.
        let largest = i64::MAX as f64 / 4.0;
        if all.tau().max(free.tau()) > largest {
            return None;
        }
        let mut number = vec![u16::MAX; columns.sums()];
        for (at, sum) in chosen.iter().enumerate() {
            number[*sum as usize] = at as u16;
        }
        let mut patterns: Vec<Vec<u16>> = Vec::new();
        let mut known: HashMap<Vec<u16>, u32, RandomState> = HashMap::default();
        let reduced: Vec<u32> = columns
            .patterns
            .iter()
            .map(|pattern| {
                let numbers = pattern.iter().map(|sum| number[*sum as usize]);
                let mut pattern: Vec<u16> = numbers.filter(|at| *at != u16::MAX).collect();
                pattern.sort_unstable();
                *known.entry(pattern).or_insert_with_key(|pattern| {
                    patterns.push(pattern.clone());
                    patterns.len() as u32 - 1
                })
            })
            .collect();
        let (mut light, mut chances, mut pattern_of) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (item, pattern)) in order.iter().zip(&columns.pattern_of).enumerate() {
            if is_light(free, *item as usize) {
                light.push(at as u32);
                chances.push(items[*item as usize].weight as f64 / free.tau());
                pattern_of.push(reduced[*pattern as usize]);
            }
        }
        let compensates = compensates(&items, all, free);
        let sums = chosen.len();
        Some(Self {
            items,
            order,
            traced: all,
            free,
            most,
            compensates,
            light,
            chances,
            columns,
            pattern_of,
            patterns,
            sums,
        })
    }

    /// The most that a kept item stands for whose weight is smaller.
    pub fn tau(&self) -> f64 {
        self.traced.tau().max(self.free.tau())
    }

    /// The number of sums that are balanced, the number of items included.
    pub fn sums(&self) -> usize {
        self.sums
    }

    /// How items are chosen, as it is told in the profile.
    pub fn method(&self) -> &'static str {
        if self.sums > 1 { "varopt-cube" } else { "varopt-systematic" }
    }

    /// Chooses by this seed.
    pub fn draw(&self, calibrate: bool, seed: u64) -> Draw {
        let random = &mut Random::new(seed, 0);
        let (traced, surplus) = self.traced(random);
        let total = self.free.light.saturating_add_signed(surplus);
        let (values, calibrated) = self.free(total, calibrate, random);
        let mut light = self.light.iter().zip(values).peekable();
        let mut traced = traced.into_iter();
        let mut kept = Vec::new();
        for (at, position) in self.order.iter().enumerate() {
            let item = self.items[*position as usize];
            let value = if light.peek().is_some_and(|(next, _)| **next == at as u32) {
                light.next().map_or(0, |(_, value)| value)
            } else if item.trace.is_some() && !self.traced.is_heavy(item.weight) {
                traced.next().unwrap_or(0)
            } else {
                item.weight
            };
            if value > 0 {
                kept.push((*position, value));
            }
        }
        Draw { kept, calibrated }
    }

    /// What light items of traces stand for, in order: nothing if the trace's number says so. And
    /// how much of the total is thereby missing.
    fn traced(&self, random: &mut Random) -> (Vec<u64>, i128) {
        let tau = self.traced.tau();
        let light = self.order.iter().map(|position| &self.items[*position as usize]);
        let light: Vec<&Item> = light
            .filter(|item| item.trace.is_some() && !self.traced.is_heavy(item.weight))
            .collect();
        let is_kept = |item: &Item| {
            // Rejected below the threshold, as a trace with this chance would be.
            let rejected = (1.0 - item.weight as f64 / tau) * (1_u64 << 56) as f64;
            item.weight > 0 && item.trace.is_some_and(|number| number as f64 >= rejected)
        };
        let kept: Vec<bool> = light.iter().map(|item| is_kept(item)).collect();
        let count = kept.iter().filter(|kept| **kept).count();
        let mut values = systematic::round(&vec![tau; count], None, random).into_iter();
        let values: Vec<u64> = kept
            .into_iter()
            .map(|kept| if kept { values.next().unwrap_or(0) } else { 0 })
            .collect();
        let before: i128 = light.iter().map(|item| i128::from(item.weight)).sum();
        let after: i128 = values.iter().map(|value| i128::from(*value)).sum();
        (values, if self.compensates { before - after } else { 0 })
    }

    /// What the free light items stand for, together `total`; and whether that is calibrated.
    fn free(&self, total: u128, calibrate: bool, random: &mut Random) -> (Vec<u64>, bool) {
        if self.sums < 2 {
            let weight = |at: &u32| self.items[self.order[*at as usize] as usize].weight;
            let weights = self.light.iter().map(weight);
            let chosen = systematic::choose(weights, self.free.light, self.free.draws, random);
            let count = chosen.iter().filter(|chosen| **chosen).count();
            let mut shares = systematic::share(total, count, random);
            let mut value = || u64::try_from(shares.next().unwrap_or(0)).unwrap_or(u64::MAX);
            let values = chosen.into_iter().map(|chosen| if chosen { value() } else { 0 });
            return (values.collect(), false);
        }
        let mut shares = self.choose_balanced(random);
        let scale = if self.free.light > 0 { total as f64 / self.free.light as f64 } else { 0.0 };
        let factors = calibrate.then(|| self.factors(&shares, scale)).flatten();
        let one = self.free.tau() * scale;
        match &factors {
            Some(factors) => {
                let patterns = self.light.iter().map(|at| self.columns.pattern_of[*at as usize]);
                for (share, pattern) in shares.iter_mut().zip(patterns) {
                    *share *= self.free.tau() * factors[pattern as usize];
                }
            }
            None => shares.iter_mut().for_each(|share| *share *= one),
        }
        (systematic::round(&shares, Some(total), random), factors.is_some())
    }

    /// Which share of the threshold each free light item stands for: nothing or all, but for a few.
    fn choose_balanced(&self, random: &mut Random) -> Vec<f64> {
        let mut chances = self.chances.clone();
        let mut waiting = vec![u32::MAX; self.patterns.len()];
        for (at, pattern) in self.pattern_of.iter().enumerate() {
            let place = &mut waiting[*pattern as usize];
            let other = std::mem::replace(place, at as u32);
            if other == u32::MAX {
                continue;
            }
            let (first, second) = cube::duel(chances[other as usize], chances[at], random);
            (chances[other as usize], chances[at]) = (first, second);
            *place = if !cube::is_settled(second) {
                at as u32
            } else if !cube::is_settled(first) {
                other
            } else {
                u32::MAX
            };
        }
        let settled = chances.iter().filter(|chance| **chance >= 0.5).count();
        let mut rest: Vec<u32> = waiting.into_iter().filter(|at| *at != u32::MAX).collect();
        rest.sort_unstable();
        let mut open: Vec<f64> = rest.iter().map(|at| chances[*at as usize]).collect();
        let settled = settled - open.iter().filter(|chance| **chance >= 0.5).count();
        let pattern = |at: &u32| self.patterns[self.pattern_of[*at as usize] as usize].as_slice();
        let columns: Vec<&[u16]> = rest.iter().map(pattern).collect();
        let most = self.most.saturating_sub(settled);
        cube::settle(&mut open, &columns, self.sums, most, random);
        for (at, chance) in rest.iter().zip(open) {
            chances[*at as usize] = chance;
        }
        for chance in &mut chances {
            if cube::is_settled(*chance) {
                *chance = chance.round();
            }
        }
        self.unite_smallest(&mut chances, random);
        chances
    }

    /// Keeps no more than may be, whatever rounding errors did: of the two smallest shares one takes
    /// both, by a fair game.
    fn unite_smallest(&self, shares: &mut [f64], random: &mut Random) {
        let mut kept: Vec<usize> = (0..shares.len()).filter(|at| shares[*at] > 0.0).collect();
        while kept.len() > self.most.max(1) {
            kept.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]));
            let (Some(last), Some(other)) = (kept.pop(), kept.pop()) else { break };
            let sum = shares[last] + shares[other];
            let first = random.unit() * sum < shares[last];
            (shares[last], shares[other]) = if first { (sum, 0.0) } else { (0.0, sum) };
            kept.push(if first { last } else { other });
        }
    }

    /// Factors for each pattern of considered sums that make these exact.
    fn factors(&self, shares: &[f64], scale: f64) -> Option<Vec<f64>> {
        let mut aims = vec![0.0; self.columns.sums()];
        let mut found = vec![0.0; self.columns.patterns.len()];
        for ((at, chance), share) in self.light.iter().zip(&self.chances).zip(shares) {
            let pattern = self.columns.pattern_of[*at as usize] as usize;
            for sum in &self.columns.patterns[pattern] {
                aims[*sum as usize] += chance * scale;
            }
            found[pattern] += share;
        }
        rake::factors(&self.columns.patterns, &found, &aims)
    }
}

/// Whether what is missing of the total because items of traces were dropped can be spread over
/// others. It must never be more than they have, so this goes by the largest that it may be, and
/// does not depend on what was drawn: estimates stay unbiased.
fn compensates(items: &[Item], traced: Threshold, free: Threshold) -> bool {
    let tau = traced.tau();
    let mut deviations: HashMap<u64, f64, RandomState> = HashMap::default();
    for item in items.iter().filter(|item| !traced.is_heavy(item.weight)) {
        if let Some(trace) = item.trace {
            let weight = item.weight as f64;
            *deviations.entry(trace).or_default() += (weight * (tau - weight).max(0.0)).sqrt();
        }
    }
    let variance: f64 = deviations.values().map(|deviation| deviation * deviation).sum();
    8.0 * variance.sqrt() < free.light as f64
}
