#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_engine::overhead::{Allowance, Limits, Overhead, SamplingTarget, Stage};
use profpipe_engine::telemetry::names;
use profpipe_profile::attribute_names::FRAMES_UNNAMED;
use profpipe_profile::{Profile, Profiles, ResourceProfiles, ScopeProfiles, Value};

use super::Config;
use super::law::Controller;

fn read(text: &str) -> Result<Config, String> {
    Section::from_yaml(text).unwrap().read_valid().map_err(|errors| format!("{errors:?}"))
}

/// Scenario: budgets as the README shows them, and those that make no sense.
/// Guarantees: they mean what they say; the rest are mistakes at their key.
#[test]
fn budgets_are_read() {
    assert_eq!(read("{}").unwrap(), Config::default());
    let config = read("{cpu: 0.5%, memory: 64MiB, network: 100KiB, window: {max: 10s}}").unwrap();
    assert_eq!(config.cpu.0, 0.005);
    assert_eq!(config.window.max.0.as_secs(), 10);
    let wrong = [
        ("cpu: 0%", "cpu"),
        ("cpu: 0.001%", "cpu"),
        ("cpu: 1000000%", "more than this host has"),
        ("cpu: 1", "write it in percent"),
        ("memory: 1MiB", "memory"),
        ("network: 1", "network"),
        ("window: {min: 1ms}", "window::min"),
        ("window: {min: 5s, max: 1s}", "window::max"),
        ("retry: 1s", "retry"),
    ];
    for (text, expected) in wrong {
        let errors = read(text).unwrap_err();
        assert!(errors.contains(expected), "{text}: {errors}");
    }
}

/// A batch with one profile, of this receiver.
fn batch(receiver: &str) -> Batch {
    let mut profiles = Profiles::new();
    let scope = ScopeProfiles { profiles: vec![Profile::default()], ..Default::default() };
    profiles.resources.push(ResourceProfiles { scopes: vec![scope], ..Default::default() });
    let mut batch = Batch::new(profiles);
    batch.context.receiver = receiver.into();
    batch
}

fn attributes(batch: &mut Batch) -> Vec<(String, Value)> {
    let profiles = batch.profiles().unwrap();
    let dictionary = &profiles.dictionary;
    let (_, _, profile) = profiles.iter().next().unwrap();
    let pair = |ix| {
        let key = dictionary.strings.get(dictionary.attributes.key(ix)).to_owned();
        (key, dictionary.attributes.value(ix).clone())
    };
    profile.attributes.iter().map(|ix| pair(*ix)).collect()
}

/// Scenario: batches of the governed sampler and of another receiver pass.
/// Guarantees: the first say what profiling costs and how it is done; the others are not touched.
#[test]
fn profiles_tell_what_they_cost() {
    let setup = Setup::new("governor", Services::default());
    let mut governor = read("cpu: 0.5%").unwrap().build(&setup).unwrap();
    let overhead = &setup.services.overhead;
    let second = Duration::from_secs(1);
    let target =
        SamplingTarget { frequency: 99.0, cpus: 2, interval: second, ladder: true, looks: 0.0 };
    let _sampler = overhead.govern("perf", target, &setup.services.metrics).unwrap();
    assert!(Arc::clone(overhead).govern("perf/2", target, &setup.services.metrics).is_none());
    let mut pass = |batch| {
        let mut out = Outbox::default();
        governor.process(batch, &mut out).unwrap();
        attributes(&mut out.drain().next().unwrap())
    };
    assert!(pass(batch("otlp")).is_empty());
    let told = pass(batch("perf"));
    let of = |key: &str| &told.iter().find(|(known, _)| known == key).expect(key).1;
    assert_eq!(of("profpipe.overhead.budget"), &Value::Double(0.005));
    assert_eq!(of("profpipe.overhead.state"), &Value::from("limited"));
    assert_eq!(of("profpipe.overhead.confidence"), &Value::from("low"));
    // Before anything is known a sample is taken to cost 80 µs at least: so many fit, on two CPUs.
    let fit = 0.005 / 80e-6 / 2.0;
    assert!(matches!(of("profpipe.sampling.frequency"), Value::Double(hertz) if *hertz < fit));
}

