//! Programs compiled for tests, and the symbolizer around them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object::{Object as _, ObjectSection as _};
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, Processor, Setup};
use profpipe_engine::modules::{Content, Module, ModuleId};
use profpipe_engine::{Services, WorkerCommand};
use profpipe_profile::attribute_names::{BUILD_ID_HTLHASH, PROCESS_PID};
use profpipe_profile::{
    Index, LocationRef, MappingRef, Profile, Profiles, ResourceProfiles, SampleRef, ScopeProfiles,
    StringIx, Value,
};
use rustix::process::Signal;

use super::super::protocol::{Channel, Limits, Request, Response};
use super::super::worker::sandbox;
use super::super::{Symbolize, SymbolizeConfig, WORKER_ENVIRONMENT, worker_main};

/// The worker that the other tests start: nothing but a test in name.
#[test]
fn worker() {
    let Ok(mode) = std::env::var(WORKER_ENVIRONMENT) else { return };
    match mode.as_str() {
        "probe" => std::process::exit(probe()),
        "overflow" | "gorge" => misbehave(mode == "gorge"),
        "silent" | "once" => imitate(mode == "once"),
        "sweepless" => die_of_sweeps(),
        _ => drop(worker_main()),
    }
    std::process::exit(0);
}

/// A worker that says nothing after it has started, or dies after its first names.
fn imitate(once: bool) {
    if once {
        // It lives as long as the worker would, and dies with the first idle moment after.
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            std::process::exit(1);
        });
        worker_main();
        return;
    }
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let channel = Channel::new(stdin).unwrap();
    let (_, _): (Request, _) = channel.receive(None).unwrap();
    channel.send(&Response::Ready(Vec::new()), &[], None).unwrap();
    // It ends with the tests.
    while channel.receive::<Request>(None).is_ok() {}
}

/// A worker that dies when it is asked for a whole range: another one answers everything else.
fn die_of_sweeps() {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let parent = Channel::new(stdin).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let command = worker_command("worker");
    let mut worker = Command::new(command.program);
    worker.args(command.arguments).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let mut worker = worker.spawn().unwrap();
    let worker_channel = Channel::new(ours.into()).unwrap();
    while let Ok((request, files)) = parent.receive::<Request>(None) {
        if matches!(request, Request::Sweep { .. }) {
            break;
        }
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        worker_channel.send(&request, &files, None).unwrap();
        let (response, _) = worker_channel.receive::<Response>(None).unwrap();
        parent.send(&response, &[], None).unwrap();
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
}

/// In the sandbox, uses up the stack or all memory.
fn misbehave(gorge: bool) {
    fn dive(depth: u64) -> u64 {
        let space = std::hint::black_box([depth; 64]);
        if depth == 0 { 0 } else { dive(depth + 1) + space[depth as usize % 64] }
    }
    sandbox::enter_process(LIMITS);
    let thread = std::thread::spawn(move || {
        sandbox::enter_thread();
        if gorge {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1_u8; 16 << 20]));
            }
        }
        dive(1)
    });
    thread.join().ok();
}

const LIMITS: Limits =
    Limits { address_space: 1 << 31, memory: 256 << 20, cpu_seconds: 10, is_paced: false };

/// Tries what the sandbox forbids; the number of the first thing that got through.
fn probe() -> i32 {
    let socket = UnixStream::pair().unwrap().0;
    let own = rustix::process::getpid();
    if !sandbox::enter_process(LIMITS).is_empty() {
        return 1;
    }
    let none = rustix::thread::CapabilitySet::empty();
    if rustix::thread::capabilities(None).unwrap().effective != none {
        return 2;
    }
    if rustix::process::geteuid().is_root() {
        return 3;
    }
    // Landlock alone, before system calls are filtered.
    if File::open("/etc/passwd").is_ok() || std::fs::write("/tmp/probe", "").is_ok() {
        return 4;
    }
    if !sandbox::enter_thread().is_empty() {
        return 5;
    }
    let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    let refusals = [
        File::open("/etc/passwd").err(),
        File::open("/proc/self/status").err(),
        std::fs::metadata("/etc/passwd").err(),
        std::fs::read_link("/proc/self/exe").err(),
        TcpStream::connect("127.0.0.1:1").err(),
        UnixStream::connect("/run/nobody").err(),
        UnixStream::pair().err(),
        UdpSocket::bind("127.0.0.1:0").err(),
        Command::new("/bin/true").spawn().err(),
        std::thread::Builder::new().spawn(|| ()).err(),
        rustix::process::kill_process(own, Signal::TERM).err().map(Into::into),
        rustix::io::dup(&socket).err().map(Into::into),
    ];
    for (at, refusal) in refusals.into_iter().enumerate() {
        if !refusal.is_some_and(refused) {
            return 10 + at as i32;
        }
    }
    0
}

