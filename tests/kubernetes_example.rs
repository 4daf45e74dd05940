//! `config-examples/kubernetes.yaml` and `filter.yaml` at work: profiles of a container that an API
//! server knows, and of one that it does not, through the processors of both into files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use profpipe::pipeline::engine::Services;
use profpipe::pipeline::profile::{
    Function, Line, LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    ScopeProfiles, Value, ValueType,
};
use profpipe::{Engine, otlp};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server with one pod, which says nothing else.
fn api_server() -> SocketAddr {
    const POD: &str = r#"{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [
      {"metadata": {"name": "shop-1", "namespace": "prod", "uid": "u1",
         "labels": {"app.kubernetes.io/version": "1.2"},
         "ownerReferences": [{"kind": "StatefulSet", "name": "shop", "uid": "s", "controller": true}]},
       "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "shop:1"}]},
       "status": {"podIP": "10.1.2.3",
         "containerStatuses": [{"name": "web", "containerID": "containerd://c1"}]}}]}"#;
    const NAMESPACE: &str = r#"{"metadata": {"resourceVersion": "5"}, "items": [
      {"metadata": {"name": "prod", "uid": "n", "labels": {"team": "checkout"}}}]}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines.next() {
                    if !line.starts_with("GET ") {
                        continue;
                    }
                    if line.contains("watch=true") {
                        std::thread::sleep(PATIENCE);
                        return;
                    }
                    let body = match () {
                        () if line.contains("/pods?") => POD,
                        () if line.contains("/namespaces?") => NAMESPACE,
                        () => r#"{"metadata": {"resourceVersion": "5"}, "items": []}"#,
                    };
                    let head = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n", body.len());
                    let mut stream = &stream;
                    if stream.write_all((head + body).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A request with one profile for each container, of a function of a customer.
fn request(containers: &[&str]) -> Vec<u8> {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let (kind, unit) = (dictionary.strings.intern("cpu"), dictionary.strings.intern("nanoseconds"));
    let mut frame = |name: &str| {
        let name = dictionary.strings.intern(name);
        let function = dictionary.functions.intern(Function { name, ..Function::default() });
        let lines = [Line { function, ..Line::default() }];
        dictionary.locations.intern(LocationRef { lines: &lines, ..LocationRef::default() })
    };
    let stack = [frame("malloc"), frame("serve_customer_acme"), frame("main")];
    let stack = dictionary.stacks.intern(&stack);
    for container in containers {
        let mut resource = Resource::default();
        resource.set("container.id", *container);
        let mut profile = Profile { sample_type: ValueType { kind, unit }, ..Profile::default() };
        profile.samples.push(SampleRef { stack, values: &[7], ..SampleRef::default() });
        let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
        profiles.resources.push(ResourceProfiles {
            resource,
            scopes,
            ..ResourceProfiles::default()
        });
    }
    otlp::encode(&profiles)
}

fn send(to: SocketAddr, body: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!(
        "POST /v1development/profiles HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
         application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// What the first file of a directory holds, once there is one.
fn written(directory: &Path) -> Profiles {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files = entries.map(|entry| entry.path());
        let is_whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "otlp");
        if let Some(file) = files.find(is_whole) {
            return otlp::decode(&std::fs::read(file).unwrap()).unwrap();
        }
        assert!(Instant::now() < deadline, "no file in {}", directory.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs an example with OTLP over HTTP in and a file out, and this beside; what becomes of a request.
async fn through(example: &str, more: &str, body: Vec<u8>) -> Profiles {
    let directory = tempfile::tempdir().unwrap();
    let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = directory.path().join("out");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '{to}'}}}}}}}}\nexporters: \
         {{file: {{path: '{}', format: otlp}}}}\n{more}\nservice: {{pipelines: {{profiles: {{receivers: \
         [otlp], exporters: [file]}}}}}}\n",
        out.display()
    );
    let beside = directory.path().join("beside.yaml");
    std::fs::write(&beside, text).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples").join(example);
    let builder = Engine::builder().config_files([&example, &beside]).services(Services::default());
    let engine = builder.start().unwrap_or_else(|error| panic!("{error}"));
    let sent = tokio::task::spawn_blocking(move || {
        send(to, &body);
        written(&out)
    });
    let profiles = sent.await.unwrap();
    engine.stop(Duration::from_secs(10)).await.unwrap();
    profiles
}

/// Scenario: the agent's example, with OTLP in place of the sampler, and an API server of the test's.
/// Guarantees: the profile of the pod's container says everything of it, the other is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_become_pods() {
    let more = format!(
        "processors: {{k8s_attributes: {{auth_type: none, api_server: 'http://{}', filter: \
         {{node_from_env_var: '', node: n1}}}}}}",
        api_server()
    );
    let profiles = through("kubernetes.yaml", &more, request(&["c1", "unknown"])).await;
    assert_eq!(profiles.resources.len(), 1);
    let resource = &profiles.resources[0].resource;
    for (name, value) in [
        ("k8s.pod.name", "shop-1"),
        ("k8s.statefulset.name", "shop"),
        ("k8s.container.name", "web"),
        ("container.image.tag", "1"),
        ("service.version", "1.2"),
        ("team", "checkout"),
    ] {
        assert_eq!(resource.get(name), Some(&Value::from(value)), "{resource:?}");
    }
}

/// Scenario: the example of `filter`, with OTLP over HTTP.
/// Guarantees: what it says: no frames of the allocator, no names of customers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_do_not_leave() {
    let profiles = through("filter.yaml", "", request(&["c1"])).await;
    let dictionary = &profiles.dictionary;
    let names = dictionary.functions.rows().iter().skip(1);
    let names: Vec<&str> = names.map(|function| dictionary.strings.get(function.name)).collect();
    assert_eq!(names, ["serve_customer_x", "main"]);
    let (_, _, profile) = profiles.iter().next().unwrap();
    assert_eq!(profile.samples.get(0).weight(), 7);
}
