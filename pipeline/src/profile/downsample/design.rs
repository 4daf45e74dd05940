//! How one stratum is sampled: everything that does not depend on chance, made once; and a draw.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::profile::{Dictionary, StackIx};

use super::forest::{self, Paths};
use super::frames::Kinds;
use super::random::Random;
use super::threshold::Threshold;
use super::{balance, cube, rake, systematic};

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
    /// Whether the total can be kept although items of traces are kept by the trace's number alone.
    compensates: bool,
    /// The free light items, as positions in `order`, and their chances.
    light: Vec<u32>,
    chances: Vec<f64>,
    /// What each light item counts for, as a position in `patterns`.
    pattern_of: Vec<u32>,
    patterns: Vec<u64>,
    sums: usize,
}

impl Design {
    /// For keeping `keep` of the items, balanced on at most `balance` sums. `None` if there is
    /// nothing to drop, or weights are so large that what stands for several is no 63-bit number.
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
        let (traced, free) = if items.iter().all(|item| item.trace.is_none()) {
            (all, all)
        } else {
            // The free items are chosen to a fixed number, so their threshold is one of their own.
            let free = weights(|item| item.trace.is_none());
            let chance = |weight: &u64| match all.is_heavy(*weight) {
                true => 1.0,
                false => *weight as f64 / all.tau(),
            };
            let expected: f64 = free.iter().map(chance).sum();
            (all, Threshold::of(free, expected.round() as usize))
        };
        // Thrice, for calibration.
        let largest = i64::MAX as f64 / 4.0;
        if all.draws == 0 || all.tau().max(free.tau()) > largest {
            return None;
        }
        let kinds = Kinds::of(dictionary, items.iter().map(|item| item.stack));
        let paths = Paths::of(dictionary, &kinds, &items)?;
        let total: u128 = items.iter().map(|item| u128::from(item.weight)).sum();
        let least = (total / balance::HEAVY).max(1);
        let (order, nodes) = forest::in_order(&paths, &items, least);
        let is_light = |at: usize| {
            let item = &items[at];
            item.trace.is_none() && item.weight > 0 && !free.is_heavy(item.weight)
        };
        let most = balance.min(free.draws / 4);
        let (columns, sums) = if most > 1 {
            balance::columns(&items, &kinds, &paths, (&order, &nodes), is_light, most)
        } else {
            (vec![1; order.len()], 1)
        };
        let mut light = Vec::new();
        let mut chances = Vec::new();
        let mut patterns = Vec::new();
        let mut pattern_of = Vec::new();
        let mut known: HashMap<u64, u32, RandomState> = HashMap::default();
        let tau = free.tau();
        for (at, (item, column)) in order.iter().zip(columns).enumerate() {
            if !is_light(*item as usize) {
                continue;
            }
            light.push(at as u32);
            chances.push(items[*item as usize].weight as f64 / tau);
            pattern_of.push(*known.entry(column).or_insert_with(|| {
                patterns.push(column);
                patterns.len() as u32 - 1
            }));
        }
        let compensates = compensates(&items, traced, free);
        let design = Self {
            items,
            order,
            traced,
            free,
            compensates,
            light,
            chances,
            pattern_of,
            patterns,
            sums,
        };
        Some(design)
    }

    /// The weight that a light item that is kept stands for; the larger one if items of traces have
    /// another than others.
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
        let chosen = self.choose(random);
        let total = self.free.light.saturating_add_signed(surplus);
        let (values, calibrated) = self.values(&chosen, total, calibrate, random);
        let mut values = values.into_iter();
        let mut light = self.light.iter().zip(chosen).peekable();
        let mut traced = traced.into_iter();
        let mut kept = Vec::new();
        for (at, position) in self.order.iter().enumerate() {
            let item = self.items[*position as usize];
            let value = if light.peek().is_some_and(|(next, _)| **next == at as u32) {
                let chosen = light.next().is_some_and(|(_, chosen)| chosen);
                if chosen { values.next().unwrap_or(0) } else { 0 }
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

    /// Which of the free light items are chosen.
    fn choose(&self, random: &mut Random) -> Vec<bool> {
        if self.sums > 1
            && let Some(chosen) = self.choose_balanced(random)
        {
            return chosen;
        }
        let weight = |at: &u32| self.items[self.order[*at as usize] as usize].weight;
        let weights = self.light.iter().map(weight);
        systematic::choose(weights, self.free.light, self.free.draws, random)
    }

    fn choose_balanced(&self, random: &mut Random) -> Option<Vec<bool>> {
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
        let mut rest: Vec<u32> = waiting.into_iter().filter(|at| *at != u32::MAX).collect();
        rest.sort_unstable();
        let mut open: Vec<f64> = rest.iter().map(|at| chances[*at as usize]).collect();
        let pattern = |at: &u32| self.patterns[self.pattern_of[*at as usize] as usize];
        let columns: Vec<u64> = rest.iter().map(pattern).collect();
        cube::settle(&mut open, &columns, self.sums, random);
        for (at, chance) in rest.iter().zip(open) {
            chances[*at as usize] = chance;
        }
        let chosen: Vec<bool> = chances.iter().map(|chance| *chance > 0.5).collect();
        // Anything else is a tableau that lost its way.
        (chosen.iter().filter(|chosen| **chosen).count() == self.free.draws).then_some(chosen)
    }

    /// What the chosen items stand for, together `total`.
    fn values(
        &self,
        chosen: &[bool],
        total: u128,
        calibrate: bool,
        random: &mut Random,
    ) -> (Vec<u64>, bool) {
        let whole = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        let count = chosen.iter().filter(|chosen| **chosen).count();
        if calibrate && self.sums > 1 && total > 0 {
            let scale = total as f64 / self.free.light as f64;
            let mut aims = vec![0.0; self.sums];
            let mut found = vec![0.0; self.patterns.len()];
            for ((chance, pattern), chosen) in self.chances.iter().zip(&self.pattern_of).zip(chosen)
            {
                let mut column = self.patterns[*pattern as usize];
                while column != 0 {
                    aims[column.trailing_zeros() as usize] += chance * scale;
                    column &= column - 1;
                }
                found[*pattern as usize] += f64::from(u8::from(*chosen));
            }
            if let Some(factors) = rake::factors(&self.patterns, &found, &aims) {
                let tau = self.free.tau();
                let chosen = self.pattern_of.iter().zip(chosen).filter(|(_, chosen)| **chosen);
                let values: Vec<f64> =
                    chosen.map(|(pattern, _)| tau * factors[*pattern as usize]).collect();
                return (systematic::round(&values, Some(total), random), true);
            }
        }
        (systematic::share(total, count, random).map(whole).collect(), false)
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
