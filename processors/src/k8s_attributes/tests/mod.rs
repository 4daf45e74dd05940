//! Against an API server of the test's own, which answers in the shapes of the real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod failing;
mod server;
mod settings;

use crate::k8s_attributes::metric_names;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor, Setup};
use profpipe_engine::config::Section;
use profpipe_engine::telemetry::Metrics;
use profpipe_profile::{Profiles, Resource, ResourceProfiles, Value};

use self::server::{Asked, Reply, Server};
use super::watch::Pace;
use super::{Config, KubernetesAttributes};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

const PACE: Pace = Pace {
    first: Duration::from_millis(10),
    longest: Duration::from_millis(100),
    watch: Duration::from_secs(30),
    silence: Duration::from_secs(30),
};

/// A processor at work.
struct Tested {
    processor: KubernetesAttributes,
    metrics: Arc<Metrics>,
}

impl Tested {
    /// Asks this server, with these settings beside.
    fn of(server: &Server, settings: &str) -> Self {
        let text = format!("{{auth_type: none, api_server: '{}', {settings}}}", server.url());
        Self::start(&text, PACE)
    }

    fn start(text: &str, pace: Pace) -> Self {
        let config: Config = Section::from_yaml(text).unwrap().read_valid().unwrap();
        let services = Services::default();
        let metrics = Arc::clone(&services.metrics);
        let setup = Setup::new("k8s_attributes", services);
        let processor = KubernetesAttributes::start_at(config, &setup, pace).unwrap();
        Self { processor, metrics }
    }

    fn process(&mut self, batch: Batch) -> Vec<Batch> {
        let mut out = Outbox::default();
        self.processor.process(batch, &mut out).unwrap();
        out.drain().collect()
    }

    fn tick(&mut self) -> Vec<Batch> {
        let mut out = Outbox::default();
        self.processor.tick(Instant::now(), &mut out);
        out.drain().collect()
    }

    /// What becomes of a batch of one resource with these attributes, however long it waits.
    fn resource(&mut self, attributes: &[(&str, &str)]) -> Vec<String> {
        let mut batches = self.process(batch(attributes));
        let deadline = Instant::now() + PATIENCE;
        while batches.is_empty() {
            assert!(Instant::now() < deadline, "the batch does not come out");
            std::thread::sleep(Duration::from_millis(2));
            batches = self.tick();
        }
        assert_eq!(batches.len(), 1);
        shown(batches.remove(0))
    }

    /// Waits until something is so.
    fn until(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.metrics) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.metrics.snapshot());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn until_pods(&self, count: u64) {
        self.until("pods", |metrics| metrics.total(metric_names::PODS) == count);
    }
}

fn batch(attributes: &[(&str, &str)]) -> Batch {
    let mut resource = Resource::default();
    for (name, value) in attributes {
        resource.set(name, *value);
    }
    let mut profiles = Profiles::new();
    profiles.resources.push(ResourceProfiles { resource, ..ResourceProfiles::default() });
    Batch::new(profiles)
}

/// The attributes of the first resource, in the order of their names.
fn shown(mut batch: Batch) -> Vec<String> {
    let resource = &batch.profiles().unwrap().resources[0].resource;
    let mut lines: Vec<String> = resource
        .attributes
        .iter()
        .map(|pair| match &pair.value {
            Value::String(text) => format!("{}={text}", pair.key),
            other => format!("{}={other:?}", pair.key),
        })
        .collect();
    lines.sort();
    lines
}

