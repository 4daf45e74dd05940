//! Tests of the `pprof` receiver: labels, targets and differences here, requests in `asking`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod asking;
mod discovering;

use std::net::IpAddr;

use profpipe_engine::config::Section;
use profpipe_formats::folded;
use profpipe_profile::{Profiles, ValueType};

use super::config::Config;
use super::delta::{Baseline, Change};
use super::profiles::Kind;
use super::relabel::{Labels, RelabelConfig, Rule, relabel};
use super::target::{Source, Target, may_connect, targets};

fn config(yaml: &str) -> Config {
    Section::from_yaml(yaml).unwrap().read_valid().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn rules(yaml: &str) -> Vec<Rule> {
    let rules: Vec<RelabelConfig> = Section::from_yaml(yaml).unwrap().read().unwrap();
    rules.into_iter().map(|rule| Rule::new(rule).unwrap()).collect()
}

/// Scenario: each action on labels, as Prometheus' documentation has them.
/// Guarantees: labels are set, renamed and removed, and targets dropped, as Prometheus does.
#[test]
fn relabelling() {
    let apply = |rule: &str, pairs: &[(&str, &str)]| {
        let mut labels = labels(pairs);
        relabel(&rules(rule), &mut labels).then_some(labels)
    };
    let pod = [("a", "one"), ("b", "two"), ("meta_x", "y")];
    let replaced = apply(
        "[{source_labels: [a, b], regex: '(.*);t(.*)', target_label: c, replacement: '$2-${1}'}]",
        &pod,
    );
    assert_eq!(replaced.unwrap()["c"], "wo-one");
    // Whole texts only, and no match changes nothing.
    let same = apply("[{source_labels: [a], regex: 'on', target_label: c, replacement: x}]", &pod);
    assert_eq!(same.unwrap(), labels(&pod));
    // An empty text removes the label.
    let removed = apply("[{source_labels: [a], target_label: b, replacement: ''}]", &pod);
    assert!(!removed.unwrap().contains_key("b"));
    assert!(apply("[{source_labels: [a], regex: two, action: keep}]", &pod).is_none());
    assert!(apply("[{source_labels: [a], regex: one, action: keep}]", &pod).is_some());
    assert!(apply("[{source_labels: [a], regex: one, action: drop}]", &pod).is_none());
    assert!(apply("[{source_labels: [a], target_label: b, action: keepequal}]", &pod).is_none());
    assert!(apply("[{source_labels: [a], target_label: a, action: dropequal}]", &pod).is_none());
    let mapped = apply("[{regex: 'meta_(.*)', action: labelmap}]", &pod).unwrap();
    assert_eq!(mapped["x"], "y");
    let kept = apply("[{regex: 'a|b', action: labelkeep}]", &pod).unwrap();
    assert_eq!(kept, labels(&[("a", "one"), ("b", "two")]));
    let dropped = apply("[{regex: 'a|b', action: labeldrop}]", &pod).unwrap();
    assert_eq!(dropped, labels(&[("meta_x", "y")]));
    let upper = apply("[{source_labels: [a], target_label: a, action: uppercase}]", &pod).unwrap();
    assert_eq!(upper["a"], "ONE");
}

/// Scenario: 300 addresses shared between three profpipes by `hashmod`.
/// Guarantees: each address belongs to exactly one, and each has a fair part.
#[test]
fn targets_are_shared_out() {
    let mut shares = [0; 3];
    for at in 0..300 {
        let address = format!("10.0.0.{at}:6060");
        let owners: Vec<usize> = (0..3)
            .filter(|share| {
                let rules = rules(&format!(
                    "[{{source_labels: [__address__], modulus: 3, target_label: __share, action: hashmod}}, \
                      {{source_labels: [__share], regex: '{share}', action: keep}}]"
                ));
                relabel(&rules, &mut labels(&[("__address__", &address)]))
            })
            .collect();
        assert_eq!(owners.len(), 1);
        shares[owners[0]] += 1;
    }
    assert!(shares.iter().all(|share| *share > 60), "{shares:?}");
}

fn all_targets(config: &Config, discovered: &[(&str, &str)]) -> Vec<Target> {
    let rules: Vec<Rule> = config.relabel_configs.iter().cloned().filter_map(Rule::new).collect();
    targets(config, "shop", &rules, &labels(discovered), Source::Local).unwrap()
}

/// Scenario: an address with the defaults, and one whose labels say how to ask.
/// Guarantees: the requests that Go's profiler expects, CPU for a second less than the interval.
#[test]
fn requests() {
    let plain = config("{static_configs: [{targets: ['web:6060']}]}");
    let found = all_targets(&plain, &[("__address__", "web:6060"), ("service_name", "web")]);
    let requests: Vec<String> = found.iter().map(Target::request).collect();
    assert_eq!(
        requests,
        [
            "http://web:6060/debug/pprof/profile?seconds=14",
            "http://web:6060/debug/pprof/allocs",
            "http://web:6060/debug/pprof/block",
            "http://web:6060/debug/pprof/mutex",
            "http://web:6060/debug/pprof/goroutine",
        ]
    );
    assert_eq!(found[0].kind, Kind::Window);
    assert_eq!(found[1].kind, Kind::Cumulative);
    let expected = labels(&[("instance", "web:6060"), ("job", "shop"), ("service_name", "web")]);
    assert_eq!(found[0].labels, expected);

    let special = config(
        "{scheme: https, path_prefix: /app, scrape_interval: 60s, params: {gc: ['1', '2']}, \
          http_sd_configs: [{url: 'http://sd'}], profiles: {process_cpu: {seconds: 20s}, \
          memory: {enabled: false}, block: {enabled: false}, mutex: {enabled: false}, \
          goroutine: {enabled: false}, custom: {jemalloc: {path: /heap}}}}",
    );
    let found = all_targets(&special, &[("__address__", "::1"), ("__param_x", "a b")]);
    let requests: Vec<String> = found.iter().map(Target::request).collect();
    assert_eq!(
        requests,
        [
            "https://[::1]:443/app/debug/pprof/profile?gc=1&gc=2&x=a%20b&seconds=20",
            "https://[::1]:443/app/heap?gc=1&gc=2&x=a%20b",
        ]
    );
    // Asking twice does not add up.
    assert_eq!(found[0].request(), requests[0]);
}

/// Scenario: labels that are no addresses, some of them made to ask something else.
/// Guarantees: each is refused in one line, and none becomes a request.
#[test]
fn no_address() {
    let plain = config("{static_configs: [{targets: ['x:1']}]}");
    for address in [
        "",
        "a b:1",
        "user@host:1",
        "host:0",
        "host:99999",
        "host/path:1",
        "h:1\nx",
        "http://h:1",
        "h:1?x",
        "h#f:1",
    ] {
        let labels = labels(&[("__address__", address)]);
        let refused = targets(&plain, "job", &[], &labels, Source::Local);
        let message = refused.expect_err(address);
        assert!(!message.contains('\n'), "{message}");
    }
    let labels = labels(&[("__address__", "h:1"), ("__scheme__", "file")]);
    assert!(targets(&plain, "job", &[], &labels, Source::Local).is_err());
}

/// Scenario: addresses that names may stand for, in every spelling of IPv4 in IPv6.
/// Guarantees: metadata services and other link-local addresses never; this host only for targets
/// that were written here.
#[test]
fn where_it_connects() {
    let allowed = |source, text: &str| may_connect(source, text.parse::<IpAddr>().unwrap()).is_ok();
    for never in [
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "100.100.100.200",
        "fe80::1",
        "fd00:ec2::254",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "::ffff:224.0.0.1",
    ] {
        assert!(!allowed(Source::Local, never), "{never}");
        assert!(!allowed(Source::Network, never), "{never}");
    }
    for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert!(allowed(Source::Local, own), "{own}");
        assert!(!allowed(Source::Network, own), "{own}");
    }
    for usual in ["10.1.2.3", "192.168.0.1", "93.184.216.34", "fd12::1", "2001:db8::1"] {
        assert!(allowed(Source::Network, usual), "{usual}");
    }
}

