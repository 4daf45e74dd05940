//! A comparison as a page that needs nothing else: the table, with a filter, and the flame graph. Its policy
//! allows its own style and script, by their hashes, and nothing from elsewhere.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use profpipe_formats::report::amount;
use sha2::{Digest as _, Sha256};

use super::Report;
use super::wording::{environment, function, printable};

/// The most functions of a page.
const MAX_ROWS: usize = 1_000;
/// The depth that is drawn: more does not fit a picture.
const MAX_DEPTH: u32 = 200;
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The picture, in its own units.
const WIDTH: f64 = 1_200.0;
const HEIGHT: f64 = 17.0;
/// How wide a letter is.
const LETTER: f64 = 6.6;

impl Report<'_> {
    pub(super) fn to_html(&self) -> String {
        let title = escaped(&printable(&format!("profpipe diff: {}", self.subject())));
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\
             \"Content-Security-Policy\" content=\"{policy}\">\n<meta name=\"viewport\" content=\
             \"width=device-width\"><title>{title}</title>\n<style>{STYLE}</style></head><body>\n\
             <h1>{title}</h1>\n"
        );
        self.push_head(&mut page);
        self.push_picture(&mut page);
        self.push_table(&mut page);
        let _ = writeln!(page, "<script>{SCRIPT}</script></body></html>");
        page
    }

    fn push_head(&self, page: &mut String) {
        page.push_str("<ul>\n");
        let item = |page: &mut String, class: &str, text: &str| {
            let text = escaped(&printable(text));
            let _ = writeln!(page, "<li class=\"{class}\">{text}</li>");
        };
        for line in self.conclusion().unwrap_or_default() {
            item(page, "verdict", &line);
        }
        for (name, side) in ["base", "new"].iter().zip(&self.diff.sides) {
            item(page, "side", &format!("{name}: {}", self.side(side)));
        }
        if let Some(total) = self.total() {
            item(page, "side", &format!("total: {total}"));
        }
        for line in environment(&self.diff.environment) {
            item(page, "environment", &format!("environment: {line}"));
        }
        if let Some(why) = &self.diff.why {
            item(page, "verdict", &format!("not tested: {why}"));
        }
        if let Some(method) = self.method() {
            item(page, "method", &method);
        }
        page.push_str("</ul>\n");
    }

    fn push_picture(&self, page: &mut String) {
        let frames: Vec<_> = self.frames().into_iter().filter(|it| it.depth < MAX_DEPTH).collect();
        let depth = frames.iter().map(|it| it.depth + 1).max().unwrap_or(1);
        let height = f64::from(depth) * HEIGHT;
        let unit = self.diff.profile_type.unit();
        let _ = writeln!(
            page,
            "<p class=\"legend\">Widths are those of the new side; orange takes more, blue takes less, grey \
             cannot be told from the same.</p>\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"flame graph of the new side\">"
        );
        for frame in frames {
            let (x, width) = (frame.start * WIDTH, (frame.end - frame.start) * WIDTH);
            if width < 0.5 {
                continue;
            }
            let y = f64::from(frame.depth) * HEIGHT;
            let [red, green, blue] = frame.color;
            let [base, new] = frame.totals.map(|total| amount(total, unit));
            let name = printable(&frame.name);
            let _ = write!(
                page,
                "<g><title>{}: {base} → {new}</title><rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" \
                 height=\"{:.0}\" fill=\"#{red:02x}{green:02x}{blue:02x}\"/>",
                escaped(&name),
                HEIGHT - 1.0
            );
            let letters = ((width - 4.0) / LETTER) as usize;
            if letters >= 3 {
                let label = shortened(&name, letters);
                let _ = write!(
                    page,
                    "<text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                    x + 2.0,
                    y + 12.0,
                    escaped(&label)
                );
            }
            page.push_str("</g>\n");
        }
        page.push_str("</svg>\n");
    }

    fn push_table(&self, page: &mut String) {
        let rows = match self.limit {
            Some(_) => self.shown(MAX_ROWS),
            None => self.diff.rows.get(..MAX_ROWS).unwrap_or(&self.diff.rows),
        };
        page.push_str(
            "<p><label>Filter <input id=\"filter\" type=\"search\"></label></p>\n<table><thead><tr>\
             <th>function</th><th>base</th><th>new</th><th>delta</th><th>ratio</th><th>q</th><th>class</th>\
             <th>base cost</th><th>new cost</th></tr></thead><tbody>\n",
        );
        for row in rows {
            let [base, new] = row.share.map(|share| format!("{:.2} %", 100.0 * share));
            let [base_cost, new_cost] = self.costs(row);
            let kind = if row.is_finding() { "finding" } else { "same" };
            let _ = write!(page, "<tr class=\"{kind}\"><td>{}</td>", escaped(&function(row)));
            let (delta, ratio, q) = (self.delta(row), Self::ratio(row), Self::q(row));
            let class = Self::class(row).to_owned();
            for cell in [base, new, delta, ratio, q, class, base_cost, new_cost] {
                let _ = write!(page, "<td>{}</td>", escaped(&printable(&cell)));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table>\n");
        if let Some(rest) = self.rest(rows.len()) {
            let _ = writeln!(page, "<p>{}</p>", escaped(&rest));
        }
    }
}

/// A name that is too long, from the middle.
fn shortened(name: &str, letters: usize) -> String {
    let count = name.chars().count();
    if count <= letters {
        return name.to_owned();
    }
    let last = (letters - 1) / 2;
    let first = letters - 1 - last;
    name.chars().take(first).chain(['…']).chain(name.chars().skip(count - last)).collect()
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// A text as HTML and as the value of an attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char => escaped.push(char),
        }
    }
    escaped
}
