//! What the program wrote down, and what of the samples agrees with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

/// When a program ran which number, by thread; the times are the program's monotonic clock.
#[derive(Debug)]
pub(crate) struct Log {
    /// From the monotonic clock to the time of the day.
    offset: i128,
    /// By thread: from, until, number; in order.
    turns: BTreeMap<i64, Vec<(i128, i128, u32)>>,
}

impl Log {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the program left its log");
        let mut lines = text.lines();
        let offset = lines.next().and_then(|line| line.parse().ok()).expect("an offset");
        let mut turns: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for line in lines {
            let numbers: Vec<i128> = line.split(' ').map(|it| it.parse().unwrap()).collect();
            let [from, until, number, tid] = numbers[..] else { panic!("not a turn: {line}") };
            turns.entry(tid as i64).or_default().push((from, until, number as u32));
        }
        Self { offset, turns }
    }

    /// The number that a thread certainly ran at a time of the day.
    fn number(&self, tid: i64, time: i128) -> Option<u32> {
        let turns = self.turns.get(&tid)?;
        let time = time - self.offset;
        let at = turns.partition_point(|(from, _, _)| *from < time).checked_sub(1)?;
        turns.get(at).filter(|(_, until, _)| time < *until).map(|(_, _, number)| *number)
    }
}

/// How many samples were which.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    right: usize,
    wrong: usize,
    /// Without a managed frame, since the first that has one.
    native: usize,
    /// Without one before that, when the program was not found yet.
    early: usize,
    /// The times of samples without one, and of the first with one.
    natives: Vec<i128>,
    first: Option<i128>,
    /// Of those that have managed frames: not said to be incomplete.
    complete: usize,
    /// Some that were wrong.
    pub(crate) examples: Vec<String>,
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, wrong, native, early, complete, .. } = self;
        write!(
            f,
            "{right} right, {wrong} wrong, {native} without, {early} early, {complete} complete"
        )
    }
}

impl Verdicts {
    /// Holds a profile against what programs wrote.
    pub(crate) fn of(logs: &[Log], profile: &Path) -> Self {
        let bytes = std::fs::read(profile).expect("a profile");
        let profile: Value = serde_json::from_slice(&bytes).expect("JSON");
        let mut verdicts = Self::default();
        for resource in list(&profile, "resourceProfiles") {
            for of_scope in list(resource, "scopeProfiles") {
                for of_type in list(of_scope, "profiles") {
                    let dictionary = &profile["dictionary"];
                    let kind = number(&of_type["sampleType"], "typeStrindex");
                    if string(dictionary, kind) == "samples" {
                        for sample in list(of_type, "samples") {
                            verdicts.add(logs, dictionary, sample);
                        }
                    }
                }
            }
        }
        let first = verdicts.first.unwrap_or(i128::MAX);
        verdicts.native = verdicts.natives.iter().filter(|time| **time > first).count();
        verdicts.early = verdicts.natives.len() - verdicts.native;
        verdicts
    }

    fn add(&mut self, logs: &[Log], dictionary: &Value, sample: &Value) {
        let attribute = |name: &str| attribute(dictionary, sample, name);
        let tid = attribute("thread.id").and_then(|it| it["intValue"].as_str()?.parse().ok());
        let Some(tid) = tid else { return };
        let is_complete = attribute("profpipe.stack.state").is_none();
        let stack = &dictionary["stackTable"][number(sample, "stackIndex")];
        let mut names: Vec<String> =
            list(stack, "locationIndices").filter_map(|at| managed(dictionary, at)).collect();
        names.reverse();
        for time in list(sample, "timestampsUnixNano") {
            let time: i128 = time.as_str().unwrap().parse().unwrap();
            let Some(ran) = logs.iter().find_map(|log| log.number(tid, time)) else { continue };
            if names.is_empty() {
                self.natives.push(time);
                continue;
            }
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.complete += usize::from(is_complete);
            let expected = calls(ran);
            // Above are the calls that led there, which depend on the thread.
            let root = names.len().checked_sub(expected.len());
            let is_right = root.is_some_and(|root| {
                let (above, calls) = names.split_at(root);
                above.last().is_some_and(|it| it == "serve")
                    && calls.iter().zip(&expected).all(|(is, wanted)| is_named(is, wanted))
            });
            if is_right {
                self.right += 1;
            } else {
                self.wrong += 1;
                if self.examples.len() < 3 {
                    self.examples.push(format!("{names:?} instead of {expected:?}"));
                }
            }
        }
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> usize {
        self.right + self.wrong + self.native + self.early
    }

    /// Of what is shown, the share that is right.
    pub(crate) fn right_share(&self) -> f64 {
        self.right as f64 / (self.right + self.wrong).max(1) as f64
    }

    /// The share that is shown, since the program was found.
    pub(crate) fn shown_share(&self) -> f64 {
        (self.right + self.wrong) as f64 / (self.samples() - self.early).max(1) as f64
    }

    /// The share of samples from before the program was found.
    pub(crate) fn early_share(&self) -> f64 {
        self.early as f64 / self.samples().max(1) as f64
    }

    /// Of what is shown, the share that does not say that it is incomplete.
    pub(crate) fn complete_share(&self) -> f64 {
        self.complete as f64 / (self.right + self.wrong).max(1) as f64
    }
}

/// The calls below `serve` that run a number, as `numbers.py` makes them.
fn calls(number: u32) -> Vec<String> {
    let named = |name: &str| format!("{name}_{number}");
    let (mut calls, depth) = match number % 4 {
        0 => (vec![named("direct")], number % 5),
        1 => (vec![named("iterate"), named("generate")], number % 3),
        2 => (vec![named("order"), named("key")], number % 2),
        _ => {
            let lambda = named("reduce") + ".<locals>.<lambda>";
            (vec![named("reduce"), lambda, named("key")], number % 2)
        }
    };
    calls.extend((0..=depth).map(|_| named("inner")));
    calls.push(named("work"));
    calls
}

/// Older versions know the last part of a name alone.
fn is_named(is: &str, wanted: &str) -> bool {
    is == wanted || wanted.rsplit('.').next() == Some(is)
}

/// The name of the function at a location, if it is a managed one.
fn managed(dictionary: &Value, location: &Value) -> Option<String> {
    let location = &dictionary["locationTable"][location.as_u64()? as usize];
    let kind = attribute(dictionary, location, "profile.frame.type")?;
    if kind["stringValue"] != "cpython" {
        return None;
    }
    let line = list(location, "lines").next()?;
    let function = &dictionary["functionTable"][number(line, "functionIndex")];
    Some(string(dictionary, number(function, "nameStrindex")).to_owned())
}

fn attribute<'a>(dictionary: &'a Value, of: &Value, name: &str) -> Option<&'a Value> {
    list(of, "attributeIndices").find_map(|at| {
        let attribute = &dictionary["attributeTable"][at.as_u64()? as usize];
        let key = string(dictionary, number(attribute, "keyStrindex"));
        (key == name).then(|| &attribute["value"])
    })
}

fn string(dictionary: &Value, at: usize) -> &str {
    dictionary["stringTable"][at].as_str().unwrap_or_default()
}

fn number(of: &Value, key: &str) -> usize {
    of[key].as_u64().unwrap_or_default() as usize
}

fn list<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    of[key].as_array().into_iter().flatten()
}
