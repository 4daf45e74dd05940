//! When to look: at random moments, as often as was asked for, or as a share of the budget pays for.

/// The threads that are looked at in a moment.
pub(super) const BATCH: usize = 4;
/// With fewer looks a second there are none.
pub(super) const MIN_RATE: f64 = 4.0;
/// The part of that for listing.
const LISTING_PART: f64 = 0.3;
/// The CPU time for listing in a second without a budget, in nanoseconds.
const LISTING_NANOS: f64 = 4_000_000.0;
/// What unwinding the stack that a look has found takes, about, in nanoseconds.
const UNWINDING_NANOS: f64 = 15_000.0;
/// Bounds of the time between listings, in nanoseconds.
const LISTING_INTERVAL: (f64, f64) = (1e8, 5e9);
/// How fast means follow.
const SMOOTHING: f64 = 0.05;

/// How often to look.
#[derive(Debug)]
pub(super) struct Pace {
    /// Looks a second that were asked for.
    rate: f64,
    /// CPU time in a second, in nanoseconds, if it is bounded.
    allowed: Option<f64>,
    /// What a moment's looks take, and a listing, in the mean.
    moment: f64,
    listing: f64,
    delay: f64,
}

impl Pace {
    /// So many looks a second; with them and listing within a share of a core, if that is bounded.
    pub(super) fn new(rate: u32, allowed: Option<f64>) -> Self {
        Self {
            rate: f64::from(rate),
            allowed: allowed.map(|share| share * 1e9),
            moment: 150_000.0,
            listing: 0.0,
            delay: 0.0,
        }
    }

    /// Looks a second.
    fn possible(&self) -> f64 {
        let Some(allowed) = self.allowed else { return self.rate };
        let of_moments = allowed * (1.0 - LISTING_PART);
        let cost = self.moment / BATCH as f64 + UNWINDING_NANOS;
        self.rate.min(of_moments / cost)
    }

    /// Too few are possible.
    pub(super) fn is_off(&self) -> bool {
        let possible = self.possible();
        possible < MIN_RATE && possible < self.rate
    }

    /// The mean time between moments, in nanoseconds.
    pub(super) fn mean_gap(&self) -> f64 {
        BATCH as f64 * 1e9 / self.possible().max(MIN_RATE.min(self.rate))
    }

    /// What a thread that is found blocked stands for, in nanoseconds: one of `chosen` of `all` threads of
    /// a kind, which a moment is for with this probability, at what is so many moments.
    pub(super) fn weight(&self, moments: u32, all: usize, chosen: usize, probability: f64) -> u64 {
        let of_each = all as f64 / chosen.max(1) as f64 / probability;
        (f64::from(moments) * self.mean_gap() * of_each).round() as u64
    }

    /// The time until the next moment, in nanoseconds.
    pub(super) fn gap(&self, random: &mut Random) -> u64 {
        // Not all too short, so that many passed ones are few steps.
        (-random.uniform().max(1e-12).ln() * self.mean_gap()).max(1.0) as u64
    }

    /// The time between listings, in nanoseconds.
    pub(super) fn listing_interval(&self) -> u64 {
        let allowed = self.allowed.map_or(LISTING_NANOS, |allowed| LISTING_PART * allowed);
        let (least, most) = LISTING_INTERVAL;
        (self.listing / allowed * 1e9).clamp(least, most) as u64
    }

    /// A listing took so much.
    pub(super) fn listed(&mut self, nanoseconds: u64) {
        let new = nanoseconds as f64;
        self.listing = if self.listing == 0.0 { new } else { 0.7 * self.listing + 0.3 * new };
    }

    /// The looks of a moment took so much.
    pub(super) fn looked(&mut self, nanoseconds: u64) {
        self.moment += SMOOTHING * (nanoseconds as f64 - self.moment);
    }

    /// A moment came so much too late.
    pub(super) fn was_late(&mut self, nanoseconds: u64) {
        self.delay += SMOOTHING * (nanoseconds as f64 - self.delay);
    }

    /// How late they are in the mean, in nanoseconds.
    pub(super) fn delay(&self) -> u64 {
        self.delay as u64
    }
}

