//! A batch as series: profiles with the same labels, put side by side as columns of one pprof.
//!
//! A profile of OTLP has one sample type and one of pprof has several. Profiles of a resource that
//! have the same name, interval and period become one again, and so do those of several
//! resources whose labels are equal: processes of one service, once their numbers are left out.
//! Samples that are equal without the labels left out become one, so sums never change.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use profpipe_engine::overhead::checkpoint;
use profpipe_formats::pprof::file_order;
use profpipe_formats::pyroscope::{self as naming, CPU, SAMPLES, Type, label_value};
use profpipe_profile::attribute_names::{PROFILE_CUMULATIVE, PROFILE_NAME};
use profpipe_profile::{
    AttributeIx, Dictionary, Index, LinkIx, Profile, Profiles, ScopeProfiles, StackIx, Value,
    ValueType,
};

use super::config::Config;
use super::labels::{self, Labels, MAX_LABELS};
use super::numbers::Numbers;
use super::pprof::{Encoder, Header, Limits, Row};

/// Labels that the server keeps apart: they make no series.
const IDS: [&str; 3] = ["span_id", "trace_id", "profile_id"];
/// Names of sample labels that get a place before the labels of the resource do.
const RESERVED: usize = 8;

/// One profile to be sent.
#[derive(Debug, Clone)]
pub(super) struct Push {
    /// All labels, by name.
    pub(super) labels: Arc<Labels>,
    /// pprof without its time.
    pub(super) profile: Vec<u8>,
    /// In nanoseconds since the Unix epoch; 0 if unknown.
    pub(super) time_nanos: u64,
    /// How many samples of the batch are in it.
    pub(super) samples: u64,
}

/// What was made of a batch.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) pushes: Vec<Push>,
    /// Samples of value 0, which say nothing; no server keeps them.
    pub(super) empty: u64,
    /// Samples with a negative value, which no server takes.
    pub(super) negative: u64,
    /// Samples that lost labels because there were too many different ones.
    pub(super) unlabelled: u64,
}

/// Makes the profiles to be sent of a batch; the same ones in the same order each time.
pub(super) fn build(profiles: &Profiles, config: &Config) -> Built {
    let dictionary = &profiles.dictionary;
    let sample_labels = SampleLabels::of(dictionary, config);
    let mut table = Table::default();
    for resource in &profiles.resources {
        checkpoint();
        for scope in &resource.scopes {
            let names = sample_labels.names(scope).min(RESERVED);
            let labels = labels::of_resource(
                &config.labels,
                config.label_names,
                &resource.resource,
                &scope.scope,
                MAX_LABELS - 2 - names,
            );
            table.add_scope(dictionary, scope, &labels, config);
        }
    }
    let mut built = Built::default();
    let limits =
        Limits { samples: config.max_profile_samples, names_frames: config.unsymbolized.is_name() };
    let mut encoder = Encoder::new(dictionary, limits);
    let mut plain = Numbers::new(dictionary.stacks.len());
    for series in &table.series {
        checkpoint();
        series.write(dictionary, &sample_labels, config, &mut encoder, &mut plain, &mut built);
    }
    built
}

/// What distinguishes series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    labels: Arc<Labels>,
    time_nanos: u64,
    duration_nanos: u64,
    period_type: (String, String),
    period: i64,
}

/// A profile that is a column of a series.
struct Column<'a> {
    profile: &'a Profile,
    at: usize,
    /// The column that is computed from it, and what its values are multiplied with for that.
    computed: Option<(usize, i64)>,
}

struct Series<'a> {
    key: Key,
    types: Vec<(String, String)>,
    columns: Vec<Column<'a>>,
}

#[derive(Default)]
struct Table<'a> {
    series: Vec<Series<'a>>,
    by_key: HashMap<Key, usize, RandomState>,
}

