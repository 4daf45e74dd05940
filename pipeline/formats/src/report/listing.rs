//! What the lines of a function cost, as `pprof -list` tells it.
//!
//! A function is what has one name and one source file; code of it that was inlined elsewhere counts. A
//! line that is in a stack several times counts once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use profpipe_profile::{Dictionary, LocationIx, MappingIx, Profiles};
use regex::Regex;

use super::ReportError;
use super::choice::Choice;
use super::weights::{FrameBudget, Processes, Weights};

/// The most frames that are looked at: 256 MiB of them.
const MAX_FRAMES: usize = 1 << 26;

/// What a place costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaceCost {
    /// By itself.
    pub own: i64,
    /// With all that it calls.
    pub total: i64,
}

impl PlaceCost {
    fn add(&mut self, other: Self) {
        self.own = self.own.saturating_add(other.own);
        self.total = self.total.saturating_add(other.total);
    }
}

/// A function in one source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routine {
    /// The name of the function.
    pub name: String,
    /// The source file; empty if it is not known.
    pub file: String,
    /// The lines that have costs, with the line where their function starts (0: unknown), in order.
    pub lines: Vec<(i64, i64, PlaceCost)>,
    /// The instructions that have costs.
    pub instructions: Vec<InstructionCost>,
}

impl Routine {
    /// The sum over all lines.
    pub fn cost(&self) -> PlaceCost {
        let mut sum = PlaceCost::default();
        self.lines.iter().for_each(|(_, _, cost)| sum.add(*cost));
        sum
    }

    /// The first and the last line to show: from the start of the function to some lines behind the last
    /// that costs anything, exactly as pprof chooses them.
    pub fn range(&self) -> (i64, i64) {
        const MARGIN: i64 = 5;
        let start_of = |(line, start, _): &(i64, i64, PlaceCost)| match *start {
            0 => line.saturating_sub(MARGIN),
            start => start,
        };
        let Some(first) = self.lines.first() else { return (1, 0) };
        let (mut start, mut end) = (start_of(first), first.0.saturating_add(MARGIN));
        for line in &self.lines {
            let of_line = start_of(line);
            if of_line < start {
                start = of_line;
            } else {
                end = end.max(line.0.saturating_add(MARGIN));
            }
        }
        (start.max(1), end)
    }
}

/// An instruction that costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstructionCost {
    /// The mapping that it is in.
    pub mapping: MappingIx,
    /// Its address, as the file numbers them; of a caller, within its call.
    pub address: u64,
    /// What it costs.
    pub cost: PlaceCost,
}

/// The lines of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The unit of all costs.
    pub unit: String,
    /// The sum of the absolute values of all samples.
    pub total: u128,
    /// The functions, by name and file.
    pub routines: Vec<Routine>,
}

/// A line of a function, as a node of a graph of lines is told from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node<'a> {
    name: &'a str,
    /// In its shortest form.
    file: Cow<'a, str>,
    start: i64,
    line: i64,
}

#[derive(Default)]
struct Sum {
    cost: PlaceCost,
    /// The last stack that it was in: it counts once.
    stack: usize,
}

