//! One run: an agent beside one load at one budget for some time, looked at from outside. Shared by
//! `cargo bench --bench soak`, which prints what was found, and `tests/soak.rs`, which asserts it.

mod agent;
mod arrivals;
mod figures;
mod group;
mod load;
#[path = "../../common/process.rs"]
mod process;
#[path = "../../common/sink.rs"]
mod sink;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use profpipe::metric_names::overhead;
use profpipe::telemetry::names;

use agent::{Agent, Destination, Metrics};
use arrivals::{Arrivals, Files, seconds_between};
pub(crate) use figures::{Figures, HEADER};
pub(crate) use load::Kind;
use load::Load;
use process::{KERNEL_SAMPLE, Meter};
use usage::Usage;

/// Samples a second and CPU that are asked for.
pub(crate) const FREQUENCY: u32 = 99;
/// The window of a profile.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// How late a profile may leave: two intervals and ten seconds after the end of its window.
pub(crate) const BOUND: Duration = Duration::from_secs(2 * INTERVAL.as_secs() + 10);
/// Ages before this are those of a start, and do not count.
pub(crate) const STEADY: Duration = Duration::from_secs(3 * INTERVAL.as_secs() + 20);
/// CPU time until here is that of a start, and is stated apart.
pub(crate) const START: Duration = Duration::from_secs(30);
/// How often everything but CPU time is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How much longer than a run its processes live if nobody ends them.
const MARGIN: u64 = 120;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// In percent of one core; none is without a governor.
    pub(crate) budget: Option<f64>,
    pub(crate) seconds: u64,
}

/// What is noted as a run goes.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Ages of the newest profile, after [`STEADY`].
    pub(crate) ages: Vec<f64>,
    /// CPU time in each second, with the kernel's part, in nanoseconds.
    pub(crate) seconds: Vec<f64>,
    pub(crate) usage: Vec<Usage>,
    /// Samples taken after [`START`], how long that was, and the CPU seconds of the host meanwhile.
    pub(crate) samples: f64,
    pub(crate) passed: f64,
    pub(crate) busy: f64,
    pub(crate) load_average: f64,
    /// Samples that were lost, as metrics and the last line of the log say.
    pub(crate) lost: f64,
    /// The kernel's part after [`START`], as counted here and as the agent's ledger has it, in CPU
    /// seconds.
    pub(crate) kernel: [f64; 2],
    pub(crate) named: f64,
    /// Frames without a name, by reason.
    pub(crate) unnamed: BTreeMap<String, f64>,
    /// Files or requests before the stop.
    pub(crate) before: usize,
    /// When it was asked to stop, and how long that took.
    pub(crate) stopped: Option<SystemTime>,
    pub(crate) stopping: f64,
    /// Batches that stayed in the durable queue.
    pub(crate) queued: usize,
    /// The agent or the load, if it ended by itself.
    pub(crate) ended: Option<&'static str>,
}

/// Runs one; `Err` with what the agent said if it cannot sample here.
pub(crate) fn run(plan: Plan) -> Result<Figures, String> {
    let home = tempfile::Builder::new().prefix("profpipe-soak-").tempdir().unwrap();
    let arrivals: Arc<Mutex<Arrivals>> = Arc::default();
    let mut files = Files::new(home.path());
    let life = plan.seconds + MARGIN;
    let mut load = Load::start(plan.kind, life);
    let to = match plan.kind {
        Kind::Delivery => servers(&arrivals),
        _ => Destination::Files,
    };
    let mut agent = Agent::start(home.path(), plan.budget, (to, plan.kind.events()), life)?;
    let mut record = Record::default();
    let metrics = watch(&agent, plan, &mut record, || {
        files.read_new(&arrivals);
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).newest
    });
    files.read_new(&arrivals);
    record.before = arrivals.lock().unwrap_or_else(PoisonError::into_inner).pieces;
    for (what, is_running) in [("agent", agent.is_running()), ("load", load.is_running())] {
        record.ended = record.ended.or((!is_running).then_some(what));
    }
    let asked = (Instant::now(), SystemTime::now());
    let said = agent.stop();
    record.stopping = asked.0.elapsed().as_secs_f64();
    record.stopped = Some(asked.1);
    drop(load);
    files.read_new(&arrivals);
    record.note_end(&metrics, &said);
    if plan.kind == Kind::Delivery {
        record.queued = Agent::queued(home.path());
    }
    let arrivals = std::mem::take(&mut *arrivals.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Figures::of(plan, &record, arrivals))
}