/// A pod as the API server writes it, with much that nobody needs.
fn pod(name: &str, container: &str, version: u32) -> String {
    format!(
        r#"{{"kind": "Pod", "apiVersion": "v1", "metadata": {{"name": "{name}", "generateName": "x-",
        "namespace": "prod", "uid": "uid-{name}", "resourceVersion": "{version}",
        "creationTimestamp": "2026-11-01T10:00:00Z",
        "labels": {{"app.kubernetes.io/name": "shop", "app.kubernetes.io/version": "1.2", "team": "a"}},
        "annotations": {{"resource.opentelemetry.io/service.name": "the-shop", "note": "n"}},
        "ownerReferences": [{{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-5d4f8c7b9",
          "uid": "uid-rs", "controller": true, "blockOwnerDeletion": true}}],
        "managedFields": [{{"manager": "kubelet", "operation": "Update",
          "fieldsV1": {{"f:status": {{"f:conditions": {{}}}}}}}}]}},
        "spec": {{"volumes": null, "nodeName": "n1", "hostNetwork": false, "initContainers": null,
          "containers": [
            {{"name": "web", "image": "registry:5000/shop/web:1.2@sha256:ab", "env": [{{"name": "S",
              "value": "secret"}}], "ports": [{{"containerPort": 80, "protocol": "TCP"}}]}},
            {{"name": "sidecar", "image": "envoy"}}]}},
        "status": {{"phase": "Running", "conditions": [], "hostIP": "10.0.0.1",
          "podIP": "10.1.2.{version}", "podIPs": [{{"ip": "10.1.2.{version}"}}],
          "startTime": "2026-11-01T10:00:01Z", "qosClass": "Burstable",
          "containerStatuses": [
            {{"name": "web", "state": {{"running": {{"startedAt": "2026-11-01T10:00:02Z"}}}},
              "lastState": {{"terminated": {{"exitCode": 1, "containerID": "containerd://{container}-old"}}}},
              "ready": true, "restartCount": 1, "image": "sha256:ab",
              "imageID": "registry:5000/shop/web@sha256:ab", "containerID": "containerd://{container}"}},
            {{"name": "sidecar", "lastState": {{}}, "restartCount": 0, "image": "envoy", "imageID": "",
              "containerID": "containerd://{container}-sidecar"}}]}}}}"#
    )
}

fn list(kind: &str, items: &[String], version: u32, next: &str) -> Reply {
    Reply::Json(
        200,
        format!(
            r#"{{"kind": "{kind}List", "apiVersion": "v1", "metadata": {{"resourceVersion": "{version}",
            "continue": "{next}"}}, "items": [{}]}}"#,
            items.join(",")
        ),
    )
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type": "{kind}", "object": {}}}"#, object.replace('\n', " "))
}

/// A replica set as servers send it that know `PartialObjectMetadata`.
fn replica_set() -> String {
    r#"{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata":
      {"name": "shop-5d4f8c7b9", "namespace": "prod", "uid": "uid-rs", "resourceVersion": "3",
       "ownerReferences": [{"kind": "Deployment", "name": "shop", "uid": "uid-d", "controller": true}]}}"#
        .to_owned()
}

/// A cluster whose pods are listed once; what happens then comes from the returned sender.
fn cluster(pods: Vec<String>) -> (Server, Sender<String>) {
    let (sender, events) = channel();
    let events: Mutex<Option<Receiver<String>>> = Mutex::new(Some(events));
    let server = Server::start(move |asked| {
        others(asked).unwrap_or_else(|| {
            if !asked.is_watch() {
                return list("Pod", &pods, 10, "");
            }
            match events.lock().unwrap().take() {
                Some(events) => Reply::Events(events),
                None => Reply::Slow,
            }
        })
    });
    (server, sender)
}

/// What the server says of everything but pods.
fn others(asked: &Asked) -> Option<Reply> {
    let path = asked.target.split('?').next().unwrap();
    if path.ends_with("/pods") {
        return None;
    }
    if asked.is_watch() {
        return Some(Reply::Slow);
    }
    Some(match path {
        "/apis/apps/v1/replicasets" => list("ReplicaSet", &[replica_set()], 9, ""),
        "/api/v1/namespaces" => {
            let object = |name: &str| {
                format!(
                    r#"{{"metadata": {{"name": "{name}", "uid": "uid-{name}",
                    "labels": {{"stage": "live"}}, "annotations": null}}}}"#
                )
            };
            list("Namespace", &[object("prod"), object("kube-system")], 9, "")
        }
        "/api/v1/nodes" => list(
            "Node",
            &[r#"{"metadata": {"name": "n1", "uid": "uid-n1", "labels": {"zone": "z1"}}}"#
                .to_owned()],
            9,
            "",
        ),
        other => panic!("{other} is not asked for"),
    })
}

