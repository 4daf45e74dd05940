//! Symbols that are brought to a gateway: by `profpipe symbols upload`, by agents, by others; what is brought to
//! one gateway names frames at another that shares its directory, for the tenant that brought it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use object::{Object as _, ObjectSymbol as _};
use profpipe::profile::{
    Index as _, LocationRef, MappingRef, Profile, ResourceProfiles, SampleRef, ScopeProfiles,
    StringIx, Value, ValueType,
};
use profpipe::{Profiles, otlp};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running `profpipe run`, killed if the test ends before it.
struct Running(Child, BufReader<ChildStderr>, String);

impl Running {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_profpipe"))
            .arg("run")
            .args(arguments)
            .env_clear()
            .env("XDG_CACHE_HOME", directory.join("cache"))
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self(child, stderr, String::new());
        while !running.2.contains("Ctrl-C stops") {
            assert!(running.1.read_line(&mut running.2).unwrap() > 0, "it ended: {}", running.2);
        }
        running
    }

    /// Ends it; returns everything it said.
    fn end(mut self) -> String {
        let process = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(process, Signal::TERM).unwrap();
        let mut said = std::mem::take(&mut self.2);
        self.1.read_to_string(&mut said).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A gateway that takes profiles and symbols.
struct Gateway {
    running: Running,
    otlp: SocketAddr,
    pyroscope: SocketAddr,
    files: PathBuf,
}

impl Gateway {
    /// With its own files, symbols in `symbols` of `place`, and more settings of the receiver and the storage.
    fn start(place: &Path, name: &str, receiver: &str, storage: &str) -> Self {
        let (otlp, pyroscope) = (free_address(), free_address());
        let config = format!(
            "extensions:\n  symbol_storage: {{directory: '{place}/symbols'{storage}}}\n  \
             bearertokenauth: {{token: s3cret}}\n\
             receivers:\n  otlp: {{protocols: {{http: {{endpoint: '{otlp}', tenant_header: X-Scope-OrgID}}}}}}\n  \
             pyroscope: {{endpoint: '{pyroscope}', tenant_header: X-Scope-OrgID, symbol_storage: symbol_storage{receiver}}}\n\
             processors:\n  symbolize: {{symbol_storage: symbol_storage, debug_directories: [], \
             timeout: 20s, tables: {{directory: '{place}/{name}-tables'}}}}\n\
             exporters:\n  file: {{path: '{name}', format: otlp}}\n\
             service:\n  extensions: [symbol_storage, bearertokenauth]\n  pipelines: {{profiles: \
             {{receivers: [otlp, pyroscope], processors: [symbolize], exporters: [file]}}}}\n",
            place = place.display(),
        );
        let file = place.join(format!("{name}.yaml"));
        std::fs::write(&file, config).unwrap();
        let running = Running::start(place, &["--config", file.to_str().unwrap()]);
        Self { running, otlp, pyroscope, files: place.join(name) }
    }

    /// Sends one profile whose frame is at this address, and returns the frame's name, or why there is none.
    fn name_of(&self, tenant: &str, program: &Program, round: u64) -> String {
        let body = profile(program, round);
        let head = "POST /v1development/profiles";
        let more = format!("content-type: application/x-protobuf\r\nx-scope-orgid: {tenant}\r\n");
        let answer = ask(self.otlp, head, &more, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        eventually("the profile in a file", || {
            for entry in std::fs::read_dir(&self.files).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "otlp") {
                    let found = std::fs::read(&path).ok().and_then(|it| frame(&it, round));
                    if found.is_some() {
                        return found;
                    }
                }
            }
            None
        })
    }
}

/// A small program with a build id, and the address of its function `work_hard`.
struct Program {
    path: PathBuf,
    build_id: String,
    address: u64,
}

