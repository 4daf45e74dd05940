//! The receiver at work, against targets on loopback.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Lifecycle, ReceiverConfig, Setup, Stopper};
use profpipe_engine::settings::{ByteSize, Duration as Interval};
use profpipe_engine::{Sender, Services};
use profpipe_formats::{folded, pprof};
use profpipe_network::client::Resolver;
use profpipe_profile::Value;
use profpipe_profile::attribute_names::{PROFILE_NAME, SERVICE_NAME};
use tokio::sync::mpsc;

use super::super::config::{Config, HttpConfig, StaticConfig};
use super::super::fetch::Fetcher;
use super::super::profiles::ProfileConfig;
use super::super::target::Source;

/// A target that answers by path, and keeps what it was asked.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    /// The most requests for CPU profiles that it had at once.
    most_at_once: Arc<AtomicUsize>,
}

pub(super) type Reply = Arc<dyn Fn(&str) -> (u16, &'static str, Vec<u8>) + Send + Sync>;

pub(super) fn serve(reply: Reply) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let most_at_once = Arc::new(AtomicUsize::new(0));
    let service =
        Service { address, asked: Arc::clone(&asked), most_at_once: Arc::clone(&most_at_once) };
    let now = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (reply, asked) = (Arc::clone(&reply), Arc::clone(&asked));
            let (now, most) = (Arc::clone(&now), Arc::clone(&most_at_once));
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                while let Some(path) = request(&mut stream) {
                    asked.lock().unwrap().push(path.clone());
                    let measures = path.contains("seconds=");
                    if measures {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(50));
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                    let (status, kind, body) = reply(&path);
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let sent = stream.write_all(head.as_bytes());
                    if sent.and_then(|()| stream.write_all(&body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    service
}

/// Reads one request; its path and query.
pub(super) fn request(stream: &mut (impl Read + Write)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    Some(head.split(' ').nth(1)?.to_owned())
}

/// A profile as a service gives it.
fn profile() -> Vec<u8> {
    pprof::encode(&folded::decode(b"main;work 12\nmain;rest 3").unwrap()).unwrap()
}

fn only(name: &str) -> Config {
    let mut config = Config {
        scrape_interval: Interval::from_millis(100),
        scrape_timeout: Interval::from_secs(5),
        ..Config::default()
    };
    let profiles = &mut config.profiles;
    for (known, profile) in [
        ("process_cpu", &mut profiles.process_cpu),
        ("memory", &mut profiles.memory),
        ("block", &mut profiles.block),
        ("mutex", &mut profiles.mutex),
        ("goroutine", &mut profiles.goroutine),
    ] {
        profile.enabled = Some(known == name);
    }
    config
}

fn at(config: Config, address: SocketAddr) -> Config {
    let labels =
        BTreeMap::from([("service_name".into(), "shop".into()), ("zone".into(), "a".into())]);
    let targets = StaticConfig { targets: vec![address.to_string()], labels };
    Config { static_configs: vec![targets], ..config }
}

fn start(config: Config, services: &Services) -> (mpsc::Receiver<Batch>, Stopper) {
    let receiver = config.build(&Setup::new("pprof", services.clone())).unwrap();
    let (out, batches) = Sender::detached(100);
    let (stopper, life) = Lifecycle::new();
    tokio::spawn(receiver.run(out, life));
    (batches, stopper)
}

async fn next(batches: &mut mpsc::Receiver<Batch>) -> Batch {
    tokio::time::timeout(Duration::from_secs(30), batches.recv()).await.unwrap().unwrap()
}

/// Scenario: a service with a goroutine profile.
/// Guarantees: its samples arrive with its labels as a resource, the name of the profile, and a
/// time; the counters say that the target is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_profile_arrives() {
    let service = serve(Arc::new(|_| (200, "application/octet-stream", profile())));
    let services = Services::default();
    let (mut batches, _stopper) = start(at(only("goroutine"), service.address), &services);
    let batch = next(&mut batches).await;
    let profiles = batch.shared().unwrap();
    let (resource, _, profile) = profiles.iter().next().unwrap();
    let text = |key: &str| resource.get(key).and_then(Value::as_str).unwrap().to_owned();
    assert_eq!(text(SERVICE_NAME), "shop");
    assert_eq!(text("zone"), "a");
    assert_eq!(text("service.instance.id"), service.address.to_string());
    assert_eq!(profile.samples.iter().map(|row| row.weight()).sum::<i64>(), 15);
    assert!(profile.time_unix_nano > 0);
    let named = profile.attributes.iter().find(|row| {
        profiles.dictionary.strings.get(profiles.dictionary.attributes.key(**row)) == PROFILE_NAME
    });
    let named = profiles.dictionary.attributes.value(*named.unwrap());
    assert_eq!(named.as_str(), Some("goroutine"));
    assert_eq!(service.asked.lock().unwrap()[0], "/debug/pprof/goroutine");
    assert_eq!(services.metrics.total("profpipe_pprof_target_up"), 1);
}

/// Scenario: two CPU profiles of one address, asked for all the time.
/// Guarantees: never two at once, and both get their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measuring_never_overlaps() {
    let service = serve(Arc::new(|_| (200, "application/octet-stream", profile())));
    let mut config = only("process_cpu");
    let second = ProfileConfig {
        path: Some("/other/profile".into()),
        delta: Some(true),
        ..ProfileConfig::default()
    };
    config.profiles.custom.insert("other".into(), second);
    config.scrape_interval = Interval::from_millis(400);
    let (mut batches, _stopper) = start(at(config, service.address), &Services::default());
    let asked = |path: &str| service.asked.lock().unwrap().iter().any(|asked| asked.contains(path));
    while !(asked("/debug/pprof/profile?seconds=1") && asked("/other/profile?seconds=1")) {
        next(&mut batches).await;
    }
    for _ in 0..4 {
        next(&mut batches).await;
    }
    assert_eq!(service.most_at_once.load(Ordering::SeqCst), 1);
}

/// Scenario: answers that are no profile: an error, a page, nothing, noise, one that is too large.
/// Guarantees: each is a failed request of the target, told in one line; later a good answer counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_that_are_no_profile() {
    let count = Arc::new(AtomicUsize::new(0));
    let bad: Reply = Arc::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => (500, "text/plain", b"Could not enable CPU profiling\nat all".to_vec()),
        1 => (200, "text/html; charset=utf-8", b"<html>".to_vec()),
        2 => (200, "application/octet-stream", Vec::new()),
        3 => (200, "application/octet-stream", b"heap profile: 1: 2 [3: 4]".to_vec()),
        4 => (200, "application/octet-stream", vec![7; 100_000]),
        5 => (302, "text/plain", Vec::new()),
        _ => (200, "application/octet-stream", profile()),
    });
    let service = serve(bad);
    let mut config = at(only("goroutine"), service.address);
    config.max_body_size = ByteSize(50_000);
    let services = Services::default();
    let (mut batches, _stopper) = start(config, &services);
    let batch = next(&mut batches).await;
    assert_eq!(batch.samples(), 2);
    assert_eq!(services.metrics.total("profpipe_pprof_scrapes_failed_total"), 6);
}

