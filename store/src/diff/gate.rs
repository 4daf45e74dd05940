//! What a program concludes from a comparison: whether something is worse than it may be.

use std::str::FromStr;

use super::{Class, Diff, DiffRow};

/// Functions with at least this share must be able to show what is looked for, or nothing is decided. Where
/// there are none, the largest one must.
const LARGE_SHARE: f64 = 0.05;
/// How many standard errors more than what is significant an effect must be to be found four times of five.
const POWER: f64 = 0.84;
/// The level at which one function of many is significant, in standard errors: a
/// chance of 10⁻⁴.
const SIGNIFICANT: f64 = 3.9;
/// The chance below which a total differs.
const TOTAL_CHANCE: f64 = 0.05;

/// A condition of `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    what: What,
    /// As a part, not in percent.
    above: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A function takes more by this part of what it took.
    Slower,
    /// Both in all.
    Total,
    /// A function that was not there takes this share.
    New,
}

impl What {
    const ALL: [(&'static str, Self); 3] =
        [("slower", Self::Slower), ("total", Self::Total), ("new", Self::New)];
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (name, percent) = text.split_once('>')?;
            let (_, what) = What::ALL.into_iter().find(|(known, _)| *known == name.trim())?;
            let percent: f64 = percent.trim().strip_suffix('%')?.trim().parse().ok()?;
            let is_possible = percent.is_finite() && (0.0..=1e6).contains(&percent);
            is_possible.then_some(Self { what, above: percent / 100.0 })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is not a condition such as slower>5%, total>3% or new>1%")
        })
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = What::ALL.iter().find(|(_, what)| *what == self.what);
        let name = known.map_or("", |(name, _)| name);
        write!(f, "{name}>{}%", (self.above * 1e6).round() / 1e4)
    }
}

/// Whether conditions are met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// None is, and it would have been seen.
    Pass,
    /// What is worse than it may be.
    Findings(Vec<String>),
    /// Why it cannot be told.
    Undecidable(Vec<String>),
}

impl Diff<'_> {
    /// Looks for what is worse than it may be. What is found goes before what could not be told.
    pub fn verdict(&self, gates: &[Gate]) -> Verdict {
        if let Some(why) = self.why.as_ref().filter(|_| !gates.is_empty()) {
            return Verdict::Undecidable(vec![why.clone()]);
        }
        let (mut findings, mut unknown) = (Vec::new(), Vec::new());
        for gate in gates {
            let found = findings.len();
            match gate.what {
                What::Slower => self.slower(gate, &mut findings, &mut unknown),
                What::New => self.new_ones(gate, &mut findings),
                What::Total => self.in_all(gate, &mut findings, &mut unknown),
            }
            debug_assert!(findings.len() >= found);
        }
        match (findings.is_empty(), unknown.is_empty()) {
            (false, _) => Verdict::Findings(findings),
            (true, false) => Verdict::Undecidable(unknown),
            (true, true) => Verdict::Pass,
        }
    }

    fn slower(&self, gate: &Gate, findings: &mut Vec<String>, unknown: &mut Vec<String>) {
        let (above, before) = (gate.above, findings.len());
        let is_above = |row: &&DiffRow<'_>| row.ratio.is_some_and(|ratio| ratio.0 > 1.0 + above);
        for row in self.rows.iter().filter(is_above) {
            let percent = row.ratio.map_or(0.0, |ratio| 100.0 * (ratio.0 - 1.0));
            let name = &row.name;
            match row.class {
                Class::Slower => findings.push(format!("{gate}: {name} takes {percent:+.1} %")),
                Class::Environment => unknown.push(format!(
                    "{gate}: {name} takes {percent:+.1} %, but what the sides ran on differs, too"
                )),
                _ => {}
            }
        }
        if findings.len() == before {
            unknown.extend(self.weakness(gate));
        }
    }

    /// Why a large function could have become slower unseen; none if none could.
    fn weakness(&self, gate: &Gate) -> Option<String> {
        let size = |row: &DiffRow<'_>| row.share[0].max(row.share[1]);
        let tested = || self.rows.iter().filter(|row| row.ratio.is_some_and(|it| it.1.is_some()));
        let largest = tested().map(size).fold(0.0, f64::max);
        let large = tested().filter(|row| size(row) >= LARGE_SHARE.min(largest));
        let wanted = (1.0 + gate.above).ln();
        let mut worst: Option<(f64, &DiffRow<'_>)> = None;
        for row in large {
            let Some((_, Some((low, high)))) = row.ratio else { continue };
            let error = (high / low).ln() / 2.0 / self.reach.max(1.0);
            let times = (SIGNIFICANT + POWER) * error / wanted.max(1e-9);
            // Either it would have been found, or it is known not to be so.
            if high.ln() > wanted && times > 1.0 && worst.is_none_or(|worst| times > worst.0) {
                worst = Some((times, row));
            }
        }
        let Some((times, row)) = worst else {
            let nothing = "no function is large enough to be tested";
            return tested().next().is_none().then(|| format!("{gate}: {nothing}"));
        };
        let runs = self.sides[0].runs.min(self.sides[1].runs) as f64;
        // The variance goes by the number of runs, or by that of samples in as many.
        let needed = (runs * times * times).ceil();
        let samples = self.sides[0].samples.min(self.sides[1].samples).max(1) as f64;
        Some(format!(
            "{gate}: {} of {:.1} % could be slower by that unseen; it takes about {needed:.0} runs a side \
             like these ({} samples)",
            row.name,
            100.0 * size(row),
            thousands(samples * times * times)
        ))
    }

    fn new_ones(&self, gate: &Gate, findings: &mut Vec<String>) {
        for row in self.rows.iter().filter(|row| row.class == Class::New) {
            if row.share[1] > gate.above {
                let percent = 100.0 * row.share[1];
                findings.push(format!("{gate}: {} is new and takes {percent:.1} %", row.name));
            }
        }
    }

    fn in_all(&self, gate: &Gate, findings: &mut Vec<String>, unknown: &mut Vec<String>) {
        let Some(total) = self.total else { return };
        let (Some(chance), Some((_, high))) = (total.chance, total.interval) else { return };
        let percent = 100.0 * (total.ratio - 1.0);
        let differs = self.environment.iter().any(crate::environment::decides_speed);
        let is_above = chance < TOTAL_CHANCE && total.ratio > 1.0 + gate.above;
        match (is_above, differs) {
            (true, false) => findings.push(format!("{gate}: both in all differ by {percent:+.1} %")),
            (true, true) => unknown.push(format!(
                "{gate}: both in all differ by {percent:+.1} %, but what the sides ran on differs, too"
            )),
            _ if high > 1.0 + gate.above => unknown.push(format!(
                "{gate}: both in all differ by {percent:+.1} %, and by up to {:+.1} % for what is known; it \
                 takes more runs",
                100.0 * (high - 1.0)
            )),
            _ => {}
        }
    }
}

/// A number of samples, as people say it.
fn thousands(count: f64) -> String {
    match count {
        1e6.. => format!("{:.1} million", count / 1e6),
        1e3.. => format!("{:.0},000", count / 1e3),
        _ => format!("{count:.0}"),
    }
}
