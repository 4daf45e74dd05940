//! Symbols at the gateway, with the real server: elfutils' `debuginfod`.
//!
//! An agent samples stripped programs into two pipelines, one with names and one without. What has
//! none goes through a gateway that knows nothing but the address of a debuginfod server. Both must
//! come out the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says when it is skipped"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use profpipe::{Profiles, otlp};
use rustix::process::{Pid, Signal, kill_process};

/// A child, killed if the test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `profpipe run`; none if it ends before it runs, with what it said.
fn start(directory: &Path, config: &str) -> Result<(Running, BufReader<ChildStderr>), String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
        .args(["run", "--config", config])
        .env_clear()
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C stops") {
        if stderr.read_line(&mut said).unwrap() == 0 {
            return Err(said);
        }
    }
    Ok((child, stderr))
}

fn stop((mut child, mut stderr): (Running, BufReader<ChildStderr>)) {
    let process = Pid::from_raw(i32::try_from(child.0.id()).unwrap()).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert!(child.0.wait().unwrap().success(), "{said}");
}

/// Runs a tool; false if it is not there.
fn run(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            profpipe_testing::skip!("{:?}: {error}", command.get_program())
        }
    }
}

const C_SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static unsigned state = 1;
static inline __attribute__((always_inline)) unsigned draw(void) {
    return state = state * 1664525u + 1013904223u;
}
static int compare(const void *one, const void *other) {
    unsigned a = *(const unsigned *)one, b = *(const unsigned *)other;
    return a < b ? -1 : a > b;
}
__attribute__((noinline)) static unsigned sort_some(unsigned *table, unsigned size) {
    for (unsigned i = 0; i < size; i++)
        table[i] = draw();
    qsort(table, size, sizeof *table, compare);
    return table[size / 2];
}
int main(void) {
    static unsigned table[4096];
    unsigned sum = 0;
    for (time_t end = time(NULL) + 4; time(NULL) < end;)
        sum += sort_some(table, 4096);
    printf("%u\n", sum);
}
"#;

const GO_SOURCE: &str = r#"package main

import (
	"fmt"
	"sort"
	"time"
)

type table []uint32

func (t table) fill(seed uint32) uint32 {
	for i := range t {
		seed = next(seed)
		t[i] = seed
	}
	return seed
}

func next(seed uint32) uint32 { return seed*1664525 + 1013904223 }

func main() {
	t := make(table, 4096)
	seed := uint32(1)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		seed = t.fill(seed)
		sort.Slice(t, func(i, j int) bool { return t[i] < t[j] })
	}
	fmt.Println(seed)
}
"#;

/// Programs as they are deployed, in `run`, and their debug files as `debug/.build-id` has them.
fn programs(place: &Path) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    let (run_in, build) = (place.join("run"), place.join("build"));
    for directory in [&run_in, &build] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::write(build.join("sorter.c"), C_SOURCE).unwrap();
    for (name, pack) in [("sorter", "none"), ("packed", "zstd")] {
        let (whole, program) = (build.join(name), run_in.join(name));
        // Another name is another program, with another build id.
        let define = format!("-DNAME={name}");
        let id = format!("-Wl,--build-id=0x{}", format!("{:02x}", name.len()).repeat(20));
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-g", &define, &id, "-o"]).arg(&whole).arg(build.join("sorter.c"));
        if !run(&mut compiler) {
            continue;
        }
        let id = build_id(&whole);
        let debug = place.join(format!("debug/.build-id/{}", &id[..2]));
        std::fs::create_dir_all(&debug).unwrap();
        let debug = debug.join(format!("{}.debug", &id[2..]));
        let mut split = Command::new("objcopy");
        split.arg("--only-keep-debug").arg(format!("--compress-debug-sections={pack}"));
        run(split.args([&whole, &debug]));
        run(Command::new("strip").arg("-o").args([&program, &whole]));
        programs.push(program);
    }
    std::fs::write(build.join("go.mod"), "module gopher\n\ngo 1.20\n").unwrap();
    std::fs::write(build.join("main.go"), GO_SOURCE).unwrap();
    let program = run_in.join("gopher");
    let mut go = Command::new("go");
    go.current_dir(&build).env("CGO_ENABLED", "0").args(["build", "-ldflags=-s -w -B=gobuildid"]);
    if run(go.arg("-o").arg(&program).arg(".")) {
        programs.push(program);
    }
    programs
}

