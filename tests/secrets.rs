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

/// In every secret.
const CANARY: &str = "canary";

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
    let first = match requests.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => "403 Forbidden\r\n".to_owned(),
        1 => format!("302 Found\r\nlocation: {to}\r\n"),
        2 => "400 Bad Request\r\ncontent-type: text/plain\r\n".to_owned(),
        _ => "503 Unavailable\r\n".to_owned(),
    };
    let text = head.replace("\r\n", " ");
    let answer = format!("HTTP/1.1 {first}content-length: {}\r\n\r\n{text}", text.len());
    // A client may have gone.
    let _ = reader.get_mut().write_all(answer.as_bytes());
}

/// Ends the process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn config(to: SocketAddr, proxy: SocketAddr, port: u16, home: &Path) -> String {
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
  otlp_http: {{endpoint: 'http://{to}', headers: {{x-key: {c}-export}}, auth: {{authenticator: bearertokenauth}}}}
  otlp_http/file: {{endpoint: 'http://{to}', auth: {{authenticator: bearertokenauth/file}}}}
  otlp_http/proxied: {{endpoint: 'http://{to}', proxy_url: 'http://u:{c}-through@{proxy}'}}
  otlp_grpc: {{endpoint: 'http://{to}', headers: {{x-key: {c}-grpc}}}}
  pyroscope: {{endpoint: 'http://{to}', auth: {{authenticator: basicauth}}}}
service:
  extensions: [bearertokenauth, bearertokenauth/file, basicauth]
  telemetry:
    logs: {{level: debug}}
    metrics:
      readers: [{{periodic: {{interval: 200, exporter: {{otlp: {{protocol: http/protobuf, endpoint: 'http://{to}', headers: {{x-key: {c}-metrics}}}}}}}}}}]
  pipelines:
    profiles:
      receivers: [otlp, pprof, pprof/proxied]
      exporters: [otlp_http, otlp_http/file, otlp_http/proxied, otlp_grpc, pyroscope]
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
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = home.path().join("c.yaml");
    std::fs::write(&file, config(parrot.address, proxy.address, port, home.path())).unwrap();
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
    let _waiting: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
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
    for what in ["403", "redirects", "503", "400"] {
        wait(what, &|| said().contains(what));
    }
    drop(running);
    let said = said();
    for secret in [CANARY, "dXNlcjpjYW5hcn", "bWU6Y2FuYXJ5", "dTpjYW5hcn"] {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
    assert!(said.contains("DEBUG"), "the log is not at debug:\n{said}");
    assert_eq!(std::fs::read_to_string(home.path().join("out")).unwrap(), "");
}
