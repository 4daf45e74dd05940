//! The query of `POST /ingest`: `name=app.cpu{region=eu}&from=…&until=…&format=…`.
//!
//! As Pyroscope reads it: what is missing or makes no sense has a default, only the name is needed.

use std::borrow::Cow;

use super::labels::quote;
use super::push::Malformed;

/// The rate that is assumed if none is given.
const DEFAULT_RATE: u32 = 100;

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// pprof, compressed or not.
    Pprof,
    /// A form with a pprof profile in it.
    Multipart,
    /// `root;caller;leaf 12` a line.
    Groups,
    /// `root;caller;leaf` a line, each seen once.
    Lines,
    /// One that is not read.
    Unsupported(&'static str),
}

/// What the query says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// The application, possibly with a last part that says what was counted.
    pub(super) app: String,
    pub(super) labels: Vec<(String, String)>,
    /// In nanoseconds since the Unix epoch.
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) format: Format,
    /// Samples per second; 0 says that values are not samples.
    pub(super) rate: u32,
    pub(super) spy: String,
}

impl Query {
    /// Reads a query and the type of the content; `now` is in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// If the name is missing or wrong.
    pub(super) fn parse(query: &str, content_type: &str, now: u64) -> Result<Self, Malformed> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()).take(64) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((percent(key)?, percent(value)?));
        }
        let get = |wanted: &str| {
            let found = pairs.iter().find(|(key, _)| key == wanted);
            found.map(|(_, value)| value.as_ref()).unwrap_or_default()
        };
        let (app, labels) = name(get("name"))?;
        let rate = get("sampleRate").parse().unwrap_or(DEFAULT_RATE);
        let spy = Some(get("spyName")).filter(|spy| !spy.is_empty()).unwrap_or("unknown");
        Ok(Self {
            app,
            labels,
            from: time(get("from"), now),
            until: time(get("until"), now),
            format: format(get("format"), content_type),
            rate,
            spy: spy.to_owned(),
        })
    }
}

fn format(format: &str, content_type: &str) -> Format {
    match (format, content_type) {
        ("trie", _) | (_, "binary/octet-stream+trie") => Format::Unsupported("trie"),
        ("tree", _) | (_, "binary/octet-stream+tree") => Format::Unsupported("tree"),
        ("lines", _) => Format::Lines,
        ("jfr", _) => Format::Unsupported("jfr"),
        ("speedscope", _) => Format::Unsupported("speedscope"),
        // Older agents send a form and say that it is pprof.
        ("pprof", kind) if !kind.contains("multipart/form-data") => Format::Pprof,
        (_, kind) if kind.contains("multipart/form-data") => Format::Multipart,
        _ => Format::Groups,
    }
}

/// `app.cpu{region=eu,zone=a}`: the application and the labels; a later label of a name wins.
fn name(text: &str) -> Result<(String, Vec<(String, String)>), Malformed> {
    let (app, rest) = text.split_once('{').unwrap_or((text, ""));
    let app = app.trim();
    let is_name = |char: char| char.is_ascii_alphanumeric() || "-._/".contains(char);
    if app.is_empty() {
        return Err(Malformed("the query parameter `name` is missing".to_owned()));
    }
    if !app.chars().all(is_name) {
        let what = format!("name: `{}` is not an application's name", quote(app));
        return Err(Malformed(what));
    }
    let mut labels: Vec<(String, String)> = Vec::new();
    let rest = rest.split_once('}').map_or(rest, |(inside, _)| inside);
    for pair in rest.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (key.trim(), value.trim());
        let is_key = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
        if key.is_empty() || !key.chars().all(is_key) {
            return Err(Malformed(format!("name: `{}` is not a label's name", quote(key))));
        }
        match labels.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.to_owned(),
            None => labels.push((key.to_owned(), value.to_owned())),
        }
    }
    Ok((app.to_owned(), labels))
}

/// A time: a number whose length gives its unit, `now`, or `now-1h`. What is neither is now.
fn time(text: &str, now: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    if let Some(ago) = text.strip_prefix("now-") {
        let at = ago.find(|char: char| !char.is_ascii_digit()).unwrap_or(ago.len());
        let (count, unit) = ago.split_at(at);
        let seconds = match unit {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 7 * 86_400,
            _ => 0,
        };
        let ago = count.parse().unwrap_or(0_u64).saturating_mul(seconds).saturating_mul(SECOND);
        return now.saturating_sub(ago);
    }
    let digits = text.split('.').next().unwrap_or_default();
    let Ok(number) = digits.parse::<u64>() else { return now };
    match digits.len() {
        8 => date(number).unwrap_or(number.saturating_mul(SECOND)),
        13 => number.saturating_mul(1_000_000),
        16 => number.saturating_mul(1_000),
        19 => number,
        _ => number.saturating_mul(SECOND),
    }
}

/// `YYYYMMDD`, if it can be one.
fn date(number: u64) -> Option<u64> {
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    if !(1901..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the epoch, in years that begin in March (Hinnant, "chrono-compatible dates").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468).and_then(|days| days.checked_mul(86_400_000_000_000))
}

/// Decodes `%41` and `+`.
fn percent(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.contains(['%', '+']) {
        return Ok(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(Malformed("the query has a broken % escape".to_owned())),
                }
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes);
    text.map(Cow::Owned).map_err(|_| Malformed("the query is not UTF-8 text".to_owned()))
}
