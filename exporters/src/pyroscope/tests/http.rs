//! The exporter at work with a stand-in for Pyroscope over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::budget::Budget;
use profpipe_engine::component::{Exporter, ExporterConfig, Failure, Lifecycle, Setup, Stopper};
use profpipe_engine::config::Section;
use profpipe_network::grpc::Code;
use profpipe_network::server::{Handler, Rejection, Reply, Request, Router, Server};
use profpipe_network::server_config;
use profpipe_profile::Profiles;

use super::{by_leaf, profile, resource};
use crate::pyroscope::{Config, PATH};

server_config! {
    /// Where the stand-in for Pyroscope listens.
    pub struct Listen: http("127.0.0.1:0") {}
}

/// What one push brought.
#[derive(Debug, Clone)]
struct Pushed {
    labels: BTreeMap<String, String>,
    profile: Vec<u8>,
    tenant: Option<String>,
}

/// Answers by service: the answers to give, the last one for ever.
type Script = BTreeMap<&'static str, Vec<(u16, &'static str)>>;

/// A stand-in for Pyroscope.
struct Stored {
    script: Mutex<Script>,
    all: Mutex<Vec<Pushed>>,
    stored: Mutex<Vec<Pushed>>,
    delay: Duration,
}

struct Push(Arc<Stored>);

#[async_trait]
impl Handler for Push {
    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        assert_eq!(request.head.headers["content-type"], "application/proto");
        let tenant = request.head.headers.get("x-scope-orgid");
        let tenant = tenant.map(|value| value.to_str().unwrap().to_owned());
        let pushed = read(&request.body, tenant);
        let service = pushed.labels["service_name"].clone();
        self.0.all.lock().unwrap().push(pushed.clone());
        tokio::time::sleep(self.0.delay).await;
        let answer = match self.0.script.lock().unwrap().get_mut(service.as_str()) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0],
            None => (200, ""),
        };
        let status = StatusCode::from_u16(answer.0).unwrap();
        if status.is_success() {
            self.0.stored.lock().unwrap().push(pushed);
            return Ok(Reply::new("application/proto", ""));
        }
        let mut rejection = Rejection::new(status, Code::Unknown, answer.1);
        if answer.0 == 429 {
            rejection.retry_after = Some(Duration::from_secs(7));
        }
        Err(rejection)
    }

    fn reject(&self, _: &http::request::Parts, rejection: &Rejection) -> Reply {
        Reply::rejection(rejection, "application/json", rejection.message.clone())
    }
}

/// The fields of a message: number and content.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for group in 0.. {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << (7 * group);
            if byte < 0x80 {
                break;
            }
        }
        number
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        assert_eq!(key & 7, 2);
        let length = varint(&mut bytes) as usize;
        all.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    all
}

/// The only series and the only profile of a request.
fn read(body: &[u8], tenant: Option<String>) -> Pushed {
    let request = fields(body);
    assert_eq!(request.len(), 1);
    let mut labels = BTreeMap::new();
    let mut profiles = Vec::new();
    for (field, content) in fields(&request[0].1) {
        let parts = fields(&content);
        let text = |at: usize| String::from_utf8(parts[at].1.clone()).unwrap();
        match field {
            1 => assert!(labels.insert(text(0), text(1)).is_none(), "labels are unique"),
            _ => profiles.push(parts[0].1.clone()),
        }
    }
    assert_eq!(profiles.len(), 1);
    Pushed { labels, profile: profiles.remove(0), tenant }
}

struct Running {
    stored: Arc<Stored>,
    at: SocketAddr,
    _stopper: Stopper,
}

fn start(script: Script, delay: Duration) -> Running {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = Listen { endpoint: format!("127.0.0.1:{port}"), ..Listen::default() };
    let setup = Setup::new("test", Services::default());
    let server = Server::build(listen.server(), &setup).unwrap();
    let at = server.address();
    let stored = Arc::new(Stored {
        script: Mutex::new(script),
        all: Mutex::default(),
        stored: Mutex::default(),
        delay,
    });
    let router = Router::new().http(Method::POST, PATH, Arc::new(Push(Arc::clone(&stored))));
    let (stopper, life) = Lifecycle::new();
    tokio::spawn(server.run(router, Budget::new(usize::MAX), life));
    Running { stored, at, _stopper: stopper }
}

impl Running {
    fn exporter(&self, more: &str) -> (Box<dyn Exporter>, Services) {
        exporter(&format!("http://{}", self.at), more)
    }

    /// The sum of what is stored, by service.
    fn sums(&self) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for pushed in self.stored.stored.lock().unwrap().iter() {
            let sum: i64 = by_leaf([pushed.profile.as_slice()]).values().sum();
            *sums.entry(pushed.labels["service_name"].clone()).or_default() += sum;
        }
        sums
    }

    fn pushes(&self) -> usize {
        self.stored.all.lock().unwrap().len()
    }
}

