//! Leaving out the frames that a profile says are of no interest, exactly as google/pprof does.
//!
//! `drop_frames` matches whole function names, without their arguments. A match takes away its
//! frame and everything it calls, unless the frames from the root down to it all match: then
//! nothing would be left.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use regex::Regex;

use crate::pprof::attribute_text;
use profpipe_profile::attribute_names::{PPROF_DROP_FRAMES, PPROF_KEEP_FRAMES};
use profpipe_profile::{Dictionary, FunctionIx, Index, LocationIx, Profile};

/// What becomes of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// The location and all that it calls go.
    Drop,
    /// So many of its innermost lines go, and all that they call.
    DropLines(usize),
}

/// The frames that one profile leaves out.
#[derive(Debug)]
pub struct Pruner<'a> {
    dictionary: &'a Dictionary,
    rules: Option<(Regex, Option<Regex>)>,
    functions: HashMap<FunctionIx, bool, RandomState>,
    verdicts: HashMap<LocationIx, Verdict, RandomState>,
}

impl<'a> Pruner<'a> {
    /// The expressions of a profile: what it leaves out, and what of that it keeps.
    pub fn patterns(dictionary: &'a Dictionary, profile: &Profile) -> (&'a str, &'a str) {
        let pattern = |name| attribute_text(dictionary, &profile.attributes, name);
        (pattern(PPROF_DROP_FRAMES), pattern(PPROF_KEEP_FRAMES))
    }

    /// Leaves out what these expressions say.
    pub fn new(dictionary: &'a Dictionary, (drop, keep): (&str, &str)) -> Self {
        let whole = |text: &str| {
            (!text.is_empty()).then(|| Regex::new(&format!("^(?:{text})$"))).transpose()
        };
        // As in google/pprof, an expression that does not compile leaves everything in.
        let rules = match (whole(drop), whole(keep)) {
            (Ok(Some(drop)), Ok(keep)) => Some((drop, keep)),
            _ => None,
        };
        Self { dictionary, rules, functions: HashMap::default(), verdicts: HashMap::default() }
    }

    /// The locations of a stack that stay, leaf first, each with the number of its innermost lines
    /// that are left out.
    pub fn prune<'s>(
        &mut self,
        stack: &'s [LocationIx],
    ) -> impl Iterator<Item = (LocationIx, usize)> + use<'s, '_, 'a> {
        let mut first = 0;
        if self.rules.is_some() {
            let mut has_found_user = false;
            for (at, location) in stack.iter().enumerate().rev() {
                match self.verdict(*location) {
                    Verdict::Keep => has_found_user = true,
                    _ if !has_found_user => {}
                    Verdict::Drop => {
                        first = at + 1;
                        break;
                    }
                    Verdict::DropLines(_) => {
                        first = at;
                        break;
                    }
                }
            }
        }
        stack.get(first..).unwrap_or_default().iter().map(|location| {
            let dropped = match self.verdicts.get(location) {
                Some(Verdict::DropLines(lines)) => *lines,
                _ => 0,
            };
            (*location, dropped)
        })
    }

    fn verdict(&mut self, location: LocationIx) -> Verdict {
        if let Some(verdict) = self.verdicts.get(&location) {
            return *verdict;
        }
        let lines = self.dictionary.locations.get(location).lines;
        let matching = lines.iter().rposition(|line| self.is_dropped(line.function));
        let verdict = match matching {
            None => Verdict::Keep,
            Some(at) if at + 1 == lines.len() => Verdict::Drop,
            Some(at) => Verdict::DropLines(at + 1),
        };
        self.verdicts.insert(location, verdict);
        verdict
    }

    fn is_dropped(&mut self, function: FunctionIx) -> bool {
        let Some((drop, keep)) = &self.rules else { return false };
        *self.functions.entry(function).or_insert_with(|| {
            let row = self.dictionary.functions.get(function);
            let name = self.dictionary.strings.get(row.name);
            let simple = without_arguments(name);
            !row.name.is_none()
                && drop.is_match(simple)
                && !keep.as_ref().is_some_and(|keep| keep.is_match(simple))
        })
    }
}

/// A function's name without its arguments: up to the first parenthesis that does not belong to
/// the name itself.
fn without_arguments(name: &str) -> &str {
    const PART_OF_NAME: [&str; 2] = ["(anonymous namespace)", "operator()"];
    let name = name.strip_prefix('.').unwrap_or(name);
    let mut at = 0;
    while let Some(rest) = name.get(at..) {
        if let Some(part) = PART_OF_NAME.iter().find(|part| rest.starts_with(**part)) {
            at += part.len();
        } else if rest.starts_with('(') {
            return name.get(..at).unwrap_or(name);
        } else {
            match rest.chars().next() {
                Some(next) => at += next.len_utf8(),
                None => break,
            }
        }
    }
    name
}
