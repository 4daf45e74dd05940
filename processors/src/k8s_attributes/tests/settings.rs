//! What the configuration says.

use super::*;
use crate::k8s_attributes::objects::image;

/// Scenario: attributes of every kind of object, from labels and annotations by key and by regular
/// expression, and those that a pod asks for itself.
/// Guarantees: the Collector's names, or those given.
#[test]
fn labels_and_annotations_become_attributes() {
    let (server, _events) = cluster(vec![pod("shop-1", "c1", 5)]);
    let settings = "wait: 10s, extract: {metadata: [k8s.deployment.uid, k8s.node.uid, k8s.cluster.uid, \
                    k8s.replicaset.name, container.image.repo_digests, k8s.pod.ip, \
                    k8s.pod.hostname], otel_annotations: true, labels: [{key: team}, {tag_name: app.$1, \
                    key_regex: 'app\\.kubernetes\\.io/(.*)'}, {key: stage, from: namespace}, {key: zone, \
                    tag_name: zone, from: node}], annotations: [{key: note, tag_name: note}]}";
    let mut tested = Tested::of(&server, settings);
    tested.until_pods(1);
    let found = tested.resource(&[("k8s.pod.uid", "uid-shop-1"), ("k8s.container.name", "web")]);
    let expected = [
        "app.name=shop",
        "app.version=1.2",
        "container.image.repo_digests=Array([String(\"registry:5000/shop/web@sha256:ab\")])",
        "k8s.cluster.uid=uid-kube-system",
        "k8s.container.name=web",
        "k8s.deployment.uid=uid-d",
        "k8s.namespace.labels.stage=live",
        "k8s.node.uid=uid-n1",
        "k8s.pod.hostname=shop-1",
        "k8s.pod.ip=10.1.2.5",
        "k8s.pod.labels.team=a",
        "k8s.pod.uid=uid-shop-1",
        "k8s.replicaset.name=shop-5d4f8c7b9",
        "note=n",
        "service.name=the-shop",
        "zone=z1",
    ];
    assert_eq!(found, expected);
}

/// Scenario: pods found by address, by name and namespace, by rules of the user's own; a pod that is
/// excluded.
/// Guarantees: the first rule of which everything agrees; nothing that agrees in part.
#[test]
fn pods_are_found_as_the_rules_say() {
    let pods = vec![pod("shop-1", "c1", 5), pod("jaeger-agent-x", "c2", 6)];
    let (server, _events) = cluster(pods);
    let settings =
        "extract: {metadata: [k8s.pod.uid]}, exclude: {pods: [{name: '^jaeger-agent'}]}, wait: 1ms";
    let mut tested = Tested::of(&server, settings);
    tested.until_pods(1);
    let is_found = |tested: &mut Tested, attributes: &[(&str, &str)]| {
        let found = tested.resource(attributes);
        found.contains(&"k8s.pod.uid=uid-shop-1".to_owned())
    };
    assert!(is_found(&mut tested, &[("k8s.pod.ip", "10.1.2.5")]));
    let name = ("k8s.pod.name", "shop-1");
    assert!(is_found(&mut tested, &[name, ("k8s.namespace.name", "prod")]));
    assert!(!is_found(&mut tested, &[name, ("k8s.namespace.name", "test")]));
    assert!(!is_found(&mut tested, &[name]));
    assert!(!is_found(&mut tested, &[("container.id", "c2")]));
    let rules = "pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.ip}, {from: \
                 resource_attribute, name: k8s.pod.name}]}, {sources: [{from: connection}]}]";
    let mut tested = Tested::of(&server, &format!("{settings}, {rules}"));
    tested.until_pods(1);
    assert!(is_found(&mut tested, &[name, ("k8s.pod.ip", "10.1.2.5")]));
    assert!(!is_found(&mut tested, &[name, ("k8s.pod.ip", "10.1.2.6")]));
    assert!(!is_found(&mut tested, &[("k8s.pod.ip", "10.1.2.5")]));
}

/// Scenario: filters of every kind.
/// Guarantees: the server is asked for just that.
#[test]
fn filters_are_the_servers_to_apply() {
    let server = Server::start(|asked| match asked.is_watch() {
        true => Reply::Slow,
        false => list("Pod", &[], 10, ""),
    });
    let settings = "filter: {node: n1, namespace: prod, fields: [{key: status.phase, value: Failed, op: \
                    not-equals}], labels: [{key: a, value: b}, {key: c, op: exists}, {key: d, op: \
                    does-not-exist}]}, extract: {metadata: [k8s.pod.name, k8s.node.uid]}";
    let tested = Tested::of(&server, settings);
    tested.until("lists", |metrics| metrics.total(metric_names::LISTS) >= 2);
    tested.until("requests", |_| {
        server.asked().iter().filter(|asked| !asked.is_watch()).count() >= 2
    });
    let mut asked: Vec<String> = server.asked().into_iter().map(|asked| asked.target).collect();
    asked.retain(|target| !target.contains("watch"));
    asked.sort();
    let expected = [
        "/api/v1/namespaces/prod/pods?fieldSelector=spec.nodeName%3Dn1%2Cstatus.phase%21%3DFailed&\
         labelSelector=a%3Db%2Cc%2C%21d&limit=500&resourceVersion=0",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&limit=500",
    ];
    assert_eq!(asked, expected);
}

