//! Kubernetes and Docker as sources of targets, with answers in their real shape.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use profpipe_engine::config::Section;

use super::super::config::{Config, DockerConfig, KubernetesConfig};
use super::super::discovery::{docker, kubernetes};
use super::super::relabel::Labels;
use super::super::target::{Source, Target, targets};
use super::asking::{request, serve};

const PODS: &str = r#"{"kind": "PodList", "apiVersion": "v1",
  "metadata": {"resourceVersion": "7", "continue": ""},
  "items": [
    {"metadata": {"name": "shop-5d", "namespace": "prod", "uid": "u1",
        "labels": {"app.kubernetes.io/name": "shop"},
        "annotations": {"profiles.grafana.com/cpu.scrape": "true",
          "profiles.grafana.com/cpu.port": "6060",
          "profiles.grafana.com/memory.scrape": "true",
          "profiles.grafana.com/memory.port_name": "debug",
          "profiles.grafana.com/memory.path": "/own/heap",
          "profiles.grafana.com/mutex.scrape": "false",
          "profiles.grafana.com/service_name": "shop"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "shop", "controller": true}]},
     "spec": {"nodeName": "n1", "containers": [
        {"name": "web", "image": "shop:1", "ports": [
          {"containerPort": 8080, "name": "http", "protocol": "TCP"},
          {"containerPort": 6061, "name": "debug", "protocol": "TCP"},
          {"containerPort": 53, "protocol": "UDP"}]}]},
     "status": {"phase": "Running", "podIP": "10.1.2.3", "hostIP": "10.0.0.1"}},
    {"metadata": {"name": "done", "namespace": "prod",
        "annotations": {"profiles.grafana.com/cpu.scrape": "true"}},
     "spec": {"containers": [{"name": "job"}]},
     "status": {"phase": "Succeeded", "podIP": "10.1.2.4"}},
    {"metadata": {"name": "other", "namespace": "prod"},
     "spec": {"containers": [{"name": "db", "ports": [{"containerPort": 5432}]}]},
     "status": {"phase": "Running", "podIP": "fd00::5"}}]}"#;

fn requests(config: &Config, discovered: &[Labels]) -> Vec<Target> {
    let of = |labels| targets(config, "k8s", &[], labels, Source::Network).unwrap();
    discovered.iter().flat_map(of).collect()
}

/// Scenario: a cluster with an annotated pod, one that is over and one without annotations; the API
/// server gives the list in two parts and wants a token.
/// Guarantees: only what the annotations ask for, at the ports and paths they say, with the pod's
/// names as semantic conventions have them; without annotations every TCP port that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pods_of_a_cluster() {
    let api = serve(Arc::new(|path| {
        let whole = !path.contains("continue");
        let body = if whole {
            PODS.replace(r#""continue": """#, r#""continue": "a b""#)
        } else {
            r#"{"items": []}"#.into()
        };
        (200, "application/json", body.into_bytes())
    }));
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    let yaml = format!(
        "{{kubernetes_sd_configs: [{{api_server: 'http://{}', bearer_token_file: '{}', \
          field_selector: spec.nodeName=n1, namespaces: {{names: [prod]}}}}]}}",
        api.address,
        token.display()
    );
    let config: Config = Section::from_yaml(&yaml).unwrap().read_valid().unwrap();
    let cluster = &config.kubernetes_sd_configs[0];
    let found = kubernetes::list(cluster).await.unwrap();
    let asked = api.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "/api/v1/namespaces/prod/pods?limit=500&fieldSelector=spec.nodeName%3Dn1",
            "/api/v1/namespaces/prod/pods?limit=500&fieldSelector=spec.nodeName%3Dn1&continue=a%20b",
        ]
    );
    let asks = requests(&config, &found);
    let urls: Vec<String> = asks.iter().map(Target::request).collect();
    let expected =
        ["http://10.1.2.3:6060/debug/pprof/profile?seconds=14", "http://10.1.2.3:6061/own/heap"];
    assert_eq!(urls, expected);
    let labels = &asks[0].labels;
    assert_eq!(labels["service_name"], "shop");
    assert_eq!(labels["k8s.pod.name"], "shop-5d");
    assert_eq!(labels["k8s.namespace.name"], "prod");
    assert!(labels.keys().all(|name| !name.starts_with("__")));

    let all = KubernetesConfig { annotations: false, ..cluster.clone() };
    let found = kubernetes::list(&all).await.unwrap();
    let addresses: Vec<&str> = found.iter().map(|labels| labels["__address__"].as_str()).collect();
    assert_eq!(addresses, ["10.1.2.3:8080", "10.1.2.3:6061", "[fd00::5]:5432"]);
    assert_eq!(found[0]["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "shop");
    assert_eq!(found[0]["__meta_kubernetes_pod_controller_kind"], "ReplicaSet");
}

/// Scenario: an API server that refuses the token, and one that answers something else.
/// Guarantees: an error of one line that says what to do, without the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_that_refuses() {
    for (status, body, says) in
        [(403, "{}", "needs to `list` pods"), (200, "[1]", "not a list of pods")]
    {
        let api = serve(Arc::new(move |_| (status, "application/json", body.as_bytes().to_vec())));
        let cluster = KubernetesConfig {
            api_server: format!("http://{}", api.address),
            ..KubernetesConfig::default()
        };
        let error = kubernetes::list(&cluster).await.unwrap_err().chain();
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
}

const CONTAINERS: &str = r#"[
  {"Id": "c1", "Names": ["/shop"], "Image": "shop:1", "State": "running",
   "Labels": {"profiles.grafana.com/cpu.scrape": "true", "profiles.grafana.com/cpu.port": "6060"},
   "Ports": [{"PrivatePort": 8080, "Type": "tcp"}, {"IP": "0.0.0.0", "PrivatePort": 8080,
     "PublicPort": 80, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
   "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}},
  {"Id": "c2", "Names": ["/old"], "State": "exited",
   "NetworkSettings": {"Networks": {"bridge": {"IPAddress": ""}}}}]"#;

/// Scenario: an engine with a labelled container and one that has ended, behind a socket.
/// Guarantees: what the labels ask for; without them every TCP port once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn containers_of_an_engine() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert_eq!(request(&mut stream).unwrap(), "/containers/json");
            let length = CONTAINERS.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all((head + CONTAINERS).as_bytes()).unwrap();
        }
    });
    let host = format!("unix://{}", path.display());
    let engine = DockerConfig { host, ..DockerConfig::default() };
    let found = docker::list(&engine).await.unwrap();
    let asks = requests(&Config::default(), &found);
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0].request(), "http://172.17.0.2:6060/debug/pprof/profile?seconds=14");
    assert_eq!(asks[0].labels["service_name"], "shop");
    assert_eq!(asks[0].labels["container.id"], "c1");
    let all = docker::list(&DockerConfig { annotations: false, ..engine }).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["__address__"], "172.17.0.2:8080");
    let nobody = DockerConfig { host: "unix:///no/such/socket".into(), ..DockerConfig::default() };
    assert!(docker::list(&nobody).await.unwrap_err().chain().contains("/no/such/socket"));
}
