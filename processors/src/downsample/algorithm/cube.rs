//! The cube method: choosing at random so that given sums are met.
//!
//! Deville and Tillé (2004), in the fast form of Chauvet and Tillé (2006): chances are moved along
//! directions in which no balanced sum changes until most are 0 or 1. Every move is a fair game, so
//! the expectation of each chance is what it began with. Three things differ:
//! - There is no landing. What is neither 0 nor 1 in the end, at most one item for each sum, is kept
//!   with that share of its weight: sums are met exactly, and not to one item. Only if too many are
//!   left, sums are given up, the least important first.
//! - The flight is kept like a simplex tableau, the inverse of a basis with a column for each sum:
//!   an item costs the square of their number, not the cube.
//! - Neighbours settle among themselves first, in blocks. Seen from within a block most sums are the
//!   same, so that few items of it are left.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::lanes::{self, NOISE};
use super::random::{Random, mixed};

/// A chance this close to 0 or 1 is settled.
const SETTLED: f64 = 1e-11;
/// A number this close to 0 in a tableau is 0: real ones are fractions of small numbers, and a pivot
/// on a rounding error would spoil the tableau.
const ZERO: f64 = 1e-4;
/// A column is sparse if more than this times what is not 0 in it would find room.
const SPARSE: usize = 6;
/// The size of the first blocks.
const BLOCK: usize = 96;

pub(super) fn is_settled(chance: f64) -> bool {
    !(SETTLED..=1.0 - SETTLED).contains(&chance)
}

/// Settles chances in place: afterwards all are 0 or 1, but for at most one for each sum. The
/// column of an item are the sums that it counts for, ascending; 0, the number of items, is in all.
/// There are `sums` sums, the most important first; some are given up until at most `most` chances
/// are not 0. The caller's order decides who settles with whom.
pub(super) fn settle(
    chances: &mut [f64],
    columns: &[&[u16]],
    sums: usize,
    most: usize,
    random: &mut Random,
) {
    let mut open: Vec<u32> = (0..chances.len() as u32).collect();
    open.retain(|item| !is_settled(chances[*item as usize]));
    let mut size = BLOCK;
    let mut numbers = Numbers::new(sums);
    while open.len() > size {
        let before = open.len();
        for block in open.chunks(size) {
            let (local, count) = numbers.local(block, columns);
            if count < block.len() {
                let mut flight = Flight::new(count);
                for (at, item) in block.iter().enumerate() {
                    flight.enter(*item, local.get(at), chances, random);
                }
            }
        }
        open.retain(|item| !is_settled(chances[*item as usize]));
        size = if open.len() * 4 < before * 3 { size * 3 / 2 } else { size * 3 };
    }
    let mut flight = Flight::new(sums);
    for item in &open {
        flight.enter(*item, columns[*item as usize], chances, random);
    }
    let mut left = chances.iter().filter(|chance| **chance > 0.0).count();
    for sum in (1..sums).rev() {
        if left <= most {
            break;
        }
        left -= flight.release(sum, chances, random);
    }
    // Sums that depend on each other may leave more than they should.
    let mut carried: Option<usize> = None;
    for item in 0..chances.len() {
        if left <= most {
            break;
        }
        if is_settled(chances[item]) {
            continue;
        }
        if let Some(other) = carried {
            (chances[other], chances[item]) = duel(chances[other], chances[item], random);
            left -= usize::from(chances[other] == 0.0) + usize::from(chances[item] == 0.0);
        }
        let open = carried.into_iter().chain([item]).find(|item| !is_settled(chances[*item]));
        carried = open;
    }
}

/// One pivotal step: settles one of two chances, their sum and expectations unchanged. Returns the
/// new chances.
pub(super) fn duel(first: f64, second: f64, random: &mut Random) -> (f64, f64) {
    let sum = first + second;
    if sum < 1.0 {
        if random.unit() * sum < first { (sum, 0.0) } else { (0.0, sum) }
    } else if random.unit() * (2.0 - sum) < 1.0 - second {
        (1.0, sum - 1.0)
    } else {
        (sum - 1.0, 1.0)
    }
}

