//! Selections over time, and the labels that they have.
//!
//! A sum is of a step. Where samples have no times of their own their weight is spread evenly over the
//! interval of their profile, so that steps shorter than it do not look like bursts; [`Table::points`],
//! which answers as Pyroscope does, does not spread.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::error::QueryError;
use crate::select::{Filter, Selection};
use crate::table::{LabelValues, SERVICE, TYPE_LABELS, Table, type_label};

/// The most values of all rows together.
const MAX_VALUES: usize = 1 << 20;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// What rows are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Everything together.
    None,
    /// A row for each value of a label.
    Label(String),
    /// A row for each thread.
    Thread,
    /// A row for each process.
    Process,
}

/// How a series is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesOptions {
    /// What rows are of.
    pub by: By,
    /// How many steps.
    pub points: usize,
    /// The most rows.
    pub rows: usize,
}

/// A row of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is of; empty for everything together and for what lacks the label.
    pub key: String,
    /// The sum of all steps.
    pub total: i64,
    /// The sum of each step.
    pub values: Vec<f64>,
}

/// Sums by time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The start of the first step, in milliseconds since the Unix epoch.
    pub from: i64,
    /// The length of a step, in milliseconds.
    pub step: i64,
    /// The rows, the heaviest first.
    pub rows: Vec<Row>,
    /// How many rows there are beyond these.
    pub more: usize,
}

/// A series of Pyroscope: labels, and by time in milliseconds sums and of how many profiles they are.
pub type Points = (BTreeMap<String, String>, BTreeMap<i64, (i64, u32)>);