fn servers(arrivals: &Arc<Mutex<Arrivals>>) -> Destination {
    let (first, second) = (Arc::clone(arrivals), Arc::clone(arrivals));
    Destination::Servers {
        otlp: sink::start(move |body| {
            arrivals::take_otlp(&first, &body);
            true
        }),
        pyroscope: sink::start(move |body| {
            arrivals::take_push(&second, &body);
            true
        }),
    }
}

/// Looks at an agent for as long as is planned; gives its last metrics. `newest` looks for what has
/// left, and says when the newest did.
fn watch(
    agent: &Agent,
    plan: Plan,
    record: &mut Record,
    mut newest: impl FnMut() -> Option<SystemTime>,
) -> Metrics {
    let started = SystemTime::now();
    let mut meter = Meter::default();
    let mut last = Metrics::default();
    // At the end of the start: time, samples, CPU seconds of the host and of the ledger's kernel.
    let mut origin = None;
    let (mut samples_before, mut second_before) = (0.0, 0);
    for second in 1..=plan.seconds {
        let next = agent.began + Duration::from_secs(second);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        record.seconds.push(meter.step(agent.pid));
        if second % LOOK.as_secs() != 0 {
            continue;
        }
        let at = agent.began.elapsed();
        record.usage.push(Usage::of(agent.pid, at.as_secs_f64()));
        let age = seconds_between(newest().unwrap_or(started), SystemTime::now());
        if at >= STEADY {
            record.ages.push(age);
        }
        let metrics = agent.metrics();
        if metrics.is_empty() {
            continue;
        }
        last = metrics;
        let samples = last.total(names::SAMPLES);
        // What the kernel took for them is spread over the seconds since they were last counted.
        let each = (samples - samples_before) * kernel_sample(&last)
            / (record.seconds.len() - second_before) as f64;
        record.seconds.iter_mut().skip(second_before).for_each(|second| *second += each);
        (samples_before, second_before) = (samples, record.seconds.len());
        if at >= START {
            let ledger = last.of(overhead::CPU).filter(|it| it.0.contains("\"kernel\""));
            let ledger: f64 = ledger.map(|(_, nanoseconds)| nanoseconds / 1e9).sum();
            let now = [at.as_secs_f64(), samples, usage::busy(), ledger];
            let origin = origin.get_or_insert(now);
            record.passed = now[0] - origin[0];
            record.samples = now[1] - origin[1];
            record.busy = now[2] - origin[2];
            record.kernel = [record.samples * kernel_sample(&last) / 1e9, now[3] - origin[3]];
        }
    }
    record.load_average = usage::load_average();
    last
}

/// What a sample costs the kernel as the agent says, in nanoseconds, or a guess where it does not.
fn kernel_sample(metrics: &Metrics) -> f64 {
    match metrics.total(overhead::KERNEL_SAMPLE) {
        0.0 => KERNEL_SAMPLE,
        cost => cost,
    }
}

impl Record {
    /// What the last metrics and the log say.
    fn note_end(&mut self, metrics: &Metrics, said: &str) {
        let last = said.lines().rev().find_map(|line| line.split_once(" lost"));
        let figure = last.and_then(|(head, _)| head.rsplit(' ').next()).unwrap_or_default();
        let unsent = metrics.total(names::EXPORTER_ENQUEUE_FAILED_SAMPLES)
            + metrics.total(names::EXPORTER_SEND_FAILED_SAMPLES);
        let lost = metrics.total(names::SAMPLES_LOST) + unsent;
        self.lost = lost.max(figure.replace(',', "").parse().unwrap_or(0.0));
        self.named = metrics.total(names::FRAMES_NAMED);
        for (labels, frames) in
            metrics.of(names::FRAMES_UNNAMED).filter(|(_, frames)| *frames > 0.0)
        {
            let reason = labels.split_once("reason=\"").map_or("?", |(_, rest)| rest);
            let reason = reason.split('"').next().unwrap_or_default();
            *self.unnamed.entry(reason.to_owned()).or_default() += frames;
        }
    }
}
