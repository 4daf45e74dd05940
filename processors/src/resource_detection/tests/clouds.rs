//! Metadata services that are made up, on this machine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Section;
use profpipe_profile::{Profiles, Resource, ResourceProfiles};

use super::super::Config;
use super::super::waiting::FAILED;
use super::get;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The requests that came, each from its first line to the empty one.
type Requests = Arc<Mutex<Vec<String>>>;

/// A server that answers a request by its head: status line, headers and body. With no answer it
/// stays silent.
fn serve(answer: fn(&str) -> Option<String>) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let noted = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || converse(stream, answer, &noted));
        }
    });
    (address, requests)
}

fn converse(mut stream: TcpStream, answer: fn(&str) -> Option<String>, requests: &Requests) {
    let mut head = Vec::new();
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        requests.lock().unwrap().push(text.clone());
        head.clear();
        match answer(&text) {
            Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
            None => std::thread::sleep(PATIENCE),
        }
    }
}

fn ok(headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
}

fn missing() -> Option<String> {
    Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned())
}

fn amazon(head: &str) -> Option<String> {
    if head.starts_with("put /latest/api/token ") {
        assert!(head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"));
        return ok("", "secret-token");
    }
    if !head.contains("x-aws-ec2-metadata-token: secret-token\r\n") {
        return Some("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_owned());
    }
    if head.starts_with("get /latest/dynamic/instance-identity/document ") {
        let document = r#"{"accountId": "123456789012", "architecture": "x86_64",
            "availabilityZone": "eu-west-1b", "imageId": "ami-5fb8c835",
            "instanceId": "i-1234567890abcdef0", "instanceType": "t2.micro",
            "privateIp": "10.158.112.84", "region": "eu-west-1", "version": "2017-09-30"}"#;
        return ok("content-type: text/plain\r\n", document);
    }
    missing()
}

fn google(head: &str) -> Option<String> {
    if !head.contains("metadata-flavor: google") {
        return Some("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned());
    }
    let path = head.split(' ').nth(1).unwrap();
    let body = match path.strip_prefix("/computemetadata/v1/").unwrap() {
        "project/project-id" => "shop-123",
        "instance/id" => "4520031799277581759",
        "instance/zone" => "projects/5/zones/europe-west1-b",
        "instance/machine-type" => "projects/5/machineTypes/n2-standard-4",
        "instance/name" => "shop-1",
        _ => return missing(),
    };
    ok("Metadata-Flavor: Google\r\n", body)
}

fn azure(head: &str) -> Option<String> {
    if !head.contains("metadata: true\r\n")
        || !head.starts_with("get /metadata/instance/compute?api-version=2021-02-01&format=json ")
    {
        return missing();
    }
    let document = r#"{"location": "westeurope", "name": "shop-vm", "osType": "Linux",
        "resourceGroupName": "shop", "sku": "22_04-lts", "subscriptionId": "8d10da13",
        "vmId": "02aab8a4-74ef", "vmSize": "Standard_D2s_v3", "zone": ""}"#;
    ok("content-type: application/json; charset=utf-8\r\n", document)
}

fn batch() -> Batch {
    let mut profiles = Profiles::new();
    profiles.resources.push(ResourceProfiles::default());
    Batch::new(profiles)
}

fn build(text: &str) -> (Box<dyn Processor>, Services) {
    let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
    let services = Services::default();
    (config.build(&Setup::new("resource_detection", services.clone())).unwrap(), services)
}

/// Passes a batch and waits for it.
fn enriched(text: &str) -> (Resource, Services) {
    let (mut processor, services) = build(text);
    let mut out = Outbox::default();
    processor.process(batch(), &mut out).unwrap();
    let begin = Instant::now();
    loop {
        if let Some(mut batch) = out.drain().next() {
            return (batch.profiles().unwrap().resources[0].resource.clone(), services);
        }
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
        processor.tick(Instant::now(), &mut out);
    }
}

/// Scenario: the three clouds' services as they are, behind a configured address.
/// Guarantees: the attributes are theirs; Amazon is asked with a token only; of Google no value is
/// asked for that could be a secret.
#[test]
fn clouds_say_what_the_machine_is() {
    let (at, requests) = serve(amazon);
    let (resource, services) =
        enriched(&format!("{{detectors: [ec2, system], ec2: {{endpoint: '{at}'}}}}"));
    for (key, value) in [
        ("cloud.provider", "aws"),
        ("cloud.platform", "aws_ec2"),
        ("cloud.account.id", "123456789012"),
        ("cloud.region", "eu-west-1"),
        ("cloud.availability_zone", "eu-west-1b"),
        ("host.id", "i-1234567890abcdef0"),
        ("host.image.id", "ami-5fb8c835"),
        ("host.type", "t2.micro"),
    ] {
        assert_eq!(get(&resource, key), Some(value), "{key}");
    }
    assert!(get(&resource, "host.name").is_some(), "from the system");
    assert_eq!(requests.lock().unwrap().len(), 3);
    assert_eq!(services.metrics.total(FAILED), 0);
    // The next processor of these settings does not ask, and its batches do not wait.
    let text = format!("{{detectors: [ec2, system], ec2: {{endpoint: '{at}'}}}}");
    let config: Config = Section::from_yaml(&text).unwrap().read_valid().unwrap();
    let mut next = config.build(&Setup::new("resource_detection", services.clone())).unwrap();
    let mut out = Outbox::default();
    next.process(batch(), &mut out).unwrap();
    let mut passed = out.drain().next().expect("it waits");
    let resource = &passed.profiles().unwrap().resources[0].resource;
    assert_eq!(get(resource, "host.type"), Some("t2.micro"));
    assert_eq!(requests.lock().unwrap().len(), 3);

    let (at, requests) = serve(google);
    let (resource, _) = enriched(&format!("{{detectors: [gcp], gcp: {{endpoint: '{at}'}}}}"));
    for (key, value) in [
        ("cloud.provider", "gcp"),
        ("cloud.account.id", "shop-123"),
        ("cloud.region", "europe-west1"),
        ("cloud.availability_zone", "europe-west1-b"),
        ("host.id", "4520031799277581759"),
        ("host.name", "shop-1"),
        ("host.type", "n2-standard-4"),
    ] {
        assert_eq!(get(&resource, key), Some(value), "{key}");
    }
    assert!(requests.lock().unwrap().iter().all(|head| !head.contains("recursive")));

    let (at, _) = serve(azure);
    let (resource, _) = enriched(&format!("{{detectors: [azure], azure: {{endpoint: '{at}'}}}}"));
    for (key, value) in [
        ("cloud.provider", "azure"),
        ("cloud.account.id", "8d10da13"),
        ("cloud.region", "westeurope"),
        ("host.id", "02aab8a4-74ef"),
        ("host.name", "shop-vm"),
        ("host.type", "Standard_D2s_v3"),
    ] {
        assert_eq!(get(&resource, key), Some(value), "{key}");
    }
    assert_eq!(get(&resource, "cloud.availability_zone"), None);
}

/// Scenario: services that are silent, refuse, redirect, answer nonsense, answer without end, or are
/// something else; one that works beside them.
/// Guarantees: profiles go on within the time, with what the good one said; each failure is counted.
#[test]
fn a_service_without_sense_holds_up_nothing_for_long() {
    let (good, _) = serve(google);
    let bad: [fn(&str) -> Option<String>; 6] = [
        |_| None,
        |_| missing(),
        |_| {
            Some(
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
                    .into(),
            )
        },
        |_| ok("", "{\"accountId\": [1"),
        |_| ok("", &"x".repeat(1 << 20)),
        |_| Some("SSH-2.0-OpenSSH_9.2\r\n".into()),
    ];
    for answer in bad {
        let (at, _) = serve(answer);
        let (resource, services) = enriched(&format!(
            "{{detectors: [ec2, azure, gcp], timeout: 3s, ec2: {{endpoint: '{at}'}}, azure: \
             {{endpoint: '{at}'}}, gcp: {{endpoint: '{good}'}}}}"
        ));
        assert_eq!(get(&resource, "cloud.provider"), Some("gcp"));
        assert_eq!(services.metrics.total(FAILED), 2);
    }
    let (at, _) = serve(azure);
    let (resource, services) =
        enriched(&format!("{{detectors: [gcp], timeout: 20s, gcp: {{endpoint: '{at}'}}}}"));
    assert_eq!(resource.attributes, []);
    assert_eq!(services.metrics.total(FAILED), 1);
}

/// Scenario: many batches while a service is silent, and the end of the program.
/// Guarantees: they wait in order and within bounds, and none is lost.
#[test]
fn what_waits_is_bounded_and_not_lost() {
    let (at, _) = serve(|_| None);
    let text = format!("{{detectors: [env, azure], timeout: 1h, azure: {{endpoint: '{at}'}}}}");
    let (mut processor, _) = build(&text);
    let mut out = Outbox::default();
    for _ in 0..1500 {
        processor.process(batch(), &mut out).unwrap();
    }
    assert_eq!(out.drain().count(), 1500 - 1024);
    processor.finish(Instant::now(), &mut out);
    assert_eq!(out.drain().count(), 1024);
    processor.process(batch(), &mut out).unwrap();
    assert_eq!(out.drain().count(), 1);
}
