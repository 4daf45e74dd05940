//! How many events a sample stands for, for events that are counted and not clocks.
//!
//! The number is prime and a little different in every window, so that it does not keep step with what
//! repeats itself. Where it follows how many events there are, it is raised at once when there are many
//! more than before, so that a burst costs no more than a moment's samples, and lowered at the end of
//! a window. What a sample stands for is known by when it was taken, and all of a window are
//! corrected to what was counted exactly.

use crate::perf::linux::handoff::EventIx;

/// The smallest number that follows how many there are: a burst begins with it.
const LEAST: u64 = 7;
/// The largest.
const MOST: u64 = 1 << 20;
/// How far the number differs from window to window, in either direction.
const JITTER: f64 = 0.1;
/// With so many times the samples that are wanted, the number is raised within a window.
const TOO_MANY: f64 = 4.0;
/// How long events are not counted that there were too many of, in nanoseconds.
const REST: u64 = 60 * SECOND;
/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The shortest time in which samples are too many, in nanoseconds.
const MOMENT: u64 = 50_000_000;

/// How many events a sample stands for.
#[derive(Debug, Clone)]
pub(crate) struct EveryMeter {
    pub(crate) event: EventIx,
    /// A field of the events is summed up, and not how many they are.
    has_value: bool,
    /// The events that the samples of this window stand for, and the sum of their fields.
    weighed: u64,
    summed: u64,
    /// The events of this window that samples of others stand for.
    strange: u64,
    every: u64,
    /// The smallest that it may become.
    least: u64,
    /// The number before, and until when it was in force.
    past: (u64, u64),
    /// The samples in a second that are wanted; none if the number is given.
    wanted: Option<f64>,
    /// What was counted until the last window.
    counted: u64,
    /// The samples since, and since when.
    samples: u64,
    since: u64,
    window: u64,
    /// The most events in a second that are counted.
    limit: Option<u64>,
    /// The events since then, as samples say.
    recent: u64,
    recent_since: u64,
    /// Until when they are not counted, because there were more.
    rests_until: Option<u64>,
    /// They were not counted for a part of this window.
    rested: bool,
    /// A number that was decided on and is not in force yet.
    next: Option<u64>,
}

impl EveryMeter {
    /// One that begins now with a number; with as many samples a second as are wanted, if it is to
    /// follow how many events there are.
    pub(crate) fn new(
        event: EventIx,
        every: u64,
        wanted: Option<f64>,
        has_value: bool,
        now: u64,
    ) -> Self {
        Self {
            event,
            has_value,
            weighed: 0,
            summed: 0,
            strange: 0,
            every,
            least: LEAST.min(every),
            past: (every, 0),
            wanted,
            counted: 0,
            samples: 0,
            since: now,
            window: now,
            limit: None,
            recent: 0,
            recent_since: now,
            rests_until: None,
            rested: false,
            next: None,
        }
    }

    /// If so, never below the number that it begins with.
    pub(crate) fn not_below(self, is_bounded: bool) -> Self {
        Self { least: if is_bounded { self.every } else { self.least }, ..self }
    }

