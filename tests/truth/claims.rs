//! What must hold between a profile and the truth that the program measured.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use serde::Deserialize;

use crate::reading::Stack;
use crate::recording::{Recorded, profpipe_says};

/// How far a share may be from the truth, in points of a hundred.
const SHARE_POINTS: f64 = 3.0;
/// How far the profile's total may be from what the kernel charged, in percent.
const TOTAL_PERCENT: f64 = 3.0;

/// Checks on one recording; each panics with the figures where it does not hold.
pub(crate) struct Claims<'a> {
    recorded: &'a Recorded,
}

/// The part of `top --format json` that the tests read.
#[derive(Deserialize)]
struct Top {
    profile_type: String,
    unit: String,
    total: i64,
    samples: i64,
    lost: i64,
    functions: Vec<TopFunction>,
}

#[derive(Deserialize)]
struct TopFunction {
    name: String,
    #[serde(rename = "self")]
    own: i64,
    total: i64,
}

impl<'a> Claims<'a> {
    /// Checks on `recorded`, after printing its figures for whoever reads the test's output.
    pub(crate) fn of(recorded: &'a Recorded) -> Self {
        let reading = &recorded.reading;
        eprintln!(
            "{}: {} samples, {:.3} s of CPU in the profile, {:.3} s by getrusage, {} lost",
            recorded.file.display(),
            reading.samples,
            seconds(reading.total()),
            seconds(recorded.truth.cpu_ns as i64),
            reading.lost,
        );
        assert_eq!(
            reading.period,
            i64::from(1_000_000_000 / recorded.frequency),
            "the period is what -F asked for"
        );
        Self { recorded }
    }

    /// The function, with all it calls, has the share of the process' CPU time that it measured.
    pub(crate) fn share_is(&self, truth: &str, names: &[&str]) {
        let reading = &self.recorded.reading;
        let expected =
            percent(self.recorded.truth.functions[truth] as i64, self.recorded.truth.cpu_ns as i64);
        let found = percent(reading.time_of(|stack| stack.has(names)), reading.total());
        eprintln!("  {truth:12} {found:6.2} % in the profile, {expected:6.2} % in truth");
        assert!(
            (found - expected).abs() <= SHARE_POINTS,
            "{truth} has {found:.2} % in the profile and {expected:.2} % in truth; stacks:\n{}",
            reading.sketch(|_| true)
        );
    }

    /// The profile's total is the CPU time that the kernel charged to the process.
    pub(crate) fn total_is_the_kernels(&self) {
        let found = self.recorded.reading.total();
        let expected = self.recorded.truth.cpu_ns as i64;
        let off = percent(found, expected) - 100.0;
        eprintln!("  total        {off:+6.2} % off");
        assert!(
            off.abs() <= TOTAL_PERCENT,
            "the profile has {:.3} s, the kernel charged {:.3} s ({off:+.2} %), {} lost",
            seconds(found),
            seconds(expected),
            self.recorded.reading.lost
        );
    }

    /// At least `least` percent of the user stacks say that they are complete, and do end in one of
    /// `roots` or where the C library starts threads: a sampler that calls a torn stack complete is
    /// found out.
    pub(crate) fn stacks_reach_their_root(&self, least: f64, roots: &[&str]) {
        self.stacks_end_well(least, roots, None);
    }