/// Scenario: a file of targets that appears, changes, and is broken.
/// Guarantees: targets come and go with it; a broken file changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn targets_in_files() {
    let one = serve(Arc::new(|_| (200, "application/octet-stream", profile())));
    let two = serve(Arc::new(|_| (200, "application/octet-stream", profile())));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.json");
    let list = |address: SocketAddr| {
        format!(
            r#"[{{"targets": ["{address}"], "labels": {{"service_name": "{}"}}}}]"#,
            address.port()
        )
    };
    std::fs::write(&file, list(one.address)).unwrap();
    let mut config = only("goroutine");
    config.file_sd_configs = vec![super::super::config::FileConfig {
        files: vec![directory.path().join("*.json")],
        ..Default::default()
    }];
    let (mut batches, _stopper) = start(config, &Services::default());
    let service_of = |batch: &Batch| {
        let profiles = batch.shared().unwrap();
        let name = profiles.resources[0].resource.get(SERVICE_NAME).unwrap().as_str().unwrap();
        name.parse::<u16>().unwrap()
    };
    assert_eq!(service_of(&next(&mut batches).await), one.address.port());
    std::fs::write(&file, "[{targets: ]").unwrap();
    std::fs::write(directory.path().join("more.json"), list(two.address)).unwrap();
    while service_of(&next(&mut batches).await) != two.address.port() {}
    std::fs::remove_file(directory.path().join("more.json")).unwrap();
    std::fs::write(&file, list(two.address)).unwrap();
    // From some point on only the second is asked.
    let mut in_a_row = 0;
    while in_a_row < 10 {
        let same = service_of(&next(&mut batches).await) == two.address.port();
        in_a_row = if same { in_a_row + 1 } else { 0 };
    }
}

