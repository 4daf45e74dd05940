//! A comparison as a comment on a pull request: short, and of names that cannot write markdown. What comes
//! from profiles stands in `<code>`, in which no platform makes links or mentions of a text.

use std::fmt::Write as _;

use super::Report;
use super::wording::{environment, function, printable};

/// The most functions.
const MAX_ROWS: usize = 20;
/// What starts or ends something in markdown or HTML, or makes a link of a text.
const SPECIAL: &str = "\\`*_{}[]()<>#!|~@:&$/=^\"'";

impl Report<'_> {
    pub(super) fn to_markdown(&self) -> String {
        let mut text = String::new();
        let diff = self.diff;
        let _ = writeln!(text, "### profpipe diff: {}\n", code(&self.subject()));
        for line in self.conclusion().unwrap_or_default() {
            let _ = writeln!(text, "- **{}**", code(&line));
        }
        if let Some(total) = self.total() {
            let _ = writeln!(text, "- total: {}", code(&total));
        }
        for (name, side) in ["base", "new"].iter().zip(&diff.sides) {
            let _ = writeln!(text, "- {name}: {}", code(&self.side(side)));
        }
        for line in environment(&diff.environment) {
            let _ = writeln!(text, "- environment: {}", code(&line));
        }
        if let Some(why) = &diff.why {
            let _ = writeln!(text, "- not tested: {}", code(why));
        }
        let rows = self.shown(MAX_ROWS);
        if !rows.is_empty() {
            text.push_str(
                "\n| function | base | new | delta | ratio | q | class | base cost | new cost |\n",
            );
            text.push_str("|:--|--:|--:|--:|--:|--:|:--|--:|--:|\n");
        }
        for row in rows {
            let [base, new] = row.share.map(|share| format!("{:.2} %", 100.0 * share));
            let [base_cost, new_cost] = self.costs(row);
            let class = match row.is_finding() {
                true => format!("**{}**", Self::class(row)),
                false => Self::class(row).to_owned(),
            };
            let _ = writeln!(
                text,
                "| {} | {base} | {new} | {} | {} | {} | {class} | {} | {} |",
                code(&function(row)),
                self.delta(row),
                Self::ratio(row),
                Self::q(row).replace('<', "&lt;"),
                plain(&base_cost),
                plain(&new_cost),
            );
        }
        for line in self.rest(rows.len()).into_iter().chain(self.method()) {
            let _ = writeln!(text, "\n{}", plain(&printable(&line)));
        }
        text
    }
}

/// A text as it is: what means something in markdown or HTML is written as a character of HTML.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if SPECIAL.contains(char) {
            let _ = write!(plain, "&#{};", u32::from(char));
        } else {
            plain.push(char);
        }
    }
    plain
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", plain(&printable(text)))
}