/// The build id, as `readelf` tells it.
fn build_id(file: &Path) -> String {
    let output = Command::new("readelf").arg("-n").arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    line.unwrap_or_else(|| panic!("{} has no build id", file.display())).to_owned()
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a request; the first line of the answer.
fn ask(to: SocketAddr, head: &str, body: &[u8]) -> String {
    let Ok(mut stream) = TcpStream::connect(to) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
         application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut line = String::new();
    if stream.write_all(&[head.as_bytes(), body].concat()).is_ok() {
        // No answer is an empty line.
        let _ = BufReader::new(stream).read_line(&mut line);
    }
    line
}

/// The OTLP files of a directory, and what is in them.
fn read(directory: &Path) -> Vec<(Vec<u8>, Profiles)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        // What is still being written has another name.
        if path.extension().is_none_or(|extension| extension != "otlp") {
            continue;
        }
        let Ok(bytes) = std::fs::read(path) else { continue };
        let profiles = otlp::decode(&bytes).unwrap();
        files.push((bytes, profiles));
    }
    files
}

/// Module, build id and address.
type Place = (String, String, u64);
/// Function, name in the binary, file, line, column; or why there is none.
type Names = Vec<(String, String, String, i64, i64)>;

/// The reason of what came too late: the agent has little time for names when it is stopped.
const TIMEOUT: &str = "timeout";

/// What addresses are called in the modules that have a build id.
fn names(files: &[(Vec<u8>, Profiles)]) -> BTreeMap<Place, (Names, String)> {
    let mut found = BTreeMap::new();
    for (_, profiles) in files {
        let dictionary = &profiles.dictionary;
        let text = |row| dictionary.strings.get(row).to_owned();
        let attribute = |rows: &[_], name: &str| {
            let mut rows = rows.iter();
            let row = rows.find(|row| text(dictionary.attributes.key(**row)) == name)?;
            dictionary.attributes.value(*row).as_str().map(str::to_owned)
        };
        for location in dictionary.locations.iter().skip(1) {
            let mapping = dictionary.mappings.get(location.mapping);
            let module = text(mapping.filename);
            let build_id = attribute(mapping.attributes, "process.executable.build_id.gnu");
            let Some(build_id) = build_id.filter(|_| module.starts_with('/')) else { continue };
            let lines = location.lines.iter().map(|line| {
                let function = dictionary.functions.get(line.function);
                let (name, system_name) = (text(function.name), text(function.system_name));
                (name, system_name, text(function.filename), line.line, line.column)
            });
            let reason = attribute(location.attributes, "profpipe.unsymbolized.reason");
            let place = (module, build_id, location.address);
            let new: (Names, String) = (lines.collect(), reason.unwrap_or_default());
            // What came too late for one batch is in another.
            let known = found.entry(place).or_insert_with(|| new.clone());
            if known.1 == TIMEOUT {
                *known = new;
            }
        }
    }
    found
}

/// How many places of each module have lines.
fn with_lines(names: &BTreeMap<Place, (Names, String)>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for ((module, _, _), (frames, _)) in names {
        if frames.iter().any(|frame| frame.3 > 0) {
            *found.entry(module.clone()).or_default() += 1;
        }
    }
    found
}

/// Places of each program with lines that there should be.
const ENOUGH: usize = 5;