/// Scenario: a governor begins; delivery and names ask for more than a second's budget, with and
/// without an allowance for the start.
/// Guarantees: the allowance is used first and says how much was; without it they wait; names also wait
/// while delivery does.
#[test]
fn the_start_has_an_allowance() {
    let (metrics, second) =
        (profpipe_engine::telemetry::Metrics::default(), Duration::from_secs(1));
    let target =
        SamplingTarget { frequency: 99.0, cpus: 2, interval: second, ladder: true, looks: 0.0 };
    for advance in [60, 0] {
        let overhead = Arc::new(Overhead::default());
        let start = Allowance { advance: advance * second, ..Allowance::default() };
        overhead
            .install(|limits, target, kernel| Box::new(Controller::new(limits, target, kernel)));
        overhead.limit(Limits { start, ..Limits::default() });
        let _governor = overhead.govern("perf", target, &metrics).unwrap();
        assert_eq!(overhead.has_allowance(), advance > 0);
        let mut turns = 0;
        while overhead.wait(Stage::Symbolize).is_none() && turns < 1000 {
            overhead.spend(Stage::Symbolize, 1_000_000);
            turns += 1;
        }
        // 600 ms at 1 %, in pieces of a millisecond; without it less than a second's budget.
        let expected = if advance > 0 { 599..=620 } else { 1..=10 };
        assert!(expected.contains(&turns), "{turns}");
        // Delivery that waits goes first.
        let turns = |stage| (0..1000).take_while(|_| overhead.wait(stage).is_none()).count();
        assert!(turns(Stage::Send) < 1000);
        assert!(overhead.wait(Stage::Symbolize).unwrap() >= Duration::from_millis(100));
    }
}

/// Scenario: a reload in the middle of a governed recording: frames were named before and after it, and the
/// governor of the sampler has learnt what things cost.
/// Guarantees: what passed before the reload is not said again after it; the next governor of the same
/// limits goes on where the last one was, and one of other limits begins anew.
#[test]
fn a_reload_counts_nothing_twice_and_forgets_nothing() {
    let setup = Setup::new("governor", Services::default());
    let overhead = &setup.services.overhead;
    let metrics = &setup.services.metrics;
    let interval = Duration::from_secs(1);
    let target = SamplingTarget { frequency: 99.0, cpus: 2, interval, ladder: true, looks: 0.0 };
    let unnamed = metrics.counter(names::FRAMES_UNNAMED, "symbolize");
    let share = |batch: Batch, governor: &mut dyn Processor| {
        let mut out = Outbox::default();
        governor.process(batch, &mut out).unwrap();
        let told = attributes(&mut out.drain().next().unwrap());
        told.into_iter().find(|(key, _)| key == FRAMES_UNNAMED)
    };
    let mut governor = read("cpu: 0.5%").unwrap().build(&setup).unwrap();
    let mut sampler = overhead.govern("perf", target, metrics).unwrap();
    unnamed.add(7);
    assert!(share(batch("perf"), governor.as_mut()).is_some());
    let fresh = sampler.levers();
    // A window that cost far too much is a debt.
    let window = profpipe_engine::overhead::Sampled { samples: 1_000_000, ..Default::default() };
    std::thread::sleep(Duration::from_millis(5));
    let owing = sampler.window(&window);
    assert_ne!(format!("{fresh:?}"), format!("{owing:?}"));
    drop((governor, sampler));

    let mut governor = read("cpu: 0.5%").unwrap().build(&setup).unwrap();
    let mut sampler = overhead.govern("perf", target, metrics).unwrap();
    assert_eq!(share(batch("perf"), governor.as_mut()), None, "said twice");
    assert_eq!(format!("{:?}", sampler.levers().state), format!("{:?}", owing.state));
    drop(sampler);
    let other = SamplingTarget { frequency: 49.0, ..target };
    let mut sampler = overhead.govern("perf", other, metrics).unwrap();
    assert_ne!(format!("{:?}", sampler.levers().state), format!("{:?}", owing.state));
}