/// Scenario: a batch before the first list, with `wait_for_metadata`, of a server that takes its time.
/// Guarantees: it waits for the list, though there is nothing that it lacks; not longer than it may.
#[test]
fn batches_wait_for_the_first_list() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let server = Server::start(move |asked| {
        if asked.is_watch() {
            return Reply::Slow;
        }
        let _ = gate.lock().unwrap().recv();
        list("Pod", &[pod("a", "ca", 1)], 10, "")
    });
    let settings = "wait_for_metadata: true, wait_for_metadata_timeout: 1h, extract: {metadata: \
                    [k8s.pod.name]}";
    let mut tested = Tested::of(&server, settings);
    assert!(tested.process(batch(&[("service.name", "x")])).is_empty());
    assert!(tested.tick().is_empty());
    go.send(()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while tested.tick().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    let settings = "wait_for_metadata: true, wait_for_metadata_timeout: 20ms, wait: 0";
    let late = Server::start(|_| Reply::Slow);
    let mut tested = Tested::of(&late, settings);
    assert_eq!(tested.resource(&[("container.id", "x")]), ["container.id=x"]);
}

/// Scenario: a kubeconfig file with a token and one with a user's name; one whose credentials come
/// from a program, one without the context that is asked for, and none.
/// Guarantees: the server that it names is asked with what it says; the others are errors that say
/// why, without any secret.
#[test]
fn kubeconfig_files() {
    let (server, _events) = cluster(vec![pod("shop-1", "c1", 5)]);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: here\nclusters:\n- name: c\n  \
         cluster: {{server: '{}', certificate-authority-data: ''}}\ncontexts:\n- name: here\n  context: \
         {{cluster: c, user: u, namespace: x}}\n- name: basic\n  context: {{cluster: c, user: b}}\n- name: \
         program\n  context: {{cluster: c, user: p}}\nusers:\n- name: u\n  user: {{token: s3cret}}\n- \
         name: b\n  user: {{username: me, password: s3cret}}\n- name: p\n  user: {{exec: {{command: \
         aws}}}}\n",
        server.url()
    );
    std::fs::write(&file, text).unwrap();
    let settings = |context: &str| {
        format!("{{auth_type: kubeConfig, kubeconfig: '{}', context: '{context}'}}", file.display())
    };
    let tested = Tested::start(&settings(""), PACE);
    tested.until_pods(1);
    assert_eq!(server.asked()[0].authorization, "Bearer s3cret");
    drop(tested);
    let tested = Tested::start(&settings("basic"), PACE);
    tested.until("a request with a password", |_| {
        server.asked().iter().any(|asked| asked.authorization == "Basic bWU6czNjcmV0")
    });
    for (context, says) in [("program", "another program"), ("nowhere", "no context `nowhere`")] {
        let config: Config = Section::from_yaml(&settings(context)).unwrap().read_valid().unwrap();
        let setup = Setup::new("k8s_attributes", Services::default());
        let error = KubernetesAttributes::start(config, &setup).err().unwrap().chain();
        assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
    }
}

/// Scenario: settings that make no sense, and those of the Collector's documentation.
/// Guarantees: the former are mistakes at their place, the latter are read; what has no effect is
/// advised against.
#[test]
fn settings_are_checked() {
    for (wrong, at) in [
        ("auth_type: none", "api_server"),
        ("api_server: 10.0.0.1", "api_server"),
        ("extract: {metadata: [k8s.pod.nam]}", "extract::metadata::0"),
        ("extract: {labels: [{tag_name: x}]}", "extract::labels::0"),
        ("extract: {labels: [{key_regex: '('}]}", "extract::labels::0::key_regex"),
        ("filter: {node: a, node_from_env_var: B}", "filter::node"),
        ("filter: {fields: [{key: a, op: exists}]}", "filter::fields::0"),
        ("pod_association: [{}]", "pod_association::0"),
        ("pod_association: [{sources: [{name: host.name}]}]", "pod_association::0::sources::0"),
        ("exclude: {pods: [{name: '['}]}", "exclude::pods::0::name"),
        ("auth_type: tls", "auth_type"),
    ] {
        let section = Section::from_yaml(&format!("{{{wrong}}}")).unwrap();
        let errors = section.read_valid::<Config>().unwrap_err();
        assert_eq!(errors[0].path, at, "{errors:?}");
    }
    let collectors = "\
auth_type: serviceAccount
passthrough: false
filter:
  node_from_env_var: KUBE_NODE_NAME
extract:
  metadata: [k8s.pod.name, k8s.pod.uid, k8s.deployment.name, k8s.namespace.name, k8s.node.name, k8s.pod.start_time]
  annotations:
    - {tag_name: a1, key: annotation-one, from: pod}
  labels:
    - {tag_name: l1, key: label1, from: namespace}
    - {tag_name: $$1, key_regex: label(.*), from: pod}
pod_association:
  - sources:
      - {from: resource_attribute, name: k8s.pod.ip}
  - sources:
      - from: connection
wait_for_metadata: true
wait_for_metadata_timeout: 10s
";
    let section = Section::from_yaml(collectors).unwrap();
    section.read_valid::<Config>().unwrap();
    let advice = section.advice::<Config>();
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert_eq!(advice[0].path, "pod_association::1");
}

/// Scenario: images as they are written.
/// Guarantees: name and tag, whatever else is there.
#[test]
fn images_have_names_and_tags() {
    for (reference, name, tag) in [
        ("nginx", "nginx", "latest"),
        ("nginx:1.27", "nginx", "1.27"),
        ("registry:5000/shop/web", "registry:5000/shop/web", "latest"),
        ("registry:5000/shop/web:1@sha256:ab", "registry:5000/shop/web", "1"),
        ("shop@sha256:ab", "shop", ""),
        ("", "", ""),
    ] {
        assert_eq!(image(reference), (name.to_owned(), tag.to_owned()), "{reference}");
    }
}
