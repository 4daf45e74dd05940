//! A comparison as a flame graph: widths are those of the new side, colors say what a function does now:
//! orange takes more, blue takes less, grey cannot be told from the same.

use std::collections::BTreeMap;

use profpipe_store::diff::{Class, DiffRow};

use super::Report;
use super::wording::printable;
use crate::flamegraph::{self, Colored};

/// The ratio of which the color is full.
const FULL: f64 = 2.0;
const GREY: [f64; 3] = [214.0, 214.0, 214.0];
/// Of the palette of Okabe and Ito, which those who do not tell red from green tell apart.
const ORANGE: [f64; 3] = [230.0, 130.0, 0.0];
const BLUE: [f64; 3] = [70.0, 140.0, 210.0];

/// A box of the picture.
pub(super) struct Frame {
    pub(super) name: String,
    pub(super) depth: u32,
    /// Where it begins and ends, in parts of the whole.
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) totals: [i64; 2],
    pub(super) color: [u8; 3],
}

impl Report<'_> {
    pub(super) fn to_svg(&self) -> anyhow::Result<Vec<u8>> {
        let tree = &self.diff.tree;
        let colors = self.colors();
        let mut stacks = Vec::new();
        let mut open: Vec<String> = Vec::new();
        let mut palette = BTreeMap::new();
        // The root is the picture's own.
        for node in tree.nodes.iter().skip(1) {
            open.truncate(node.depth.saturating_sub(1) as usize);
            let name = printable(&tree.name(self.table, node));
            let color = node.function.and_then(|function| self.color(&colors, function));
            palette.insert(name.clone(), color.unwrap_or_else(|| color_of(GREY, GREY, 0.0)));
            open.push(name);
            if node.own[1] > 0 {
                stacks.push((open.clone(), node.own[1].unsigned_abs()));
            }
        }
        let tested = match self.diff.why {
            None => "orange takes more, blue less, grey: not told from the same",
            Some(_) => "not tested, pale: orange takes more, blue less",
        };
        let title = format!("{}: new against base; {tested}", self.subject());
        let unit = self.diff.profile_type.unit();
        flamegraph::draw_colored(&Colored { title: &title, unit, stacks, palette })
    }

    /// The boxes of the picture, for those who draw themselves.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let tree = &self.diff.tree;
        let colors = self.colors();
        let whole = tree.nodes.first().map_or(1.0, |root| root.total[1].max(1) as f64);
        let frame = |node: &profpipe_store::Node<2>| Frame {
            name: tree.name(self.table, node),
            depth: node.depth,
            start: node.start as f64 / whole,
            end: (node.start as f64 + node.total[1].max(0) as f64) / whole,
            totals: node.total,
            color: node
                .function
                .and_then(|function| self.color(&colors, function))
                .unwrap_or_else(|| color_of(GREY, GREY, 0.0)),
        };
        tree.nodes.iter().map(frame).collect()
    }

    /// Colors by name and module.
    fn colors(&self) -> BTreeMap<(&str, &str), [u8; 3]> {
        let is_tested = self.diff.why.is_none();
        self.diff.rows.iter().map(|row| ((&*row.name, row.module), color(row, is_tested))).collect()
    }

    fn color(&self, colors: &BTreeMap<(&str, &str), [u8; 3]>, function: u32) -> Option<[u8; 3]> {
        let (name, module) = self.table.compared_name(function);
        colors.get(&(&*name, module)).copied()
    }
}

/// The color of a function: of what it does beyond chance; pale where nothing was tested.
fn color(row: &DiffRow<'_>, is_tested: bool) -> [u8; 3] {
    let ratio = match row.class {
        Class::New => FULL,
        Class::Gone => 1.0 / FULL,
        _ if is_tested && !row.is_finding() => 1.0,
        // It stays the same in all.
        Class::Moved => 1.0,
        _ => row.ratio.map_or(1.0, |ratio| ratio.0),
    };
    let strength = (ratio.ln().abs() / FULL.ln()).clamp(0.0, 1.0);
    let strength = match (is_tested, strength > 0.0) {
        (false, _) => strength * 0.4,
        (true, true) => 0.3 + 0.7 * strength,
        (true, false) => 0.0,
    };
    color_of(GREY, if ratio > 1.0 { ORANGE } else { BLUE }, strength)
}

fn color_of(from: [f64; 3], to: [f64; 3], strength: f64) -> [u8; 3] {
    std::array::from_fn(|at| (from[at] + (to[at] - from[at]) * strength).round() as u8)
}