/// Scenario: a file that is named as it is holds a target, and is deleted.
/// Guarantees: the target goes with it, and so do its series.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn targets_of_a_deleted_file() {
    let service = serve(Arc::new(|_| (200, "application/octet-stream", profile())));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.json");
    std::fs::write(&file, format!(r#"[{{"targets": ["{}"]}}]"#, service.address)).unwrap();
    let mut config = only("goroutine");
    let never = directory.path().join("never.json");
    config.file_sd_configs = vec![super::super::config::FileConfig {
        files: vec![never, file.clone()],
        ..Default::default()
    }];
    let services = Services::default();
    let (mut batches, _stopper) = start(config, &services);
    next(&mut batches).await;
    let series = || {
        let of_target = |reading: &profpipe_engine::telemetry::Reading| {
            reading.labels.iter().any(|(name, _)| *name == "instance")
        };
        services.metrics.readings().iter().filter(|reading| of_target(reading)).count()
    };
    assert_eq!(series(), 6);
    std::fs::remove_file(&file).unwrap();
    let gone = async {
        while services.metrics.total("profpipe_pprof_targets") > 0 || series() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

/// A profile of a program that has allocated so much since its start.
fn allocated(bytes: i64) -> Vec<u8> {
    let mut profiles = folded::decode(format!("main;work {bytes}").as_bytes()).unwrap();
    let strings = &mut profiles.dictionary.strings;
    let (kind, unit) = (strings.intern("alloc_space"), strings.intern("bytes"));
    for profile in profiles.profiles_mut() {
        profile.sample_type = profpipe_profile::ValueType { kind, unit };
    }
    pprof::encode(&profiles).unwrap()
}

/// Scenario: a receiver asks a program that counts from its start, is replaced by a reload, and the
/// next one asks it.
/// Guarantees: what was counted between the two is told once: the sum of all is what the program
/// counted since the first answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn counts_go_on_after_a_reload() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = serve(Arc::new(move |_| {
        let before = count.fetch_add(1, Ordering::SeqCst) as i64;
        (200, "application/octet-stream", allocated(1000 + 10 * before))
    }));
    let services = Services::default();
    let mut sum = 0;
    for _ in 0..3 {
        let receiver = at(only("memory"), service.address);
        let receiver = receiver.build(&Setup::new("pprof", services.clone())).unwrap();
        let (out, mut batches) = Sender::detached(100);
        let (stopper, life) = Lifecycle::new();
        let running = tokio::spawn(receiver.run(out, life));
        let mut taken = 0;
        while taken < 2 {
            let batch = next(&mut batches).await;
            sum += weight(&batch);
            taken += 1;
        }
        stopper.stop(Duration::from_secs(5));
        running.await.unwrap().unwrap();
        while let Some(batch) = batches.recv().await {
            sum += weight(&batch);
        }
    }
    // An answer that was on its way when a receiver ended is told with the next one.
    let asked = asked.load(Ordering::SeqCst) as i64;
    assert!(sum >= 60 && (sum == 10 * (asked - 1) || sum == 10 * (asked - 2)), "{sum} of {asked}");
}