    /// As [`Self::stacks_reach_their_root`], but stacks in state `also` are as good as complete.
    pub(crate) fn stacks_end_well(&self, least: f64, roots: &[&str], also: Option<&str>) {
        let reading = &self.recorded.reading;
        let user = reading.time_of(Stack::has_user_frames);
        let is_stated = |stack: &Stack| stack.state.is_none() || stack.state.as_deref() == also;
        let stated = reading.time_of(|stack| stack.has_user_frames() && is_stated(stack));
        let rooted = |stack: &Stack| {
            // main and goexit lie a few frames below the C library's and the linker's start.
            let start = stack.frames.iter().rev().take(6);
            stack.has_user_frames()
                && (start.into_iter().any(|frame| roots.iter().any(|root| frame.is(root)))
                    || stack.frames.last().is_some_and(|last| {
                        last.name == "_start"
                            || last.name.starts_with("clone")
                            || last.name.starts_with("__clone")
                            // The C library starts threads in a function without a symbol; a process
                            // begins in the dynamic linker.
                            || ["/libc.so", "/libc.musl", "/ld-linux", "/ld-musl"]
                                .iter()
                                .any(|module| last.module.contains(module))
                    }))
        };
        let (stated, reached) = (percent(stated, user), percent(reading.time_of(rooted), user));
        eprintln!("  stacks       {stated:6.2} % say complete, {reached:6.2} % reach a root");
        let torn = || {
            reading.sketch(|stack| stack.has_user_frames() && (!is_stated(stack) || !rooted(stack)))
        };
        if stated.min(reached) < 100.0 {
            eprintln!("{}", torn());
        }
        assert!(
            stated >= least,
            "{stated:.2} % of the stacks are complete; the others:\n{}",
            torn()
        );
        assert!(
            reached >= least,
            "{reached:.2} % of the stacks reach {roots:?}; the others:\n{}",
            torn()
        );
    }

    /// In at least `least` percent of the time of `function`, the next other function above it is
    /// `caller`; `a|b` allows two.
    pub(crate) fn caller_is(&self, function: &str, caller: &str, least: f64) {
        let callers: Vec<&str> = caller.split('|').collect();
        let reading = &self.recorded.reading;
        let all = reading.time_of(|stack| stack.has(&[function]));
        let right = |stack: &Stack| {
            let mut above = stack.frames.iter().skip_while(|frame| !frame.is(function));
            above
                .find(|frame| !frame.is(function))
                .is_some_and(|frame| callers.iter().any(|caller| frame.is(caller)))
        };
        let found = percent(reading.time_of(right), all);
        eprintln!("  {function} < {caller}: {found:.2} %");
        assert!(all > 0, "{function} is in no stack:\n{}", reading.sketch(|_| true));
        assert!(
            found >= least,
            "{caller} calls {function} in {found:.2} % of its time; other stacks:\n{}",
            reading.sketch(|stack| stack.has(&[function]) && !right(stack))
        );
    }

    /// `inner` is shown as inlined into `outer`, with the file and with lines between the source's
    /// marks `inline:begin` and `inline:end`, for some of the time of `outer`.
    pub(crate) fn inlined_at(&self, inner: &str, outer: &str, file: &str) {
        let source = std::fs::read_to_string(&self.recorded.source).expect("the source");
        let line_of = |mark: &str| {
            1 + source.lines().position(|line| line.contains(mark)).expect("the mark") as i64
        };
        let (first, last) = (line_of("inline:begin"), line_of("inline:end"));
        let reading = &self.recorded.reading;
        let shown = |stack: &Stack| {
            // Rust's closures are called through an inlined function of the library: what counts is the
            // compiled function that all of them ended up in.
            stack.frames.iter().enumerate().any(|(position, callee)| {
                callee.inlined
                    && callee.name.contains(inner)
                    && callee.file.ends_with(file)
                    && (first..=last).contains(&callee.line)
                    && stack.frames[position..]
                        .iter()
                        .find(|frame| !frame.inlined)
                        .is_some_and(|compiled| compiled.is(outer))
            })
        };
        let share = percent(
            reading.time_of(|stack| stack.has(&[outer]) && shown(stack)),
            reading.time_of(|stack| stack.has(&[outer])),
        );
        eprintln!("  {inner} inlined into {outer}: {share:.2} % of its time");
        // The helper is nearly all that the loop does; a tenth is what no optimizer takes away.
        assert!(
            share >= 10.0,
            "{inner} is shown inlined in {share:.2} % of {outer} with {file}:{first}-{last}; frames: {:?}",
            reading
                .stacks
                .iter()
                .filter(|stack| stack.has(&[outer]))
                .max_by_key(|stack| stack.nanoseconds)
                .map(|stack| &stack.frames[..stack.frames.len().min(4)])
        );
    }

