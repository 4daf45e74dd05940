//! Secrets in what the program says: none, wherever they are in a configuration.
//!
//! A configuration full of secrets, each with the same word in it, meets servers that repeat what they
//! are told, redirect, break off and are not there. The word is looked for in everything that the program
//! prints, at its most talkative.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use profpipe::pipeline::budget::Budget;
use profpipe_network::grpc::Code;
use profpipe_network::server::{Handler, Rejection, Reply, Request, Router, Server};
use profpipe_network::server_config;
use prost::Message as _;

/// In every secret.
const CANARY: &str = "canary";

const METHOD: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// A server that answers each request with the next of some answers, in which it repeats the request.
struct Parrot {
    address: SocketAddr,
    heard: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
}

impl Parrot {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, requests) = (Arc::<Mutex<String>>::default(), Arc::new(AtomicUsize::new(0)));
        let parrot = Self { address, heard: Arc::clone(&heard), requests: Arc::clone(&requests) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heard, requests) = (Arc::clone(&heard), Arc::clone(&requests));
                std::thread::spawn(move || answer(stream.unwrap(), &heard, &requests));
            }
        });
        parrot
    }
}

fn answer(stream: TcpStream, heard: &Mutex<String>, requests: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {
        let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    heard.lock().unwrap().push_str(&head);
    let to = format!("http://user:{CANARY}-to@elsewhere.test/?x={CANARY}-there");
    let text = head.replace("\r\n", " ");
    let mut said = text.clone().into_bytes();
    // `ExportProfilesServiceResponse`, and `google.rpc.Status`, which is not UTF-8 with its lengths.
    let partial = Partial { rejected: 1, text: text.clone() };
    let status = Status { code: 3, message: format!("{text}{:200}", "") };
    let first = match requests.fetch_add(1, Ordering::SeqCst) % 6 {
        4 => {
            said = Answer { partial: Some(partial) }.encode_to_vec();
            "200 OK\r\ncontent-type: application/x-protobuf\r\n".to_owned()
        }
        5 => {
            said = status.encode_to_vec();
            "400 Bad Request\r\ncontent-type: application/x-protobuf\r\n".to_owned()
        }
        0 => "403 Forbidden\r\n".to_owned(),
        1 => format!("302 Found\r\nlocation: {to}\r\n"),
        2 => "400 Bad Request\r\ncontent-type: text/plain\r\n".to_owned(),
        _ => "503 Unavailable\r\n".to_owned(),
    };
    let answer = format!("HTTP/1.1 {first}content-length: {}\r\n\r\n", said.len());
    // A client may have gone.
    let _ = reader.get_mut().write_all(&[answer.as_bytes(), &said].concat());
}

/// `ExportProfilesServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    text: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

server_config! {
    /// A server with the settings that all have.
    struct Listening: http("127.0.0.1:0") {}
}

/// A server of gRPC that repeats the headers of a call: in statuses and in what is success in part.
struct GrpcParrot(Arc<Mutex<String>>, AtomicUsize);

#[profpipe::async_trait]
impl Handler for GrpcParrot {
    async fn handle(&self, request: Request) -> Result<Reply, Rejection> {
        let text = format!("{:?}", request.head.headers);
        self.0.lock().unwrap().push_str(&text);
        let code = match self.1.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => {
                let partial = Partial { rejected: 1, text: format!("in part: {text}") };
                let answer = Answer { partial: Some(partial) };
                return Ok(Reply::new("application/grpc", answer.encode_to_vec()));
            }
            1 => Code::InvalidArgument,
            _ => Code::PermissionDenied,
        };
        Err(Rejection::new(http::StatusCode::BAD_REQUEST, code, text).of_others())
    }
}

impl GrpcParrot {
    /// Where it is, and what it hears.
    fn start() -> (SocketAddr, Arc<Mutex<String>>) {
        let heard = Arc::<Mutex<String>>::default();
        let parrot = Self(Arc::clone(&heard), AtomicUsize::new(0));
        let (sender, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move {
                let setup = profpipe::Setup::new("parrot", profpipe::Services::default());
                let server = Server::build(Listening::default().server(), &setup).unwrap();
                sender.send(server.address()).unwrap();
                let router = Router::new().grpc(METHOD, Arc::new(parrot));
                let (_stopper, life) = profpipe::Lifecycle::new();
                server.run(router, Budget::new(1 << 30), life).await.unwrap();
            });
        });
        (address.recv().unwrap(), heard)
    }
}