/// Scenario: a profile of a container of a pod of a replica set of a deployment, with the default
/// settings; attributes that are there already.
/// Guarantees: everything that is known of it, found by the container's id alone; what was there
/// stays.
#[test]
fn a_container_tells_everything() {
    let (server, _events) = cluster(vec![pod("shop-1", "c1", 5)]);
    let mut tested = Tested::of(&server, "");
    tested.until_pods(1);
    let found = tested.resource(&[("container.id", "c1"), ("k8s.node.name", "mine")]);
    let expected = [
        "container.id=c1",
        "container.image.name=registry:5000/shop/web",
        "container.image.tag=1.2",
        "k8s.container.name=web",
        "k8s.deployment.name=shop",
        "k8s.namespace.name=prod",
        "k8s.node.name=mine",
        "k8s.pod.name=shop-1",
        "k8s.pod.start_time=2026-11-01T10:00:01Z",
        "k8s.pod.uid=uid-shop-1",
    ];
    assert_eq!(found, expected);
    // The one before the restart, and the other container.
    let before = tested.resource(&[("container.id", "c1-old")]);
    assert!(before.contains(&"k8s.container.name=web".to_owned()), "{before:?}");
    let other = tested.resource(&[("container.id", "c1-sidecar")]);
    assert!(other.contains(&"container.image.tag=latest".to_owned()), "{other:?}");
    assert_eq!(tested.metrics.total(metric_names::RESOURCES_FOUND), 3);
    // Of everything but pods only the metadata are asked for.
    let asked = server.asked();
    let of = |kind: &str| asked.iter().find(|asked| asked.target.contains(kind)).unwrap().clone();
    assert!(of("/replicasets").accept.starts_with("application/json;as=PartialObjectMetadataList"));
    assert_eq!(of("/pods").accept, "application/json");
}

/// Scenario: a reload: the next processor of the same id and settings comes while the first is there, then
/// one with other settings.
/// Guarantees: the second knows everything at once, without asking; the third asks.
#[test]
fn a_reload_goes_on_with_what_is_known() {
    let (server, _events) = cluster(vec![pod("shop-1", "c1", 5)]);
    let services = Services::default();
    let build = |settings: &str| {
        let text = format!("{{auth_type: none, api_server: '{}', {settings}}}", server.url());
        let config: Config = Section::from_yaml(&text).unwrap().read_valid().unwrap();
        let setup = Setup::new("k8s_attributes", services.clone());
        let processor = KubernetesAttributes::start_at(config, &setup, PACE).unwrap();
        Tested { processor, metrics: Arc::clone(&services.metrics) }
    };
    let first = build("");
    let lists = || services.metrics.total(metric_names::LISTS);
    let shared = Arc::clone(first.processor.shared.as_ref().unwrap());
    let kinds = super::objects::Kind::ALL.into_iter().filter(|kind| shared.wanted.needs(*kind));
    let kinds = kinds.count() as u64;
    first.until("all lists", |metrics| {
        metrics.total(metric_names::LISTS) >= kinds && shared.store().is_listed()
    });
    let before = lists();
    let mut second = build("");
    drop(first);
    let found = second.process(batch(&[("container.id", "c1")]));
    assert_eq!(found.len(), 1, "it waits for what is known");
    assert!(shown(found.into_iter().next().unwrap()).contains(&"k8s.pod.name=shop-1".to_owned()));
    assert_eq!(lists(), before);
    let third = build("wait: 1h");
    third.until("other settings are asked for", |metrics| {
        metrics.total(metric_names::LISTS) > before
    });
}