    /// With the most events in a second that are counted.
    pub(crate) fn limited(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// Whether there are more events than may be counted: they rest from now on.
    pub(crate) fn is_over(&mut self, now: u64) -> bool {
        let Some(limit) = self.limit else { return false };
        if self.rests_until.is_some() {
            return false;
        }
        let passed = now.saturating_sub(self.recent_since).max(SECOND / 5) as f64 / SECOND as f64;
        let rate = self.recent as f64 / passed;
        if now.saturating_sub(self.recent_since) >= SECOND {
            (self.recent, self.recent_since) = (0, now);
        }
        let is_over = rate > limit as f64;
        if is_over {
            self.rests_until = Some(now + REST);
            self.rested = true;
        }
        is_over
    }

    /// Whether it is time to count events again that there were too many of; once.
    pub(crate) fn may_go_on(&mut self, now: u64) -> bool {
        let goes_on = self.rests_until.take_if(|until| now >= *until).is_some();
        if goes_on {
            (self.recent, self.recent_since) = (0, now);
        }
        goes_on
    }

    /// Whether events were not counted for a part of the window that has ended.
    pub(crate) fn take_rested(&mut self) -> bool {
        std::mem::replace(&mut self.rested, self.rests_until.is_some())
    }

    /// What a sample of this time stands for, with the value of its field if it has one, and how many events
    /// that is.
    pub(crate) fn weigh(&mut self, time: u64, value: Option<u64>) -> (u64, u64) {
        self.samples += 1;
        let (past, until) = self.past;
        let every = if time < until { past } else { self.every };
        self.recent = self.recent.saturating_add(every);
        let weight = every.saturating_mul(value.unwrap_or(1));
        self.weighed = self.weighed.saturating_add(every);
        self.summed = self.summed.saturating_add(weight);
        (weight, every)
    }

    /// A sample of somebody who is not meant, but counted.
    pub(crate) fn skip(&mut self, time: u64) {
        self.samples += 1;
        let (past, until) = self.past;
        let every = if time < until { past } else { self.every };
        self.strange += every;
        self.recent = self.recent.saturating_add(every);
    }

    /// A round has ended: the number from now on, if there were far too many samples.
    pub(crate) fn end_round(&mut self, now: u64) -> Option<u64> {
        let wanted = self.wanted?;
        let passed = now.saturating_sub(self.since).max(MOMENT);
        let rate = self.samples as f64 / (passed as f64 / 1e9);
        if now.saturating_sub(self.since) >= MOMENT {
            (self.samples, self.since) = (0, now);
        }
        if rate < TOO_MANY * wanted || self.every >= MOST {
            return None;
        }
        (self.samples, self.since) = (0, now);
        Some(self.change((self.every as f64 * rate / wanted) as u64, now))
    }

    /// A window has ended, until when so many events were counted in all: how many they were in it, or what
    /// their fields add up to: as far as samples say, and as much more as there were more events.
    pub(crate) fn end_window(&mut self, counted: u64, now: u64) -> u64 {
        let new = counted.saturating_sub(self.counted);
        self.counted = counted;
        let strange = std::mem::take(&mut self.strange);
        let (weighed, summed) =
            (std::mem::take(&mut self.weighed), std::mem::take(&mut self.summed));
        let total = match self.has_value {
            true if weighed == 0 => 0,
            true => {
                let all = u128::from(summed) * u128::from(new) / u128::from(weighed);
                u64::try_from(all).unwrap_or(u64::MAX)
            }
            false if strange > 0 => {
                let all = u128::from(new) * u128::from(weighed) / u128::from(weighed + strange);
                u64::try_from(all).unwrap_or(u64::MAX)
            }
            false => new,
        };
        let passed = now.saturating_sub(std::mem::replace(&mut self.window, now)).max(1);
        let Some(wanted) = self.wanted else { return total };
        let rate = new as f64 / (passed as f64 / 1e9);
        let jitter = 1.0 + JITTER * (2.0 * uniform(now) - 1.0);
        // A calm window after a busy one may be followed by another busy one.
        let next = (rate / wanted).max(self.every as f64 / 16.0) * jitter;
        self.next = Some(next as u64);
        total
    }

    /// The number from now on, if the end of a window has changed it.
    pub(crate) fn take_next(&mut self, now: u64) -> Option<u64> {
        let next = self.next.take()?;
        Some(self.change(next, now))
    }

    fn change(&mut self, every: u64, now: u64) -> u64 {
        let next = prime_from(every.clamp(self.least, MOST.max(self.least)));
        self.past = (self.every, now);
        self.every = next;
        self.next = None;
        next
    }
}

/// The first prime number that is not smaller.
fn prime_from(number: u64) -> u64 {
    let is_prime = |it: &u64| {
        *it >= 2 && (2..).take_while(|by| by * by <= *it).all(|by| !it.is_multiple_of(by))
    };
    (number..).find(is_prime).unwrap_or(number)
}

/// A number between 0 and 1 for a time: the low digits of a clock, well mixed.
pub(crate) fn uniform(time: u64) -> f64 {
    let mut mixed = time.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: windows with few events, a burst in the middle of one, calm after it.
    /// Guarantees: the number is always prime and differs from window to window; the burst raises it
    /// within the window; a sample from before a change has the weight of then; what was counted is told
    /// once.
    #[test]
    fn follows_how_many_there_are() {
        let mut meter = EveryMeter::new(EventIx(1), 61, Some(100.0), false, 0);
        assert_eq!(meter.end_window(100_000, 10 * SECOND), 100_000);
        let first = meter.take_next(10 * SECOND).unwrap();
        assert_eq!((prime_from(first), meter.take_next(10 * SECOND)), (first, None));
        // 10,000 a second: a sample for a hundred.
        assert!((89..=113).contains(&first), "{first}");
        for at in 0..100 {
            assert_eq!(meter.weigh(11 * SECOND + at, None).0, first);
        }
        assert_eq!(meter.weigh(9 * SECOND, None).0, 61, "it was taken before the change");
        assert_eq!(meter.end_round(11 * SECOND), None);
        for at in 0..1000 {
            meter.weigh(11 * SECOND + at, None);
        }
        let raised = meter.end_round(11 * SECOND + MOMENT).unwrap();
        assert!(raised > 100 * first, "{raised}");
        assert_eq!(meter.end_window(100_000, 20 * SECOND), 0);
        let next = meter.take_next(20 * SECOND).unwrap();
        assert!(next < raised / 10, "{next}");
    }

    /// Scenario: a field is summed up, of one in ten events, and half of the samples are lost.
    /// Guarantees: the sum is that of all events, as far as those say that were seen; without samples it is
    /// nothing.
    #[test]
    fn fields_are_summed_up() {
        let mut meter = EveryMeter::new(EventIx(1), 10, None, true, 0);
        for value in [100, 300] {
            assert_eq!(meter.weigh(1, Some(value)), (10 * value, 10));
        }
        assert_eq!(meter.end_window(40, SECOND), 8_000);
        assert_eq!(meter.end_window(90, 2 * SECOND), 0);
    }

    /// Scenario: calls that are counted with a limit, first fewer, then more, half of them of others.
    /// Guarantees: the limit is noticed once, when it is passed, and again after a rest; windows with a rest are
    /// known; what is of others is not in the sum.
    #[test]
    fn too_many_calls_are_noticed() {
        let meter = EveryMeter::new(EventIx(1), 10, None, false, 0);
        let mut meter = meter.limited(Some(1_000));
        (0..50).for_each(|at| assert_eq!(meter.weigh(at, None).0, 10));
        (0..50).for_each(|at| meter.skip(at));
        assert!(!meter.is_over(SECOND) && !meter.take_rested());
        assert_eq!(meter.end_window(1_000, SECOND), 500);
        (0..101).for_each(|at| assert_eq!(meter.weigh(SECOND + at, None).0, 10));
        assert!(meter.is_over(2 * SECOND) && !meter.is_over(2 * SECOND));
        assert!(!meter.may_go_on(61 * SECOND) && meter.take_rested());
        assert!(meter.may_go_on(62 * SECOND) && !meter.may_go_on(62 * SECOND));
        assert!(!meter.is_over(62 * SECOND));
        (0..501).for_each(|at| assert_eq!(meter.weigh(62 * SECOND + at, None).0, 10));
        assert!(meter.is_over(63 * SECOND));
        assert!(meter.take_rested() && meter.take_rested());
    }

    /// Scenario: 100 recordings of six windows, in which events come at rates from one thousand to a million a
    /// second, in a cycle of 64 of which 40, 20 and 4 are of three functions; the number follows the rate, is
    /// raised within windows and lowered after them, and the kernel has the next event make a sample whenever
    /// it is changed, as Linux does. The phase of the cycle is random, with fixed seeds.
    /// Guarantees: corrected to what was counted, each function has in the mean what it did: within three
    /// standard errors of all recordings.
    #[test]
    fn changing_numbers_are_unbiased() {
        const RUNS: u64 = 100;
        let class = |index: u64| match index % 64 {
            0..40 => 0,
            40..60 => 1,
            _ => 2,
        };
        let mut errors: [Vec<f64>; 3] = Default::default();
        let mut changes = 0;
        for seed in 0..RUNS {
            let phase = (uniform(seed.wrapping_mul(7_919) + 1) * 64.0) as u64;
            let mut meter = EveryMeter::new(EventIx(1), 251, Some(200.0), false, 0);
            let (mut index, mut left, mut every) = (0, 251, 251);
            let (mut now, mut found, mut truth) = (seed * 1_000_003, [0.0; 3], [0.0; 3]);
            for window in 0..6 {
                let mut weighed = [0.0; 3];
                let first = index;
                for round in 0..20 {
                    // Bursts begin and end within a window.
                    let bursts = (window * 20 + round + seed) % 31 < 9;
                    let rate: u64 = if bursts { 1_000_000 } else { 1_000 + 20_000 * (window % 3) };
                    let until = index + rate / 10;
                    while index + left <= until {
                        index += left;
                        let (weight, _) = meter.weigh(now + 1, None);
                        weighed[class(index - 1 + phase)] += weight as f64;
                        left = every;
                    }
                    left -= until - index;
                    index = until;
                    now += SECOND / 10;
                    if round == 19 {
                        meter.end_window(index, now);
                    }
                    if let Some(new) = meter.end_round(now).or_else(|| meter.take_next(now)) {
                        (every, left, changes) = (new, 1, changes + 1);
                    }
                }
                let scale = (index - first) as f64 / weighed.iter().sum::<f64>().max(1.0);
                let cycles = (index - first) / 64;
                for (truth, share) in truth.iter_mut().zip([40, 20, 4]) {
                    *truth += (share * cycles) as f64;
                }
                (first + 64 * cycles..index).for_each(|at| truth[class(at + phase)] += 1.0);
                (0..3).for_each(|at| found[at] += weighed[at] * scale);
            }
            for (errors, (found, truth)) in errors.iter_mut().zip(found.iter().zip(truth)) {
                errors.push((found - truth) / truth);
            }
        }
        assert!(changes > 6 * RUNS, "{changes}");
        for errors in errors {
            let mean = errors.iter().sum::<f64>() / RUNS as f64;
            let squares: f64 = errors.iter().map(|error| (error - mean).powi(2)).sum();
            let error = (squares / RUNS as f64 / (RUNS - 1) as f64).sqrt();
            assert!((mean / error).abs() < 3.0, "{mean} ± {error}");
        }
    }

    /// Scenario: a number that is given, whatever happens.
    /// Guarantees: it stays.
    #[test]
    fn a_given_number_stays() {
        let mut meter = EveryMeter::new(EventIx(1), 10, None, false, 0);
        (0..100_000).for_each(|at| assert_eq!(meter.weigh(at, None).0, 10));
        assert_eq!(meter.end_round(SECOND), None);
        assert_eq!(meter.end_window(7, 10 * SECOND), 7);
        assert_eq!(meter.take_next(10 * SECOND), None);
    }
}
