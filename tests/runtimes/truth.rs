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

    /// The turn that a thread certainly was in at a time of the day.
    fn turn(&self, tid: i64, time: i128) -> Option<(i128, i128, u32)> {
        let turns = self.turns.get(&tid)?;
        let time = time - self.offset;
        let at = turns.partition_point(|(from, _, _)| *from < time).checked_sub(1)?;
        turns.get(at).filter(|(_, until, _)| time < *until).copied()
    }
}

/// How the functions of a program are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// The type of its frames.
    pub(crate) kind: &'static str,
    /// What of a function's name tells it apart; none for those that are not the program's own.
    pub(crate) own: fn(&str) -> Option<&str>,
    /// The calls below `serve` that run a number.
    pub(crate) calls: fn(u32) -> Vec<String>,
    /// Whether a name is one of these.
    pub(crate) is_named: fn(&str, &str) -> bool,
    /// The number that has a line of the innermost function, if that can be told.
    pub(crate) number_of_line: fn(u32) -> Option<u32>,
    /// What says that it is incomplete may lack callers; else it is wrong.
    pub(crate) may_be_cut: bool,
}

/// As `numbers.py` is shown.
pub(crate) const PYTHON: Shown = Shown {
    kind: "cpython",
    own: |name| Some(name),
    calls,
    is_named,
    number_of_line: |_| None,
    may_be_cut: false,
};

/// How many samples were which.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    right: usize,
    wrong: usize,
    /// True as far as they go, and said to be incomplete.
    cut: usize,
    /// Without a managed frame, since the first that has one.
    native: usize,
    /// Without one before that, when the program was not found yet.
    early: usize,
    /// The times of samples without one, and of the first with one.
    natives: Vec<i128>,
    first: Option<i128>,
    /// Of those that have managed frames: not said to be incomplete.
    complete: usize,
    /// How many there are of each number that ran.
    numbers: BTreeMap<u32, usize>,
    /// Some that were wrong.
    pub(crate) examples: Vec<String>,
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, wrong, cut, native, early, complete, .. } = self;
        write!(
            f,
            "{right} right, {wrong} wrong, {cut} cut, {native} without, {early} early, {complete} \
             complete"
        )
    }
}

impl Verdicts {
    /// Holds a profile against what programs wrote.
    pub(crate) fn of(logs: &[Log], profile: &Path, shown: &Shown) -> Self {
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
                            verdicts.add((logs, shown), dictionary, sample);
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

    fn add(&mut self, (logs, shown): (&[Log], &Shown), dictionary: &Value, sample: &Value) {
        let attribute = |name: &str| attribute(dictionary, sample, name);
        let tid = attribute("thread.id").and_then(|it| it["intValue"].as_str()?.parse().ok());
        let Some(tid) = tid else { return };
        let is_complete = attribute("profpipe.stack.state").is_none();
        let stack = &dictionary["stackTable"][number(sample, "stackIndex")];
        let frames =
            || list(stack, "locationIndices").filter_map(|at| managed(dictionary, at, shown));
        let is_shown = frames().next().is_some();
        let innermost = frames().find(|(name, _)| (shown.own)(name).is_some());
        let line = innermost.map_or(0, |(_, line)| line);
        let mut names: Vec<String> =
            frames().filter_map(|(name, _)| (shown.own)(&name).map(str::to_owned)).collect();
        names.reverse();
        for time in list(sample, "timestampsUnixNano") {
            let time: i128 = time.as_str().unwrap().parse().unwrap();
            let Some((from, until, ran)) = logs.iter().find_map(|log| log.turn(tid, time)) else {
                continue;
            };
            *self.numbers.entry(ran).or_default() += 1;
            if !is_shown {
                self.natives.push(time);
                continue;
            }
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.complete += usize::from(is_complete);
            let expected = (shown.calls)(ran);
            let of_line = (shown.number_of_line)(line);
            // Above are the calls that led there, which depend on the thread.
            let root = names.len().checked_sub(expected.len());
            let is_right = root.is_some_and(|root| {
                let (above, calls) = names.split_at(root);
                above.last().is_some_and(|it| it == "serve")
                    && calls.iter().zip(&expected).all(|(is, wanted)| (shown.is_named)(is, wanted))
                    && of_line.is_none_or(|number| number == ran)
            });
            let is_cut = || {
                let calls = expected.len().checked_sub(names.len());
                let calls = calls.and_then(|lacking| expected.get(lacking..)).unwrap_or_default();
                !is_complete
                    && shown.may_be_cut
                    && !calls.is_empty()
                    && names.iter().zip(calls).all(|(is, wanted)| (shown.is_named)(is, wanted))
                    && of_line.is_none_or(|number| number == ran)
            };
            if is_right {
                self.right += 1;
            } else if is_cut() {
                self.cut += 1;
            } else {
                self.wrong += 1;
                if self.examples.len() < 3 {
                    let time = until - from;
                    self.examples.push(format!(
                        "{names:?} line {line} instead of {expected:?}, which took {time} ns"
                    ));
                }
            }
        }
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> usize {
        self.shown() + self.native + self.early
    }

    /// By how much the share of samples of some of the numbers differs from their share of the time that the
    /// program says, at most; numbers are taken together by what remains when they are divided by `by`.
    pub(crate) fn share_error(&self, logs: &[Log], by: u32) -> f64 {
        let mut times: BTreeMap<u32, f64> = BTreeMap::new();
        for (from, until, number) in logs.iter().flat_map(|log| log.turns.values().flatten()) {
            *times.entry(number % by).or_default() += (until - from).max(0) as f64;
        }
        let mut samples: BTreeMap<u32, f64> = BTreeMap::new();
        for (number, count) in &self.numbers {
            *samples.entry(number % by).or_default() += *count as f64;
        }
        let (time, count) = (times.values().sum::<f64>(), samples.values().sum::<f64>());
        let error = |(rest, of): (&u32, &f64)| {
            (of / time - samples.get(rest).copied().unwrap_or_default() / count).abs()
        };
        times.iter().map(error).fold(0.0, f64::max)
    }

    /// How many are shown.
    fn shown(&self) -> usize {
        self.right + self.cut + self.wrong
    }

    /// Of what is shown, the share that is right, as far as it goes.
    pub(crate) fn right_share(&self) -> f64 {
        (self.right + self.cut) as f64 / self.shown().max(1) as f64
    }

    /// The share that is shown, since the program was found.
    pub(crate) fn shown_share(&self) -> f64 {
        self.shown() as f64 / (self.samples() - self.early).max(1) as f64
    }

    /// The share of samples from before the program was found.
    pub(crate) fn early_share(&self) -> f64 {
        self.early as f64 / self.samples().max(1) as f64
    }

    /// Of what is shown, the share that does not say that it is incomplete.
    pub(crate) fn complete_share(&self) -> f64 {
        self.complete as f64 / self.shown().max(1) as f64
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

/// The name of the function at a location and the line, if it is a managed one.
fn managed(dictionary: &Value, location: &Value, shown: &Shown) -> Option<(String, u32)> {
    let location = &dictionary["locationTable"][location.as_u64()? as usize];
    let kind = attribute(dictionary, location, "profile.frame.type")?;
    if kind["stringValue"] != shown.kind {
        return None;
    }
    let line = list(location, "lines").next()?;
    let function = &dictionary["functionTable"][number(line, "functionIndex")];
    let name = string(dictionary, number(function, "nameStrindex")).to_owned();
    Some((
        name,
        line["line"]
            .as_str()
            .map_or_else(|| number(line, "line") as u32, |it| it.parse().unwrap_or(0)),
    ))
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