/// Scenario: a batch that arrives before the watch tells of its container; then changes, and the end
/// of the pod.
/// Guarantees: it waits, and goes as soon as the event is there; a restarted container is found by
/// its new id and a pod that has ended still by its last.
#[test]
fn a_batch_waits_for_its_pod() {
    let (server, events) = cluster(vec![]);
    let mut tested = Tested::of(&server, "wait: 1h");
    tested.until("a list", |metrics| metrics.total(metric_names::LISTS) >= 2);
    assert!(tested.process(batch(&[("container.id", "c1")])).is_empty());
    assert!(tested.tick().is_empty());
    events.send(event("ADDED", &pod("shop-1", "c1", 11))).unwrap();
    tested.until_pods(1);
    let mut released = Vec::new();
    while released.is_empty() {
        released = tested.tick();
    }
    let found = shown(released.remove(0));
    assert!(found.contains(&"k8s.pod.name=shop-1".to_owned()), "{found:?}");
    events.send(event("MODIFIED", &pod("shop-1", "c2", 12))).unwrap();
    tested.until("events", |metrics| metrics.total(metric_names::EVENTS) == 2);
    let found = tested.resource(&[("container.id", "c2")]);
    assert!(found.contains(&"k8s.pod.name=shop-1".to_owned()), "{found:?}");
    let bookmark = r#"{"kind": "Pod", "metadata": {"resourceVersion": "40"}}"#;
    events.send(event("BOOKMARK", bookmark)).unwrap();
    events.send(event("DELETED", &pod("shop-1", "c2", 41))).unwrap();
    tested.until_pods(0);
    let found = tested.resource(&[("container.id", "c2")]);
    assert!(found.contains(&"k8s.pod.name=shop-1".to_owned()), "{found:?}");
}

/// Scenario: containers that the cluster does not know, one after the other and again.
/// Guarantees: a batch waits for each once and not longer than it may; resources without anything to
/// be found by never wait; too many bytes send the oldest on.
#[test]
fn waiting_is_bounded() {
    let (server, _events) = cluster(vec![]);
    let mut tested = Tested::of(&server, "wait: 50ms");
    tested.until("a list", |metrics| metrics.total(metric_names::LISTS) >= 2);
    assert_eq!(tested.process(batch(&[("service.name", "host")])).len(), 1);
    assert_eq!(tested.resource(&[("container.id", "docker")]), ["container.id=docker"]);
    assert_eq!(tested.process(batch(&[("container.id", "docker")])).len(), 1);
    assert_eq!(tested.metrics.total(metric_names::RESOURCES_MISSED), 2);
    let mut tested = Tested::of(&server, "wait: 1h, max_parked: 1");
    let out = tested.process(batch(&[("container.id", "a")]));
    assert_eq!(out.len(), 1);
    let mut tested = Tested::of(&server, "wait: 1h");
    assert!(tested.process(batch(&[("container.id", "a")])).is_empty());
    assert!(tested.metrics.total(metric_names::PARKED_BYTES) > 0);
    let mut out = Outbox::default();
    tested.processor.finish(Instant::now(), &mut out);
    assert_eq!(out.drain().count(), 1);
    assert_eq!(tested.metrics.total(metric_names::PARKED_BYTES), 0);
}

/// Scenario: a list of three pages.
/// Guarantees: each is asked for with the token of the one before, and all pods are known.
#[test]
fn lists_have_pages() {
    let server = Server::start(|asked| {
        others(asked).unwrap_or_else(|| {
            if asked.is_watch() {
                return Reply::Slow;
            }
            match asked.parameter("continue").as_deref() {
                None => list("Pod", &[pod("a", "ca", 1)], 10, "b=?"),
                Some("b%3D%3F") => list("Pod", &[pod("b", "cb", 2)], 10, "c"),
                Some("c") => list("Pod", &[pod("c", "cc", 3)], 10, ""),
                Some(other) => panic!("{other}"),
            }
        })
    });
    let mut tested = Tested::of(&server, "");
    tested.until_pods(3);
    for name in ["a", "b", "c"] {
        let found = tested.resource(&[("container.id", &format!("c{name}"))]);
        assert!(found.contains(&format!("k8s.pod.name={name}")), "{found:?}");
    }
    tested.until("a watch", |_| {
        let asked = server.asked();
        let mut watches = asked.iter().filter(|one| one.is_watch() && one.target.contains("/pods"));
        watches.any(|watch| watch.parameter("resourceVersion").as_deref() == Some("10"))
    });
    assert_eq!(server.asked()[0].parameter("limit").as_deref(), Some("500"));
}