/// A profile of allocations: a type that counts from the start, and one that does not.
fn allocations(allocated: &str, used: &str) -> Profiles {
    let mut profiles = folded::decode(allocated.as_bytes()).unwrap();
    let other = folded::decode(used.as_bytes()).unwrap();
    // Equal texts in equal order make equal tables, so the rows of one fit the other.
    let row = other.resources[0].scopes[0].profiles[0].samples.clone();
    let strings = &mut profiles.dictionary.strings;
    let types = ["alloc_space", "inuse_space"]
        .map(|kind| ValueType { kind: strings.intern(kind), unit: strings.intern("bytes") });
    let scope = &mut profiles.resources[0].scopes[0];
    scope.profiles[0].sample_type = types[0];
    let mut second = scope.profiles[0].clone();
    second.sample_type = types[1];
    second.samples = row;
    scope.profiles.push(second);
    profiles
}

/// The values of both types in the order of rows.
fn values(profiles: &Profiles) -> Vec<Vec<i64>> {
    let weights = |profile: &profpipe_profile::Profile| {
        profile.samples.iter().map(|row| row.weight()).collect()
    };
    profiles.iter().map(|(_, _, profile)| weights(profile)).collect()
}

/// Scenario: a program that is asked three times, starts anew, and is asked again.
/// Guarantees: nothing of before the first scrape is sent; then differences, row by row; values
/// that do not count from the start stay as they are; after the restart its counts as they are.
#[test]
fn differences() {
    let mut baseline = Baseline::default();
    let mut first = allocations("main;a 100\nmain;b 50", "main;a 7\nmain;b 8");
    assert_eq!(baseline.subtract(&mut first, 1_000), Change::First);
    assert_eq!(values(&first), [[0, 0], [7, 8]]);
    let mut second = allocations("main;a 130\nmain;b 50", "main;a 5\nmain;b 8");
    assert_eq!(baseline.subtract(&mut second, 3_000), Change::Since);
    assert_eq!(values(&second), [[30, 0], [5, 8]]);
    let (_, _, profile) = second.iter().next().unwrap();
    assert_eq!((profile.time_unix_nano, profile.duration_nano), (1_000, 2_000));
    // A new row, and one that counts less by rounding.
    let mut third = allocations("main;b 49\nmain;c 10\nmain;a 140", "main;b 1\nmain;c 2\nmain;a 3");
    assert_eq!(baseline.subtract(&mut third, 4_000), Change::Since);
    assert_eq!(values(&third), [[0, 10, 10], [1, 2, 3]]);
    let mut anew = allocations("main;a 3\nmain;b 4", "main;a 1\nmain;b 1");
    assert_eq!(baseline.subtract(&mut anew, 5_000), Change::Restarted);
    assert_eq!(values(&anew), [[3, 4], [1, 1]]);
    let mut after = allocations("main;a 5\nmain;b 4", "main;a 1\nmain;b 1");
    assert_eq!(baseline.subtract(&mut after, 6_000), Change::Since);
    assert_eq!(values(&after), [[2, 0], [1, 1]]);
}

/// Scenario: settings that make no sense together.
/// Guarantees: each has a line with its place.
#[test]
fn mistakes() {
    let wrong = "{scrape_interval: 1s, profiles: {process_cpu: {seconds: 20s}, custom: {x: {}}}, \
                  relabel_configs: [{regex: '('}, {action: hashmod, target_label: a}], \
                  static_configs: [{targets: ['http://web:6060']}], http_sd_configs: [{url: sd}]}";
    let errors = Section::from_yaml(wrong).unwrap().read_valid::<Config>().unwrap_err();
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for place in [
        "scrape_interval:",
        "profiles::process_cpu::seconds:",
        "profiles::custom::x::path:",
        "relabel_configs::0::regex:",
        "relabel_configs::1::modulus:",
        "static_configs::0::targets:",
        "http_sd_configs::0::url:",
    ] {
        assert!(lines.iter().any(|line| line.contains(place)), "{place} in {lines:#?}");
    }
    let empty = Section::from_yaml("{}").unwrap().read_valid::<Config>().unwrap_err();
    assert!(empty[0].to_string().contains("give targets by"), "{empty:?}");
}
