//! Stacks as a picture: a static flame graph in SVG.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, bail};
use inferno::flamegraph::color::{Color, PaletteMap};
use inferno::flamegraph::{Options, from_lines};
use profpipe_formats::report::{CollapsedStacks, amount};

/// The frames of a stack that are drawn, from the root: more do not fit a picture.
const MAX_DEPTH: usize = 1000;

/// A flame graph.
#[derive(Debug)]
pub(crate) struct Drawing {
    /// The picture.
    pub(crate) svg: Vec<u8>,
    /// What is not as it seems: what was left out, and what widths are where costs have signs.
    pub(crate) notes: Vec<String>,
}

/// Draws stacks. The same stacks give the same picture; frames of one name have one color, except
/// where some costs are below zero, as in a difference: widths are absolute values then, and colors
/// tell what grew (red) and what shrank (blue).
///
/// # Errors
/// If there is nothing to draw.
pub(crate) fn draw(collapsed: &CollapsedStacks) -> anyhow::Result<Drawing> {
    let (gains, losses) = collapsed.gains_and_losses();
    let total = gains + losses;
    if total == 0 {
        bail!("there are no samples of `{}` to draw", collapsed.profile_type);
    }
    // Sums beyond what a double counts exactly, and twice that in a difference: nobody sees the
    // lowest bits in a picture.
    let shift = (128 - total.leading_zeros()).saturating_sub(52);
    let (scale, unit) = scale(&collapsed.unit, total, &collapsed.profile_type);
    let mut lines = Vec::new();
    let mut cut = 0;
    for (stack, cost) in collapsed.iter() {
        let mut line = String::new();
        cut += usize::from(stack.len() > MAX_DEPTH);
        for name in stack.take(MAX_DEPTH) {
            if line.is_empty() {
                line.push_str(&root_name(name));
            } else {
                line.push(';');
                line.push_str(&frame_name(name));
            }
        }
        if line.is_empty() {
            line.push_str("[no stack]");
        }
        let width = cost.unsigned_abs() >> shift;
        lines.push(match (losses, cost < 0) {
            (0, _) => format!("{line} {width}"),
            // What was there before and after, so that both differ by the cost.
            (_, false) => format!("{line} 0 {width}"),
            (_, true) => format!("{line} {} {width}", 2 * width),
        });
    }
    let mut options = Options::default();
    options.title = printable(&title(collapsed, gains, losses));
    options.count_name = printable(&unit);
    options.factor = scale * 2_f64.powi(shift as i32);
    options.deterministic = true;
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)
        .context("cannot draw the flame graph")?;
    let mut notes = Vec::new();
    if losses > 0 {
        notes.push("some values are below zero: widths are absolute values".to_owned());
    }
    if cut > 0 {
        notes.push(format!("{cut} stacks are drawn without what is beyond {MAX_DEPTH} frames"));
    }
    Ok(Drawing { svg, notes })
}

/// Stacks whose frames have colors of their own.
#[derive(Debug)]
pub(crate) struct Colored<'c> {
    /// What the picture is of.
    pub(crate) title: &'c str,
    /// The unit of costs.
    pub(crate) unit: &'c str,
    /// Stacks, root first, with their costs.
    pub(crate) stacks: Vec<(Vec<String>, u64)>,
    /// By name: red, green and blue.
    pub(crate) palette: BTreeMap<String, [u8; 3]>,
}

/// Draws stacks in their colors.
///
/// # Errors
/// If there is nothing to draw.
pub(crate) fn draw_colored(colored: &Colored<'_>) -> anyhow::Result<Vec<u8>> {
    let total: u128 = colored.stacks.iter().map(|(_, cost)| u128::from(*cost)).sum();
    if total == 0 {
        bail!("there is nothing to draw");
    }
    let shift = (128 - total.leading_zeros()).saturating_sub(52);
    let (scale, unit) = scale(colored.unit, total, "");
    let mut palette = PaletteMap::default();
    for (name, [red, green, blue]) in &colored.palette {
        let color = Color::new(*red, *green, *blue);
        // A name at the root is written in another way where it would be a comment.
        palette.insert(frame_name(name), color);
        palette.insert(root_name(name), color);
    }
    let mut lines = Vec::with_capacity(colored.stacks.len());
    for (stack, cost) in &colored.stacks {
        let mut line = String::new();
        for name in stack.iter().take(MAX_DEPTH) {
            match line.is_empty() {
                true => line.push_str(&root_name(name)),
                false => {
                    line.push(';');
                    line.push_str(&frame_name(name));
                }
            }
        }
        lines.push(format!("{line} {}", cost >> shift));
    }
    let mut options = Options::default();
    options.title = printable(colored.title);
    options.count_name = printable(&unit);
    options.factor = scale * 2_f64.powi(shift as i32);
    options.deterministic = true;
    options.palette_map = Some(&mut palette);
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)
        .context("cannot draw the flame graph")?;
    Ok(svg)
}

/// What the picture is of.
fn title(collapsed: &CollapsedStacks, gains: u128, losses: u128) -> String {
    let kind = &collapsed.profile_type;
    let amount = |cost: u128| match collapsed.unit.as_str() {
        "count" => cost.to_string(),
        unit => amount(i64::try_from(cost).unwrap_or(i64::MAX), unit),
    };
    match (losses, collapsed.unit.as_str()) {
        (0, "count") => format!("{} {kind}", amount(gains)),
        (0, _) => format!("{kind}: {}", amount(gains)),
        _ => format!(
            "{kind}: +{} and -{}, widths are absolute values",
            amount(gains),
            amount(losses)
        ),
    }
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

/// A text without what XML has no place for.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

/// The name of the first frame of a line, which must not make a comment of it.
fn root_name(name: &str) -> Cow<'_, str> {
    let name = frame_name(name);
    match name.strip_prefix("# ") {
        // Looks the same and is no comment.
        Some(rest) => Cow::Owned(format!("#\u{a0}{rest}")),
        None => name,
    }
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
