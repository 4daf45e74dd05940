//! What the profiles say of the parts of the work, against what the parts say themselves.

use std::collections::BTreeMap;

use profpipe::otlp;
use profpipe::profile::Value;

/// CPU time of the parts, by the name of their thread.
#[derive(Default)]
pub(crate) struct Shares {
    /// The sum of weights, and of their squares.
    parts: BTreeMap<String, (f64, f64)>,
    /// The sums of each profile.
    profiles: Vec<BTreeMap<String, f64>>,
    /// The samples in all profiles.
    pub(crate) samples: f64,
    /// How the governor fared, as the last profile says.
    pub(crate) state: String,
}

impl Shares {
    pub(crate) fn of(bodies: &[Vec<u8>]) -> Self {
        let mut shares = Self::default();
        for body in bodies {
            let Ok(profiles) = otlp::decode(body) else { continue };
            let dictionary = &profiles.dictionary;
            let text = |attributes: &[_], wanted: &str| {
                attributes.iter().find_map(|ix| {
                    let key = dictionary.strings.get(dictionary.attributes.key(*ix));
                    (key == wanted).then(|| dictionary.attributes.value(*ix).clone())
                })
            };
            // A profile of counts comes before the one of weights, with the same rows.
            let mut counts: Vec<f64> = Vec::new();
            for (_, _, profile) in profiles.iter() {
                let facts = ["profpipe.overhead.state", "profpipe.overhead.rung"];
                let facts = facts.map(|key| match text(&profile.attributes, key) {
                    Some(Value::String(value)) => value,
                    _ => String::new(),
                });
                let hertz = match text(&profile.attributes, "profpipe.sampling.frequency") {
                    Some(Value::Double(hertz)) => format!("{hertz:.1} Hz"),
                    _ => String::new(),
                };
                shares.state = format!("{} {} {hertz}", facts[0], facts[1]);
                let kind = dictionary.strings.get(profile.sample_type.kind);
                if !matches!(kind, "samples" | "cpu") {
                    continue;
                }
                if kind != "cpu" {
                    counts = profile.samples.iter().map(|row| row.weight() as f64).collect();
                    shares.samples += counts.iter().sum::<f64>();
                    continue;
                }
                let mut sums_here = BTreeMap::<String, f64>::new();
                for (at, sample) in profile.samples.iter().enumerate() {
                    let Some(Value::String(thread)) = text(sample.attributes, "thread.name") else {
                        continue;
                    };
                    let weight = sample.weight() as f64;
                    *sums_here.entry(thread.clone()).or_default() += weight;
                    let sums = shares.parts.entry(thread).or_default();
                    sums.0 += weight;
                    sums.1 += weight * weight / counts.get(at).copied().unwrap_or(1.0).max(1.0);
                }
                shares.profiles.push(sums_here);
            }
        }
        shares
    }

    /// How many parts are further from the truth than three standard errors, of how many; the
    /// largest distance. The error is the larger of two: of independent samples with these weights,
    /// and of independent profiles, in which samples may go together.
    pub(crate) fn compare(&self, truth: &[(String, f64)]) -> String {
        let of = |part: &String| self.parts.get(part).copied().unwrap_or_default();
        let total: f64 = truth.iter().map(|(part, _)| of(part).0).sum();
        let squares: f64 = truth.iter().map(|(part, _)| of(part).1).sum();
        let all: f64 = truth.iter().map(|(_, took)| took).sum();
        if truth.is_empty() || total <= 0.0 {
            return "-".into();
        }
        let count = (total * total / squares).max(1.0);
        let distances = truth.iter().map(|(part, took)| {
            let share = took / all;
            let alone = share * (1.0 - share) / count;
            let error = alone.max(self.between(truth, part, share)).sqrt();
            ((of(part).0 / total - share) / error).abs()
        });
        let distances: Vec<f64> = distances.collect();
        let far = distances.iter().filter(|distance| **distance > 3.0).count();
        let worst = distances.iter().copied().fold(0.0, f64::max);
        format!("{far}/{} z{worst:.1}", distances.len())
    }

    /// The variance of a part's share as profiles differ.
    fn between(&self, truth: &[(String, f64)], part: &str, share: f64) -> f64 {
        let residuals = self.profiles.iter().filter_map(|sums| {
            let of = |part: &str| sums.get(part).copied().unwrap_or_default();
            let total: f64 = truth.iter().map(|(part, _)| of(part)).sum();
            (total > 0.0).then(|| (of(part) - total * share, total))
        });
        let (mut squares, mut all, mut count) = (0.0, 0.0, 0.0);
        for (residual, total) in residuals {
            squares += residual * residual;
            all += total;
            count += 1.0;
        }
        if count < 4.0 { 0.0 } else { count / (count - 1.0) * squares / (all * all) }
    }
}
