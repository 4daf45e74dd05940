//! What people ask of a profile, computed the plain way: how much each function costs by itself,
//! how much with what it calls, and each node of the call tree. The judge of sampling, in tests and
//! in the benchmark, which includes this file; it shares no code with what it judges.

use std::collections::HashMap;

use profpipe_processors::downsample::algorithm::Item;
use profpipe_profile::{Dictionary, Profile, Profiles, StackIx};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Question {
    /// The cost of a function by itself.
    Own(String),
    /// Its cost with what it calls.
    Total(String),
    /// A node of the call tree, by the functions from the root.
    Node(Vec<String>),
}

/// The questions with the largest answers, the answers, and which rows count for them.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) questions: Vec<Question>,
    pub(crate) truth: Vec<u64>,
    /// The questions that each row counts for.
    pub(crate) of_row: Vec<Vec<u32>>,
    pub(crate) total: u64,
}

/// The frames of a stack, root first: functions by name, code without a name by its place.
pub(crate) fn frames(dictionary: &Dictionary, stack: StackIx) -> Vec<String> {
    let mut frames = Vec::new();
    for location in dictionary.stacks.get(stack).iter().rev() {
        let location = dictionary.locations.get(*location);
        let names = location.lines.iter().rev().map(|line| {
            let name = dictionary.functions.get(line.function).name;
            dictionary.strings.get(name).to_owned()
        });
        let before = frames.len();
        frames.extend(names.filter(|name| !name.is_empty()));
        if frames.len() == before {
            let mapping = dictionary.mappings.get(location.mapping).filename;
            let mapping = dictionary.strings.get(mapping);
            frames.push(format!("{mapping}+{:#x}", location.address));
        }
    }
    frames
}

impl Answers {
    /// Those of at least `share` of the total.
    pub(crate) fn of(dictionary: &Dictionary, rows: &[(StackIx, u64)], share: f64) -> Self {
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut nodes: HashMap<(u32, u32), u32> = HashMap::new();
        // Keys of questions: kind and number.
        let mut sums: HashMap<(u8, u32), u64> = HashMap::new();
        let mut parent: Vec<(u32, u32)> = vec![(0, 0)];
        let mut keys: Vec<Vec<(u8, u32)>> = Vec::new();
        let mut known: HashMap<StackIx, usize> = HashMap::new();
        let mut stacks: Vec<usize> = Vec::new();
        for (stack, weight) in rows {
            let at = *known.entry(*stack).or_insert_with(|| {
                let mut of_stack = Vec::new();
                let mut node = 0;
                for name in frames(dictionary, *stack) {
                    let next = names.len() as u32;
                    let name = *names.entry(name).or_insert(next);
                    node = *nodes.entry((node, name)).or_insert_with(|| {
                        parent.push((node, name));
                        parent.len() as u32 - 1
                    });
                    of_stack.push((1, name));
                    of_stack.push((2, node));
                }
                if let Some((_, leaf)) = of_stack.iter().rev().find(|(kind, _)| *kind == 1) {
                    of_stack.push((0, *leaf));
                }
                of_stack.sort_unstable();
                of_stack.dedup();
                keys.push(of_stack);
                keys.len() - 1
            });
            stacks.push(at);
            for key in &keys[at] {
                *sums.entry(*key).or_default() += weight;
            }
        }
        let total: u64 = rows.iter().map(|(_, weight)| weight).sum();
        let mut heavy: Vec<((u8, u32), u64)> =
            sums.into_iter().filter(|(_, sum)| *sum as f64 >= share * total as f64).collect();
        heavy.sort_unstable_by_key(|(key, sum)| (std::cmp::Reverse(*sum), *key));
        let mut texts = vec![String::new(); names.len()];
        for (name, at) in names {
            texts[at as usize] = name;
        }
        let question = |(kind, at): (u8, u32)| match kind {
            0 => Question::Own(texts[at as usize].clone()),
            1 => Question::Total(texts[at as usize].clone()),
            _ => {
                let mut path = Vec::new();
                let mut node = at;
                while node != 0 {
                    let (up, name) = parent[node as usize];
                    path.push(texts[name as usize].clone());
                    node = up;
                }
                path.reverse();
                Question::Node(path)
            }
        };
        let place: HashMap<(u8, u32), u32> =
            heavy.iter().enumerate().map(|(at, (key, _))| (*key, at as u32)).collect();
        let of_stack: Vec<Vec<u32>> = keys
            .iter()
            .map(|keys| keys.iter().filter_map(|key| place.get(key).copied()).collect())
            .collect();
        Self {
            questions: heavy.iter().map(|(key, _)| question(*key)).collect(),
            truth: heavy.iter().map(|(_, sum)| *sum).collect(),
            of_row: stacks.into_iter().map(|at| of_stack[at].clone()).collect(),
            total,
        }
    }

    /// The answers that these rows, with what they stand for, give to the questions.
    pub(crate) fn estimate(&self, kept: impl Iterator<Item = (u32, f64)>) -> Vec<f64> {
        let mut sums = vec![0.0; self.truth.len()];
        for (row, value) in kept {
            for question in &self.of_row[row as usize] {
                sums[*question as usize] += value;
            }
        }
        sums
    }

