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

/// Pairs of runs, profpipe's and the Collector's.
pub(crate) type Pairs = [Vec<Figures>; 2];

pub(crate) fn print(title: &str, figures: &Pairs) {
    println!("\n{title}; {} pairs, medians (least to most):", figures[0].len());
    let row = |what: &str, of: fn(&Figures) -> f64| {
        let text = figures.each_ref().map(|runs| {
            let values = runs.iter().map(of);
            let (least, most) = values.clone().fold((f64::MAX, 0_f64), |(least, most), value| {
                (least.min(value), most.max(value))
            });
            format!("{:.1} ({least:.1} to {most:.1})", median(values))
        });
        let pairs = figures[0].iter().zip(&figures[1]).map(|(ours, theirs)| of(ours) / of(theirs));
        println!(
            "  {what}: profpipe {}, Collector {}; ratio {:.3}",
            text[0],
            text[1],
            median(pairs)
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

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

pub(crate) fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