impl<'a> Table<'a> {
    fn add_scope(
        &mut self,
        dictionary: &'a Dictionary,
        scope: &'a ScopeProfiles,
        labels: &Labels,
        config: &Config,
    ) {
        // Columns stand as in the file that the profiles came from, if they came from one.
        let order = file_order(scope).unwrap_or_else(|| (0..scope.profiles.len()).collect());
        let named: Vec<_> = order
            .into_iter()
            .filter_map(|at| scope.profiles.get(at))
            .map(|profile| (profile, Named::of(dictionary, profile, config)))
            .collect();
        // Intervals in which CPU time is there itself: it is not computed from samples again.
        let timed: HashSet<_, RandomState> = named
            .iter()
            .filter(|(_, named)| named.sample == CPU)
            .map(|(profile, named)| (interval(profile), named.name.as_str()))
            .collect();
        for (profile, named) in &named {
            let (profile, period) = (*profile, profile.period);
            let mut labels = labels.clone();
            labels.insert("__name__".to_owned(), named.name.clone());
            if !named.is_cumulative {
                labels.insert("__delta__".to_owned(), "false".to_owned());
            }
            let key = Key {
                labels: Arc::new(labels),
                time_nanos: profile.time_unix_nano,
                duration_nanos: profile.duration_nano,
                period_type: (
                    naming::type_text(named.period.kind, ""),
                    naming::type_text(named.period.unit, ""),
                ),
                period,
            };
            let at = *self.by_key.entry(key).or_insert_with_key(|key| {
                let key = key.clone();
                self.series.push(Series { key, types: Vec::new(), columns: Vec::new() });
                self.series.len() - 1
            });
            let Some(series) = self.series.get_mut(at) else { continue };
            let at = series.column(named.sample);
            let is_alone = !timed.contains(&(interval(profile), named.name.as_str()));
            let counts_time = named.sample == SAMPLES && named.period == CPU && period > 0;
            let computed = (counts_time && is_alone).then(|| (series.column(CPU), period));
            series.columns.push(Column { profile, at, computed });
        }
    }
}

fn interval(profile: &Profile) -> (u64, u64) {
    (profile.time_unix_nano, profile.duration_nano)
}

/// A profile's name and types.
struct Named<'a> {
    name: String,
    sample: Type<'a>,
    period: Type<'a>,
    is_cumulative: bool,
}

impl<'a> Named<'a> {
    fn of(dictionary: &'a Dictionary, profile: &'a Profile, config: &Config) -> Self {
        let text = |of: ValueType| Type {
            kind: dictionary.strings.get(of.kind),
            unit: dictionary.strings.get(of.unit),
        };
        let attribute = |wanted: &str| {
            let mut rows = profile.attributes.iter().copied();
            let row =
                rows.find(|row| dictionary.strings.get(dictionary.attributes.key(*row)) == wanted)?;
            Some(dictionary.attributes.value(row))
        };
        let stated = attribute(PROFILE_NAME).and_then(Value::as_str).unwrap_or_default();
        let (sample, period) = (text(profile.sample_type), text(profile.period_type));
        let name = naming::name(&config.profile_names, stated, sample, period);
        let (sample, period) =
            if stated.is_empty() { (sample.usual(), period.usual()) } else { (sample, period) };
        let has_no_period = period.kind.is_empty() && period.unit.is_empty();
        // Profiles that state their name come from Pyroscope's clients and go on as they are.
        let period =
            if has_no_period && stated.is_empty() { naming::usual_period(&name) } else { period };
        let is_cumulative = attribute(PROFILE_CUMULATIVE).and_then(Value::as_bool) == Some(true);
        Self { name, sample, period, is_cumulative }
    }
}

impl<'a> Series<'a> {
    /// The column of a type.
    fn column(&mut self, sample: Type<'_>) -> usize {
        let sample =
            (naming::type_text(sample.kind, "samples"), naming::type_text(sample.unit, "count"));
        let found = self.types.iter().position(|other| *other == sample);
        found.unwrap_or_else(|| {
            self.types.push(sample);
            self.types.len() - 1
        })
    }

