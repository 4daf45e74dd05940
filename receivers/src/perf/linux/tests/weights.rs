//! Weights under a changing rate: simulated timers, and the kernel's own.

use super::super::events::attr::{Choices, Clock, Kind};
use super::super::events::calibrate::upper;
use super::super::events::sys;
use super::super::governed::exposure::Exposure;
use super::super::records::record::{self, Layouts, Record};
use super::super::records::ring::{Records, Ring};
use crate::perf::Unwind;

const SECOND: u64 = 1_000_000_000;

/// A small generator of random numbers; the tests need no good one, only the same each time.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A CPU whose timer samples what runs: `running` says which of two functions it is at a time, or
/// none. Each window has a frequency and credits; returns the summed weights of the functions.
fn sample(
    windows: &[(f64, u32)],
    random: &mut Random,
    mut running: impl FnMut(u64, &mut Random) -> Option<usize>,
) -> [f64; 2] {
    let mut sums = [0.0; 2];
    let period = |hertz: f64| (1e9 / hertz) as u64;
    let mut exposure = Exposure::new(0, period(windows[0].0));
    let mut in_force = windows[0].0;
    // The first expiry is anywhere in the first period.
    let mut next = (random.uniform() * period(in_force) as f64) as u64;
    let mut left = 0;
    for (at, (hertz, credits)) in windows.iter().enumerate() {
        let begin = at as u64 * SECOND;
        let end = begin + SECOND;
        if *credits == 0 {
            exposure.hold();
            exposure.end(end);
            next = next.max(end);
            continue;
        }
        exposure.change(begin, period(*hertz));
        if *hertz != in_force && left > 0 {
            next = begin + period(*hertz);
        }
        in_force = *hertz;
        if left == 0 && at > 0 {
            // An event that was stopped goes on with a whole period.
            next = begin + period(in_force);
        }
        left += exposure.begin(begin, *credits);
        let mut window = [0.0; 2];
        while next < end && left > 0 {
            if let Some(function) = running(next, random) {
                left -= 1;
                window[function] += exposure.sample(next) as f64;
            }
            next += period(in_force);
        }
        let (factor, _) = exposure.end(end);
        for (sum, part) in sums.iter_mut().zip(window) {
            *sum += part * factor;
        }
    }
    sums
}

fn mean_share(
    windows: &[(f64, u32)],
    running: impl Fn(u64, &mut Random) -> Option<usize>,
) -> (f64, f64) {
    const ROUNDS: u64 = 400;
    let (mut share, mut total) = (0.0, 0.0);
    for round in 1..=ROUNDS {
        let mut random = Random(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let sums = sample(windows, &mut random, &running);
        share += sums[0] / (sums[0] + sums[1]) / ROUNDS as f64;
        total += (sums[0] + sums[1]) / ROUNDS as f64 / 1e9;
    }
    (share, total)
}

/// Scenario: one function for 40 s at 99 Hz, another for 20 s at 20 Hz, on a CPU that is busy 70 % of
/// the time; the same with credits for half of the samples in the second part; with a pause in it;
/// and with a frequency that changes every second.
/// Guarantees: the share of the first is two thirds and the sum is what was busy, every time; counting
/// samples would say 0.91.
#[test]
fn sums_are_right_while_the_rate_changes() {
    let phases = |time: u64, random: &mut Random| {
        (random.uniform() < 0.7).then_some(usize::from(time >= 40 * SECOND))
    };
    let constant = |second: (f64, u32)| [vec![(99.0, 1000); 40], vec![second; 20]].concat();
    let mut paused = constant((20.0, 1000));
    paused[50] = (20.0, 0);
    paused[51] = (20.0, 0);
    let swinging: Vec<(f64, u32)> =
        (0..60).map(|second| (20.0 * 1.25_f64.powi(second % 7), 1000)).collect();
    let cases = [
        ("slower", constant((20.0, 1000)), 0.01),
        ("capped", constant((20.0, 7)), 0.01),
        ("hardly sampled", constant((20.0, 3)), 0.01),
        ("paused", paused, 0.01),
        ("swinging", swinging, 0.015),
    ];
    for (name, windows, tolerance) in cases {
        let (share, total) = mean_share(&windows, phases);
        assert!((share - 2.0 / 3.0).abs() < tolerance, "{name}: a share of {share}");
        assert!((total / 42.0 - 1.0).abs() < 2.0 * tolerance, "{name}: {total} s in all");
    }
}

/// Scenario: blocks with a cost of 50 µs, some disturbed.
/// Guarantees: the limit is above what it is, and not far.
#[test]
fn the_cost_of_a_sample_is_estimated_from_above() {
    let mut found = [50e3, 52e3, 49e3, 51e3, 48e3, 300e3, 50e3, 51e3];
    let upper = upper(&mut found).unwrap();
    assert!((50e3..80e3).contains(&upper), "{upper}");
    assert_eq!(super::super::events::calibrate::upper(&mut [1.0, 2.0]), None);
}

/// Scenario: an event of the kernel with 20 credits at a period of 1 ms while this thread is busy;
/// then 5 more; then another period.
/// Guarantees: exactly so many samples come, and the new period is kept although samples do not say
/// so.
#[test]
#[allow(clippy::print_stderr, reason = "says why it does nothing")]
fn the_kernel_keeps_to_its_credits() {
    use std::os::fd::AsFd;
    let choices = Choices {
        clock: Clock::Timer,
        frequency: 99,
        stack: 0,
        user_chain: false,
        kernel: false,
        build_id: false,
        lost: false,
        inherit: false,
        sideband: false,
        watermark: 4096,
        count: false,
        wakeups: false,
    }
    .unwinding(Unwind::FramePointers, 0);
    let mut attr = choices.sampling(Kind::Cpu, true);
    let layouts = Layouts::new(vec![Kind::Cpu.layout(&choices)]);
    attr.set_freq(0);
    attr.__bindgen_anon_1.sample_period = SECOND / 1000;
    let event = match sys::open_event(&attr, 0, -1) {
        Ok(event) => event,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut ring = Ring::map(event.as_fd(), 1 << 18).unwrap();
    let mut take = |expected: usize| {
        let until = std::time::Instant::now() + std::time::Duration::from_millis(120);
        while std::time::Instant::now() < until {
            std::hint::black_box((0..1000_u64).sum::<u64>());
        }
        ring.refresh();
        let mut scratch = Vec::new();
        let mut times = Vec::new();
        while let Some(bytes) = ring.peek(&mut scratch) {
            if let Ok(Record::Sample(sample)) = record::parse(bytes, &layouts) {
                times.push(sample.time);
            }
            let length = bytes.len();
            ring.skip(length);
        }
        ring.release();
        assert!(times.len() <= expected, "{} samples for {expected}", times.len());
        times
    };
    sys::refresh(event.as_fd(), 20).unwrap();
    let first = take(20);
    // Less only if this thread hardly ran.
    assert!(first.len() > 2, "{} samples", first.len());
    if first.len() == 20 {
        assert_eq!(take(0).len(), 0, "the event has stopped");
        sys::refresh(event.as_fd(), 5).unwrap();
        take(5);
        sys::set_period(event.as_fd(), SECOND / 500).unwrap();
        sys::refresh(event.as_fd(), 6).unwrap();
        let slower = take(6 + 5);
        let gaps: Vec<u64> = slower.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Interruptions are late now and then, and the next one is on time again.
        let long = gaps.iter().filter(|gap| **gap > SECOND / 700).count();
        assert!(long * 2 > gaps.len(), "{gaps:?}");
    }
}
