//! Two requests in one input, merged, aggregated, compacted and split: no panic, no sample lost,
//! and every index stays in its table.

#![no_main]

use libfuzzer_sys::fuzz_target;
use profpipe_formats::otlp;
use profpipe_profile::{Profiles, aggregate, merge};

/// The sum of all weights.
fn total(profiles: &Profiles) -> i128 {
    let samples = profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter());
    samples
        .map(|sample| match sample.values {
            [] => sample.timestamps_unix_nano.len() as i128,
            values => values.iter().map(|value| i128::from(*value)).sum(),
        })
        .sum()
}

fn check(profiles: &Profiles) {
    assert_eq!(profiles.dictionary.check(), Ok(()));
    for (_, _, profile) in profiles.iter() {
        assert_eq!(profile.check(&profiles.dictionary), Ok(()));
    }
}

fuzz_target!(|input: (&[u8], &[u8], u16)| {
    let (Ok(first), Ok(second)) = (otlp::decode(input.0), otlp::decode(input.1)) else { return };
    let expected = total(&first) + total(&second);
    let samples = first.sample_count() + second.sample_count();
    let mut merged = merge([first.clone(), second.clone()]);
    check(&merged);
    assert_eq!((total(&merged), merged.sample_count()), (expected, samples));
    merged.compact();
    check(&merged);
    assert_eq!(total(&merged), expected);
    let parts = otlp::split(merged, usize::from(input.2));
    parts.iter().for_each(check);
    assert_eq!(parts.iter().map(total).sum::<i128>(), expected);
    assert_eq!(parts.iter().map(Profiles::sample_count).sum::<usize>(), samples);
    let united = aggregate([first, second]);
    check(&united);
    assert_eq!(total(&united), expected);
});