/// Random numbers, for choosing only (`xorshift64*`).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 up to 1.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Some of a list, each as likely as any other; the list is reordered.
    pub(super) fn choose<T: Copy>(&mut self, from: &mut [T], most: usize) -> Vec<T> {
        let count = from.len().min(most);
        for at in 0..count {
            let other = at + (self.uniform() * (from.len() - at) as f64) as usize;
            from.swap(at, other.min(from.len() - 1));
        }
        from.get(..count).unwrap_or_default().to_vec()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Scenario: looks are asked for with no budget, with a large one and with ever smaller ones.
    /// Guarantees: what looks and listings take stays below a quarter of the budget, whatever they cost;
    /// with too little of it there are none.
    #[test]
    fn a_budget_bounds_the_looks() {
        assert_eq!(Pace::new(100, None).mean_gap(), 4e7);
        for (budget, cost) in [(0.05, 100_000), (0.01, 100_000), (0.01, 400_000), (0.002, 50_000)] {
            let mut pace = Pace::new(400, Some(0.25 * budget));
            (0..1000).for_each(|_| pace.looked(cost));
            (0..100).for_each(|_| pace.listed(3_000_000));
            let looks = if pace.is_off() { 0.0 } else { 1e9 / pace.mean_gap() };
            let spent = looks * (cost as f64 + BATCH as f64 * UNWINDING_NANOS);
            let listed = 3e6 * 1e9 / pace.listing_interval() as f64;
            let bound = 0.25 * budget * 1e9;
            // Listings are never further apart than some seconds.
            assert!(spent + listed.min(0.3 * bound) <= bound * 1.01, "{budget} {cost} {spent}");
        }
        assert!(Pace::new(100, Some(0.000_125)).is_off());
        assert!(!Pace::new(2, None).is_off());
    }

    /// Scenario: 200 recordings of two minutes of made-up time, of twelve threads that are blocked and run
    /// in turns of very different lengths, and of thirty that never run; every fourth moment is missed and
    /// made up for by the next one. Seeds are fixed.
    /// Guarantees: what looks say is in the mean how long each thread was blocked: for every one the mean of
    /// all recordings is within five standard errors of the truth, also of those that are looked at with a
    /// tenth of the looks. A right estimator fails once in 40,000 choices of seeds.
    #[test]
    fn looks_are_unbiased() {
        const TIME: u64 = 120_000_000_000;
        const RUNS: u64 = 200;
        // Blocked for the first, then running for the second, in nanoseconds.
        let turn = |thread: usize| {
            let blocked = 50_000 * 3_u64.pow(thread as u32 % 8);
            (blocked, blocked / (1 + thread as u64 % 5) + 10_000)
        };
        let is_blocked = |thread: usize, time: u64| {
            let (blocked, running) = turn(thread);
            (time + 7_919 * thread as u64) % (blocked + running) < blocked
        };
        let (mut active, mut resting): (Vec<usize>, Vec<usize>) =
            ((0..12).collect(), (12..42).collect());
        let pace = Pace::new(100, None);
        let mut sums = vec![(0.0, 0.0); 42];
        for seed in 1..=RUNS {
            let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut found = vec![0_u64; 42];
            let (mut time, mut moments, mut number) = (0, 0, 0);
            loop {
                time += pace.gap(&mut random);
                if time >= TIME {
                    break;
                }
                moments += 1;
                number += 1;
                if number % 4 == 0 {
                    continue;
                }
                let is_resting = random.uniform() < 0.1;
                let (from, probability) =
                    if is_resting { (&mut resting, 0.1) } else { (&mut active, 0.9) };
                let all = from.len();
                let some = random.choose(from, BATCH);
                let weight =
                    pace.weight(std::mem::take(&mut moments), all, some.len(), probability);
                for thread in some {
                    if thread >= 12 || is_blocked(thread, time) {
                        found[thread] += weight;
                    }
                }
            }
            for (sum, found) in sums.iter_mut().zip(found) {
                *sum = (sum.0 + found as f64, sum.1 + (found as f64).powi(2));
            }
        }
        for (thread, (sum, squares)) in sums.into_iter().enumerate() {
            let (blocked, running) = turn(thread);
            let share = blocked as f64 / (blocked + running) as f64;
            let truth = if thread < 12 { share * TIME as f64 } else { TIME as f64 };
            let mean = sum / RUNS as f64;
            let error = ((squares / RUNS as f64 - mean * mean) / RUNS as f64).sqrt();
            assert!((mean - truth).abs() < 5.0 * error, "{thread}: {mean} for {truth} ± {error}");
        }
    }

    /// Scenario: a thousand moments; a list from which some are chosen again and again.
    /// Guarantees: the mean gap is what was asked for, and no member of the list is preferred; within five
    /// standard errors, with a fixed seed.
    #[test]
    fn moments_and_threads_are_random() {
        let pace = Pace::new(100, None);
        let mut random = Random::new(12345);
        let count = 100_000;
        let sum: f64 = (0..count).map(|_| pace.gap(&mut random) as f64).sum();
        let mean = sum / f64::from(count);
        assert!((mean / 4e7 - 1.0).abs() < 5.0 / f64::from(count).sqrt(), "{mean}");
        let mut list: Vec<usize> = (0..10).collect();
        let mut chosen = [0_u32; 10];
        for _ in 0..count {
            let some = random.choose(&mut list, BATCH);
            assert_eq!(some.len(), BATCH);
            some.iter().for_each(|at| chosen[*at] += 1);
        }
        let expected = 0.4 * f64::from(count);
        for times in chosen {
            let error = (f64::from(times) - expected) / (expected * 0.6).sqrt();
            assert!(error.abs() < 5.0, "{chosen:?}");
        }
        assert_eq!(random.choose(&mut [1, 2], BATCH).len(), 2);
        assert!(random.choose::<u8>(&mut [], BATCH).is_empty());
    }
}