fn exporter(endpoint: &str, more: &str) -> (Box<dyn Exporter>, Services) {
    let yaml = format!("endpoint: '{endpoint}'\n{more}");
    let config: Config = Section::from_yaml(&yaml).unwrap().read_valid().unwrap();
    let services = Services::default();
    let setup = Setup::new("pyroscope", services.clone());
    (config.build(&setup).unwrap(), services)
}

/// One CPU profile for each service, with as many nanoseconds as its place.
fn batch(services: &[&str]) -> Batch {
    let mut batch = Profiles::new();
    for (at, service) in (1..).zip(services) {
        let types = ["cpu", "nanoseconds", "cpu", "nanoseconds"];
        let cpu = profile(&mut batch, types, 1, &[(&["a", "main"], &[], at)]);
        resource(&mut batch, &[("service.name", service)], vec![cpu]);
    }
    Batch::new(batch)
}

fn sums(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(service, sum)| ((*service).to_owned(), *sum)).collect()
}

/// Scenario: a batch of three services to a server that takes everything.
/// Guarantees: a request for each, with its labels and time; nothing twice for an equal batch.
#[tokio::test]
async fn each_series_is_one_request() {
    let running = start(Script::new(), Duration::ZERO);
    let (mut exporter, _) = running.exporter("headers: {X-Scope-OrgID: blue}");
    exporter.export(&batch(&["x", "y", "z"])).await.unwrap();
    assert_eq!(running.sums(), sums(&[("x", 1), ("y", 2), ("z", 3)]));
    {
        let stored = running.stored.stored.lock().unwrap();
        assert!(stored.iter().all(|pushed| pushed.tenant.as_deref() == Some("blue")));
        let one = stored.iter().find(|pushed| pushed.labels["service_name"] == "x").unwrap();
        assert_eq!(one.labels["__name__"], "process_cpu");
        let decoded = profpipe_formats::pprof::decode(&one.profile).unwrap();
        let profile = decoded.iter().next().unwrap().2;
        assert_eq!(profile.time_unix_nano, 1_700_000_000_000_000_000);
        assert_eq!(profile.duration_nano, 10_000_000_000);
    }
    let mut fork = exporter.fork().unwrap();
    fork.export(&batch(&["x", "y", "z"])).await.unwrap();
    let mut times: Vec<_> = Vec::new();
    for pushed in running.stored.stored.lock().unwrap().iter() {
        let decoded = profpipe_formats::pprof::decode(&pushed.profile).unwrap();
        let time = decoded.iter().next().unwrap().2.time_unix_nano;
        times.push((pushed.labels.clone(), time / 1_000_000));
    }
    times.sort();
    times.dedup();
    assert_eq!(times.len(), 6, "no two have the same labels and millisecond");
}

/// Scenario: a server has one series of a batch and refuses the other for now; a reload brings another
/// exporter of the same id, which gets the batch again and then an equal one; then one whose endpoint is
/// another server.
/// Guarantees: the next exporter sends the rest alone, and no two profiles have the same millisecond; the
/// other server, which has nothing, gets everything.
#[tokio::test]
async fn a_reload_keeps_what_a_server_has() {
    let script = || Script::from([("y", vec![(503, ""), (200, "")])]);
    let (running, other) = (start(script(), Duration::ZERO), start(Script::new(), Duration::ZERO));
    let services = Services::default();
    let build = |at: SocketAddr| {
        let yaml = format!("endpoint: 'http://{at}'");
        let config: Config = Section::from_yaml(&yaml).unwrap().read_valid().unwrap();
        config.build(&Setup::new("pyroscope", services.clone())).unwrap()
    };
    let sent = batch(&["x", "y"]);
    build(running.at).export(&sent).await.unwrap_err();
    build(running.at).export(&sent).await.unwrap();
    assert_eq!(running.sums(), sums(&[("x", 1), ("y", 2)]));
    build(running.at).export(&sent).await.unwrap();
    let times: std::collections::BTreeSet<_> = running
        .stored
        .stored
        .lock()
        .unwrap()
        .iter()
        .map(|pushed| {
            let decoded = profpipe_formats::pprof::decode(&pushed.profile).unwrap();
            let time = decoded.iter().next().unwrap().2.time_unix_nano;
            (pushed.labels["service_name"].clone(), time / 1_000_000)
        })
        .collect();
    assert_eq!(times.len(), 4, "{times:?}");
    build(other.at).export(&sent).await.unwrap();
    assert_eq!(other.sums(), sums(&[("x", 1), ("y", 2)]));
}

