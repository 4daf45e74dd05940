//! What a run comes to: figures, a row of a table, and what is not as it should be.

use std::fmt;
use std::fmt::Write as _;
use std::time::SystemTime;

use super::arrivals::{Arrivals, seconds_between};
use super::usage::Usage;
use super::{BOUND, FREQUENCY, INTERVAL, Plan, Record, START, STEADY};

/// Growth may be this many MiB in ten minutes, once ten minutes have passed.
const GROWTH: f64 = 1.0;
/// The second half of a run that is at least so long is after minute ten.
const LONG: u64 = 20 * 60;
/// Batches may be in a durable queue after the stop: those of windows that had not to leave yet.
const QUEUED: usize = (BOUND.as_secs() / INTERVAL.as_secs()) as usize;
/// A governed agent that takes fewer than so many of the samples that are asked for could take more.
const MORE_TO_SAMPLE: f64 = 0.95;

/// Figures of one run.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) plan: Plan,
    /// Age of the newest profile, in seconds: median and worst, of the steady part.
    pub(crate) age: [f64; 2],
    /// Seconds from the end of a window until it left: median, 99 %, worst.
    pub(crate) lag: [f64; 3],
    /// Windows of processes that left, and the longest of them in seconds.
    pub(crate) windows: usize,
    pub(crate) longest: f64,
    pub(crate) disordered: usize,
    pub(crate) unreadable: usize,
    /// Samples a second after the start, and how many were to be had.
    pub(crate) samples: [f64; 2],
    pub(crate) lost: f64,
    /// Files or requests before and after the stop.
    pub(crate) pieces: [usize; 2],
    /// Windows that left only at the stop, although they had ended a bound before it.
    pub(crate) waited: usize,
    /// CPU of the agent, its worker and the kernel for it, in percent of a core: mean and worst mean
    /// of ten seconds, after the start.
    pub(crate) cost: [f64; 2],
    /// CPU seconds of the start.
    pub(crate) start: f64,
    /// Anonymous memory and descriptors: when it was steady first, and at last.
    pub(crate) usage: [Usage; 2],
    /// MiB in ten minutes, of agent and worker, over the second half.
    pub(crate) growth: [f64; 2],
    /// Descriptors at first and at most.
    pub(crate) descriptors: [usize; 2],
    /// Batches that stayed in the durable queue.
    pub(crate) queued: usize,
    /// The agent or the load, if it ended by itself.
    pub(crate) ended: Option<&'static str>,
    /// The share of frames with a name, in percent.
    pub(crate) named: f64,
    details: String,
}

impl Figures {
    pub(super) fn of(plan: Plan, record: &Record, arrivals: Arrivals) -> Self {
        let stopped = record.stopped.unwrap_or_else(SystemTime::now);
        let left_at_stop = |end: SystemTime, lag: f32| {
            let before_stop = seconds_between(end, stopped);
            before_stop > BOUND.as_secs_f64() && f64::from(lag) > before_stop
        };
        let waited = arrivals.windows.iter().filter(|(end, lag)| left_at_stop(*end, *lag)).count();
        let lags: Vec<f64> = arrivals.windows.iter().map(|(_, lag)| f64::from(*lag)).collect();
        let start = START.as_secs() as usize;
        let percent = |nanoseconds: f64| nanoseconds / 1e9 * 100.0;
        let steady = record.seconds.get(start..).unwrap_or_default();
        let ten = steady.windows(10).map(|ten| mean(ten.iter().copied()));
        let half = plan.seconds as f64 / 2.0;
        let growth = |of: fn(&Usage) -> f64| {
            let half = record.usage.iter().filter(|usage| usage.at >= half);
            slope(half.map(|usage| (usage.at, of(usage)))) * 600.0
        };
        let first = record.usage.iter().find(|usage| usage.at >= STEADY.as_secs_f64());
        let unnamed: f64 = record.unnamed.values().sum();
        let of_second = |count: f64| count / record.passed.max(1.0);
        let descriptors = record.usage.iter().map(|usage| usage.descriptors);
        Self {
            plan,
            age: [rank(&record.ages, 0.5), rank(&record.ages, 1.0)],
            lag: [0.5, 0.99, 1.0].map(|at| rank(&lags, at)),
            windows: arrivals.windows.len(),
            longest: arrivals.longest.as_secs_f64(),
            disordered: arrivals.disordered,
            unreadable: arrivals.unreadable,
            samples: [of_second(record.samples), of_second(record.busy) * f64::from(FREQUENCY)],
            lost: record.lost,
            pieces: [record.before, arrivals.pieces],
            waited,
            cost: [percent(mean(steady.iter().copied())), percent(ten.fold(f64::NAN, f64::max))],
            start: record.seconds.iter().take(start).sum::<f64>() / 1e9,
            usage: [first, record.usage.last()].map(|usage| usage.copied().unwrap_or_default()),
            growth: [growth(|usage| usage.agent), growth(|usage| usage.worker)],
            descriptors: [
                record.usage.first().map_or(0, |usage| usage.descriptors),
                descriptors.max().unwrap_or(0),
            ],
            queued: record.queued,
            ended: record.ended,
            named: record.named * 100.0 / (record.named + unnamed).max(1.0),
            details: details(record, arrivals.disorder),
        }
    }

