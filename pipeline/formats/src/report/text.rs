//! The table of the most expensive functions, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::top::{StackCounts, Top};
use super::units::{amount, percent};

/// What programs read; the order of the fields is public.
#[derive(Serialize)]
struct Json<'a> {
    profile_type: &'a str,
    unit: &'a str,
    total: i64,
    /// What shares are of; only where it is not the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    absolute_total: Option<u64>,
    samples: i64,
    lost: i64,
    functions: Vec<JsonFunction<'a>>,
}

#[derive(Serialize)]
struct JsonFunction<'a> {
    name: &'a str,
    module: &'a str,
    #[serde(rename = "self")]
    own: i64,
    total: i64,
}

impl Top {
    /// The first `n` functions as an aligned table under a line that sums up. Ends with a line end.
    pub fn to_text(&self, n: usize) -> String {
        let mut text = format!(
            "{}: {} in {} samples, {} lost\n",
            printable(&self.profile_type),
            amount(self.total, &self.unit),
            self.samples,
            self.lost
        );
        if self.stacks != (StackCounts { complete: self.stacks.complete, ..Default::default() }) {
            let samples = u128::try_from(self.samples).unwrap_or_default();
            let shares: Vec<_> = self
                .stacks
                .named()
                .map(|(name, count)| percent(count, samples) + " " + name)
                .collect();
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "stacks: {}", shares.join(", "));
        }
        if self.has_negative {
            let _ = writeln!(
                text,
                "some values are below zero: shares are of {}, the sum of absolute values",
                amount(i64::try_from(self.absolute_total).unwrap_or(i64::MAX), &self.unit)
            );
        }
        let rows: Vec<[String; 6]> = self
            .functions
            .iter()
            .take(n)
            .map(|one| {
                [
                    amount(one.own, &self.unit),
                    percent(one.own, self.absolute_total),
                    amount(one.total, &self.unit),
                    percent(one.total, self.absolute_total),
                    printable(&one.module),
                    printable(&one.name),
                ]
            })
            .collect();
        let head = ["self", "%", "total", "%", "module", "function"].map(str::to_owned);
        let mut widths = [0; 6];
        for row in std::iter::once(&head).chain(&rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let [own, own_share, total, total_share, module, _] = widths;
        for [a, b, c, d, e, f] in std::iter::once(&head).chain(&rows) {
            let _ = writeln!(
                text,
                "{a:>own$}  {b:>own_share$}  {c:>total$}  {d:>total_share$}  {e:<module$}  {f}"
            );
        }
        text
    }

    /// The first `n` functions as one line of JSON.
    pub fn to_json(&self, n: usize) -> String {
        let functions = self.functions.iter().take(n);
        let json = Json {
            profile_type: &self.profile_type,
            unit: &self.unit,
            total: self.total,
            absolute_total: self
                .has_negative
                .then(|| u64::try_from(self.absolute_total).unwrap_or(u64::MAX)),
            samples: self.samples,
            lost: self.lost,
            functions: functions
                .map(|one| JsonFunction {
                    name: &one.name,
                    module: &one.module,
                    own: one.own,
                    total: one.total,
                })
                .collect(),
        };
        // Texts and numbers cannot fail to be JSON.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// A name without what would move the cursor: names come from files of strangers.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}
