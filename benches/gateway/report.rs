//! Figures of runs, and how they are printed.

/// What one run of one program cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Samples forwarded by CPU second.
    pub(crate) samples: f64,
    /// Megabytes forwarded by CPU second.
    pub(crate) megabytes: f64,
    /// The memory that was resident before the first request, MiB.
    pub(crate) rest: f64,
    /// The most that was resident, MiB.
    pub(crate) memory: f64,
    /// Megabytes a second of the clock, from the first request to the arrival of the last.
    pub(crate) speed: f64,
    /// Megabytes a second of the clock that were taken: until the last answer.
    pub(crate) taken: f64,
    /// The time to an answer, milliseconds: half and 99 of 100 are below.
    pub(crate) answer: f64,
    pub(crate) late: f64,
}

/// Pairs of runs, profpipe's and the other's.
pub(crate) type Pairs = [Vec<Figures>; 2];

pub(crate) fn print(title: &str, other: &str, figures: &Pairs) {
    println!(
        "\n{title}; {} pairs, medians (least to most); the ratio's mean and its 95 % interval:",
        figures[0].len()
    );
    let row = |what: &str, of: fn(&Figures) -> f64| {
        let text = figures.each_ref().map(|runs| {
            let values = runs.iter().map(of);
            let (least, most) = values.clone().fold((f64::MAX, 0_f64), |(least, most), value| {
                (least.min(value), most.max(value))
            });
            format!("{:.1} ({least:.1} to {most:.1})", median(values))
        });
        let pairs = figures[0].iter().zip(&figures[1]).map(|(ours, theirs)| of(ours) / of(theirs));
        let (mean, margin) = interval(&pairs.collect::<Vec<_>>());
        println!(
            "  {what}: profpipe {}, {other} {}; ratio {mean:.3} ({:.3} to {:.3})",
            text[0],
            text[1],
            mean - margin,
            mean + margin,
        );
    };
    row("thousand samples by CPU second", |figures| figures.samples / 1e3);
    row("MB by CPU second", |figures| figures.megabytes);
    row("memory before the first request, MiB", |figures| figures.rest);
    row("peak memory, MiB", |figures| figures.memory);
    row("MB by second, taken", |figures| figures.taken);
    row("MB by second, arrived", |figures| figures.speed);
    row("time to an answer, p50, ms", |figures| figures.answer);
    row("time to an answer, p99, ms", |figures| figures.late);
}

/// The mean of paired ratios and half of its 95 % interval, by Student's t.
fn interval(ratios: &[f64]) -> (f64, f64) {
    // By degrees of freedom, from 1.
    const T: [f64; 15] =
        [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13];
    let count = ratios.len() as f64;
    let mean = ratios.iter().sum::<f64>() / count;
    let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
    let Some(freedom) = ratios.len().checked_sub(2) else { return (mean, f64::INFINITY) };
    let t = T.get(freedom).copied().unwrap_or(2.0);
    (mean, t * (squares / (count - 1.0) / count).sqrt())
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

pub(crate) fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