/// Starts this test program as worker: `worker`, or one of the modes above.
pub(crate) fn worker_command(mode: &str) -> WorkerCommand {
    let name = format!("{}::worker", module_path!().split_once("::").unwrap().1);
    let set = format!("{WORKER_ENVIRONMENT}={mode}");
    let program = std::env::current_exe().unwrap();
    let arguments = [&set, program.to_str().unwrap(), "--exact", &name, "--test-threads=1"];
    WorkerCommand {
        program: "/usr/bin/env".into(),
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// A directory of programs.
pub(super) struct Files(tempfile::TempDir);

/// Two functions, of which one is inlined into the other.
pub(super) const C_SOURCE: &str = r#"
#include <stdio.h>
static inline __attribute__((always_inline)) long inner(long x) {
    return x * 3 + 1;
}
__attribute__((noinline)) long outer(long x) {
    long sum = 0;
    for (long i = 0; i < x; i++)
        sum ^= inner(sum + i);
    return sum;
}
int main(int argc, char **argv) {
    printf("%ld\n", outer(argc * 1000));
    return 0;
}
"#;

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(super) fn compile_c(&self, flags: &[&str]) -> PathBuf {
        let source = self.write("program.c", C_SOURCE);
        let program = self.path("program");
        run(Command::new("cc").args(flags).arg("-o").arg(&program).arg(source)).unwrap();
        program
    }
}

/// Runs a tool; its output, or none with a printed reason if it is not there.
pub(super) fn run(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            eprintln!("skipped: {:?}: {error}", command.get_program());
            None
        }
    }
}

/// A symbolizer, with what it shares with the engine.
pub(crate) struct Bench {
    pub(super) processor: Symbolize,
    config: SymbolizeConfig,
    pub(super) services: Services,
    /// Where tables are, unless a test says otherwise.
    cache: Arc<tempfile::TempDir>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// One that keeps nothing on disk: what it says is of the file as it is now.
    pub(super) fn without_tables() -> Self {
        Self::with(|config| config.tables.max_bytes.0 = 0)
    }

    pub(crate) fn with(change: impl FnOnce(&mut SymbolizeConfig)) -> Self {
        let cache = Arc::new(tempfile::tempdir().unwrap());
        let services = Services {
            worker: Some(worker_command("worker")),
            cache: Some(cache.path().to_owned()),
            ..Services::default()
        };
        let mut config = SymbolizeConfig {
            timeout: profpipe_engine::settings::Duration::from_secs(120),
            worker_timeout: profpipe_engine::settings::Duration::from_secs(60),
            ..SymbolizeConfig::default()
        };
        change(&mut config);
        Self::build(config, services, cache)
    }

    fn build(config: SymbolizeConfig, services: Services, cache: Arc<tempfile::TempDir>) -> Self {
        let setup = Setup::new("symbolize", services.clone());
        let processor = Symbolize::new(config.clone(), &setup).unwrap();
        Self { processor, config, services, cache }
    }

    /// Another one after it, with the same tables and other settings.
    pub(super) fn next_with(&self, change: impl FnOnce(&mut SymbolizeConfig)) -> Self {
        let mut next = self.next(Some(worker_command("worker")));
        change(&mut next.config);
        Self::build(next.config, next.services, next.cache)
    }

    /// Another one after it, with the same settings and tables, and with this worker.
    pub(super) fn next(&self, worker: Option<WorkerCommand>) -> Self {
        let services =
            Services { worker, cache: self.services.cache.clone(), ..Services::default() };
        Self::build(self.config.clone(), services, Arc::clone(&self.cache))
    }

    /// The same with a worker of another mode.
    pub(super) fn with_worker(mut self, mode: &str) -> Self {
        self.services.worker = Some(worker_command(mode));
        Self::build(self.config, self.services, self.cache)
    }

    /// The same with another program as worker.
    pub(super) fn with_program(mut self, program: Option<&str>) -> Self {
        self.services.worker =
            program.map(|program| WorkerCommand { program: program.into(), arguments: Vec::new() });
        Self::build(self.config, self.services, self.cache)
    }

    /// The next processor, with changed settings.
    pub(super) fn changed(mut self, change: impl FnOnce(&mut SymbolizeConfig)) -> Self {
        change(&mut self.config);
        Self::build(self.config, self.services, self.cache)
    }