    /// The samples of the thread with this name have this share, within the tolerance of shares.
    pub(crate) fn thread_has_share(&self, thread: &str, expected: f64) {
        let reading = &self.recorded.reading;
        let found = percent(reading.time_of(|stack| stack.thread == thread), reading.total());
        eprintln!("  thread {thread}: {found:.2} %");
        assert!((found - expected).abs() <= SHARE_POINTS, "thread {thread} has {found:.2} %");
    }

    /// No sample was lost: at these frequencies the rings are never near full.
    pub(crate) fn nothing_was_lost(&self) {
        assert_eq!(self.recorded.reading.lost, 0, "lost samples");
    }

    /// `top`, `convert` to each format and the report of `record` say what the file says.
    pub(crate) fn commands_agree(&self, functions: &[&str]) {
        let reading = &self.recorded.reading;
        let file = self.recorded.file.as_os_str();
        let pprof = self.recorded.file.with_extension("pb.gz");
        let json = self.recorded.file.with_extension("json");
        for other in [&pprof, &json] {
            profpipe_says(&[OsStr::new("convert"), file, other.as_os_str()]);
        }
        for input in [file, pprof.as_os_str(), json.as_os_str()] {
            let arguments = ["--by", "total", "-n", "100000", "--format", "json"].map(OsStr::new);
            let text = profpipe_says(&[&[OsStr::new("top"), input][..], &arguments].concat());
            let top: Top = serde_json::from_str(&text).expect("top prints JSON");
            assert_eq!(
                (top.profile_type.as_str(), top.unit.as_str()),
                ("cpu", "nanoseconds"),
                "{input:?}"
            );
            assert_eq!((top.total, top.samples), (reading.total(), reading.samples), "{input:?}");
            assert_eq!(top.lost, reading.lost, "{input:?}");
            assert_eq!(
                top.functions.iter().map(|function| function.own).sum::<i64>(),
                top.total,
                "{input:?}"
            );
            assert!(
                top.functions.is_sorted_by_key(|function| std::cmp::Reverse(function.total)),
                "{input:?}"
            );
            for name in functions {
                let total = top
                    .functions
                    .iter()
                    .find(|function| function.name == *name)
                    .map(|found| found.total);
                assert_eq!(
                    total,
                    Some(reading.time_of(|stack| stack.has(&[name]))),
                    "{name} in {input:?}"
                );
            }
        }
        let folded = self.recorded.file.with_extension("folded");
        profpipe_says(&[OsStr::new("convert"), file, folded.as_os_str()]);
        let mut by_function: BTreeMap<&str, i64> = BTreeMap::new();
        let text = std::fs::read_to_string(&folded).expect("folded stacks");
        for line in text.lines() {
            let (stack, value) = line.rsplit_once(' ').expect("a stack and a value");
            let value: i64 = value.parse().expect("a number");
            *by_function.entry("").or_default() += value;
            for name in
                functions.iter().filter(|name| stack.split(';').any(|frame| frame == **name))
            {
                *by_function.entry(name).or_default() += value;
            }
        }
        for name in functions {
            assert_eq!(
                by_function.get(name),
                Some(&reading.time_of(|stack| stack.has(&[name]))),
                "{name}, folded"
            );
        }
        assert_eq!(by_function.get(""), Some(&reading.total()), "folded");
        // The report's ten are by own cost, which an inlined helper may have taken from its caller.
        let report = &self.recorded.report;
        let own = |name: &&&str| {
            reading.time_of(|stack| stack.frames.first().is_some_and(|leaf| leaf.is(name)))
        };
        let hottest = functions.iter().max_by_key(own).expect("a function");
        assert!(report.contains(hottest), "the report does not name {hottest}:\n{report}");
        assert!(
            report.contains("complete"),
            "the report does not say how many stacks are complete:\n{report}"
        );
    }
}

fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}