fn weight(batch: &Batch) -> i64 {
    let profiles = batch.shared().unwrap();
    profiles.iter().flat_map(|(_, _, profile)| profile.samples.iter()).map(|it| it.weight()).sum()
}

/// Scenario: a proxy between packs the answer, a profile that is packed already, once and twice; or says
/// that it did something that is not known.
/// Guarantees: the profile arrives; the last is an error that names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_that_a_proxy_packed() {
    let kinds: [&'static str; 4] = [
        "application/octet-stream\r\ncontent-encoding: gzip",
        "application/octet-stream\r\ncontent-encoding: gzip, gzip",
        "application/octet-stream\r\ncontent-encoding: identity",
        "application/octet-stream\r\ncontent-encoding: br",
    ];
    let service = serve(Arc::new(move |path| {
        let at: usize = path.trim_start_matches('/').parse().unwrap();
        let gzip = profpipe_network::settings::Compression::Gzip;
        let pack = |body: Vec<u8>, _| {
            profpipe_network::client::compress(&body.into(), gzip, 1).unwrap().to_vec()
        };
        (200, kinds[at], (0..[1, 2, 0, 0][at]).fold(profile(), pack))
    }));
    let config = at(only("goroutine"), service.address);
    let fetcher = Fetcher::new(&config, &Setup::new("pprof", Services::default())).unwrap();
    for at in 0..4 {
        let url = format!("http://{}/{at}", service.address);
        let got = fetcher.get(&url, Source::Local, Duration::from_secs(30), 1 << 20).await;
        match got {
            Ok(response) => assert_eq!(pprof::decode(&response.body).unwrap().sample_count(), 2),
            Err(error) => {
                assert_eq!(at, 3);
                assert_eq!(error.chain(), "the response has the content coding `br`");
            }
        }
    }
}

/// Scenario: an HTTP service that tells a target on this host, and one elsewhere.
/// Guarantees: it is asked; what it tells is never this host, which it might want to reach through us.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn targets_told_over_the_network() {
    let inner = serve(Arc::new(|_| (200, "application/octet-stream", profile())));
    let target = inner.address;
    let teller = serve(Arc::new(move |_| {
        (200, "application/json", format!(r#"[{{"targets": ["{target}"]}}]"#).into_bytes())
    }));
    let mut config = only("goroutine");
    config.http_sd_configs =
        vec![HttpConfig { url: format!("http://{}/sd", teller.address), ..HttpConfig::default() }];
    let services = Services::default();
    let (_batches, _stopper) = start(config, &services);
    let failed = || services.metrics.total("profpipe_pprof_scrapes_failed_total");
    let refused = async {
        while failed() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    assert_eq!(teller.asked.lock().unwrap()[0], "/sd");
    assert!(inner.asked.lock().unwrap().is_empty());
}

/// A name server that says something else the second time.
struct Turncoat(AtomicUsize);

impl Resolver for Turncoat {
    fn resolve(
        &self,
        _: String,
        port: u16,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>> {
        let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        let address: IpAddr = if first { [203, 0, 113, 1] } else { [169, 254, 169, 254] }.into();
        Box::pin(async move { Ok(vec![SocketAddr::new(address, port)]) })
    }
}

/// Scenario: a name that stands for another address when it is looked up again (DNS rebinding).
/// Guarantees: what is connected to is what was checked: the metadata service is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn names_that_change_their_mind() {
    let turncoat = Arc::new(Turncoat(AtomicUsize::new(1)));
    let setup = Setup::new("pprof", Services::default());
    let fetcher = Fetcher::with_resolver(&Config::default(), &setup, Some(turncoat)).unwrap();
    let limit = Duration::from_secs(5);
    let answer = fetcher.get("http://shop.example:80/x", Source::Local, limit, 1000).await;
    let error = answer.err().unwrap().chain();
    assert!(error.contains("169.254.169.254"), "{error}");
    let decimal = fetcher.get("http://2852039166/x", Source::Local, limit, 1000).await;
    assert!(decimal.is_err());
}
