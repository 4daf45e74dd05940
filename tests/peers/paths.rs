//! Every way into profpipe with every way out: OTLP by gRPC, HTTP and JSON from a real Collector,
//! Pyroscope's push and ingest, its Go SDK, pprof by pull and from a file → profpipe → the Collector by
//! gRPC and HTTP, Pyroscope, files. What is at each end says what was at the start, function by function.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use prost::Message as _;
use serde_json::json;

use crate::collector::{self, Collector};
use crate::fixture::Fixture;
use crate::gateway::{self, Sinks};
use crate::http;
use crate::oracles::Oracles;
use crate::process::{eventually, free_address};
use crate::pyroscope::{CPU, Pyroscope, SAMPLES};
use crate::rules;
use crate::serve::Server;
use crate::target::Target;
use crate::totals;

/// Scenario: a real Collector sends OTLP by gRPC, by HTTP (with references for attributes) and by HTTP
/// as JSON; a plain client sends it, too.
/// Guarantees: all sinks get what each sent, with the resource's and the samples' labels.
#[test]
fn otlp() {
    let Some(sinks) = Sinks::start() else { return };
    let (grpc, http) = (free_address(), free_address());
    let config = format!(
        "{{ protocols: {{ grpc: {{ endpoint: '{grpc}' }}, http: {{ endpoint: '{http}' }} }} }}"
    );
    let _gateway = sinks.gateway("otlp", &config, &[grpc, http]);
    let labels = [("host.name", "north-1"), ("route", "/buy"), ("route", "/cart")];
    let mut sent = Vec::new();
    let mut sources = Vec::new();
    for exporter in [
        format!("otlp_grpc: {{ endpoint: '{grpc}', tls: {{ insecure: true }} }}"),
        format!("otlp_http: {{ endpoint: 'http://{http}' }}"),
        format!("otlp_http: {{ endpoint: 'http://{http}', encoding: json }}"),
    ] {
        let fixture = Fixture::new("otlp");
        let Some(source) = Collector::sending(&exporter) else { return };
        source.send(&fixture.otlp());
        sources.push(source);
        sent.push(fixture);
    }
    let fixture = Fixture::new("otlp-plain");
    collector::send(http, &fixture.otlp());
    sent.push(fixture);
    for fixture in &sent {
        sinks.receive(&fixture.service, &fixture.totals(), &labels);
    }
}

/// Scenario: profiles by Pyroscope's push API in protobuf's JSON, by `/ingest` as pprof and as folded
/// stacks.
/// Guarantees: all sinks get what each sent, with the series' labels.
#[test]
fn pyroscope() {
    let Some(sinks) = Sinks::start() else { return };
    let address = free_address();
    let config = format!("{{ endpoint: '{address}' }}");
    let _gateway = sinks.gateway("pyroscope", &config, &[address]);

    let pushed = Fixture::new("push");
    push(address, &pushed);
    let ingested = Fixture::new("ingest");
    let name = format!("{}%7Bzone%3Dnorth%7D", ingested.service);
    let path = format!("/ingest?name={name}&format=pprof&from=now-1m&until=now");
    http::post(address, &path, "application/octet-stream", &ingested.pprof().gzipped()).good();
    for fixture in [&pushed, &ingested] {
        let labels = [("zone", "north"), ("route", "/buy")];
        sinks.receive(&fixture.service, &fixture.totals(), &labels);
    }

    let folded = Fixture::new("folded");
    let path = format!(
        "/ingest?name={}.cpu%7Bzone%3Dnorth%7D&format=folded&sampleRate=100&from=now-1m&until=now",
        folded.service
    );
    http::post(address, &path, "text/plain", folded.folded().as_bytes()).good();
    let mut expected = folded.totals();
    expected.retain(|(kind, _), _| kind == "cpu");
    sinks.receive(&folded.service, &expected, &[("zone", "north")]);
}

