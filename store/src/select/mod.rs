//! What is selected, and what a selection adds up to.

mod change;
mod filter;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use profpipe_profile::attribute_names::WAIT;
use regex::Regex;

pub(crate) use filter::Filter;

use crate::error::QueryError;
use crate::matcher::{Matcher, Matchers, Operation, regex};
use crate::table::{Labels, Paths, ProfileType, Sampling, Table, TypeId};

/// What is asked for. The default is everything of the default type.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The profile type; none for the default one.
    pub profile_type: Option<TypeId>,
    /// Conditions on labels.
    pub matchers: Matchers,
    /// The first time, in milliseconds since the Unix epoch; none for no limit. Samples whose time is not
    /// known are always selected. Where samples have no times of their own, that of their profile's start
    /// counts.
    pub from: Option<i64>,
    /// The last time, likewise; it is within the selection.
    pub until: Option<i64>,
    /// Only stacks with a function that this matches.
    pub focus: Option<Regex>,
    /// Functions that are taken out of the stacks.
    pub hide: Option<Regex>,
    /// A function that calls itself becomes one.
    pub folds_recursion: bool,
    /// Functions of one library that call each other become one, which is called as the library is.
    pub folds_libraries: bool,
    /// Only these files, by number.
    pub files: Option<Vec<u32>>,
    /// Only stacks that begin so, by names of functions, root first.
    pub call_site: Vec<String>,
    /// Only samples of these spans.
    pub spans: Vec<[u8; 8]>,
}

impl Selection {
    /// Leaves only threads that waited for something, as `lock` or `read`.
    pub fn wait(&mut self, wait: &str) {
        let operation = Operation::Equal(wait.to_owned());
        let name = profpipe_formats::pyroscope::label_name(WAIT);
        self.matchers.0.push(Matcher { name, operation });
    }

    /// Sets [`Self::focus`] from a text; an empty one is none.
    ///
    /// # Errors
    /// If it is not a regular expression.
    pub fn focus(&mut self, text: &str) -> Result<(), QueryError> {
        self.focus = if text.is_empty() { None } else { Some(regex(text, "focus")?) };
        Ok(())
    }

    /// Sets [`Self::hide`] from a text; an empty one is none.
    ///
    /// # Errors
    /// If it is not a regular expression.
    pub fn hide(&mut self, text: &str) -> Result<(), QueryError> {
        self.hide = if text.is_empty() { None } else { Some(regex(text, "hide")?) };
        Ok(())
    }
}

/// How much of a selection is not all that it could be, as weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Stacks that reach their root.
    pub complete: i64,
    /// Those that do along frame pointers, without rules.
    pub guessed: i64,
    /// Those that end above the root.
    pub truncated: i64,
    /// Those that end where the program goes on to another stack.
    pub switched: i64,
    /// Those that could not be unwound.
    pub broken: i64,
    /// Those with a function that has no name.
    pub unnamed: i64,
    /// What was lost of the profiles that are selected, in any of their samples.
    pub lost: i64,
}

/// A selection, added up by path.
#[derive(Debug)]
pub struct Selected<'t> {
    pub(crate) table: &'t Table,
    pub(crate) of: &'t ProfileType,
    /// Those of the table, or changed ones.
    paths: Option<Paths>,
    /// By path.
    weights: Vec<i64>,
    /// The sum of all weights.
    pub total: i64,
    /// How many samples were selected.
    pub samples: i64,
    /// What is not as it could be.
    pub loss: Loss,
}

/// A path with what it costs; two for a comparison.
pub(crate) type Item<'s, const N: usize> = (Cow<'s, [u32]>, [i64; N]);

impl Table {
    /// The type that a selection is of.
    ///
    /// # Errors
    /// If it is not there.
    pub fn select_type(&self, selection: &Selection) -> Result<&ProfileType, QueryError> {
        Ok(&self.types[self.type_position(selection.profile_type.as_ref())?])
    }

