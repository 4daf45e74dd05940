//! The cube method: choosing at random so that given sums are met.
//!
//! Deville and Tillé (2004), in the fast form of Chauvet and Tillé (2006): chances are moved along
//! directions in which no balanced sum changes until all are 0 or 1. Every move is a fair game, so
//! the expectation of each choice is the chance that it began with. Two steps precede the general
//! one, both exact: items that count for the same sums settle between each other first (Tillé's
//! pivotal method), so that at most one of each kind is left.
//!
//! The flight is kept like a simplex tableau: the inverse of a basis of as many columns as there
//! are sums, so that an item costs the square of their number, not the cube.

use super::random::Random;

/// A chance this close to 0 or 1 is settled.
const SETTLED: f64 = 1e-11;
/// A number this close to 0 in a tableau is 0.
const ZERO: f64 = 1e-9;
/// The tableau is computed anew after so many changes.
const RENEW: usize = 256;

pub(super) fn is_settled(chance: f64) -> bool {
    !(SETTLED..=1.0 - SETTLED).contains(&chance)
}

/// Settles chances in place: afterwards all are 0 or 1. `columns` has for each item the set of sums
/// that it counts for, as bits; bit 0, the number of items, is in all. There are `sums` sums, the
/// most important first. The caller's order decides who settles with whom.
pub(super) fn settle(chances: &mut [f64], columns: &[u64], sums: usize, random: &mut Random) {
    let mut flight = Flight::new(sums);
    for item in 0..chances.len() {
        if !is_settled(chances[item]) {
            flight.enter(item, chances, columns, random);
        }
    }
    land(chances, columns, sums, random);
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

/// How far chances may move along a direction, forth and back, and one of the moves, chosen so that
/// the expectation stays.
fn step(moves: impl Iterator<Item = (f64, f64)>, random: &mut Random) -> f64 {
    let (mut forth, mut back) = (f64::INFINITY, f64::INFINITY);
    for (chance, along) in moves {
        if along > ZERO {
            forth = forth.min((1.0 - chance) / along);
            back = back.min(chance / along);
        } else if along < -ZERO {
            forth = forth.min(-chance / along);
            back = back.min((chance - 1.0) / along);
        }
    }
    if !forth.is_finite() || !back.is_finite() || forth + back <= 0.0 {
        return 0.0;
    }
    if random.unit() * (forth + back) < back { forth } else { -back }
}

fn moved(chance: f64, by: f64) -> f64 {
    let chance = chance + by;
    if chance < SETTLED {
        0.0
    } else if chance > 1.0 - SETTLED {
        1.0
    } else {
        chance
    }
}

/// The basis: for every sum an item or nothing, and the inverse of their columns.
struct Flight {
    sums: usize,
    basis: Vec<Option<usize>>,
    /// By column, so that a set of bits is a sum of contiguous columns.
    inverse: Vec<f64>,
    along: Vec<f64>,
    changes: usize,
}

impl Flight {
    fn new(sums: usize) -> Self {
        let mut inverse = vec![0.0; sums * sums];
        inverse.iter_mut().step_by(sums + 1).for_each(|place| *place = 1.0);
        Self { sums, basis: vec![None; sums], inverse, along: vec![0.0; sums], changes: 0 }
    }

    /// Lets an item take part until it is settled, or in the basis.
    fn enter(&mut self, item: usize, chances: &mut [f64], columns: &[u64], random: &mut Random) {
        self.express(columns[item]);
        loop {
            // A place of the basis whose item cannot move any more is free for the next.
            let stuck = |place: &Option<usize>| place.is_none_or(|held| is_settled(chances[held]));
            let free = (0..self.sums)
                .filter(|row| self.along[*row].abs() > ZERO && stuck(&self.basis[*row]))
                .max_by(|a, b| self.along[*a].abs().total_cmp(&self.along[*b].abs()));
            if let Some(row) = free {
                self.replace(row, item, columns);
                return;
            }
            let others = self.basis.iter().zip(&self.along).filter_map(|(held, along)| {
                held.filter(|_| along.abs() > ZERO).map(|held| (chances[held], -along))
            });
            let by = step(others.chain([(chances[item], 1.0)]), random);
            for (held, along) in self.basis.iter().zip(&self.along) {
                if let Some(held) = held
                    && along.abs() > ZERO
                {
                    chances[*held] = moved(chances[*held], -along * by);
                }
            }
            chances[item] = moved(chances[item], by);
            if by == 0.0 || is_settled(chances[item]) {
                return;
            }
        }
    }

    /// Writes a column as a combination of the basis, into `along`.
    fn express(&mut self, mut column: u64) {
        self.along.fill(0.0);
        while column != 0 {
            let at = column.trailing_zeros() as usize * self.sums;
            column &= column - 1;
            let part = &self.inverse[at..at + self.sums];
            self.along.iter_mut().zip(part).for_each(|(along, part)| *along += part);
        }
    }

    /// Puts an item, whose combination `along` is, into the basis.
    fn replace(&mut self, row: usize, item: usize, columns: &[u64]) {
        self.basis[row] = Some(item);
        self.changes += 1;
        if self.changes.is_multiple_of(RENEW) && self.renew(columns) {
            return;
        }
        let pivot = self.along[row];
        for column in self.inverse.chunks_exact_mut(self.sums) {
            let factor = column[row] / pivot;
            if factor == 0.0 {
                continue;
            }
            column.iter_mut().zip(&self.along).for_each(|(place, along)| *place -= factor * along);
            column[row] = factor;
        }
    }

    /// Computes the inverse from the basis, against the growth of rounding errors. False if that
    /// is not possible.
    fn renew(&mut self, columns: &[u64]) -> bool {
        let sums = self.sums;
        // Rows of [basis | identity], reduced until the left half is the identity. A place without
        // an item has the column that it began with.
        let width = 2 * sums;
        let mut rows = vec![0.0; sums * width];
        for (at, held) in self.basis.iter().enumerate() {
            let column = held.map_or(1 << at, |held| columns[held]);
            for row in 0..sums {
                rows[row * width + at] = (column >> row & 1) as f64;
            }
            rows[at * width + sums + at] = 1.0;
        }
        for at in 0..sums {
            let size = |row: &usize| rows[row * width + at].abs();
            let Some(best) = (at..sums).max_by(|a, b| size(a).total_cmp(&size(b))) else { break };
            if size(&best) < ZERO {
                return false;
            }
            for column in 0..width {
                rows.swap(at * width + column, best * width + column);
            }
            let pivot = rows[at * width + at];
            rows[at * width..(at + 1) * width].iter_mut().for_each(|place| *place /= pivot);
            let reduced = rows[at * width..(at + 1) * width].to_vec();
            for row in (0..sums).filter(|row| *row != at) {
                let row = &mut rows[row * width..(row + 1) * width];
                let factor = row[at];
                if factor != 0.0 {
                    row.iter_mut().zip(&reduced).for_each(|(place, by)| *place -= factor * by);
                }
            }
        }
        for row in 0..sums {
            for column in 0..sums {
                self.inverse[column * sums + row] = rows[row * width + sums + column];
            }
        }
        true
    }
}

/// Settles what the flight left, giving up the least important sums first, the first of all last.
fn land(chances: &mut [f64], columns: &[u64], sums: usize, random: &mut Random) {
    let mut open: Vec<usize> =
        (0..chances.len()).filter(|item| !is_settled(chances[*item])).collect();
    while !open.is_empty() {
        let direction = null_direction(&open, columns, sums);
        let moves = open.iter().zip(&direction).map(|(item, along)| (chances[*item], *along));
        let by = step(moves, random);
        for (item, along) in open.iter().zip(&direction) {
            chances[*item] = moved(chances[*item], along * by);
        }
        let before = open.len();
        open.retain(|item| !is_settled(chances[*item]));
        if open.len() == before
            && let Some(item) = open.pop()
        {
            // Only rounding errors lead here.
            chances[item] = if random.unit() < chances[item] { 1.0 } else { 0.0 };
        }
    }
}

/// A direction that keeps as many sums as possible, the most important first: rows are taken until
/// they leave one degree of freedom.
fn null_direction(open: &[usize], columns: &[u64], sums: usize) -> Vec<f64> {
    let width = open.len();
    let mut reduced: Vec<(usize, Vec<f64>)> = Vec::new();
    for sum in 0..sums {
        if reduced.len() + 1 >= width {
            break;
        }
        let mut row: Vec<f64> =
            open.iter().map(|item| (columns[*item] >> sum & 1) as f64).collect();
        for (pivot, other) in &reduced {
            let factor = row[*pivot];
            if factor != 0.0 {
                row.iter_mut().zip(other).for_each(|(place, by)| *place -= factor * by);
            }
        }
        let largest = (0..width).max_by(|a, b| row[*a].abs().total_cmp(&row[*b].abs()));
        let Some(pivot) = largest.filter(|at| row[*at].abs() > ZERO) else { continue };
        let size = row[pivot];
        row.iter_mut().for_each(|place| *place /= size);
        for (_, other) in &mut reduced {
            let factor = other[pivot];
            if factor != 0.0 {
                other.iter_mut().zip(&row).for_each(|(place, by)| *place -= factor * by);
            }
        }
        reduced.push((pivot, row));
    }
    let mut direction = vec![0.0; width];
    let is_free = |at: &usize| reduced.iter().all(|(pivot, _)| pivot != at);
    if let Some(free) = (0..width).rev().find(is_free) {
        direction[free] = 1.0;
        for (pivot, row) in &reduced {
            direction[*pivot] = -row[free];
        }
    }
    direction
}
