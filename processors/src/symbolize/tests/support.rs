//! Programs compiled for tests, and the symbolizer around them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Outbox, Processor, Setup};
use profpipe_pipeline::engine::{Services, WorkerCommand};
use profpipe_pipeline::modules::{Content, Module, ModuleId};
use profpipe_pipeline::profile::attribute_names::BUILD_ID_HTLHASH;
use profpipe_pipeline::profile::{
    Index, LocationRef, MappingRef, Profile, Profiles, ResourceProfiles, SampleRef, ScopeProfiles,
    StringIx, Value,
};

use super::super::{Symbolize, SymbolizeConfig, WORKER_ENVIRONMENT, worker_main};

/// The worker that the other tests start: nothing but a test in name.
#[test]
fn worker() {
    if std::env::var_os(WORKER_ENVIRONMENT).is_some() {
        worker_main();
        std::process::exit(0);
    }
}

/// Starts this test program as worker.
pub(super) fn worker_command() -> WorkerCommand {
    let name = format!("{}::worker", module_path!().split_once("::").unwrap().1);
    let set = format!("{WORKER_ENVIRONMENT}=1");
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

pub(super) fn command(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A symbolizer, with what it shares with the engine.
pub(super) struct Bench {
    pub(super) processor: Symbolize,
    pub(super) services: Services,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut SymbolizeConfig)) -> Self {
        let services = Services { worker: Some(worker_command()), ..Services::default() };
        let mut config = SymbolizeConfig {
            timeout: profpipe_pipeline::settings::Duration::from_secs(120),
            worker_timeout: profpipe_pipeline::settings::Duration::from_secs(60),
            ..SymbolizeConfig::default()
        };
        change(&mut config);
        let setup = Setup { id: "symbolize".into(), services: services.clone() };
        Self { processor: Symbolize::new(config, &setup), services }
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
    pub(super) fn pass(&mut self, batch: Batch) -> Profiles {
        let mut out = Outbox::default();
        self.processor.process(batch, &mut out).unwrap();
        self.processor.finish(Instant::now() + Duration::from_secs(120), &mut out);
        let mut batch = out.drain().next().unwrap();
        batch.profiles().unwrap().clone()
    }

    /// Passes a batch through; what its addresses are called, by file.
    pub(super) fn symbolize(&mut self, batch: Batch) -> BTreeMap<String, BTreeMap<u64, Named>> {
        read_names(&self.pass(batch))
    }
}

/// What an address is called: frames of (function, file, line), and the attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Named {
    pub(super) frames: Vec<(String, String, i64)>,
    pub(super) system_names: Vec<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Named {
    pub(super) fn functions(&self) -> Vec<&str> {
        self.frames.iter().map(|(name, _, _)| name.as_str()).collect()
    }
}

/// A batch with a location for each address of each file.
pub(super) fn batch_of(files: &[(&str, &[u64])]) -> Batch {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let mut stack = Vec::new();
    for (file, addresses) in files {
        let filename = dictionary.strings.intern(file);
        let key = dictionary.strings.intern(BUILD_ID_HTLHASH);
        let value = Value::from(*file);
        let id = dictionary.attributes.intern(key, value, StringIx::NONE);
        let mapping = dictionary.mappings.intern(MappingRef {
            filename,
            attributes: &[id],
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
    Batch::new(profiles)
}

/// What the locations of a batch are called, by file and address.
pub(super) fn read_names(profiles: &Profiles) -> BTreeMap<String, BTreeMap<u64, Named>> {
    let dictionary = &profiles.dictionary;
    let text = |row| dictionary.strings.get(row).to_owned();
    let mut files: BTreeMap<String, BTreeMap<u64, Named>> = BTreeMap::new();
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

/// What binutils' `addr2line` says about addresses: frames of (function, file, line).
pub(super) fn oracle(
    program: &Path,
    addresses: &[u64],
) -> Option<BTreeMap<u64, Vec<(String, String, i64)>>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-f", "-e"]).arg(program);
    command.args(addresses.iter().map(|address| format!("{address:#x}")));
    let output = run(&mut command)?;
    let mut answers: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    let mut frames = &mut Vec::new();
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        if let Some(address) = line.strip_prefix("0x") {
            frames = answers.entry(u64::from_str_radix(address, 16).unwrap()).or_default();
            continue;
        }
        let (file, number) = lines.next().unwrap().rsplit_once(':').unwrap();
        let number = number.split(' ').next().unwrap();
        frames.push((line.to_owned(), file.to_owned(), number.parse().unwrap_or(0)));
    }
    Some(answers)
}

/// Compares every address of `outer` and `main` of `program` with the oracle over `truth`.
pub(super) fn check_against_oracle(program: &Path, truth: &Path) {
    check_with(&mut Bench::new(), program, truth);
}

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
