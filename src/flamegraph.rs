//! Stacks as a picture: a static flame graph in SVG.

use std::borrow::Cow;

use anyhow::{Context, bail};
use inferno::flamegraph::{Options, from_lines};
use profpipe_formats::report::{CollapsedStacks, amount};

/// The frames of a stack that are drawn, from the root: more do not fit a picture.
const MAX_DEPTH: usize = 1000;

/// Draws stacks. The same stacks give the same picture; frames of one name have one color.
///
/// # Errors
/// If there is nothing to draw.
pub(crate) fn draw(collapsed: &CollapsedStacks) -> anyhow::Result<Vec<u8>> {
    let costs = || collapsed.iter().filter_map(|(_, cost)| u64::try_from(cost).ok());
    let total: u128 = costs().map(u128::from).sum();
    if total == 0 {
        bail!("there are no samples of `{}` to draw", collapsed.profile_type);
    }
    // Sums beyond what a double counts exactly: nobody sees the lowest bits in a picture.
    let shift = (128 - total.leading_zeros()).saturating_sub(53);
    let (scale, unit) = scale(&collapsed.unit, total, &collapsed.profile_type);
    let mut lines = Vec::new();
    for (stack, cost) in collapsed.iter() {
        let Some(cost) = u64::try_from(cost).ok().map(|cost| cost >> shift) else { continue };
        let mut line = String::new();
        for name in stack.take(MAX_DEPTH) {
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&frame_name(name));
        }
        if line.is_empty() {
            line.push_str("[no stack]");
        }
        lines.push(format!("{line} {cost}"));
    }
    let mut options = Options::default();
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    options.title = match collapsed.unit.as_str() {
        "count" => format!("{total} {}", collapsed.profile_type),
        unit => format!("{}: {}", collapsed.profile_type, amount(total, unit)),
    };
    options.count_name = unit;
    options.factor = scale * 2_f64.powi(shift as i32);
    options.deterministic = true;
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)
        .context("cannot draw the flame graph")?;
    Ok(svg)
}

/// The unit in which costs are shown without a fraction, and what one of the profile's unit is in
/// it.
fn scale(unit: &str, total: u128, kind: &str) -> (f64, String) {
    let (scale, name) = match unit {
        "nanoseconds" if total >= 10_000_000_000 => (1e-6, "ms"),
        "nanoseconds" if total >= 10_000_000 => (1e-3, "us"),
        "nanoseconds" => (1.0, "ns"),
        "bytes" if total >= 10 << 20 => (1.0 / 1024.0, "KiB"),
        "count" | "" => (1.0, kind),
        unit => (1.0, unit),
    };
    (scale, name.to_owned())
}

/// A name without what has a meaning in the lines that are drawn, or none in XML.
fn frame_name(name: &str) -> Cow<'_, str> {
    let last_word = name.rsplit(char::is_whitespace).next().unwrap_or_default();
    // A number at the end would be taken for a cost.
    let ends_in_number = last_word.starts_with(|char: char| char.is_ascii_digit());
    let is_special = |char: char| char == ';' || char == '#' || char.is_control();
    if !ends_in_number && !name.contains(is_special) {
        return Cow::Borrowed(name);
    }
    let plain = |char| match char {
        ';' => ':',
        // Looks the same and is no separator.
        ' ' if ends_in_number => '\u{a0}',
        char if char.is_control() => '\u{fffd}',
        char => char,
    };
    Cow::Owned(name.chars().map(plain).collect())
}
