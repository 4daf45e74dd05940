//! Metrics as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::Write as _;

use super::collector::{Family, MetricKind};
use super::{Buckets, Labels};

/// The type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How names are made, as the Collector's reader has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// No `_total` after what only grows.
    pub without_type_suffix: bool,
    /// No unit in the name.
    pub without_units: bool,
}

/// The text for these metrics.
pub fn render(families: &[Family], style: Style) -> String {
    let mut text = String::new();
    for family in families {
        let mut name = family.name.clone();
        let has_unit = family.unit.is_empty() || name.ends_with(&format!("_{}", family.unit));
        if !style.without_units && !has_unit {
            name.push('_');
            name.push_str(family.unit);
        }
        let sort = match family.sort {
            MetricKind::Sum => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        if family.sort == MetricKind::Sum && !style.without_type_suffix {
            name.push_str("_total");
        }
        // Writing to a string cannot fail.
        if !family.help.is_empty() {
            let _ = writeln!(text, "# HELP {name} {}", escaped(family.help, false));
        }
        let _ = writeln!(text, "# TYPE {name} {sort}");
        for point in &family.points {
            if let Some(buckets) = &point.buckets {
                distribution(&mut text, &name, &point.labels, buckets);
                continue;
            }
            text.push_str(&name);
            for (at, (label, value)) in point.labels.iter().enumerate() {
                let before = if at == 0 { '{' } else { ',' };
                let _ = write!(text, "{before}{label}=\"{}\"", escaped(value, true));
            }
            let after = if point.labels.is_empty() { "" } else { "}" };
            let _ = writeln!(text, "{after} {}", point.value);
        }
    }
    text
}

/// The lines of one distribution: cumulative buckets, sum and count.
fn distribution(text: &mut String, name: &str, labels: &Labels, buckets: &Buckets) {
    let labels: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true)))
        .collect();
    let labels = labels.join(",");
    let comma = if labels.is_empty() { "" } else { "," };
    let bounds = buckets.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    let mut so_far = 0;
    for (bound, count) in bounds.zip(&buckets.counts) {
        so_far += count;
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {so_far}");
    }
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", buckets.sum);
    let _ = writeln!(text, "{name}_count{{{labels}}} {}", buckets.count);
}

/// A text with what would end it escaped.
fn escaped(text: &str, quoted: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quoted => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}