impl Table {
    /// A selection over time.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn series(
        &self,
        selection: &Selection,
        options: &SeriesOptions,
    ) -> Result<Series, QueryError> {
        let filter = Filter::new(self, selection)?;
        let rows = filter.rows;
        let points = options.points.clamp(1, 10_000);
        let (first, last) = filter.of.time.unwrap_or_default();
        let from = selection.from.unwrap_or(first / NANOS_PER_MILLI);
        let until = selection.until.unwrap_or(last.div_euclid(NANOS_PER_MILLI) + 1).max(from);
        let step = until.saturating_sub(from).saturating_add(1).div_euclid(points as i64).max(1);
        let step = if step.saturating_mul(points as i64) <= until.saturating_sub(from) {
            step + 1
        } else {
            step
        };
        let keys = self.keys(&options.by);
        let mut totals: HashMap<u32, i64, RandomState> = HashMap::default();
        for row in (0..rows.len()).filter(|row| filter.accepts(*row)) {
            let total = totals.entry(keys.of_sets[rows.labels[row] as usize]).or_default();
            *total = total.saturating_add(rows.weights[row]);
        }
        let mut shown: Vec<(u32, i64)> = totals.into_iter().collect();
        let name = |key: u32| keys.names.get(key as usize).map_or("", String::as_str);
        shown.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| name(a.0).cmp(name(b.0))));
        let limit = options.rows.clamp(1, (MAX_VALUES / points).max(1));
        let more = shown.len().saturating_sub(limit);
        shown.truncate(limit);
        let places: HashMap<u32, usize, RandomState> =
            shown.iter().enumerate().map(|(at, (key, _))| (*key, at)).collect();
        let mut values = vec![vec![0.0; points]; shown.len()];
        let steps = Steps {
            from: from.saturating_mul(NANOS_PER_MILLI),
            step: step.saturating_mul(NANOS_PER_MILLI),
        };
        for row in (0..rows.len()).filter(|row| filter.accepts(*row)) {
            let Some(at) = places.get(&keys.of_sets[rows.labels[row] as usize]) else { continue };
            let interval = self.intervals[rows.profiles[row] as usize];
            let duration = if interval.is_timed { 0 } else { interval.duration };
            steps.add(&mut values[*at], rows.times[row], duration, rows.weights[row]);
        }
        let row = |((key, total), values): ((u32, i64), Vec<f64>)| Row {
            key: name(key).to_owned(),
            total,
            values,
        };
        let rows = shown.into_iter().zip(values).map(row).collect();
        Ok(Series { from, step, rows, more })
    }

    /// What each set of labels is a row of.
    fn keys(&self, by: &By) -> Keys {
        let value = |set: u32, name: &str| {
            self.labels.name_number(name).map_or("", |name| self.labels.value(set, name))
        };
        let with_number = |name: &str, number: &str| match (name, number) {
            (name, "") => name.to_owned(),
            ("", number) => number.to_owned(),
            (name, number) => format!("{name} ({number})"),
        };
        let mut keys = Keys::default();
        let mut numbers: HashMap<String, u32, RandomState> = HashMap::default();
        for set in 0..self.labels.len() as u32 {
            let key = match by {
                By::None => String::new(),
                By::Label(name) => value(set, name).to_owned(),
                By::Thread => with_number(value(set, "thread_name"), value(set, "thread_id")),
                By::Process => {
                    let name = match value(set, "process_executable_name") {
                        "" => value(set, "service_name"),
                        name => name,
                    };
                    with_number(name, value(set, "process_pid"))
                }
            };
            let new = keys.names.len() as u32;
            let number = *numbers.entry(key).or_insert_with_key(|key| {
                keys.names.push(key.clone());
                new
            });
            keys.of_sets.push(number);
        }
        keys
    }

    /// Sums of a selection by series and time, as Pyroscope has them: the time of a point is the end of its
    /// step, counted from `from`, and there are no points without a sum. The point at `from` itself is of
    /// the step before it, which is selected, too; steps that end behind the selection are left out. Times
    /// are in milliseconds.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn points(
        &self,
        selection: &Selection,
        group_by: &[String],
        from: i64,
        step: i64,
    ) -> Result<Vec<Points>, QueryError> {
        let step = step.max(1);
        let start = selection.from.map(|start| start.saturating_sub(step - 1));
        let filter = Filter::new(self, &Selection { from: start, ..selection.clone() })?;
        let rows = filter.rows;
        let mut groups: BTreeMap<BTreeMap<String, String>, BTreeMap<i64, (i64, u32)>> =
            BTreeMap::new();
        /// A sum, of how many profiles, and the last of them.
        type Sum = (i64, u32, Option<u32>);
        let mut of_sets: HashMap<u32, BTreeMap<i64, Sum>, RandomState> = HashMap::default();
        for row in (0..rows.len()).filter(|row| filter.accepts(*row)) {
            let time = rows.times[row].div_euclid(NANOS_PER_MILLI);
            let steps = time.saturating_sub(from).saturating_add(step - 1).div_euclid(step);
            let at = steps.saturating_mul(step).saturating_add(from);
            if selection.until.is_some_and(|until| at > until) {
                continue;
            }
            let sum = of_sets.entry(rows.labels[row]).or_default().entry(at).or_default();
            sum.0 = sum.0.saturating_add(rows.weights[row]);
            let profile = Some(rows.profiles[row]);
            sum.1 += u32::from(std::mem::replace(&mut sum.2, profile) != profile);
        }
        for (set, sums) in of_sets {
            let labels = self.labels.of(set);
            let value = |name: &str| {
                let label = if name == SERVICE { "service_name" } else { name };
                let value = type_label(&filter.of.id, name).or_else(|| labels.get(label).copied());
                Some((name.to_owned(), value?.to_owned()))
            };
            let key = group_by.iter().filter_map(|name| value(name)).collect();
            let group = groups.entry(key).or_default();
            for (time, (sum, profiles, _)) in sums {
                let of_group = group.entry(time).or_default();
                *of_group = (of_group.0.saturating_add(sum), of_group.1 + profiles);
            }
        }
        Ok(groups.into_iter().collect())
    }

    /// The labels of a selection with their values and weights, at most `limit` values of each.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn label_values(
        &self,
        selection: &Selection,
        limit: usize,
    ) -> Result<Vec<LabelValues>, QueryError> {
        let filter = Filter::new(self, selection)?;
        let mut sums: HashMap<u32, i64, RandomState> = HashMap::default();
        for row in (0..filter.rows.len()).filter(|row| filter.accepts(*row)) {
            let sum = sums.entry(filter.rows.labels[row]).or_default();
            *sum = sum.saturating_add(filter.rows.weights[row]);
        }
        let of_sets: Vec<(u32, i64)> = sums.into_iter().collect();
        let names = self.labels.names();
        let values = names.iter().map(|name| self.labels.sums(*name, &of_sets, limit));
        Ok(values.filter(|it| !it.values.is_empty()).collect())
    }

    /// Whether a selection has any sample.
    ///
    /// # Errors
    /// If there is nothing of the type.
    pub fn has_samples(&self, selection: &Selection) -> Result<bool, QueryError> {
        let filter = Filter::new(self, selection)?;
        Ok((0..filter.rows.len()).any(|row| filter.accepts(row)))
    }

    /// The names of all labels.
    pub fn label_names(&self) -> Vec<String> {
        let names = self.labels.names();
        names.iter().map(|name| self.labels.name_text(*name).to_owned()).collect()
    }

    /// Every different set of labels of samples of any type, those that name the type included, that
    /// satisfy the conditions of one of the selections.
    ///
    /// # Errors
    /// If a selection cannot be made.
    pub fn label_sets(
        &self,
        selections: &[Selection],
    ) -> Result<Vec<BTreeMap<String, String>>, QueryError> {
        let mut found: BTreeMap<(u32, usize), ()> = BTreeMap::new();
        for (number, of_type) in self.types.iter().enumerate() {
            for selection in selections {
                let profile_type = Some(of_type.id.clone());
                let selection = Selection { profile_type, ..selection.clone() };
                let filter = Filter::new(self, &selection)?;
                for row in (0..filter.rows.len()).filter(|row| filter.accepts(*row)) {
                    found.insert((filter.rows.labels[row], number), ());
                }
            }
        }
        let mut sets: Vec<BTreeMap<String, String>> = found
            .into_keys()
            .map(|(set, number)| {
                let labels = self.labels.of(set).into_iter();
                let mut labels: BTreeMap<String, String> =
                    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let id = &self.types[number].id;
                for name in TYPE_LABELS {
                    let value = type_label(id, name).unwrap_or_default();
                    labels.insert(name.to_owned(), value.to_owned());
                }
                let service = labels.get("service_name").cloned().unwrap_or_default();
                labels.insert(SERVICE.to_owned(), service);
                labels
            })
            .collect();
        sets.sort_unstable();
        sets.dedup();
        Ok(sets)
    }
}