/// The sums of a block of items under numbers of their own.
struct Numbers {
    counts: Vec<u32>,
    prints: Vec<u64>,
    number: Vec<u16>,
}

/// Columns of the items of a block.
#[derive(Default)]
struct Local {
    sums: Vec<u16>,
    ends: Vec<u32>,
}

impl Local {
    fn get(&self, at: usize) -> &[u16] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.sums[start..self.ends[at] as usize]
    }
}

impl Numbers {
    fn new(sums: usize) -> Self {
        Self { counts: vec![0; sums], prints: vec![0; sums], number: vec![0; sums] }
    }

    /// The columns of a block and the number of its sums: those that differ within it. Sums of the
    /// same items are one.
    fn local(&mut self, block: &[u32], columns: &[&[u16]]) -> (Local, usize) {
        self.counts.fill(0);
        self.prints.fill(0);
        for item in block {
            let print = mixed(u64::from(*item));
            for sum in columns[*item as usize] {
                self.counts[*sum as usize] += 1;
                self.prints[*sum as usize] = self.prints[*sum as usize].wrapping_add(print);
            }
        }
        let mut known: HashMap<u64, u16, RandomState> = HashMap::default();
        for sum in 0..self.counts.len() {
            let differs = self.counts[sum] > 0 && self.counts[sum] < block.len() as u32;
            let next = known.len() as u16 + 1;
            let mut is_new = false;
            self.number[sum] = if differs {
                *known.entry(self.prints[sum]).or_insert_with(|| {
                    is_new = true;
                    next
                })
            } else {
                0
            };
            if differs && !is_new {
                // Another sum stands for it.
                self.number[sum] = 0;
            }
        }
        let mut local = Local::default();
        for item in block {
            local.sums.push(0);
            let numbers = columns[*item as usize].iter().map(|sum| self.number[*sum as usize]);
            local.sums.extend(numbers.filter(|number| *number > 0));
            local.ends.push(local.sums.len() as u32);
        }
        (local, known.len() + 1)
    }
}

/// What holds a place of the basis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Nothing yet: an item may take it.
    Free,
    /// The sum is given up: it may be anything.
    Released,
    Item(u32),
}

/// The basis: for every sum an item or nothing, and the inverse of their columns.
struct Flight {
    sums: usize,
    basis: Vec<Held>,
    /// By column, so that a set of sums is a sum of contiguous columns.
    inverse: Vec<f64>,
    /// A column as a combination of the basis, and where it is not 0.
    along: Vec<f64>,
    places: Vec<u32>,
}

impl Flight {
    fn new(sums: usize) -> Self {
        let mut inverse = vec![0.0; sums * sums];
        inverse.iter_mut().step_by(sums + 1).for_each(|place| *place = 1.0);
        let basis = vec![Held::Free; sums];
        Self { sums, basis, inverse, along: vec![0.0; sums], places: Vec::with_capacity(sums) }
    }

    /// Lets an item take part until it is settled, or in the basis.
    fn enter(&mut self, item: u32, column: &[u16], chances: &mut [f64], random: &mut Random) {
        self.express(column);
        loop {
            // A place of the basis whose item cannot move any more is free for the next.
            if let Some(row) = self.stuck(chances, true) {
                self.replace(row, Held::Item(item));
                return;
            }
            let by = self.step(Some(item), chances, random);
            if by == 0.0 || is_settled(chances[item as usize]) {
                return;
            }
        }
    }

