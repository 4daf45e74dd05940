//! What people see after a recording: the hottest functions, how good the data is.

use std::fmt::Write;
use std::time::Duration;

use profpipe_formats::report::{self, Column, Top};
use profpipe_profile::Profiles;
use profpipe_profile::attribute_names::{IO_OPERATION, WAIT};

use super::counting;
use crate::status::grouped;

/// How many of the things that were waited for are shown.
const WAITS: usize = 5;
/// The largest error of the time of a call that is worth telling, in percent.
const MAX_ERROR: f64 = 50.0;
/// How many functions are shown.
const FUNCTIONS: usize = 10;

/// The summary of a recording that took `elapsed`, in which so many processes could not be seen.
pub(super) fn of(
    profiles: &Profiles,
    elapsed: Duration,
    frequency: u32,
    hidden: u64,
) -> anyhow::Result<String> {
    let mut text = String::new();
    let seconds = elapsed.as_secs_f64();
    if profiles.sample_count() == 0 && hidden > 0 {
        let _ = writeln!(
            text,
            "profpipe: no samples in {seconds:.2} s: the kernel does not let this user profile what \
             ran; run profpipe as root"
        );
    } else if profiles.sample_count() == 0 {
        let _ = writeln!(
            text,
            "profpipe: no samples in {seconds:.2} s: nothing ran long enough at {frequency} Hz; \
             try a longer run or a higher -F"
        );
    } else {
        let top = report::top(profiles, None, Column::Own)?;
        push_quality(&mut text, &top, seconds);
        push_other_types(&mut text, profiles, &top);
        push_calls(&mut text, profiles);
        push_functions(&mut text, &top);
    }
    Ok(text)
}

/// What the recording itself took: CPU time of this process and of what finds names. What the kernel
/// takes of the profiled for samples is not in it.
pub(super) fn own_cost(cpu: Duration, elapsed: Duration) -> String {
    let share = cpu.as_secs_f64() / elapsed.as_secs_f64().max(0.001) * 100.0;
    let seconds = cpu.as_secs_f64();
    format!("profpipe: own cost: {seconds:.2} s of CPU time, {share:.1} % of a core\n")
}

fn push_quality(text: &mut String, top: &Top, seconds: f64) {
    let cpu = if top.unit == "nanoseconds" {
        format!(", {:.2} s of {}", top.total as f64 / 1e9, top.profile_type)
    } else if top.unit == "bytes" {
        format!(", {} of {}", report::amount(top.total, &top.unit), top.profile_type)
    } else {
        String::new()
    };
    let _ = writeln!(text, "profpipe: {} samples in {seconds:.2} s{cpu}", top.samples);
    let states = top.stacks.named().map(|(name, count)| format!("{count} {name}, "));
    let _ = writeln!(text, "profpipe: stacks: {}{} lost", states.collect::<String>(), top.lost);
}

/// The sums of the types whose functions are not shown, and what was waited for, or done.
fn push_other_types(text: &mut String, profiles: &Profiles, shown: &Top) {
    for (kind, unit) in report::sample_types(profiles) {
        let total: i64 = report::Choice::new(profiles, Some(kind)).map_or(0, |choice| {
            let of_profiles = choice.profiles.iter().flat_map(|one| one.profile.samples.iter());
            of_profiles.fold(0, |sum, sample| sum.saturating_add(sample.weight()))
        });
        let label = if kind.starts_with("io_") { IO_OPERATION } else { WAIT };
        let waits = report::weights_by_attribute(profiles, kind, label);
        let is_shown = kind == shown.profile_type;
        let is_told = [("samples", "count"), ("calls", "count")].contains(&(kind, unit));
        if is_told || total == 0 || (is_shown && waits.is_empty()) {
            continue;
        }
        let _ = write!(text, "profpipe: {kind}: {}", report::amount(total, unit));
        for (at, (wait, weight)) in waits.iter().take(WAITS).enumerate() {
            let before = if at == 0 { ": " } else { ", " };
            let share = 100.0 * *weight as f64 / total as f64;
            let _ = write!(text, "{before}{share:.0} % {wait}");
        }
        text.push('\n');
    }
}

/// How often functions were called, and how long a call took: all time that was spent in them and in what
/// they call, less what counting has taken, over how often that began. The time is sampled, and its error is
/// that of so many samples.
fn push_calls(text: &mut String, profiles: &Profiles) {
    let Ok(calls) = report::top(profiles, Some("calls"), Column::Own) else { return };
    let types = report::sample_types(profiles);
    let timed = ["wall", "cpu"].into_iter().find(|kind| types.iter().any(|(it, _)| it == kind));
    let timed = timed.and_then(|kind| report::top(profiles, Some(kind), Column::Total).ok());
    let counting = timed.as_ref().map(|timed| counting::by_function(profiles, &timed.profile_type));
    for function in calls.functions.iter().filter(|function| function.own > 0) {
        let name = printable(&function.name);
        let _ = write!(text, "profpipe: calls of {name}: {}", grouped(function.own));
        let total = timed.as_ref().and_then(|timed| {
            let same = |it: &&report::FunctionCost| {
                (&it.name, &it.module) == (&function.name, &function.module)
            };
            let cost = timed.functions.iter().find(same)?.total;
            let taken = counting.as_ref().and_then(|it| it.get(&function.name)).copied();
            let taken = taken.unwrap_or(0).min(cost);
            let samples = cost as f64 / timed.total.max(1) as f64 * timed.samples as f64;
            // The difference of two sums has the error of all their samples.
            let error =
                100.0 * cost as f64 / (cost - taken).max(1) as f64 / samples.max(1.0).sqrt();
            Some((cost - taken, taken, error, &timed.profile_type))
        });
        if let Some((total, taken, error, kind)) = total {
            let mean = report::amount(total / function.own, "nanoseconds");
            let total = report::amount(total, "nanoseconds");
            let _ = match error < MAX_ERROR {
                true => write!(text, ", {mean} each (±{error:.0} %), {total} of {kind} in all"),
                false => write!(text, ", too short or too few samples to say how long each takes"),
            };
            if taken > 0 {
                let each = report::amount(taken / function.own, "nanoseconds");
                let _ = write!(text, "; counting took {each} each besides");
            }
        }
        text.push('\n');
    }
}

fn push_functions(text: &mut String, top: &Top) {
    let share = |cost: i64| match top.total {
        0 => 0.0,
        total => 100.0 * cost as f64 / total as f64,
    };
    let _ = writeln!(text, "{:>8} {:>8}  function", "self", "total");
    for one in top.functions.iter().take(FUNCTIONS) {
        let name = printable(&one.name);
        let module = printable(&one.module);
        let _ = write!(text, "{:>7.1}% {:>7.1}%  {name}", share(one.own), share(one.total));
        // A function without a name already tells its module.
        if module.is_empty() || name.starts_with(&format!("{module}+")) {
            text.push('\n');
        } else {
            let _ = writeln!(text, " ({module})");
        }
    }
}

/// Names come from the programs profiled; none of them may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