    fn write(
        &self,
        dictionary: &Dictionary,
        sample_labels: &SampleLabels,
        config: &Config,
        encoder: &mut Encoder<'_>,
        plain: &mut Numbers,
        built: &mut Built,
    ) {
        let samples = self.columns.iter().map(|column| column.profile.samples.len()).max();
        let mut rows = Rows::new(self.types.len(), samples.unwrap_or_default(), plain);
        let most = config.sample_labels.max_sets;
        let mut sets = Sets::new(sample_labels, &self.key.labels, most);
        for column in &self.columns {
            for sample in column.profile.samples.iter() {
                let weight = sample.weight();
                if weight <= 0 {
                    let counter = if weight == 0 { &mut built.empty } else { &mut built.negative };
                    *counter += 1;
                    continue;
                }
                let (set, was_cut) = sets.of(sample.attributes);
                built.unlabelled += u64::from(was_cut);
                let row = rows.at((sample.stack, set, sample.link));
                rows.add(row, column.at, weight);
                if let Some((at, factor)) = column.computed {
                    rows.add(row, at, weight.saturating_mul(factor));
                }
                rows.count(row);
            }
        }
        let header = Header {
            columns: self.types.clone(),
            period_type: self.key.period_type.clone(),
            period: self.key.period,
            duration_nanos: self.key.duration_nanos,
        };
        let of_sets: Vec<_> = (0..sets.sets.len()).map(|set| sets.labels(set)).collect();
        let labels: Vec<Cow<'_, [(String, String)]>> = rows
            .keys
            .iter()
            .map(|(_, set, link)| {
                let labels = of_sets.get(*set).map(Vec::as_slice).unwrap_or_default();
                if link.is_none() || labels.iter().any(|(name, _)| name == "span_id") {
                    return Cow::Borrowed(labels);
                }
                let link = dictionary.links.get(*link);
                let ids = [
                    ("span_id".to_owned(), hex(&link.span_id)),
                    ("trace_id".to_owned(), hex(&link.trace_id)),
                ];
                Cow::Owned(labels.iter().cloned().chain(ids).collect())
            })
            .collect();
        let list: Vec<_> = rows
            .keys
            .iter()
            .zip(&labels)
            .zip(rows.values.chunks_exact(self.types.len().max(1)))
            .map(|(((stack, _, _), labels), values)| Row { stack: *stack, labels, values })
            .collect();
        let overhead: usize =
            self.key.labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let max_bytes = (config.max_profile_size.0 as usize).saturating_sub(overhead).max(1);
        let mut counts = rows.counts.iter();
        for (profile, taken) in encoder.write(&header, &list, max_bytes) {
            built.pushes.push(Push {
                labels: Arc::clone(&self.key.labels),
                profile,
                time_nanos: self.key.time_nanos,
                samples: counts.by_ref().take(taken).sum(),
            });
        }
    }
}

/// Rows by what distinguishes samples, with a value for each column.
struct Rows<'n> {
    width: usize,
    keys: Vec<(StackIx, usize, LinkIx)>,
    /// Those with neither labels nor a link, which most are; the row is the number less 1.
    plain: &'n mut Numbers,
    others: HashMap<(StackIx, usize, LinkIx), usize, RandomState>,
    values: Vec<i64>,
    /// How many samples each row stands for.
    counts: Vec<u64>,
}

impl<'n> Rows<'n> {
    /// For about so many rows.
    fn new(width: usize, rows: usize, plain: &'n mut Numbers) -> Self {
        plain.clear();
        Self {
            width,
            keys: Vec::with_capacity(rows),
            plain,
            others: HashMap::default(),
            values: Vec::with_capacity(rows * width),
            counts: Vec::with_capacity(rows),
        }
    }

    fn at(&mut self, key: (StackIx, usize, LinkIx)) -> usize {
        let (stack, set, link) = key;
        let new = self.keys.len();
        let row = if set == 0 && link.is_none() {
            let number = self.plain.get(stack);
            number.unwrap_or_else(|| self.plain.set(stack, new as u64 + 1)) as usize - 1
        } else {
            *self.others.entry(key).or_insert(new)
        };
        if row == new {
            self.keys.push(key);
            self.counts.push(0);
            self.values.resize(self.keys.len() * self.width, 0);
        }
        row
    }

    fn add(&mut self, row: usize, column: usize, weight: i64) {
        if let Some(value) = self.values.get_mut(row * self.width + column) {
            *value = value.saturating_add(weight);
        }
    }

    /// A sample more stands behind a row.
    fn count(&mut self, row: usize) {
        if let Some(count) = self.counts.get_mut(row) {
            *count += 1;
        }
    }
}

/// A span's id that is written in decimal.
fn decimal_as_hex(id: &str) -> Option<String> {
    let id: u64 = id.parse().ok()?;
    Some(format!("{id:016x}"))
}

/// Which attributes of samples become labels, and as what.
struct SampleLabels {
    /// By row of the attribute table.
    labels: Vec<Option<(String, String)>>,
}

