//! How amounts and verdicts are written, in whatever format.

use profpipe_formats::report::amount;
use profpipe_store::Difference;
use profpipe_store::diff::{Class, DiffRow, Per, SideTotal, Verdict};

use super::{FUNCTIONS, Report};

impl<'d> Report<'d> {
    /// The functions that are shown.
    pub(super) fn shown(&self, most: usize) -> &'d [DiffRow<'d>] {
        let rows = &self.diff.rows;
        rows.get(..self.limit.unwrap_or(FUNCTIONS).min(most)).unwrap_or(rows)
    }

    /// What is not shown, in a line; none if everything is.
    pub(super) fn rest(&self, shown: usize) -> Option<String> {
        let rest = self.diff.rows.get(shown..).filter(|rest| !rest.is_empty())?;
        let sum = |side: usize| 100.0 * rest.iter().map(|row| row.share[side]).sum::<f64>();
        let findings = rest.iter().filter(|row| row.is_finding()).count();
        let of =
            if findings > 0 { format!(", {findings} of them findings") } else { String::new() };
        let what = if self.is_total() {
            String::new()
        } else {
            format!(": {:.1} % and {:.1} % together", sum(0), sum(1))
        };
        Some(format!("and {} more functions{of}{what}", rest.len()))
    }

    fn is_total(&self) -> bool {
        self.options.by == profpipe_store::diff::Cost::Total
    }

    /// What is compared.
    pub(super) fn subject(&self) -> String {
        let cost = if self.is_total() { "total" } else { "self" };
        let per = match &self.options.per {
            Per::Total => String::new(),
            Per::Time => " per second".to_owned(),
            Per::Named(name) => format!(" per {name}"),
        };
        format!("{} ({cost}{per})", self.diff.profile_type.kind())
    }

    /// One side: how many runs, and what they cost.
    pub(super) fn side(&self, side: &SideTotal) -> String {
        let unit = self.diff.profile_type.unit();
        let runs = if side.runs == 1 { "1 run".to_owned() } else { format!("{} runs", side.runs) };
        let mut text = format!("{runs}, {} samples, {}", side.samples, amount(side.total, unit));
        if side.duration > 0 {
            let seconds = side.duration as f64 / 1e9;
            text.push_str(&format!(" in {seconds:.1} s"));
        }
        let loss = side.loss;
        let of = |what: i64| 100.0 * what as f64 / side.total.max(1) as f64;
        for (what, name) in
            [(loss.lost, "lost"), (loss.truncated, "truncated"), (loss.broken, "broken")]
        {
            if what > 0 {
                text.push_str(&format!(", {:.1} % {name}", of(what)));
            }
        }
        text
    }

    /// Both sides in all.
    pub(super) fn total(&self) -> Option<String> {
        let total = self.diff.total?;
        let of = match &self.options.per {
            Per::Total => "a run".to_owned(),
            Per::Time => "a second".to_owned(),
            Per::Named(name) => format!("for each of `{name}`"),
        };
        let unit = self.diff.profile_type.unit();
        let [base, new] = total.means.map(|mean| amount_of(mean, unit));
        let percent = |ratio: f64| 100.0 * (ratio - 1.0);
        let interval = total.interval.map_or_else(String::new, |(low, high)| {
            format!(" (95 %: {:+.1} % to {:+.1} %)", percent(low), percent(high))
        });
        let verdict = match total.chance {
            None => "",
            Some(chance) if chance < 0.05 => ", beyond chance",
            Some(_) => ", within chance",
        };
        Some(format!("{base} → {new} {of}: {:+.1} %{interval}{verdict}", percent(total.ratio)))
    }

    /// What was tested, and how.
    pub(super) fn method(&self) -> Option<String> {
        let diff = self.diff;
        if diff.why.is_some() {
            return None;
        }
        let factors = match diff.factors {
            0 => String::new(),
            1 => ", without one source of variation that runs have in common".to_owned(),
            more => format!(", without {more} sources of variation that runs have in common"),
        };
        let shares = if self.options.per == Per::Total { " of shares" } else { "" };
        Some(format!(
            "{} functions tested; runs differ by {:.1} % beside what samples make; ratios{shares}{factors}, q: \
             rate of false discoveries",
            diff.tested,
            100.0 * diff.between
        ))
    }

    /// The verdict in a line; none if there were no conditions.
    pub(super) fn conclusion(&self) -> Option<Vec<String>> {
        self.is_gated.then(|| match self.verdict {
            Verdict::Pass => vec!["no finding".to_owned()],
            Verdict::Findings(findings) => findings.clone(),
            Verdict::Undecidable(why) => {
                why.iter().map(|why| format!("not decidable: {why}")).collect()
            }
        })
    }

    /// What a function costs on both sides, as people want it: for a second, for a unit of work, or in all.
    pub(super) fn costs(&self, row: &DiffRow<'_>) -> [String; 2] {
        let unit = self.diff.profile_type.unit();
        match (row.rate, &self.options.per) {
            (Some(rates), Per::Named(_)) => rates.map(|rate| amount_of(rate, unit)),
            (Some(rates), _) => rates.map(|rate| format!("{}/s", amount_of(rate, unit))),
            (None, _) => row.cost.map(|cost| amount(cost, unit)),
        }
    }

    /// The difference with its interval: points of shares, or amounts.
    pub(super) fn delta(&self, row: &DiffRow<'_>) -> String {
        let (delta, interval) = match (&self.options.per, row.rate) {
            (Per::Total, _) | (_, None) => {
                (100.0 * row.delta(), row.interval.map(|it| it.1 - it.0))
            }
            (_, Some([base, new])) => {
                let unit = self.diff.profile_type.unit();
                let half = row.interval.map_or_else(String::new, |(low, high)| {
                    format!(" ± {}", amount_of((high - low) / 2.0, unit))
                });
                let sign = if new >= base { "+" } else { "-" };
                return format!("{sign}{}{half}", amount_of((new - base).abs(), unit));
            }
        };
        match interval {
            Some(width) => format!("{delta:+.2} ± {:.2}", 50.0 * width),
            None => format!("{delta:+.2}"),
        }
    }

    /// The ratio with its interval.
    pub(super) fn ratio(row: &DiffRow<'_>) -> String {
        match row.ratio {
            Some((ratio, Some((low, high)))) => format!("{ratio:.2} ({low:.2}–{high:.2})"),
            Some((ratio, None)) => format!("{ratio:.2}"),
            None => "–".to_owned(),
        }
    }

    pub(super) fn q(row: &DiffRow<'_>) -> String {
        match row.q {
            Some(q) if q < 0.0001 => "<0.0001".to_owned(),
            Some(q) => format!("{q:.4}"),
            None => "–".to_owned(),
        }
    }

    /// The class, which is no verdict if nothing was tested.
    pub(super) fn class(row: &DiffRow<'_>) -> &'static str {
        match row.class {
            Class::Same => "",
            class => class.name(),
        }
    }
}