#[derive(Default)]
struct Keys {
    names: Vec<String>,
    /// By set of labels.
    of_sets: Vec<u32>,
}

/// Steps of time, in nanoseconds.
struct Steps {
    from: i64,
    step: i64,
}

impl Steps {
    /// Adds a weight that is spread over a duration.
    fn add(&self, values: &mut [f64], time: i64, duration: i64, weight: i64) {
        let at = |time: i64| {
            let step = time.saturating_sub(self.from).div_euclid(self.step);
            step.clamp(0, values.len() as i64 - 1) as usize
        };
        let last = time.saturating_add(duration.max(1) - 1);
        let (first_step, last_step) = (at(time), at(last));
        if first_step == last_step {
            values[first_step] += weight as f64;
            return;
        }
        for (number, value) in values.iter_mut().enumerate().take(last_step + 1).skip(first_step) {
            // What goes beyond the first or the last step is in it.
            let begin = self.from.saturating_add(self.step.saturating_mul(number as i64));
            let begin = if number == first_step { time } else { begin };
            let next = self.from.saturating_add(self.step.saturating_mul(number as i64 + 1));
            let end = if number == last_step { last.saturating_add(1) } else { next };
            let share = end.saturating_sub(begin) as f64 / duration as f64;
            *value += weight as f64 * share;
        }
    }
}