impl Program {
    fn build(place: &Path, name: &str) -> Self {
        let (source, path) = (place.join(format!("{name}.c")), place.join(name));
        let text = "#include <stdlib.h>\nvolatile unsigned sum;\n\
                    __attribute__((noinline)) void work_hard(unsigned turns) {\n\
                    \x20   for (unsigned i = 0; i < turns; i++) sum += i * sum;\n}\n\
                    int main(int c, char **v) {\n\
                    \x20   for (;;) work_hard(c > 1 ? atoi(v[1]) : 1000000);\n}\n";
        std::fs::write(&source, text).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-g", "-Wl,--build-id=sha1", &format!("-DNAME={name}"), "-o"]);
        let output = compiler.arg(&path).arg(&source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let build_id = file.build_id().unwrap().unwrap();
        let build_id = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let function = file.symbols().find(|symbol| symbol.name() == Ok("work_hard")).unwrap();
        Self { path, build_id, address: function.address() + 4 }
    }
}

/// One sample of one frame, in OTLP.
fn profile(program: &Program, round: u64) -> Vec<u8> {
    let mut batch = Profiles::new();
    let tables = &mut batch.dictionary;
    let cpu = ValueType {
        kind: tables.strings.intern("cpu"),
        unit: tables.strings.intern("nanoseconds"),
    };
    let key = tables.strings.intern("process.executable.build_id.gnu");
    let id = Value::from(program.build_id.as_str());
    let attributes = [tables.attributes.intern(key, id, StringIx::NONE)];
    let filename = tables.strings.intern("/opt/app");
    let mapping = MappingRef { filename, attributes: &attributes, ..MappingRef::default() };
    let mapping = tables.mappings.intern(mapping);
    let location = LocationRef { mapping, address: program.address, ..LocationRef::default() };
    let location = tables.locations.intern(location);
    let stack = tables.stacks.intern(&[location]);
    let mut profile = Profile {
        sample_type: cpu,
        period_type: cpu,
        period: 1,
        time_unix_nano: 1_700_000_000_000_000_000,
        ..Profile::default()
    };
    let values = [round as i64];
    profile.samples.push(SampleRef { stack, values: &values, ..SampleRef::default() });
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    batch.resources.push(ResourceProfiles { scopes, ..ResourceProfiles::default() });
    otlp::encode(&batch)
}

/// The name of the frame in a file, or why it has none; nothing if the file is of another round.
fn frame(bytes: &[u8], round: u64) -> Option<String> {
    let profiles = otlp::decode(bytes).ok()?;
    let samples = profiles.resources.iter().flat_map(|it| &it.scopes).flat_map(|it| &it.profiles);
    let sum: i64 = samples.flat_map(|it| it.samples.iter()).flat_map(|it| it.values).sum();
    if sum != round as i64 {
        return None;
    }
    let dictionary = &profiles.dictionary;
    let location = dictionary.locations.iter().skip(1).find(|it| it.address != 0)?;
    if let Some(line) = location.lines.first() {
        let name = dictionary.strings.get(dictionary.functions.get(line.function).name);
        return Some(format!("{name}:{}", line.line));
    }
    let mut attributes = location.attributes.iter();
    let reason = attributes.find_map(|row| {
        let key = dictionary.strings.get(dictionary.attributes.key(*row));
        (key == "profpipe.unsymbolized.reason").then(|| dictionary.attributes.value(*row))
    });
    Some(reason.and_then(|reason| reason.as_str()).unwrap_or_default().to_owned())
}

/// Sends a request; all of the answer. Of a body that is cut off only a part is sent.
fn ask(to: SocketAddr, head: &str, more: &str, body: &[u8]) -> String {
    ask_as_long(to, head, more, body, body.len())
}

fn ask_as_long(to: SocketAddr, head: &str, more: &str, body: &[u8], length: usize) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n"
    );
    // A server that has answered already may not read all of it.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    if length > body.len() {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const SERVICE: &str = "POST /debuginfo.v1alpha1.DebuginfoService";