    /// How long batches wait from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.processor.set_timeout(timeout);
    }

    /// The only address of the only batch that came out.
    pub(super) fn only(&self, out: &mut Outbox, file: &str) -> Named {
        let mut batches: Vec<_> = out.drain().collect();
        assert_eq!(batches.len(), 1);
        let mut names = read_names(batches[0].profiles().unwrap());
        names.remove(file).unwrap().into_values().next().unwrap()
    }

    /// Publishes a file under its path.
    pub(super) fn publish(&self, file: &Path) -> ModuleId {
        let content = Content::Elf(Arc::new(File::open(file).unwrap()));
        let path = file.to_str().unwrap().to_owned();
        let id = ModuleId::Htl(path.clone());
        let module = Module { path, pid: std::process::id(), content };
        self.services.modules.publish(id.clone(), Arc::new(module));
        id
    }

    /// What addresses of a published file are called.
    pub(super) fn names(&mut self, file: &Path, addresses: &[u64]) -> BTreeMap<u64, Named> {
        self.publish(file);
        let batch = batch_of(&[(file.to_str().unwrap(), addresses)]);
        self.symbolize(batch).remove(file.to_str().unwrap()).unwrap()
    }

    /// Passes a batch through and waits for it.
    pub(crate) fn pass(&mut self, batch: Batch) -> Profiles {
        let mut out = Outbox::default();
        self.processor.process(batch, &mut out).unwrap();
        self.processor.finish(Instant::now() + Duration::from_secs(120), &mut out);
        let mut batch = out.drain().next().unwrap();
        batch.profiles().unwrap().clone()
    }

    /// Passes a batch through; what its addresses are called, by file.
    pub(super) fn symbolize(&mut self, batch: Batch) -> Names {
        read_names(&self.pass(batch))
    }
}

/// What addresses are called, by file.
pub(crate) type Names = BTreeMap<String, BTreeMap<u64, Named>>;

/// What an address is called: frames of (function, file, line), and the attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Named {
    pub(super) frames: Vec<(String, String, i64)>,
    pub(super) system_names: Vec<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Named {
    /// The frames with the names that the binary has.
    pub(super) fn raw(&self) -> Vec<(String, String, i64)> {
        let names = self.system_names.iter();
        let frames = names.zip(&self.frames);
        frames.map(|(name, (_, file, line))| (name.clone(), file.clone(), *line)).collect()
    }

    pub(crate) fn functions(&self) -> Vec<&str> {
        self.frames.iter().map(|(name, _, _)| name.as_str()).collect()
    }
}

/// A batch with a location for each address of each file.
pub(super) fn batch_of(files: &[(&str, &[u64])]) -> Batch {
    let files: Vec<_> = files
        .iter()
        .map(|(file, addresses)| (*file, vec![(BUILD_ID_HTLHASH, Value::from(*file))], *addresses))
        .collect();
    build(&files)
}

/// A batch of one file with these texts as attributes.
pub(super) fn batch_by(file: &str, attributes: &[(&str, &str)], addresses: &[u64]) -> Batch {
    let attributes = attributes.iter().map(|(key, value)| (*key, Value::from(*value))).collect();
    build(&[(file, attributes, addresses)])
}

/// A batch of one file that belongs to a process.
pub(super) fn batch_by_pid(file: &str, pid: i64, addresses: &[u64]) -> Batch {
    build(&[(file, vec![(PROCESS_PID, Value::from(pid))], addresses)])
}

/// A file's path, attributes and addresses.
pub(crate) type FileOf<'a> = (&'a str, Vec<(&'a str, Value)>, &'a [u64]);

/// A batch of files with these attributes and addresses.
pub(crate) fn build(files: &[FileOf<'_>]) -> Batch {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let mut stack = Vec::new();
    for (file, attributes, addresses) in files {
        let filename = dictionary.strings.intern(file);
        let mut rows = Vec::new();
        for (key, value) in attributes {
            let key = dictionary.strings.intern(key);
            rows.push(dictionary.attributes.intern(key, value.clone(), StringIx::NONE));
        }
        let mapping = dictionary.mappings.intern(MappingRef {
            filename,
            attributes: &rows,
            ..MappingRef::default()
        });
        for address in *addresses {
            let location = LocationRef { mapping, address: *address, ..LocationRef::default() };
            stack.push(dictionary.locations.intern(location));
        }
    }
    let stack = dictionary.stacks.intern(&stack);
    let mut profile = Profile::default();
    profile.samples.push(SampleRef { stack, values: &[1], ..SampleRef::default() });
    let scope = ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() };
    profiles.resources.push(ResourceProfiles { scopes: vec![scope], ..<_>::default() });
    Batch::new(profiles).taken_here()
}

