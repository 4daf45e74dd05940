//! `profpipe ui` through the real binary: its address, who gets in, what every path answers, on files of
//! every kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const GO_CPU: &[u8] = include_bytes!("../pipeline/formats/tests/data/go-cpu.pb.gz");
const GO_HEAP: &[u8] = include_bytes!("../pipeline/formats/tests/data/go-heap.pb.gz");
/// Names that try to be something else.
const HOSTILE: &str = "<script>alert(1)</script>;\"};</textarea><img src=x onerror=a>;../../etc/passwd 7\n\
                       main;a\\\"b;\u{202e}x 5\nmain 1\n";

/// A running server, ended on drop.
struct Ui {
    child: Child,
    /// Its address, without the token.
    host: String,
    token: String,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Ui {
    fn start(arguments: &[&Path]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .arg("ui")
            .args(arguments)
            .arg("--no-open")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_suffix('\n').expect("a line with the address");
        let rest = address.strip_prefix("http://127.0.0.1:").expect(address);
        let (port, token) = rest.split_once('/').expect(address);
        assert_eq!(token.len(), 32, "{address}");
        Self { child, host: format!("127.0.0.1:{port}"), token: token.to_owned() }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if headers.iter().all(|(name, _)| *name != "host") {
            head.push_str(&format!("host: {}\r\n", self.host));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        Answer {
            status,
            headers: lines.filter_map(header).collect(),
            body: answer[end + 4..].to_vec(),
        }
    }

    /// Gets what is below the token.
    fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("/{}/{path}", self.token), &[], b"")
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{path}: {text}");
        answer.json()
    }

