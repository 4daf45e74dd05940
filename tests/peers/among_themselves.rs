//! The peers with each other, without profpipe: what the path tests measure with must work itself.

use crate::collector::{self, Collector};
use crate::fixture::Fixture;
use crate::http;
use crate::oracles::Oracles;
use crate::pprof;
use crate::process::eventually;
use crate::pyroscope::{CPU, Pyroscope, SAMPLES};
use crate::rules;
use crate::target::Target;
use crate::totals;

/// Scenario: the fixture as OTLP, as pprof and as folded stacks.
/// Guarantees: it keeps the rules of OTLP, google/pprof's messages read it, and all say the same.
#[test]
fn the_fixture_is_sound() {
    let fixture = Fixture::new("sound");
    let data = fixture.otlp();
    assert_eq!(rules::broken(&data), [""; 0]);
    let (read, labels) = totals::of_otlp(&[data], &fixture.service);
    assert_eq!(read, fixture.totals());
    assert_eq!(labels.resource["host.name"], "north-1");
    assert_eq!(
        totals::of_pprof(&pprof::Profile::read(&fixture.pprof().gzipped())),
        fixture.totals()
    );
    let counted: i64 = fixture
        .folded()
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap())
        .sum();
    assert_eq!(counted, fixture.totals()[&("samples".into(), "count".into())].total);
}

/// Scenario: OTLP to a Collector, which sends on to another by gRPC, by HTTP and by HTTP as JSON.
/// Guarantees: three times the fixture arrives, each as sent, with labels.
#[test]
fn collector_to_collector() {
    let Some(sink) = Collector::sink() else { return };
    let (grpc, http) = (sink.grpc, sink.http);
    for exporter in [
        format!("otlp_grpc: {{ endpoint: '{grpc}', tls: {{ insecure: true }} }}"),
        format!("otlp_http: {{ endpoint: 'http://{http}' }}"),
        format!("otlp_http: {{ endpoint: 'http://{http}', encoding: json }}"),
    ] {
        let fixture = Fixture::new("between-collectors");
        let source = Collector::sending(&exporter).unwrap();
        source.send(&fixture.otlp());
        let labels = sink.receives(&fixture.service, &fixture.totals());
        assert_eq!(labels.resource["host.name"], "north-1", "{exporter}");
        assert!(labels.samples.contains(&("route".into(), "/buy".into())), "{exporter}");
    }
    let broken: Vec<_> = sink.arrived().iter().flat_map(rules::broken).collect();
    assert_eq!(broken, [""; 0]);
    assert!(!sink.said().contains("error"), "{}", sink.said());
}

/// Scenario: the fixture to Pyroscope as OTLP, and as pprof by `/ingest`.
/// Guarantees: Pyroscope's queries give the totals of every function, and the labels.
#[test]
fn pyroscope_answers() {
    let Some(pyroscope) = Pyroscope::start() else { return };
    // Not by way of a Collector: it sends attributes as references to strings (by HTTP, and from 0.163
    // on by gRPC), which Pyroscope leaves unread.
    let fixture = Fixture::new("by-otlp");
    let mut data = fixture.otlp();
    // Pyroscope computes cpu from samples; the second type would get a name of its own.
    data.resource_profiles[0].scope_profiles[0].profiles.truncate(1);
    collector::send(pyroscope.address, &data);
    pyroscope.receives(CPU, &fixture.service, &fixture.totals());
    let labels = pyroscope.labels(&fixture.service);
    assert!(labels.contains(&("route".into(), "/buy".into())), "{labels:?}");

    let fixture = Fixture::new("by-ingest");
    let path = format!("/ingest?name={}&format=pprof&from=now-1m&until=now", fixture.service);
    http::post(pyroscope.address, &path, "application/octet-stream", &fixture.pprof().gzipped())
        .good();
    pyroscope.receives(CPU, &fixture.service, &fixture.totals());
    pyroscope.receives(SAMPLES, &fixture.service, &fixture.totals());
}

/// Scenario: the Go service is pulled for a CPU profile and its allocations, and pushes with Pyroscope's SDK.
/// Guarantees: its functions are in what comes; the SDK's label arrives at Pyroscope.
#[test]
fn the_go_service_profiles_itself() {
    let Some(oracles) = Oracles::get() else { return };
    let target = Target::start(oracles, &[]);
    // Two seconds of CPU time, 200 samples: on a crowded machine a second of the clock may have ten.
    let (mut twice, mut once) = (0, 0);
    eventually("two seconds of work", || {
        let pulled = pprof::Profile::read(&target.pull("/debug/pprof/profile?seconds=1"));
        let cpu = &totals::of_pprof(&pulled)[&("cpu".into(), "nanoseconds".into())];
        let of = |name: &str| cpu.functions.get(name).map_or(0, |function| function.total);
        twice += of("main.burnTwice");
        once += of("main.burnOnce");
        (twice + once > 2_000_000_000).then_some(())
    });
    assert!(twice > once, "{twice} ns, {once} ns");
    let heap = totals::of_pprof(&pprof::Profile::read(&target.pull("/debug/pprof/allocs")));
    assert!(
        heap[&("alloc_space".into(), "bytes".into())]
            .functions
            .contains_key("main.allocateMebibyte")
    );

    let Some(pyroscope) = Pyroscope::start() else { return };
    let name = Fixture::new("by-sdk").service;
    let push = format!("http://{}", pyroscope.address);
    let mut target = Target::start(oracles, &["-push", &push, "-name", &name, "-for", "2500ms"]);
    target.pushed();
    let cpu = pyroscope.totals(CPU, &name);
    assert!(cpu[&("cpu".into(), "nanoseconds".into())].functions.contains_key("main.burnTwice"));
    assert!(pyroscope.labels(&name).contains(&("zone".into(), "north".into())));
}