/// What the locations of a batch are called, by file and address.
pub(crate) fn read_names(profiles: &Profiles) -> Names {
    let dictionary = &profiles.dictionary;
    let text = |row| dictionary.strings.get(row).to_owned();
    let mut files = Names::new();
    for location in dictionary.locations.iter().skip(1) {
        let file = text(dictionary.mappings.get(location.mapping).filename);
        let mut named = Named::default();
        for line in location.lines {
            let function = dictionary.functions.get(line.function);
            named.frames.push((text(function.name), text(function.filename), line.line));
            named.system_names.push(text(function.system_name));
        }
        for attribute in location.attributes {
            let key = text(dictionary.attributes.key(*attribute));
            let value = dictionary.attributes.value(*attribute);
            let value = value.as_str().map_or_else(|| format!("{value:?}"), str::to_owned);
            named.attributes.insert(key, value);
        }
        assert!(!location.mapping.is_none());
        files.entry(file).or_default().insert(location.address, named);
    }
    files
}

/// The address and size of every function, as `nm` has them.
pub(super) fn functions(program: &Path) -> Option<BTreeMap<String, (u64, u64)>> {
    let list = run(Command::new("nm").arg("-S").arg("--defined-only").arg(program))?;
    let functions = list.lines().filter_map(|line| {
        let [address, size, kind, name] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        matches!(kind, "t" | "T" | "W")
            .then_some((name.to_owned(), (number(address)?, number(size)?)))
    });
    Some(functions.collect())
}

/// Frames of (function, file, line) by address.
pub(super) type Truth = BTreeMap<u64, Vec<(String, String, i64)>>;

/// What binutils' `addr2line` says about addresses: frames of (function, file, line).
pub(super) fn oracle(program: &Path, addresses: &[u64]) -> Option<Truth> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-f", "-e"]).arg(program);
    command.args(addresses.iter().map(|address| format!("{address:#x}")));
    let output = run(&mut command)?;
    let mut answers = Truth::new();
    let mut frames = &mut Vec::new();
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        if let Some(address) = line.strip_prefix("0x") {
            frames = answers.entry(u64::from_str_radix(address, 16).unwrap()).or_default();
            continue;
        }
        let (file, number) = lines.next().unwrap().rsplit_once(':').unwrap();
        let number = number.split(' ').next().unwrap();
        let file = if file == "??" { "" } else { file };
        frames.push((line.to_owned(), file.to_owned(), number.parse().unwrap_or(0)));
    }
    Some(answers)
}

/// Compares every address of `outer` and `main` of `program` with the oracle over `truth`.
pub(super) fn check_with(bench: &mut Bench, program: &Path, truth: &Path) {
    let Some(functions) = functions(truth) else { return };
    let mut addresses = Vec::new();
    for name in ["outer", "main"] {
        let (start, size) = functions[name];
        addresses.extend(start..start + size);
    }
    let Some(truth) = oracle(truth, &addresses) else { return };
    let names = bench.names(program, &addresses);
    let mut inlined = 0;
    for (address, expected) in truth {
        let got = &names[&address].frames;
        assert_eq!(got, &expected, "at {address:#x}");
        inlined += usize::from(got.len() > 1);
    }
    assert!(inlined > 0, "nothing was inlined");
}

/// What debug information says about addresses, for what binutils cannot read.
pub(super) fn debug_information(program: &Path, addresses: &[u64]) -> Truth {
    let data = std::fs::read(program).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let dwarf = gimli::Dwarf::load(|id| {
        let section = elf.section_by_name(id.name());
        let data = section.map(|it| it.uncompressed_data().unwrap().into_owned());
        let data: Arc<[u8]> = data.unwrap_or_default().into();
        Ok::<_, gimli::Error>(gimli::EndianArcSlice::new(data, gimli::LittleEndian))
    });
    let context = addr2line::Context::from_dwarf(dwarf.unwrap()).unwrap();
    let answers = addresses.iter().map(|address| {
        let mut found = Vec::new();
        let mut frames = context.find_frames(*address).skip_all_loads().unwrap();
        while let Some(frame) = frames.next().unwrap() {
            let name = frame.function.unwrap().raw_name().unwrap().into_owned();
            let place = frame.location.unwrap();
            let line = place.line.unwrap_or_default();
            found.push((name, place.file.unwrap().to_owned(), line.into()));
        }
        (*address, found)
    });
    answers.collect()
}