    fn ended(mut self) -> std::process::ExitStatus {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn top(file: &Path, kind: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["top", "--format", "json", "-n", "100000", "--type", kind])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Scenario: requests with the right and with a wrong token, for this host and for another, from a page of
/// another site; of the page and what belongs to it.
/// Guarantees: only the first gets in; every answer has the policy; Ctrl-C ends the program without an error.
#[test]
fn only_those_who_know_the_address_get_in() {
    let files = directory(&[("cpu.pb.gz", GO_CPU)]);
    let ui = Ui::start(&[&files.path().join("cpu.pb.gz")]);
    let own = format!("/{}/api/session", ui.token);
    let port = ui.host.rsplit(':').next().unwrap().to_owned();
    for (path, headers, status) in [
        (own.as_str(), vec![], 200),
        ("/", vec![], 404),
        ("/api/session", vec![], 404),
        (&*format!("/{}/api/session", "0".repeat(32)), vec![], 404),
        (&own, vec![("host", "evil.test")], 403),
        (&own, vec![("host", "127.0.0.1.evil.test")], 403),
        (&own, vec![("host", &*format!("localhost:{port}"))], 200),
        (&own, vec![("origin", "http://evil.test")], 403),
        (&*format!("/{}//api//session", ui.token), vec![], 404),
        (&*format!("/{}//api/session", ui.token), vec![], 200),
        (&*format!("/{}/nothing", ui.token), vec![], 404),
        (&*format!("/{}", ui.token), vec![], 308),
    ] {
        let answer = ui.send("GET", path, &headers, b"");
        assert_eq!(answer.status, status, "{path} {headers:?}");
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'")
                && policy.contains("frame-ancestors 'none'")
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    for (path, kind) in [("", "text/html"), ("app.js", "text/javascript"), ("app.css", "text/css")]
    {
        let answer = ui.get(path);
        assert_eq!(answer.status, 200);
        assert!(answer.headers["content-type"].starts_with(kind), "{path}");
    }
    assert_eq!(ui.send("POST", &own, &[], b"").status, 405);
    assert_eq!(ui.get("ready").body, b"ready");
    assert!(ui.ended().success());
}

/// Scenario: an answer that is asked for again with its tag; clients that take gzip, zstd, or neither.
/// Guarantees: nothing is sent again; bodies are compressed as asked, and are the same.
#[test]
fn answers_are_compressed_and_tagged() {
    let files = directory(&[("cpu.pb.gz", GO_CPU)]);
    let ui = Ui::start(&[&files.path().join("cpu.pb.gz")]);
    let path = format!("/{}/api/functions?limit=100", ui.token);
    let plain = ui.send("GET", &path, &[], b"");
    assert!(!plain.headers.contains_key("content-encoding"));
    let gzip = ui.send("GET", &path, &[("accept-encoding", "gzip, br")], b"");
    assert_eq!(gzip.headers["content-encoding"], "gzip");
    let mut decompressed = Vec::new();
    flate2::read::GzDecoder::new(gzip.body.as_slice()).read_to_end(&mut decompressed).unwrap();
    assert_eq!(decompressed, plain.body);
    let zstd = ui.send("GET", &path, &[("accept-encoding", "gzip, zstd;q=0.5")], b"");
    assert_eq!(zstd.headers["content-encoding"], "zstd");
    let none = ui.send("GET", &path, &[("accept-encoding", "gzip;q=0, br")], b"");
    assert!(!none.headers.contains_key("content-encoding"));
    let tag = &plain.headers["etag"];
    let again = ui.send("GET", &path, &[("if-none-match", tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(ui.send("GET", &path, &[("if-none-match", "\"x\"")], b"").status, 200);
}

/// Scenario: a CPU profile and a heap profile of Go, every path of the API, every sample type.
/// Guarantees: totals and functions are those of `profpipe top`; every sum holds; downloads can be read again.
#[test]
fn every_path_answers_with_the_same_sums() {
    let files = directory(&[("cpu.pb.gz", GO_CPU), ("heap.pb.gz", GO_HEAP)]);
    for name in ["cpu.pb.gz", "heap.pb.gz"] {
        let file = files.path().join(name);
        let ui = Ui::start(&[&file]);
        let session = ui.json("api/session");
        assert_eq!(session["title"], name);
        for one in session["types"].as_array().unwrap() {
            let id = one["id"].as_str().unwrap();
            let kind = id.split(':').nth(1).unwrap();
            let top = top(&file, kind);
            let of = format!("type={id}");
            let functions = ui.json(&format!("api/functions?{of}&limit=5000"));
            assert_eq!(functions["total"], top["total"], "{id}");
            assert_eq!(one["total"], top["total"], "{id}");
            assert_eq!(functions["unit"], top["unit"], "{id}");
            let costs = |rows: &Value| -> BTreeMap<(String, String), (i64, i64)> {
                let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
                let number = |row: &Value, key: &str| row[key].as_i64().unwrap();
                let rows = rows.as_array().unwrap().iter();
                rows.map(|row| {
                    (
                        (text(row, "name"), text(row, "module")),
                        (number(row, "self"), number(row, "total")),
                    )
                })
                .collect()
            };
            assert_eq!(costs(&functions["rows"]), costs(&top["functions"]), "{id}");
            let tree = ui.json(&format!("api/tree?{of}&nodes=50"));
            let total = &tree["nodes"]["total"][0];
            assert_eq!(total, &top["total"], "{id}");
            let own = tree["nodes"]["self"].as_array().unwrap().iter();
            assert_eq!(
                own.map(|it| it.as_i64().unwrap()).sum::<i64>(),
                top["total"].as_i64().unwrap()
            );
            let series = ui.json(&format!("api/series?{of}&points=7"));
            let sum: f64 = series["rows"][0]["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_f64().unwrap())
                .sum();
            assert!((sum - top["total"].as_f64().unwrap()).abs() < 10.0, "{id}: {sum}");
            if let Some(first) = top["functions"].as_array().unwrap().first() {
                let name = first["name"].as_str().unwrap();
                let query: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let sandwich = ui.json(&format!("api/sandwich?{of}&function={query}"));
                assert_eq!(
                    sandwich["function_total"], sandwich["callers"]["nodes"]["total"][0],
                    "{id}"
                );
                assert_eq!(
                    sandwich["function_total"], sandwich["callees"]["nodes"]["total"][0],
                    "{id}"
                );
                let search = ui.json(&format!("api/search?{of}&term={query}"));
                assert!(search["total"].as_i64() >= sandwich["function_total"].as_i64(), "{id}");
                let source = ui.json(&format!("api/source?{of}&function={query}"));
                assert_eq!(source["functions"][0]["name"], name, "{id}");
            }
            let diff = ui.json(&format!("api/diff?{of}"));
            assert_eq!(
                (&diff["base"]["total"], &diff["decidable"]),
                (&top["total"], &Value::Bool(false))
            );
            assert!(ui.json(&format!("api/labels?{of}"))["labels"].is_array());
            assert!(ui.json(&format!("api/threads?{of}"))["rows"].is_array());
            for format in session["formats"].as_array().unwrap().iter().filter_map(Value::as_str) {
                let answer = ui.get(&format!("api/download?{of}&format={format}"));
                assert_eq!(answer.status, 200, "{format} of {id}");
                if format == "svg" {
                    continue;
                }
                let again = files.path().join(format!("again.{format}"));
                std::fs::write(&again, &answer.body).unwrap();
                assert_eq!(self::top(&again, "0")["total"], top["total"], "{format} of {id}");
            }
            let pprof = ui.get(&format!("api/pprof?query={id}%7B%7D"));
            assert_eq!(pprof.status, 200, "{id}");
        }
    }
}

/// Scenario: names that try to be markup, paths, or steer a terminal.
/// Guarantees: they come back as they are, in JSON, and nothing of them is in the page.
#[test]
fn hostile_names_stay_data() {
    let files = directory(&[("x.folded", HOSTILE.as_bytes())]);
    let ui = Ui::start(&[&files.path().join("x.folded")]);
    let functions = ui.json("api/functions");
    let names: Vec<&str> = functions["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"<script>alert(1)</script>") && names.contains(&"\u{202e}x"),
        "{names:?}"
    );
    let page = String::from_utf8(ui.get("").body).unwrap();
    assert!(!page.contains("alert"));
    let script: String =
        "<script>alert(1)</script>".bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(ui.json(&format!("api/sandwich?function={script}"))["function_total"], 7);
    let source = ui.json("api/source?function=../../etc/passwd");
    assert_eq!(source["functions"][0]["found"], false);
}

/// Scenario: query strings that make no sense, on every path.
/// Guarantees: 4xx with a code and a message of one line; the server goes on.
#[test]
fn hostile_queries_are_rejected() {
    let files = directory(&[("x.folded", HOSTILE.as_bytes())]);
    let ui = Ui::start(&[&files.path().join("x.folded")]);
    let paths = [
        "session",
        "labels",
        "tree",
        "functions",
        "search",
        "sandwich",
        "series",
        "threads",
        "diff",
        "source",
        "download",
        "pprof",
    ];
    let long = format!("focus={}", "(a{1000}){1000}".repeat(3));
    for path in paths {
        for query in [
            "type=x",
            "type=a:b:c:d:e",
            "query=%7B",
            "query=%7Ba=~%22(%22%7D",
            "from=x",
            "from=99999999999999999999",
            "focus=(",
            "hide=%5B",
            "fold=x",
            "files=9",
            "files=x",
            "%ff=%ff",
            "nodes=x&points=x&limit=x&term=/(/&sort=x&function=&by=x&format=x&base_query=%7B&query=%7B",
            long.as_str(),
            "root=zz&from=-",
            "files=4294967296",
        ] {
            let answer = ui.get(&format!("api/{path}?{query}"));
            let is_ignored = path == "session" && query != "%ff=%ff";
            if is_ignored {
                continue;
            }
            assert!((400..500).contains(&answer.status), "{path}?{query}: {}", answer.status);
            let error = answer.json();
            assert!(error["code"].is_string(), "{path}?{query}");
            assert!(!error["message"].as_str().unwrap().contains('\n'), "{path}?{query}");
        }
    }
    for query in [
        "nodes=0",
        "nodes=4000000000",
        "width=4294967295",
        "points=0",
        "points=1000000&limit=1000000",
        "limit=0&offset=99999999999",
    ] {
        for path in ["tree", "functions", "series", "threads"] {
            assert_eq!(ui.get(&format!("api/{path}?{query}")).status, 200, "{path}?{query}");
        }
    }
    assert_eq!(ui.json("api/session")["source"], "files");
}

/// Scenario: a directory with profiles and other files; two files by name.
/// Guarantees: what is not a profile is left out and named; files are told apart.
#[test]
fn directories_are_shown() {
    let files = directory(&[
        ("a.folded", b"main;x 3\n"),
        ("b.folded", b"main;y 4\n"),
        ("notes.svg", b"<svg/>"),
        (".hidden", b"main 9\n"),
    ]);
    let ui = Ui::start(&[files.path()]);
    let session = ui.json("api/session");
    assert_eq!(session["files"].as_array().unwrap().len(), 2, "{session}");
    assert_eq!(ui.json("api/tree")["total"], 7);
    assert_eq!(ui.json("api/tree?files=1")["total"], 4);
    assert_eq!(ui.json("api/series?by=file")["rows"].as_array().unwrap().len(), 2);
    // The times of files are those of profiles without one.
    assert!(session["from"].as_i64().unwrap() > 1_000_000_000_000);
    let diff = ui.json("api/diff?base_files=0&files=1");
    assert_eq!((&diff["base"]["total"], &diff["new"]["total"]), (&Value::from(3), &Value::from(4)));
}

/// Scenario: addresses of the network, what is no address, no file, no profile.
/// Guarantees: one line that says what is wrong, with the exit code of wrong usage where it is that.
#[test]
fn mistakes_are_named() {
    let files = directory(&[("x.folded", HOSTILE.as_bytes()), ("empty", b"")]);
    let file = files.path().join("x.folded");
    let file = file.to_str().unwrap();
    let (empty, none) = (files.path().join("empty"), files.path().join("none"));
    for (arguments, code, says) in [
        (vec![file, "--listen", "0.0.0.0:0"], 2, "ssh -L"),
        (vec![file, "--listen", "[::]:0"], 2, "ssh -L"),
        (vec![file, "--listen", "x"], 2, "not an address"),
        (vec![empty.to_str().unwrap()], 1, "empty"),
        (vec![none.to_str().unwrap()], 1, "cannot read"),
        (vec!["-", "-"], 2, "only once"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .arg("ui")
            .args(&arguments)
            .arg("--no-open")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(says), "{arguments:?}: {stderr}");
    }
}