/// Scenario: C programs split as distributions do it (debug sections plain and zstd) and a stripped
/// Go program are sampled by an agent, with names and without; what has none goes through a gateway
/// with nothing but a debuginfod server that has these programs, their debug files and libraries.
/// Guarantees: the same functions, inlined ones too, files, lines and columns at every address; and
/// names from every program.
#[test]
fn a_gateway_names_what_the_host_names() {
    if Command::new("debuginfod").arg("--version").output().is_err() {
        profpipe_testing::skip!("debuginfod is not installed: see .ci/run");
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let programs = programs(place);
    assert!(!profpipe_testing::is_ci() || programs.len() == 3, "{programs:?}");

    // They start when the shell is told to, and it waits to be told to end.
    let script = "read begin; for it in run/*; do $it > /dev/null & done; wait; echo; read end";
    let mut shell = Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let debug = place.join("debug");
    let config = format!(
        "receivers: {{perf: {{interval: 1s, frequency: 499, scope: {{pid: {}}}}}}}\n\
         processors: {{symbolize: {{timeout: 60s, debug_directories: ['{}']}}}}\n\
         exporters: {{file/named: {{path: named, format: otlp}}, file/raw: {{path: raw, format: otlp}}}}\n\
         service: {{pipelines: {{profiles/named: {{receivers: [perf], processors: [symbolize], \
         exporters: [file/named]}}, profiles/raw: {{receivers: [perf], exporters: [file/raw]}}}}}}\n",
        shell.0.id(),
        debug.display()
    );
    std::fs::write(place.join("agent.yaml"), config).unwrap();
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let agent = start(place, "agent.yaml").unwrap();
    let mut tell = shell.0.stdin.take().unwrap();
    tell.write_all(b"begin\n").unwrap();
    let mut done = String::new();
    BufReader::new(shell.0.stdout.take().unwrap()).read_line(&mut done).unwrap();
    // On a busy host names take their time, and an agent that is stopped does not wait for them.
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let named = with_lines(&names(&read(&place.join("named"))));
        if programs.iter().all(|it| named.get(it.to_str().unwrap()).is_some_and(|it| *it >= ENOUGH))
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    stop(agent);

    // Everything that was sampled is on the server, as it is here.
    let raw = read(&place.join("raw"));
    let wanted: BTreeMap<(String, String), ()> =
        names(&raw).into_keys().map(|(module, build_id, _)| ((module, build_id), ())).collect();
    let served = place.join("served");
    std::fs::create_dir(&served).unwrap();
    let mut ids = Vec::new();
    for (number, (module, id)) in wanted.into_keys().enumerate() {
        // What has been replaced since cannot be served; neither can what is not a file any more.
        let module = Path::new(&module);
        if module.is_file() && build_id(module) == id {
            std::fs::copy(module, served.join(number.to_string())).unwrap();
            ids.push(id);
        }
    }
    let server = free_address();
    let _server = Command::new("debuginfod")
        .args(["-F", "-d", ":memory:", "-p", &server.port().to_string()])
        .args([&served, &debug])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    for id in &ids {
        while !ask(server, &format!("GET /buildid/{id}/executable"), b"").contains(" 200 ") {
            assert!(Instant::now() < deadline, "debuginfod does not have {id}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    let otlp_http = free_address();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{otlp_http}'}}}}}}}}\n\
         processors: {{symbolize: {{timeout: 100s, debug_directories: [], debuginfod: {{urls: \
         ['http://{server}']}}, cache: {{directory: '{}'}}}}}}\n\
         exporters: {{file: {{path: gateway, format: otlp}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [otlp], processors: [symbolize], exporters: \
         [file]}}}}}}\n",
        place.join("cache").display()
    );
    std::fs::write(place.join("gateway.yaml"), config).unwrap();
    let gateway = start(place, "gateway.yaml").unwrap_or_else(|said| panic!("{said}"));
    for (bytes, _) in &raw {
        let answer = ask(otlp_http, "POST /v1development/profiles", bytes);
        assert!(answer.contains(" 200 "), "{answer}");
    }
    stop(gateway);

    let host = names(&read(&place.join("named")));
    let gateway = names(&read(&place.join("gateway")));
    let (mut same, mut inlined) = (0, 0);
    for ((module, id, address), (frames, reason)) in &host {
        if !ids.contains(id) || reason == TIMEOUT {
            continue;
        }
        // The two pipelines end their windows with the same samples.
        let (got, why) = &gateway[&(module.clone(), id.clone(), *address)];
        assert_eq!(frames, got, "{module} at {address:#x}: {reason} here, {why} there");
        same += 1;
        inlined += usize::from(frames.len() > 1);
    }
    let named = with_lines(&host);
    for program in &programs {
        let count = named.get(program.to_str().unwrap()).copied().unwrap_or(0);
        assert!(count >= ENOUGH, "{} places of {} have lines", count, program.display());
    }
    assert!(inlined > 0, "nothing was inlined");
    let modules = ids.len();
    eprintln!("{same} places of {modules} modules are called the same, {inlined} inlined");
}

/// Scenario: credentials from an extension that is not there, and a cache directory that others may
/// write into. Guarantees: the first is told before anything runs, the second when it starts.
#[test]
fn mistakes_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let config = |more: &str| {
        format!(
            "receivers: {{nop: }}\nexporters: {{nop: }}\nprocessors:\n  symbolize:\n    debuginfod: \
             {{urls: 'http://127.0.0.1:9'{more}}}\n    cache: {{directory: '{}'}}\n\
             service: {{pipelines: {{profiles: {{receivers: [nop], processors: [symbolize], \
             exporters: [nop]}}}}}}\n",
            open.display()
        )
    };
    let text = config(", auth: {authenticator: keys}");
    let errors = profpipe::Engine::builder().config_named("c.yaml", text).plan().unwrap_err();
    let expected = "c.yaml:5:68: processors::symbolize::debuginfod::auth::authenticator: `keys` is not \
                    defined under `extensions`";
    assert_eq!(errors.to_string(), expected);

    std::fs::write(directory.path().join("c.yaml"), config("")).unwrap();
    let said = start(directory.path(), "c.yaml").map(drop).unwrap_err();
    let expected = "other users may write into it; make it private (0700)\n";
    assert!(said.ends_with(expected) && said.lines().count() == 1, "{said}");
}