impl SampleLabels {
    fn of(dictionary: &Dictionary, config: &Config) -> Self {
        let label = |row: u32| {
            let row = AttributeIx::new(row);
            let key = dictionary.strings.get(dictionary.attributes.key(row));
            if key.is_empty() || key.starts_with("__") || !config.sample_labels.allows(key) {
                return None;
            }
            // Numbers are no labels in Pyroscope: it drops them, too.
            let value = match dictionary.attributes.value(row) {
                value @ (Value::String(_) | Value::Bool(_)) => value,
                Value::Array(items) => items.iter().find(|item| item.as_str().is_some())?,
                _ => return None,
            };
            let (name, value) = (labels::name(key, config.label_names), label_value(value)?);
            match name.as_str() {
                // Datadog's `span id`: the server reads what is called so in hex.
                "span_id" if key != name => Some((name, decimal_as_hex(&value)?)),
                _ => Some((name, value)),
            }
        };
        Self { labels: (0..dictionary.attributes.len() as u32).map(label).collect() }
    }

    fn get(&self, row: AttributeIx) -> Option<&(String, String)> {
        self.labels.get(row.at())?.as_ref()
    }

    /// How many names of labels the samples of a scope have.
    fn names(&self, scope: &ScopeProfiles) -> usize {
        let mut names: HashSet<&str, RandomState> = HashSet::default();
        let mut seen: HashSet<AttributeIx, RandomState> = HashSet::default();
        for profile in &scope.profiles {
            for row in profile.samples.iter().flat_map(|sample| sample.attributes) {
                if seen.insert(*row)
                    && let Some((name, _)) = self.get(*row)
                    && !IDS.contains(&name.as_str())
                {
                    names.insert(name);
                }
            }
        }
        names.len()
    }
}

/// The different sets of labels of a series' samples, within limits.
struct Sets<'a> {
    sample_labels: &'a SampleLabels,
    of_series: &'a Labels,
    sets: Vec<Vec<AttributeIx>>,
    by_set: HashMap<Vec<AttributeIx>, usize, RandomState>,
    /// What a list of attributes is, and whether labels were left out of it.
    known: HashMap<Vec<AttributeIx>, (usize, bool), RandomState>,
    /// The sets without ids: each is a series of the server.
    splits: HashSet<Vec<AttributeIx>, RandomState>,
    names: HashSet<&'a str, RandomState>,
    most: usize,
}

impl<'a> Sets<'a> {
    fn new(sample_labels: &'a SampleLabels, of_series: &'a Labels, most: usize) -> Self {
        let mut by_set = HashMap::default();
        by_set.insert(Vec::new(), 0);
        Self {
            sample_labels,
            of_series,
            sets: vec![Vec::new()],
            by_set,
            known: HashMap::default(),
            splits: HashSet::default(),
            names: HashSet::default(),
            most,
        }
    }

    fn of(&mut self, attributes: &[AttributeIx]) -> (usize, bool) {
        if attributes.iter().all(|row| self.sample_labels.get(*row).is_none()) {
            return (0, false);
        }
        if let Some(known) = self.known.get(attributes) {
            return *known;
        }
        let found = self.find(attributes);
        self.known.insert(attributes.to_vec(), found);
        found
    }

    fn find(&mut self, attributes: &[AttributeIx]) -> (usize, bool) {
        let (mut split, mut ids, mut was_cut) = (Vec::new(), Vec::new(), false);
        let mut taken: Vec<&str> = Vec::new();
        for row in attributes {
            let Some((name, _)) = self.sample_labels.get(*row) else { continue };
            // A label of the series wins, as it does in the server.
            if taken.contains(&name.as_str()) || self.of_series.contains_key(name) {
                continue;
            }
            taken.push(name);
            if IDS.contains(&name.as_str()) {
                ids.push(*row);
            } else if self.names.contains(name.as_str())
                || self.of_series.len() + self.names.len() < MAX_LABELS
            {
                self.names.insert(name);
                split.push(*row);
            } else {
                was_cut = true;
            }
        }
        split.sort_unstable();
        ids.sort_unstable();
        if !split.is_empty() && !self.splits.contains(&split) {
            if self.splits.len() < self.most {
                self.splits.insert(split.clone());
            } else {
                split.clear();
                was_cut = true;
            }
        }
        split.append(&mut ids);
        let sets = &mut self.sets;
        let set = *self.by_set.entry(split).or_insert_with_key(|split| {
            sets.push(split.clone());
            sets.len() - 1
        });
        (set, was_cut)
    }

    fn labels(&self, set: usize) -> Vec<(String, String)> {
        let rows = self.sets.get(set).map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter_map(|row| self.sample_labels.get(*row)).cloned().collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