    /// What is not as it should be, in words.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let mut want = |holds: bool, what: String| {
            if !holds {
                missed.push(what);
            }
        };
        let bound = BOUND.as_secs_f64();
        want(self.windows > 0, "nothing has left".into());
        want(self.lag[2] <= bound, format!("a lag of {:.0} s", self.lag[2]));
        want(self.waited == 0, format!("{} windows left only at the stop", self.waited));
        want(self.queued <= QUEUED, format!("{} batches stayed in the queue", self.queued));
        want(self.ended.is_none(), format!("the {} ended by itself", self.ended.unwrap_or("-")));
        want(self.disordered == 0, format!("{} windows out of order", self.disordered));
        want(self.unreadable == 0, format!("{} files cannot be read", self.unreadable));
        want(self.lost == 0.0, format!("{:.0} samples lost", self.lost));
        if self.plan.seconds >= LONG {
            let [agent, worker] = self.growth;
            want(agent <= GROWTH, format!("the agent grows by {agent:.1} MiB in 10 min"));
            want(worker <= GROWTH, format!("the worker grows by {worker:.1} MiB in 10 min"));
        }
        if let Some([mean, worst]) = self.of_budget() {
            let has_more = self.samples[0] < self.samples[1] * MORE_TO_SAMPLE;
            want(mean >= 70.0 || !has_more, format!("{mean:.0} % of the budget used"));
            want(mean <= 100.0, format!("{mean:.0} % of the budget used"));
            want(worst <= 100.0, format!("{worst:.0} % of the budget in 10 s"));
        }
        missed
    }

    /// Mean and worst cost in percent of the budget.
    fn of_budget(&self) -> Option<[f64; 2]> {
        self.plan.budget.map(|budget| self.cost.map(|cost| cost * 100.0 / budget))
    }

    /// What has no column.
    pub(crate) fn details(&self) -> String {
        let [steady, last] = self.usage;
        format!(
            "{} windows of processes, the longest {:.0} s; worker {:.1} MiB when steady, {} processes \
             started since; {}",
            self.windows,
            self.longest,
            steady.worker,
            last.forks.saturating_sub(steady.forks),
            self.details
        )
    }
}

fn details(record: &Record, disorder: Option<[f64; 2]>) -> String {
    let kernel = record.kernel.map(|seconds| seconds * 100.0 / record.passed.max(1.0));
    let mut text = format!(
        "the kernel's part {:.2} % of a core (by the agent's ledger, with records of mappings and \
         forks, {:.2} %); {} batches stayed in the queue; load average {:.2}; stopped in {:.1} s; \
         frames without a name:",
        kernel[0], kernel[1], record.queued, record.load_average, record.stopping
    );
    for (reason, frames) in &record.unnamed {
        let _ = write!(text, " {reason} {frames:.0},");
    }
    text.pop();
    if let Some([earlier, later]) = disorder {
        let _ = write!(
            text,
            "; out of order first: a window {earlier:.3} s earlier left {later:.3} s later"
        );
    }
    text
}

/// The names of the columns, and the line below them.
pub(crate) const HEADER: &str = "\
| load     | budget |   age s |         lag s | order | samples/s | lost |     files |  % core | % budget | 10 s | start s |            agent MiB |     worker | descriptors | named |
|----------|-------:|--------:|--------------:|------:|----------:|-----:|----------:|--------:|---------:|-----:|--------:|---------------------:|-----------:|------------:|------:|";

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budget = self.plan.budget.map_or("off".into(), |budget| format!("{budget} %"));
        let [mean, worst] = self
            .of_budget()
            .map_or(["-", "-"].map(str::to_owned), |it| it.map(|it| format!("{it:.0}")));
        let age = self.age.map(|it| format!("{it:.0}")).join(" ");
        let lag = self.lag.map(|it| format!("{it:.1}")).join(" ");
        let samples = self.samples.map(|it| format!("{it:.0}")).join(" of ");
        let files = self.pieces.map(|it| it.to_string()).join(" ");
        let [first, last] = self.usage;
        let memory = format!("{:.1} to {:.1} ({:+.1})", first.agent, last.agent, self.growth[0]);
        let worker = format!("{:.1} ({:+.1})", last.worker, self.growth[1]);
        let [first, most] = self.descriptors;
        let descriptors = format!("{first} {most} {}", last.descriptors);
        write!(
            formatter,
            "| {:8} | {budget:>6} | {age:>7} | {lag:>13} | {:>5} | {samples:>9} | {:>4.0} | \
             {files:>9} | {:>7.2} | {mean:>8} | {worst:>4} | {:>7.2} | {memory:>20} | {worker:>10} | \
             {descriptors:>11} | {:>3.0} % |",
            self.plan.kind.name(),
            self.disordered,
            self.lost,
            self.cost[0],
            self.start,
            self.named,
        )
    }
}

/// The value below which such a share of them are; not a number where there are none.
fn rank(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// The slope of the line through points that has the least squares.
fn slope(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<_> = points.collect();
    let (x, y) = (mean(points.iter().map(|it| it.0)), mean(points.iter().map(|it| it.1)));
    let products = points.iter().map(|it| (it.0 - x) * (it.1 - y));
    let squares = points.iter().map(|it| (it.0 - x) * (it.0 - x));
    products.sum::<f64>() / squares.sum::<f64>()
}