/// Offers a file by Connect in JSON; whether it is wanted.
fn offer(to: SocketAddr, build_id: &str, more: &str) -> bool {
    let body =
        format!("{{\"file\":{{\"gnuBuildId\":\"{build_id}\",\"type\":\"TYPE_EXECUTABLE_FULL\"}}}}");
    let head = format!("{SERVICE}/ShouldInitiateUpload");
    let more = format!("content-type: application/json\r\n{more}");
    let answer = ask(to, &head, &more, body.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.contains("\"shouldInitiateUpload\":true")
}

fn upload(to: SocketAddr, build_id: &str, body: &[u8], length: usize) -> String {
    ask_as_long(to, &format!("{SERVICE}/Upload/{build_id}"), "", body, length)
}

fn profpipe(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_profpipe")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Scenario: two gateways share a directory of symbols. A program that neither has is in profiles of two
/// tenants; one of them uploads it to the first gateway.
/// Guarantees: before, the frame has no name and a reason; after, without a restart, the second gateway names it
/// with its line for the tenant that uploaded it, and not for the other; the file is not taken twice.
#[test]
fn what_is_uploaded_to_one_gateway_names_frames_at_another() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let program = Program::build(place, "app");
    let one = Gateway::start(place, "one", "", "");
    let other = Gateway::start(place, "other", "", "");
    assert_eq!(other.name_of("team-a", &program, 1), "not found");
    let to = format!("http://{}", one.pyroscope);
    let path = program.path.to_str().unwrap();
    let upload = ["symbols", "upload", path, "--to", &to, "--header", "X-Scope-OrgID: team-a"];
    let output = profpipe(&upload);
    assert!(output.status.success() && said(&output).contains("sent"), "{}", said(&output));
    let mut round = 1;
    let named = eventually("a name", || {
        round += 1;
        let name = other.name_of("team-a", &program, round);
        (name != "not found").then_some(name)
    });
    assert!(named.starts_with("work_hard:"), "{named}");
    assert_ne!(named, "work_hard:0");
    assert_eq!(one.name_of("team-a", &program, 1000), named);
    assert_eq!(other.name_of("team-b", &program, 1001), "not found");
    let to = format!("http://{}", other.pyroscope);
    let again = ["symbols", "upload", path, "--to", &to, "--header", "X-Scope-OrgID: team-a"];
    let output = profpipe(&again);
    assert!(output.status.success() && said(&output).contains("already"), "{}", said(&output));
    let symbols = files_below(&place.join("symbols"));
    assert_eq!(symbols.len(), 1, "{symbols:?}");
    one.running.end();
    other.running.end();
}

/// Scenario: many senders offer one file at once to two gateways that share a directory. Then files come that
/// are not what was said, cut off, too large, compressed, not offered, under a path of somebody else's making,
/// twice at once, without credentials.
/// Guarantees: one sender is told to send; each of the others gets an answer that says what is wrong, and nothing
/// of theirs is there afterwards; the right file is taken after all of that.
#[test]
fn hostile_uploads_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let program = Program::build(place, "app");
    let (id, content) = (&*program.build_id, std::fs::read(&program.path).unwrap());
    let limit = format!(", max_file_size: {}", content.len() + 100);
    let one = Gateway::start(place, "one", "", &limit);
    let other = Gateway::start(place, "other", ", auth: {authenticator: bearertokenauth}", &limit);
    let to = one.pyroscope;
    let known = "authorization: Bearer s3cret\r\n";
    let wanted: usize = std::thread::scope(|scope| {
        let ask = |at: u32| {
            let (one, other) = (one.pyroscope, other.pyroscope);
            scope.spawn(move || match at.is_multiple_of(2) {
                true => offer(one, id, ""),
                false => offer(other, id, known),
            })
        };
        let senders: Vec<_> = (0..16).map(ask).collect();
        senders.into_iter().map(|sender| usize::from(sender.join().unwrap())).sum()
    });
    assert_eq!(wanted, 1);

    let mut wrong_id = content.clone();
    let file = object::File::parse(&*content).unwrap();
    let own = file.build_id().unwrap().unwrap();
    let at = wrong_id.windows(own.len()).position(|bytes| bytes == own).unwrap();
    wrong_id[at] ^= 1;
    let is_rejected = |answer: String, status: u16, text: &str| {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text),
            "{answer}"
        );
    };
    let length = content.len();
    is_rejected(upload(to, id, &wrong_id, length), 400, "has the build id");
    assert!(offer(to, id, ""), "who failed does not keep others away");
    is_rejected(upload(to, id, b"\x7fELF", 4), 400, "not a whole ELF file");
    assert!(offer(to, id, ""));
    is_rejected(upload(to, id, &content[..length / 2], length / 2), 400, "not a whole ELF file");
    assert!(offer(to, id, ""));
    // It breaks off: there may be nobody left to answer to.
    upload(to, id, &content[..length / 2], length);
    eventually("the file to be given up", || offer(to, id, "").then_some(()));
    is_rejected(upload(to, id, &[0; 1000], length + 200), 413, "larger than");
    let unlimited = format!("{SERVICE}/Upload/{id}");
    let chunked = "transfer-encoding: chunked\r\nx-";
    let mut body = Vec::new();
    for piece in vec![0_u8; length + 4096].chunks(4096) {
        body.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        body.extend(piece);
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\n\r\n");
    is_rejected(ask(to, &unlimited, chunked, &body), 413, "larger than");
    assert!(offer(to, id, ""));
    let gzip = "content-encoding: gzip\r\n";
    is_rejected(ask(to, &unlimited, gzip, &content), 415, "content encoding");
    let never = "ab".repeat(20);
    is_rejected(upload(to, &never, &content, length), 412, "not offered");
    is_rejected(upload(to, "..%2f..%2fetc", &content, length), 400, "in hex");
    is_rejected(ask(to, &format!("{SERVICE}/Upload/a/b"), "", b""), 404, "nothing at this path");
    is_rejected(upload(other.pyroscope, id, &content, length), 401, "");
    assert_eq!(files_below(&place.join("symbols/files")), [] as [PathBuf; 0]);

    // While one sends, another that does the same is told to come again.
    let mut slow = TcpStream::connect(to).unwrap();
    let head = format!(
        "{unlimited} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    slow.write_all(&[head.as_bytes(), &content[..1000]].concat()).unwrap();
    eventually("the first to be under way", || {
        let pending = files_below(&place.join("symbols/pending"));
        let is_file = |path: &PathBuf| path.extension().is_none_or(|it| it != "lease");
        pending.iter().any(is_file).then_some(())
    });
    is_rejected(upload(to, id, &content, length), 409, "somebody else");
    assert!(!offer(other.pyroscope, id, known));
    slow.write_all(&content[1000..]).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = format!("{{\"gnuBuildId\":\"{id}\"}}");
    let head = format!("{SERVICE}/UploadFinished");
    let json = "content-type: application/json\r\n";
    let answer = ask(to, &head, json, body.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let kept = files_below(&place.join("symbols"));
    assert_eq!(kept, [place.join(format!("symbols/files/~/{id}.executable"))]);
    assert_eq!(std::fs::read(&kept[0]).unwrap(), content);
    let said = [one.running.end(), other.running.end()].concat();
    assert!(!said.contains("panicked") && !said.contains("s3cret"), "{said}");
}

/// Scenario: files that cannot be offered, a gateway that is not there, credentials without TLS.
/// Guarantees: a line each that says what is wrong, and an exit code; a header's value is not in it.
#[test]
fn what_cannot_be_uploaded_is_said_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let program = Program::build(place, "app");
    let path = program.path.to_str().unwrap();
    let nowhere = format!("http://{}", free_address());
    let text = place.join("text");
    std::fs::write(&text, "no program").unwrap();
    let text = text.to_str().unwrap();
    for (arguments, code, expected) in [
        (vec![text, "--to", &nowhere], 1, "not a whole ELF file"),
        (vec!["/nonexistent/file", "--to", &nowhere], 1, "No such file"),
        (vec![path, "--to", &nowhere], 1, "Connection refused"),
        (vec![path, "--to", "backend"], 2, "--to"),
        (vec![path, "--to", &nowhere, "--header", "hunter2"], 2, "--header is `NAME: VALUE`"),
        (
            vec![path, "--to", "http://192.0.2.1:1", "--header", "Authorization: hunter2"],
            2,
            "or say `--insecure`",
        ),
    ] {
        let output = profpipe(&[&["symbols", "upload"], &arguments[..]].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// Scenario: the two examples at work: an agent that samples a program and does without names, and the gateway
/// that it offers binaries to.
/// Guarantees: the gateway has the program's binary, asked for once, and the profiles that it writes have the
/// program's functions; nothing of the agent has names.
#[test]
fn an_agent_brings_its_binaries() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let program = Program::build(place, "app");
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let mut child = Command::new(&program.path).spawn().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples");
    let (http, grpc, pyroscope) = (free_address(), free_address(), free_address());
    let gateway = [
        "--config".to_owned(),
        examples.join("gateway-symbols.yaml").display().to_string(),
        format!("--set=receivers::otlp::protocols::http::endpoint={http}"),
        format!("--set=receivers::otlp::protocols::grpc::endpoint={grpc}"),
        format!("--set=receivers::pyroscope::endpoint={pyroscope}"),
        format!("--set=extensions::symbol_storage::directory={}/symbols", place.display()),
        "--set=processors::symbolize::debug_directories=[]".to_owned(),
        "--set=exporters::file::path=named".to_owned(),
    ];
    let gateway = Running::start(place, &gateway.each_ref().map(String::as_str));
    let agent = [
        "--config".to_owned(),
        examples.join("agent-symbols.yaml").display().to_string(),
        format!("--set=processors::symbol_upload::endpoint=http://{pyroscope}"),
        format!("--set=exporters::otlp_http::endpoint=http://{http}"),
        format!("--set=receivers::perf::scope={{pid: {}}}", child.id()),
        "--set=receivers::perf::interval=500ms".to_owned(),
    ];
    let agent = Running::start(place, &agent.each_ref().map(String::as_str));
    let functions = |it: &Profiles| -> Vec<String> {
        let name = |row: usize| {
            let function =
                it.dictionary.functions.get(profpipe::profile::FunctionIx::new(row as u32));
            it.dictionary.strings.get(function.name).to_owned()
        };
        (1..it.dictionary.functions.len()).map(name).collect()
    };
    eventually("names from the gateway", || {
        let files = files_below(&place.join("named"));
        let mut read =
            files.iter().filter_map(|path| otlp::decode(&std::fs::read(path).ok()?).ok());
        read.any(|it| functions(&it).iter().any(|name| name == "work_hard")).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    agent.end();
    gateway.end();
    let kept = files_below(&place.join("symbols/files"));
    let wanted = format!("{}.executable", program.build_id);
    assert!(kept.iter().any(|path| path.ends_with(&wanted)), "{kept:?}");
    // The kernel's functions come, too, where it shows them to this user.
    let list = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let notes = std::fs::read("/sys/kernel/notes").unwrap_or_default();
    let kernel = profpipe_host::elf::build_id_of_notes(&notes);
    if let (Some(id), true) = (kernel, list.lines().any(|line| line.starts_with("ffff"))) {
        let wanted = format!("{id}.debuginfo");
        assert!(kept.iter().any(|path| path.ends_with(&wanted)), "{kept:?}");
    }
}