    /// The largest relative error over the questions of at least `share`.
    pub(crate) fn worst(&self, estimates: &[f64], share: f64, of: fn(&Question) -> bool) -> f64 {
        let least = share * self.total as f64;
        let all = self.questions.iter().zip(&self.truth).zip(estimates);
        all.filter(|((question, truth), _)| **truth as f64 >= least && of(question))
            .map(|((_, truth), estimate)| (estimate / *truth as f64 - 1.0).abs())
            .fold(0.0, f64::max)
    }
}

/// The stacks and weights of the profiles of a sample type.
pub(crate) fn rows(profiles: &Profiles, kind: &str) -> Vec<(StackIx, u64)> {
    let is_kind =
        |profile: &&Profile| profiles.dictionary.strings.get(profile.sample_type.kind) == kind;
    let of_kind = profiles.iter().map(|(_, _, profile)| profile).filter(is_kind);
    of_kind
        .flat_map(|profile| profile.samples.iter())
        .map(|sample| (sample.stack, u64::try_from(sample.weight()).unwrap_or(0)))
        .collect()
}

/// Rows as what is sampled.
pub(crate) fn items(rows: &[(StackIx, u64)]) -> Vec<Item> {
    let item = |(stack, weight): &(StackIx, u64)| Item {
        resource: 0,
        stack: *stack,
        weight: *weight,
        trace: None,
    };
    rows.iter().map(item).collect()
}

/// Sums of estimates over trials, for their mean and spread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trials {
    pub(crate) count: usize,
    sums: Vec<f64>,
    squares: Vec<f64>,
    /// The largest relative errors over 1 % of each trial: own, total, node, any.
    pub(crate) worst: [Vec<f64>; 4],
    /// Trials whose total was not exact.
    pub(crate) inexact: usize,
    /// Rows that were kept, in all trials.
    pub(crate) kept: usize,
}

impl Trials {
    pub(crate) fn add(&mut self, answers: &Answers, estimates: &[f64], total: f64) {
        self.count += 1;
        self.sums.resize(estimates.len(), 0.0);
        self.squares.resize(estimates.len(), 0.0);
        for (at, (estimate, truth)) in estimates.iter().zip(&answers.truth).enumerate() {
            let error = estimate - *truth as f64;
            self.sums[at] += error;
            self.squares[at] += error * error;
        }
        let kinds: [fn(&Question) -> bool; 4] = [
            |of| matches!(of, Question::Own(_)),
            |of| matches!(of, Question::Total(_)),
            |of| matches!(of, Question::Node(_)),
            |_| true,
        ];
        for (worst, of) in self.worst.iter_mut().zip(kinds) {
            worst.push(answers.worst(estimates, 0.01, of));
        }
        self.inexact += usize::from(total != answers.total as f64);
    }

    #[allow(dead_code, reason = "the benchmark's")]
    pub(crate) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.inexact += other.inexact;
        self.kept += other.kept;
        self.sums.resize(other.sums.len(), 0.0);
        self.squares.resize(other.squares.len(), 0.0);
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
        self.squares.iter_mut().zip(other.squares).for_each(|(sum, more)| *sum += more);
        for (worst, more) in self.worst.iter_mut().zip(other.worst) {
            worst.extend(more);
        }
    }

    /// How many standard errors the mean estimate of each question is off. Where next to nothing is
    /// left to chance, errors are rare and large, and a few trials do not show their spread: an item
    /// of weight w that is kept as `unit` with a chance of w / `unit` has a variance of about
    /// w · `unit`, so the variance is taken to be at least that of an item as heavy as the error.
    pub(crate) fn z(&self, unit: f64) -> Vec<f64> {
        let count = self.count as f64;
        let z = |(sum, squares): (&f64, &f64)| {
            let mean = sum / count;
            let variance = (squares / count - mean * mean) * count / (count - 1.0);
            // Values are whole numbers: an error below one is rounding.
            if mean.abs() < 1.0 {
                return 0.0;
            }
            mean / (variance.max(mean.abs() * unit) / count).sqrt()
        };
        self.sums.iter().zip(&self.squares).map(z).collect()
    }

    /// The root mean square of relative errors, in percent, of questions between two shares.
    #[allow(dead_code, reason = "the benchmark's")]
    pub(crate) fn rms(&self, answers: &Answers, from: f64, to: f64) -> f64 {
        let (from, to) = (from * answers.total as f64, to * answers.total as f64);
        let all = self.squares.iter().zip(&answers.truth);
        let within = all.filter(|(_, truth)| (from..to).contains(&(**truth as f64)));
        let relative: Vec<f64> = within
            .map(|(squares, truth)| squares / self.count as f64 / (*truth as f64).powi(2))
            .collect();
        100.0 * (relative.iter().sum::<f64>() / relative.len().max(1) as f64).sqrt()
    }
}

/// The quantile of some numbers, in percent.
pub(crate) fn percent(numbers: &[f64], quantile: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (quantile * sorted.len().saturating_sub(1) as f64).round() as usize;
    100.0 * sorted.get(at).copied().unwrap_or(0.0)
}