    /// Gives up a sum: lets it change until an item is settled. Returns how many chances became 0.
    fn release(&mut self, sum: usize, chances: &mut [f64], random: &mut Random) -> usize {
        self.express(&[sum as u16]);
        let zeros = |chances: &[f64], flight: &Self| {
            let items = flight.basis.iter().filter_map(|held| match held {
                Held::Item(item) => Some(*item as usize),
                _ => None,
            });
            items.filter(|item| chances[*item] == 0.0).count()
        };
        let before = zeros(chances, self);
        if self.stuck(chances, false).is_none() {
            self.step(None, chances, random);
        }
        let more = zeros(chances, self) - before;
        if let Some(row) = self.stuck(chances, false) {
            self.replace(row, Held::Released);
        }
        more
    }

    /// The place, of those that the column needs, that is free or whose item is settled. The one
    /// with the largest number there keeps rounding errors smallest; but free places are filled in
    /// order, so that those left in the end are of the least important sums.
    fn stuck(&self, chances: &[f64], free: bool) -> Option<usize> {
        let rows = self.places.iter().map(|row| *row as usize);
        let size = |row: usize| self.along[row].abs();
        if free {
            let is_free = |row: &usize| self.basis[*row] == Held::Free && size(*row) > 0.05;
            if let Some(first) = rows.clone().find(is_free) {
                return Some(first);
            }
        }
        let stuck = |row: &usize| match self.basis[*row] {
            Held::Free => free,
            Held::Released => false,
            Held::Item(item) => is_settled(chances[item as usize]),
        };
        rows.filter(stuck).max_by(|a, b| size(*a).total_cmp(&size(*b)))
    }

    /// Moves chances along the column, forth or back, so far that one is settled, and so that the
    /// expectation stays. Returns how far.
    fn step(&self, entering: Option<u32>, chances: &mut [f64], random: &mut Random) -> f64 {
        let moves = self.places.iter().filter_map(|row| match self.basis[*row as usize] {
            Held::Item(item) => Some((item as usize, -self.along[*row as usize])),
            _ => None,
        });
        let moves = moves.chain(entering.map(|item| (item as usize, 1.0)));
        let (mut forth, mut back) = (f64::INFINITY, f64::INFINITY);
        for (item, along) in moves.clone() {
            let (up, down) = ((1.0 - chances[item]) / along, -chances[item] / along);
            forth = forth.min(if along > 0.0 { up } else { down });
            back = back.min(if along > 0.0 { -down } else { -up });
        }
        if !forth.is_finite() || !back.is_finite() || forth + back <= 0.0 {
            return 0.0;
        }
        let by = if random.unit() * (forth + back) < back { forth } else { -back };
        for (item, along) in moves {
            let chance = chances[item] + along * by;
            chances[item] = if chance < SETTLED {
                0.0
            } else if chance > 1.0 - SETTLED {
                1.0
            } else {
                chance
            };
        }
        by
    }

    /// Writes a column as a combination of the basis, into `along`.
    fn express(&mut self, column: &[u16]) {
        self.along.fill(0.0);
        for sum in column {
            let at = *sum as usize * self.sums;
            lanes::add(&mut self.along, &self.inverse[at..at + self.sums]);
        }
        self.places.clear();
        for (place, along) in (0..).zip(&mut self.along) {
            if along.abs() > ZERO {
                self.places.push(place);
            } else {
                *along = 0.0;
            }
        }
    }

    /// Puts the column that `along` stands for into the basis.
    fn replace(&mut self, row: usize, held: Held) {
        self.basis[row] = held;
        let Self { sums, inverse, along, places, .. } = self;
        let pivot = along[row];
        // Most of a column is often 0; if not, all of it at once is faster.
        let is_sparse = places.len() * SPARSE < *sums;
        for column in inverse.chunks_exact_mut(*sums) {
            let factor = column[row] / pivot;
            if factor.abs() < NOISE {
                column[row] = 0.0;
                continue;
            }
            if is_sparse {
                for at in places.iter().map(|place| *place as usize) {
                    let left = column[at] - factor * along[at];
                    column[at] = if left.abs() < NOISE { 0.0 } else { left };
                }
            } else {
                lanes::take_cleanly(column, along, factor);
            }
            column[row] = factor;
        }
    }
}