/// Scenario: requests that name the version of the profiles signal, as the Collector does from 0.163 on:
/// rightly, not at all, twice, and with versions that nobody speaks.
/// Guarantees: profpipe and the Collector answer alike; what a Collector sends says the version that both
/// take.
#[test]
fn versions() {
    const HEADER: &str = "otlp-profiles-development-version";
    let wire = Server::start(|_, _| (200, Vec::new()));
    let exporter = format!("otlp_http: {{ endpoint: 'http://{}' }}", wire.address);
    let Some(collector) = Collector::sending(&exporter) else { return };
    let http = free_address();
    let config = format!(
        "receivers:\n  otlp: {{ protocols: {{ http: {{ endpoint: '{http}' }} }} }}\nexporters:\n  nop: {{}}\n\
         service:\n  pipelines:\n    profiles: {{ receivers: [otlp], exporters: [nop] }}\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let _gateway = gateway::run(&config, directory.path(), &[http]);
    let body = Fixture::new("versions").otlp().encode_to_vec();
    for (versions, status) in [
        (&[][..], 200),
        (&["1"], 200),
        (&["2"], 400),
        (&["01"], 400),
        (&["1, 1"], 400),
        (&["1", "1"], 400),
    ] {
        let mut headers = vec![("content-type", "application/x-protobuf")];
        headers.extend(versions.iter().map(|version| (HEADER, *version)));
        for (name, server) in [("profpipe", http), ("the Collector", collector.http)] {
            let answer = http::request(server, "POST", "/v1development/profiles", &headers, &body);
            assert_eq!(answer.expect(name).status, status, "{versions:?} to {name}");
        }
    }
    let sent = eventually("a request of the Collector", || wire.seen().first().cloned());
    assert_eq!(sent.header(HEADER), Some("1"));
}

fn push(address: SocketAddr, fixture: &Fixture) {
    let label = |name: &str, value: &str| json!({ "name": name, "value": value });
    let profile = base64::engine::general_purpose::STANDARD.encode(fixture.pprof().gzipped());
    let request = json!({ "series": [{
        "labels": [
            label("__name__", "process_cpu"),
            label("service_name", &fixture.service),
            label("zone", "north"),
        ],
        "samples": [{ "rawProfile": profile, "ID": "0b6c7a3e-8f0c-4b8e-9a53-000000000001" }],
    }]});
    let body = request.to_string();
    http::post(address, "/push.v1.PusherService/Push", "application/json", body.as_bytes()).good();
}

/// Scenario: a Go service pushes with Pyroscope's SDK, window after window.
/// Guarantees: all sinks agree on every function of its CPU profiles, its hot functions among them.
#[test]
fn pyroscope_sdk() {
    let Some(oracles) = Oracles::get() else { return };
    let Some(sinks) = Sinks::start() else { return };
    let address = free_address();
    let gateway = sinks.gateway("pyroscope", &format!("{{ endpoint: '{address}' }}"), &[address]);
    let service = Fixture::new("sdk").service;
    let push = format!("http://{address}");
    let mut target = Target::start(oracles, &["-push", &push, "-name", &service, "-for", "2500ms"]);
    target.pushed();
    gateway.stop();
    agree_on_go(&sinks, &service);
}

/// What the files have of a Go service that is gone, all others have: the gateway has stopped, so nothing
/// is added, and starts again, because what it has not sent yet waits in its queues.
fn agree_on_go(sinks: &Sinks, service: &str) {
    let expected = sinks.in_files(service);
    let _gateway = sinks.gateway_again();
    let cpu = &expected[&("cpu".into(), "nanoseconds".into())];
    assert!(cpu.functions["main.burnTwice"].total > 0, "{cpu:?}");
    assert!(cpu.functions["main.work"].total > cpu.functions["main.burnOnce"].total, "{cpu:?}");
    sinks.receive(service, &expected, &[]);
}

/// Scenario: profpipe pulls a CPU profile of known content by HTTP, once; then the service is gone.
/// Guarantees: all sinks get what was pulled, with the target's labels.
#[test]
fn pull() {
    let Some(sinks) = Sinks::start() else { return };
    let fixture = Fixture::new("pull");
    let profile = fixture.pprof().gzipped();
    let server = Server::start(move |_, number| match number {
        0 => (200, profile.clone()),
        _ => (503, b"gone".to_vec()),
    });
    let config = format!(
        "{{ scrape_interval: 2s, profiles: {{ {ONLY_CPU} }}, static_configs: \
         [ {{ targets: ['{}'], labels: {{ service_name: {}, zone: north }} }} ] }}",
        server.address, fixture.service
    );
    let _gateway = sinks.gateway("pprof", &config, &[]);
    let labels = [("zone", "north"), ("route", "/buy")];
    sinks.receive(&fixture.service, &fixture.totals(), &labels);
    let seen = server.seen();
    assert!(seen[0].path.starts_with("/debug/pprof/profile?seconds="), "{:?}", seen[0].path);
}

const ONLY_CPU: &str = "memory: { enabled: false }, block: { enabled: false }, \
    goroutine: { enabled: false }, mutex: { enabled: false }, process_cpu: { enabled: true }";

/// Scenario: profpipe pulls CPU profiles from a Go service with `net/http/pprof`.
/// Guarantees: its hot functions are at all sinks, and all sinks agree.
#[test]
fn pull_from_go() {
    let Some(oracles) = Oracles::get() else { return };
    let Some(sinks) = Sinks::start() else { return };
    let target = Target::start(oracles, &[]);
    let service = Fixture::new("pull-go").service;
    let config = format!(
        "{{ scrape_interval: 2s, profiles: {{ {ONLY_CPU} }}, \
         static_configs: [ {{ targets: ['{}'], labels: {{ service_name: {service} }} }} ] }}",
        target.address
    );
    let gateway = sinks.gateway("pprof", &config, &[]);
    sinks.in_files(&service);
    gateway.stop();
    drop(target);
    agree_on_go(&sinks, &service);
}

/// Scenario: a pprof file becomes OTLP by `profpipe convert`, which a Collector takes, and that becomes
/// pprof again, which Pyroscope takes.
/// Guarantees: both have what the file has.
#[test]
fn file() {
    let fixture = Fixture::new("file");
    let directory = tempfile::tempdir().unwrap();
    let (pprof, otlp) = (directory.path().join("cpu.pb.gz"), directory.path().join("cpu.otlp"));
    std::fs::write(&pprof, fixture.pprof().gzipped()).unwrap();
    crate::convert(&pprof, &otlp);
    let data = named(&otlp, &fixture.service);
    assert_eq!(rules::broken(&data), [""; 0]);
    let (found, _) = totals::of_otlp(std::slice::from_ref(&data), &fixture.service);
    assert_eq!(found, fixture.totals());
    let Some(sink) = Collector::sink() else { return };
    sink.send(&data);
    let labels = sink.receives(&fixture.service, &fixture.totals());
    assert!(labels.samples.contains(&("route".into(), "/cart".into())), "{labels:?}");
    let again = directory.path().join("again.pb.gz");
    crate::convert(&otlp, &again);
    let Some(pyroscope) = Pyroscope::start() else { return };
    let path = format!("/ingest?name={}&format=pprof&from=now-1m&until=now", fixture.service);
    let again = std::fs::read(again).unwrap();
    http::post(pyroscope.address, &path, "application/octet-stream", &again).good();
    pyroscope.receives(CPU, &fixture.service, &fixture.totals());
    pyroscope.receives(SAMPLES, &fixture.service, &fixture.totals());
}

/// The file's profiles; a pprof file has no word for the service, so the test adds it.
fn named(file: &Path, service: &str) -> ProfilesData {
    let mut data = ProfilesData::decode(std::fs::read(file).unwrap().as_slice()).unwrap();
    let source = Fixture::new("names").otlp();
    for resource in &mut data.resource_profiles {
        let mut named = source.resource_profiles[0].resource.clone().unwrap();
        named.attributes.truncate(1);
        let value = named.attributes[0].value.as_mut().unwrap();
        value.value = Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(
            service.into(),
        ));
        resource.resource = Some(named);
    }
    data
}