/// A mean as an amount: below ten with what amounts leave out.
fn amount_of(mean: f64, unit: &str) -> String {
    match mean.abs() {
        small if small < 10.0 && unit == "nanoseconds" => format!("{mean:.2}ns"),
        small if small < 10.0 => format!("{mean:.2}"),
        _ => amount(mean as i64, unit),
    }
}

/// What differs in what the sides ran on, in lines; what is known of one side only is counted.
pub(super) fn environment(differences: &[Difference]) -> Vec<String> {
    let is_known = |it: &&Difference| !it.base.is_empty() && !it.new.is_empty();
    let mut lines: Vec<String> = differences.iter().filter(is_known).map(difference).collect();
    for (side, is_missing) in [
        ("base", (|it: &Difference| it.base.is_empty()) as fn(&Difference) -> bool),
        ("new", |it: &Difference| it.new.is_empty()),
    ] {
        let missing: Vec<String> =
            differences.iter().filter(|it| is_missing(it)).map(|it| printable(&it.key)).collect();
        match missing.as_slice() {
            [] => {}
            [one] => lines.push(format!("{one} is not known of the {side} side")),
            [first, rest @ ..] => lines
                .push(format!("{first} and {} more are not known of the {side} side", rest.len())),
        }
    }
    lines
}

/// A difference of environments in a line.
fn difference(difference: &Difference) -> String {
    let Difference { key, base, new } = difference;
    format!("{}: {} → {}", printable(key), printable(base), printable(new))
}

/// The largest part of a name that is shown: names are as long as their senders want.
const MAX_NAME: usize = 200;

/// A text that steers no terminal and turns no direction, of bounded length.
pub(super) fn printable(text: &str) -> String {
    let turns = |char: char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |char: char| if char.is_control() || turns(char) { '?' } else { char };
    let count = text.chars().count();
    if count <= MAX_NAME {
        return text.chars().map(plain).collect();
    }
    let half = MAX_NAME / 2;
    let first = text.chars().take(half);
    first.chain(['…']).chain(text.chars().skip(count - half)).map(plain).collect()
}

/// A function with its module.
pub(super) fn function(row: &DiffRow<'_>) -> String {
    let (name, module) = (printable(&row.name), printable(row.module));
    if module.is_empty() || name.starts_with(&format!("{module}+")) {
        return name;
    }
    format!("{name} ({module})")
}