    /// Adds up what a selection has.
    ///
    /// # Errors
    /// If there is nothing of its type, or the stacks are too many.
    pub fn select(&self, selection: &Selection) -> Result<Selected<'_>, QueryError> {
        let filter = Filter::new(self, selection)?;
        let rows = filter.rows;
        let mut weights = vec![0_i64; self.paths.len()];
        let (mut total, mut samples, mut loss) = (0_i64, 0_i64, Loss::default());
        let mut profiles = vec![false; self.intervals.len()];
        let mut of_sets = vec![0_i64; self.labels.len()];
        for row in 0..rows.len() {
            if !filter.accepts(row) {
                continue;
            }
            let (path, weight) = (rows.paths[row] as usize, rows.weights[row]);
            weights[path] = weights[path].saturating_add(weight);
            total = total.saturating_add(weight);
            samples = samples.saturating_add(i64::from(rows.counts[row]));
            profiles[rows.profiles[row] as usize] = true;
            let set = &mut of_sets[rows.labels[row] as usize];
            *set = set.saturating_add(weight);
            if self.unnamed_paths[path] {
                loss.unnamed = loss.unnamed.saturating_add(weight);
            }
        }
        loss.add_states(&self.labels, &of_sets);
        let touched = self.intervals.iter().zip(profiles).filter(|(_, is_touched)| *is_touched);
        loss.lost = touched.fold(0, |sum: i64, (interval, _)| sum.saturating_add(interval.lost));
        let changed = change::changed(self, selection, &weights)?;
        let (paths, weights) = match changed {
            Some((paths, weights)) => (Some(paths), weights),
            None => (None, weights),
        };
        Ok(Selected { table: self, of: filter.of, paths, weights, total, samples, loss })
    }
}

impl Loss {
    fn add_states(&mut self, labels: &Labels, of_sets: &[i64]) {
        use crate::table::State;
        for (set, weight) in of_sets.iter().enumerate() {
            let sum = match labels.state(set as u32) {
                State::Complete => &mut self.complete,
                State::Guessed => &mut self.guessed,
                State::Truncated => &mut self.truncated,
                State::Switched => &mut self.switched,
                State::Broken => &mut self.broken,
            };
            *sum = sum.saturating_add(*weight);
        }
    }
}

impl<'t> Selected<'t> {
    /// The profile type.
    pub fn profile_type(&self) -> &'t ProfileType {
        self.of
    }

    /// The unit of all weights.
    pub fn unit(&self) -> &'t str {
        self.of.unit()
    }

    /// How far a sum of weights may be off: half the width of its 95 % interval; `None` if it was counted.
    pub fn error(&self, weight: i64) -> Option<f64> {
        error(self.of.sampling, weight)
    }

    fn paths(&self) -> &Paths {
        self.paths.as_ref().unwrap_or(&self.table.paths)
    }

    /// Every path that weighs anything, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u32], i64)> {
        let paths = self.paths();
        let weights = self.weights.iter().enumerate();
        weights
            .filter(|(_, weight)| **weight != 0)
            .map(|(at, weight)| (paths.get(at as u32), *weight))
    }

    /// Every path that weighs anything, in the order of its functions.
    pub(crate) fn items(&self, is_inverted: bool) -> Vec<Item<'_, 1>> {
        let own;
        let order = match &self.paths {
            None => self.table.order(is_inverted),
            Some(paths) => {
                own = paths.sorted(is_inverted);
                own.as_slice()
            }
        };
        let paths = self.paths();
        let present = order.iter().filter(|path| self.weights[**path as usize] != 0);
        let item = |path: &u32| {
            let functions = paths.get(*path);
            let functions = match is_inverted {
                true => Cow::Owned(functions.iter().rev().copied().collect()),
                false => Cow::Borrowed(functions),
            };
            (functions, [self.weights[*path as usize]])
        };
        present.map(item).collect()
    }

    /// The same with functions of one name in several modules as one, root first.
    pub(crate) fn items_by_name(&self) -> Vec<Item<'_, 1>> {
        let namesake = |number: &u32| self.table.function(*number).namesake;
        let has_namesakes =
            self.table.functions.iter().enumerate().any(|(at, one)| one.namesake as usize != at);
        if !has_namesakes {
            return self.items(false);
        }
        let mut items: Vec<Item<'_, 1>> = self
            .iter()
            .map(|(path, weight)| (Cow::Owned(path.iter().map(namesake).collect()), [weight]))
            .collect();
        items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        items
    }
}

pub(crate) fn error(sampling: Sampling, weight: i64) -> Option<f64> {
    // Of samples that come by chance the variance is the sum of the squares of what each stands for.
    match sampling {
        Sampling::Exact => None,
        Sampling::Each(each) => Some(1.96 * (weight.unsigned_abs() as f64 * each as f64).sqrt()),
    }
}