/// Ends the process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn config(to: SocketAddr, grpc: SocketAddr, proxy: SocketAddr, port: u16, home: &Path) -> String {
    let c = CANARY;
    std::fs::write(home.join("token"), format!("{c}-file-token")).unwrap();
    format!(
        "extensions:
  bearertokenauth: {{token: {c}-token}}
  bearertokenauth/file: {{filename: {home}/token}}
  basicauth: {{client_auth: {{username: me, password: {c}-password}}}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}
  pprof:
    scrape_interval: 2s
    http_sd_configs:
    - {{url: 'http://user:{c}-sd@{to}/sd?token={c}-query&flag', refresh_interval: 1s}}
    - {{url: 'http://user:{c}-gone@127.0.0.1:1/sd?{c}-bare', refresh_interval: 1s}}
    params: {{key: [{c}-param]}}
    headers: {{x-key: {c}-header}}
    static_configs: [{{targets: ['{to}', '127.0.0.1:1']}}]
  pprof/proxied:
    scrape_interval: 2s
    proxy_url: 'http://user:{c}-proxy@{proxy}'
    params: {{key: [{c}-proxied]}}
    static_configs: [{{targets: ['127.0.0.1:2']}}]
exporters:
  otlp_http: {{endpoint: 'http://{to}', headers: {{x-key: {c}-export}}, auth: {{authenticator: bearertokenauth}}, retry_on_failure: {{enabled: false}}}}
  otlp_http/file: {{endpoint: 'http://{to}', auth: {{authenticator: bearertokenauth/file}}, retry_on_failure: {{enabled: false}}}}
  otlp_http/proxied: {{endpoint: 'http://{to}', proxy_url: 'http://u:{c}-through@{proxy}', retry_on_failure: {{enabled: false}}}}
  otlp_grpc: {{endpoint: 'http://{to}', headers: {{x-key: {c}-not-grpc}}, retry_on_failure: {{enabled: false}}}}
  otlp_grpc/real: {{endpoint: 'http://{grpc}', headers: {{x-key: {c}-grpc}}, auth: {{authenticator: basicauth}}, retry_on_failure: {{enabled: false}}}}
  pyroscope: {{endpoint: 'http://{to}', auth: {{authenticator: basicauth}}, retry_on_failure: {{enabled: false}}}}
service:
  extensions: [bearertokenauth, bearertokenauth/file, basicauth]
  telemetry:
    logs: {{level: debug}}
    metrics:
      readers: [{{periodic: {{interval: 200, exporter: {{otlp: {{protocol: http/protobuf, endpoint: 'http://{to}', headers: {{x-key: {c}-metrics}}}}}}}}}}]
  pipelines:
    profiles:
      receivers: [otlp, pprof, pprof/proxied]
      exporters: [otlp_http, otlp_http/file, otlp_http/proxied, otlp_grpc, otlp_grpc/real, pyroscope]
",
        home = home.display()
    )
}

/// A small batch, in JSON.
const BATCH: &str = r#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{"sampleType":{"typeStrindex":1,"unitStrindex":2},"samples":[{"stackIndex":0,"values":["1"]}]}]}]}],"dictionary":{"stringTable":["","cpu","nanoseconds"],"stackTable":[{}],"mappingTable":[{}],"locationTable":[{}],"functionTable":[{}],"linkTable":[{}],"attributeTable":[{}]}}"#;

/// Scenario: discovery, scrapes, proxies, redirects, exporters and the push of metrics, all with secrets
/// in addresses, headers and files, against servers that repeat them; the log is at `debug`, and all that
/// shows a configuration is asked for.
/// Guarantees: the servers got the secrets; no line of the program has one.
#[test]
fn no_secret_is_printed() {
    let home = tempfile::tempdir().unwrap();
    let (parrot, proxy) = (Parrot::start(), Parrot::start());
    let (grpc, called) = GrpcParrot::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = home.path().join("c.yaml");
    std::fs::write(&file, config(parrot.address, grpc, proxy.address, port, home.path())).unwrap();
    let file = file.to_str().unwrap();
    for verb in ["validate", "graph"] {
        let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .args([verb, "--config", file])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(output.status.success() && !said.contains(CANARY), "{said}");
    }
    let log = home.path().join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["run", "--config", file])
        // Details of libraries, which are not in the log otherwise.
        .env("PROFPIPE_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(home.path().join("out")).unwrap())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let running = Running(child);
    let said = || std::fs::read_to_string(&log).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < deadline, "waited for {what}:\n{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait("the start", &|| said().contains("Ctrl-C stops"));
    let request = format!(
        "POST /v1development/profiles HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{BATCH}",
        BATCH.len()
    );
    let send = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut waiting: Vec<TcpStream> = (0..6).map(|_| send()).collect();
    // In base64, too: of the logins.
    let told = [
        "canary-query",
        "canary-param",
        "canary-header",
        "canary-export",
        "canary-token",
        "canary-file-token",
        "canary-metrics",
        "Basic dXNlcjpjYW5hcnktc2Q=",
        "Basic bWU6Y2FuYXJ5LXBhc3N3b3Jk",
    ];
    for secret in told {
        wait(secret, &|| parrot.heard.lock().unwrap().contains(secret));
    }
    wait("the proxy", &|| proxy.requests.load(Ordering::SeqCst) > 4);
    wait("every answer", &|| parrot.requests.load(Ordering::SeqCst) > 40);
    // Also by gRPC: rejections, and success in part.
    for what in ["403", "redirects", "503", "400", "INVALID_ARGUMENT", "in part: "] {
        while !said().contains(what) {
            waiting.push(send());
            assert!(Instant::now() < deadline, "waited for {what}:\n{}", said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    assert!(called.lock().unwrap().contains("canary-grpc"), "the server heard no secret");
    drop(running);
    // What senders were told.
    let mut told = String::new();
    for mut stream in waiting {
        // It may have been reset with the process.
        let _ = stream.read_to_string(&mut told);
    }
    assert!(told.contains(" 503 ") || told.contains(" 400 "), "{told}");
    for secret in [CANARY, "bWU6Y2FuYXJ5"] {
        assert!(!told.contains(secret), "{told}");
    }
    let said = said();
    for secret in [CANARY, "dXNlcjpjYW5hcn", "bWU6Y2FuYXJ5", "dTpjYW5hcn"] {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
    assert!(said.contains("DEBUG"), "the log is not at debug:\n{said}");
    assert_eq!(std::fs::read_to_string(home.path().join("out")).unwrap(), "");
}
