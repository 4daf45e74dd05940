//! A comparison for people, as a table.

use std::fmt::Write as _;

use super::Report;
use super::wording::{environment, function};

impl Report<'_> {
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let diff = self.diff;
        let _ = writeln!(text, "{}", super::wording::printable(&self.subject()));
        for (name, side) in ["base", "new"].iter().zip(&diff.sides) {
            let _ = writeln!(text, "{name}: {}", self.side(side));
        }
        if let Some(total) = self.total() {
            let _ = writeln!(text, "total: {}", super::wording::printable(&total));
        }
        for line in environment(&diff.environment) {
            let _ = writeln!(text, "environment: {line}");
        }
        if let Some(why) = &diff.why {
            let _ = writeln!(text, "not tested: {why}");
        }
        let rows = self.shown(usize::MAX);
        let mut lines = vec![
            ["base", "new", "delta", "ratio", "q", "class", "base cost", "new cost"]
                .map(str::to_owned),
        ];
        for row in rows {
            let [base, new] = row.share.map(|share| format!("{:.2}%", 100.0 * share));
            let [base_cost, new_cost] = self.costs(row);
            let (ratio, q, class) = (Self::ratio(row), Self::q(row), Self::class(row).to_owned());
            lines.push([base, new, self.delta(row), ratio, q, class, base_cost, new_cost]);
        }
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; 8] = std::array::from_fn(width);
        let names = std::iter::once("function".to_owned()).chain(rows.iter().map(function));
        for (line, name) in lines.iter().zip(names) {
            for (cell, width) in line.iter().zip(widths) {
                let _ = write!(text, "{cell:>width$}  ");
            }
            let _ = writeln!(text, "{name}");
        }
        for line in self.rest(rows.len()).into_iter().chain(self.method()) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