/// What the lines of the functions with a matching name cost, of one sample type.
///
/// # Errors
/// If there is no such sample type, or the stacks are too many.
pub fn list(
    profiles: &Profiles,
    wanted: Option<&str>,
    name: &Regex,
) -> Result<Listing, ReportError> {
    let choice = Choice::new(profiles, wanted)?;
    let dictionary = &profiles.dictionary;
    let mut lines: HashMap<Node<'_>, Sum, RandomState> = HashMap::default();
    let mut instructions: HashMap<(&str, Cow<'_, str>, LocationIx), Sum, RandomState> =
        HashMap::default();
    let mut matches: HashMap<&str, bool, RandomState> = HashMap::default();
    let mut budget = FrameBudget::new(MAX_FRAMES);
    let mut stacks = 0;
    for mut weights in Weights::of(dictionary, &choice, &mut Processes::new(false)) {
        for ((_, stack), weight) in weights.take() {
            budget.start_stack();
            stacks += 1;
            if weight == 0 {
                continue;
            }
            let mut is_leaf = true;
            for (location, dropped) in weights.frames(stack) {
                let row = dictionary.locations.get(location);
                budget.take(row.lines.len())?;
                if row.lines.is_empty() {
                    is_leaf = false;
                }
                for node in row.lines.iter().skip(dropped).map(|line| node(dictionary, *line)) {
                    let own = if std::mem::replace(&mut is_leaf, false) { weight } else { 0 };
                    if !*matches.entry(node.name).or_insert_with(|| name.is_match(node.name)) {
                        continue;
                    }
                    let of_place = instructions.entry((node.name, node.file.clone(), location));
                    for sum in [lines.entry(node).or_default(), of_place.or_default()] {
                        let is_first = std::mem::replace(&mut sum.stack, stacks) != stacks;
                        sum.cost.add(PlaceCost { own, total: if is_first { weight } else { 0 } });
                    }
                }
            }
        }
    }
    let mut routines: BTreeMap<(&str, Cow<'_, str>), Routine> = BTreeMap::new();
    let routine = |name: &str, file: &str| Routine {
        name: name.to_owned(),
        file: file.to_owned(),
        lines: Vec::new(),
        instructions: Vec::new(),
    };
    for (Node { name, file, start, line }, Sum { cost, .. }) in lines {
        if cost != PlaceCost::default() {
            let of = routines.entry((name, file.clone())).or_insert_with(|| routine(name, &file));
            of.lines.push((line, start, cost));
        }
    }
    for ((name, file, location), Sum { cost, .. }) in instructions {
        if let Some(of) = routines.get_mut(&(name, file))
            && cost != PlaceCost::default()
        {
            let row = dictionary.locations.get(location);
            of.instructions.push(InstructionCost {
                mapping: row.mapping,
                address: row.address,
                cost,
            });
        }
    }
    let mut routines: Vec<_> = routines.into_values().collect();
    for routine in &mut routines {
        routine.lines.sort_unstable_by_key(|(line, start, _)| (*line, *start));
        routine.instructions.sort_unstable_by_key(|it| (it.mapping, it.address));
        routine.instructions.dedup_by(|later, earlier| {
            let same = (later.mapping, later.address) == (earlier.mapping, earlier.address);
            if same {
                earlier.cost.add(later.cost);
            }
            same
        });
    }
    let total = super::absolute::Absolute::of(&choice).sum;
    Ok(Listing { unit: choice.unit.to_owned(), total, routines })
}

fn node(dictionary: &Dictionary, line: profpipe_profile::Line) -> Node<'_> {
    let function = dictionary.functions.get(line.function);
    let strings = &dictionary.strings;
    let name = match strings.get(function.name) {
        "" => strings.get(function.system_name),
        name => name,
    };
    let file = cleaned(strings.get(function.filename));
    Node { name, file, start: function.start_line, line: line.line }
}

/// A path in its shortest form: without `.`, and without what `..` takes back.
fn cleaned(path: &str) -> Cow<'_, str> {
    let is_clean = |part: &str| !matches!(part, "" | "." | "..");
    let (root, rest) = match path.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => ("", path),
    };
    if rest.is_empty() || rest.split('/').all(is_clean) {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Nothing is above the root.
            ".." if !root.is_empty() => {}
            part => parts.push(part),
        }
    }
    let joined = format!("{root}{}", parts.join("/"));
    Cow::Owned(if joined.is_empty() { ".".into() } else { joined })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: paths as compilers write them.
    /// Guarantees: those of one file are equal, and none leads elsewhere.
    #[test]
    fn paths_have_one_form() {
        for (path, expected) in [
            ("/a/b.c", "/a/b.c"),
            ("./elf/rtld.c", "elf/rtld.c"),
            ("./time/../sysdeps/x.c", "sysdeps/x.c"),
            ("../a//b/./c", "../a/b/c"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("", ""),
        ] {
            assert_eq!(cleaned(path), expected);
        }
    }
}