/// Scenario: one series is refused for now, then taken; the others are taken at once.
/// Guarantees: trying again sends only what is missing, after the time asked for.
#[tokio::test]
async fn trying_again_sends_only_the_rest() {
    let limit = r#"{"code":"resource_exhausted","message":"limit"}"#;
    let script = Script::from([("y", vec![(429, limit), (503, ""), (200, "")])]);
    let running = start(script, Duration::ZERO);
    let (mut exporter, _) = running.exporter("");
    let batch = batch(&["x", "y", "z"]);
    let failure = exporter.export(&batch).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Retry { after: Some(after), cause }
            if after.as_secs() == 7 && cause.chain().contains("limit")),
        "{failure:?}"
    );
    assert!(matches!(exporter.export(&batch).await, Err(Failure::Retry { after: None, .. })));
    exporter.export(&batch).await.unwrap();
    assert_eq!(running.sums(), sums(&[("x", 1), ("y", 2), ("z", 3)]));
    assert_eq!(running.pushes(), 5);
}

/// Scenario: an attempt is cut off while a series that the server is slow to answer is under way.
/// Guarantees: what was stored is not sent again.
#[tokio::test]
async fn an_attempt_cut_off_is_taken_up() {
    let running = start(Script::new(), Duration::from_millis(300));
    let (mut exporter, _) = running.exporter("concurrency: 1");
    let batch = batch(&["x", "y", "z"]);
    let cut_off = tokio::time::timeout(Duration::from_millis(450), exporter.export(&batch));
    assert!(cut_off.await.is_err());
    exporter.export(&batch).await.unwrap();
    let first = running.stored.all.lock().unwrap();
    let of_x = first.iter().filter(|pushed| pushed.labels["service_name"] == "x").count();
    assert_eq!(of_x, 1);
}

/// Scenario: a bad series among good ones; only bad ones; wrong credentials; no server.
/// Guarantees: the good ones are stored and the bad one counted; refused; held; tried again.
#[tokio::test]
async fn failures_are_what_they_mean() {
    let bad = r#"{"code":"invalid_argument","message":"profile is rejected by time range"}"#;
    let script = Script::from([("y", vec![(400, bad)]), ("w", vec![(401, "")])]);
    let running = start(script, Duration::ZERO);
    let (mut exporter, services) = running.exporter("");
    exporter.export(&batch(&["x", "y", "z"])).await.unwrap();
    assert_eq!(running.sums(), sums(&[("x", 1), ("z", 3)]));
    assert_eq!(services.metrics.total(crate::metric_names::PROFILES_REJECTED), 1);
    let failure = exporter.export(&batch(&["y"])).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Reject { cause }
        if cause.chain().contains("reject-older-than")),
        "{failure:?}"
    );
    let failure = exporter.export(&batch(&["x", "w"])).await.unwrap_err();
    assert!(matches!(failure, Failure::Hold { .. }), "{failure:?}");
    let (mut exporter, _) = running.exporter("max_age: 1h");
    let failure = exporter.export(&batch(&["x"])).await.unwrap_err();
    assert!(failure.cause().chain().contains("max_age"), "{failure:?}");
    let (mut exporter, _) = self::exporter("http://127.0.0.1:1", "");
    assert!(matches!(exporter.export(&batch(&["x"])).await, Err(Failure::Retry { .. })));
}

/// Scenario: batches with and without a tenant, where tenants are sent on.
/// Guarantees: the batch's own goes before that of the headers.
#[tokio::test]
async fn tenants_are_sent_on() {
    let running = start(Script::new(), Duration::ZERO);
    let more = "tenant_from_context: true\nheaders: {x-scope-orgid: usual}";
    let (mut exporter, _) = running.exporter(more);
    let mut mine = batch(&["x"]);
    mine.context.tenant = Some("mine".into());
    exporter.export(&mine).await.unwrap();
    exporter.export(&batch(&["y"])).await.unwrap();
    let stored = running.stored.stored.lock().unwrap();
    let tenants: Vec<_> = stored.iter().map(|pushed| pushed.tenant.as_deref().unwrap()).collect();
    assert_eq!(tenants, ["mine", "usual"]);
}

/// Scenario: settings that make no sense.
/// Guarantees: mistakes that name the key.
#[test]
fn wrong_settings_are_mistakes() {
    for (yaml, key) in [
        ("{}", "endpoint"),
        ("{endpoint: 'http://x:1', compression: zstd}", "compression"),
        ("{endpoint: 'http://x:1', max_profile_size: 1}", "max_profile_size"),
        ("{endpoint: 'http://x:1', concurrency: 0}", "concurrency"),
        ("{endpoint: 'http://x:1', profile_names: {a: b}}", "profile_names::a"),
    ] {
        let errors = Section::from_yaml(yaml).unwrap().read_valid::<Config>().unwrap_err();
        assert!(format!("{errors:?}").contains(key), "{errors:?}");
    }
}
