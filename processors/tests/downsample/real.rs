//! Real profiles, taken by profpipe itself: a compile, a Node service, a mixed host. The benchmark
//! `downsample` of the root package does the same with more seeds, all stacks and rivals.

use std::io::Read;

use profpipe_formats::otlp;
use profpipe_processors::downsample::algorithm::Design;
use profpipe_profile::Profiles;

use crate::answers::{Answers, Question, Trials, items, percent, rows};

fn load(name: &str) -> Profiles {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let packed = std::fs::read(file.join(format!("{name}.otlp.xz"))).unwrap();
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(packed.as_slice(), false).read_to_end(&mut bytes).unwrap();
    otlp::decode(&bytes).unwrap()
}

/// Scenario: some 4000 stacks of each profile, sampled tenfold by some seeds.
/// Guarantees: no function or node over 0.3 % of the total is biased; totals are exact every time;
/// everything over 1 % is far closer than without balance.
fn answers_stay_the_same(name: &str) {
    let profiles = load(name);
    let all = rows(&profiles, "cpu");
    let rows: Vec<_> = all.iter().copied().step_by(all.len() / 4000).collect();
    let answers = Answers::of(&profiles.dictionary, &rows, 0.003);
    let keep = rows.len() / 10;
    let run = |balance: usize, count: u64| {
        let design = Design::new(&profiles.dictionary, items(&rows), keep, balance).unwrap();
        let mut trials = Trials::default();
        for seed in 0..count {
            let draw = design.draw(false, seed);
            assert!(draw.kept.len() <= keep);
            let total: u64 = draw.kept.iter().map(|(_, value)| value).sum();
            let kept = draw.kept.iter().map(|(row, value)| (*row, *value as f64));
            trials.add(&answers, &answers.estimate(kept), total as f64);
        }
        (trials, design.tau())
    };
    let (balanced, tau) = run(512, 24);
    assert_eq!(balanced.inexact, 0);
    let worst = balanced.z(tau).into_iter().fold(0.0, |most: f64, z| most.max(z.abs()));
    assert!(worst <= 4.0, "{name}: {worst}");
    let (even, _) = run(0, 6);
    let (any, unbalanced) = (percent(&balanced.worst[3], 0.5), percent(&even.worst[3], 0.5));
    assert!(any * 2.0 < unbalanced, "{name}: {any} {unbalanced}");
    let totals = answers.questions.iter().filter(|of| matches!(of, Question::Total(_)));
    assert!(totals.count() > 50);
}

/// See [`answers_stay_the_same`].
#[test]
fn answers_of_a_compile_stay_the_same() {
    answers_stay_the_same("compile");
}

/// See [`answers_stay_the_same`].
#[test]
fn answers_of_a_service_stay_the_same() {
    answers_stay_the_same("service");
}

/// See [`answers_stay_the_same`].
#[test]
fn answers_of_a_mixed_host_stay_the_same() {
    answers_stay_the_same("mixed");
}
