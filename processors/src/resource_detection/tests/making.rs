//! How the files of a process were made, as it is on a profile of this very process.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profpipe_engine::Services;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Outbox, ProcessorConfig, Setup};
use profpipe_engine::modules::{Content, Module, ModuleId};
use profpipe_profile::attribute_names::{
    BUILD_ID_GNU, BUILD_ID_HTLHASH, PROCESS_EXECUTABLE_PATH, PROCESS_PID,
};
use profpipe_profile::{
    LocationRef, MappingRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    ScopeProfiles, StringIx, Value,
};

use super::super::Config;
use super::super::facts::Facts;
use super::super::making::runtime;
use super::get;
use crate::symbolize::tests::support::worker_command;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A profile of this process with a stack through these files.
fn profile(files: &[(&str, &str)]) -> Profiles {
    let mut profiles = Profiles::new();
    let dictionary = &mut profiles.dictionary;
    let mut stack = Vec::new();
    for (path, id) in files {
        let mut attribute = |key: &str, value: &str| {
            let key = dictionary.strings.intern(key);
            dictionary.attributes.intern(key, value.into(), StringIx::NONE)
        };
        let attributes = [attribute(BUILD_ID_GNU, "abcd"), attribute(BUILD_ID_HTLHASH, id)];
        let filename = dictionary.strings.intern(path);
        let mapping = dictionary.mappings.intern(MappingRef {
            memory_start: 0,
            memory_limit: 1 << 20,
            file_offset: 0,
            filename,
            attributes: &attributes,
        });
        stack.push(dictionary.locations.intern(LocationRef { mapping, ..LocationRef::default() }));
    }
    let stack = dictionary.stacks.intern(&stack);
    let mut profile = Profile::default();
    profile.samples.push(SampleRef { stack, values: &[1], ..SampleRef::default() });
    let mut resource = Resource::default();
    resource.set(PROCESS_PID, i64::from(std::process::id()));
    resource.set(PROCESS_EXECUTABLE_PATH, files[0].0);
    let scopes = vec![ScopeProfiles { profiles: vec![profile], ..ScopeProfiles::default() }];
    profiles.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    profiles
}

/// Scenario: profiles of this very program, whose files a sampler has published, one after the
/// other; the same from a network.
/// Guarantees: the executable's build is on the first, its compiler and the C library's version on
/// one of the next; what came from the network gets none of it.
#[test]
fn a_process_says_how_it_was_made() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let library = library.into_iter().find(|path| path.ends_with("/libc.so.6"));
    let executable = std::env::current_exe().unwrap();
    let files: Vec<_> = std::iter::once((executable.to_str().unwrap(), "01"))
        .chain(library.map(|path| (path, "02")))
        .collect();
    let services = Services { worker: Some(worker_command("worker")), ..Services::default() };
    for (path, id) in &files {
        let content = Content::Elf(Arc::new(File::open(path).unwrap()));
        let module = Module { path: (*path).to_owned(), pid: std::process::id(), content };
        services.modules.publish(ModuleId::Htl((*id).to_owned()), Arc::new(module));
    }
    let setup = Setup::new("resource_detection", services);
    let mut processor = Config::default().build(&setup).unwrap();
    let mut pass = |receiver: &str| {
        let mut batch = Batch::new(profile(&files));
        batch.context.receiver = Arc::from(receiver);
        if matches!(receiver.split('/').next(), Some("perf" | "inprocess")) {
            batch = batch.taken_here();
        }
        let mut out = Outbox::default();
        processor.process(batch, &mut out).unwrap();
        let mut batch = out.drain().next().unwrap();
        batch.profiles().unwrap().resources[0].resource.clone()
    };
    let first = pass("perf");
    assert_eq!(get(&first, BUILD_ID_HTLHASH), Some("01"));
    assert_eq!(get(&first, "process.executable.build_id.gnu"), Some("abcd"));
    assert!(first.get("process.creation.time").is_some());
    let begin = Instant::now();
    loop {
        let resource = pass("perf");
        let is_whole = resource.get("profpipe.environment.compiler").is_some()
            && (files.len() < 2 || resource.get("profpipe.environment.libc.version").is_some());
        if is_whole {
            let Some(Value::Array(notes)) = resource.get("profpipe.environment.compiler") else {
                panic!("{resource:?}");
            };
            let rust = notes.iter().filter_map(Value::as_str).any(|note| note.contains("rustc"));
            assert!(rust, "{notes:?}");
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{resource:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let received = pass("otlp/perf");
    assert_eq!(received.get(BUILD_ID_HTLHASH), None);
    assert_eq!(received.get("process.owner"), None);
    assert_eq!(received.get("profpipe.environment.compiler"), None);
}

/// Scenario: names of files that are runtimes, and of files that are not.
/// Guarantees: name and version are told as far as the file's name has them.
#[test]
fn runtimes_are_known_by_their_files() {
    for (file, is_main, name, version) in [
        ("libpython3.11.so.1.0", false, Some("cpython"), Some("3.11")),
        ("python3.12", true, Some("cpython"), Some("3.12")),
        ("python3.12", false, None, None),
        ("libruby-3.1.so.3.1", false, Some("ruby"), Some("3.1")),
        ("libruby.so.3.1.2", false, Some("ruby"), Some("3.1.2")),
        ("node", true, Some("nodejs"), None),
        ("node", false, None, None),
        ("libjvm.so", false, Some("jvm"), None),
        ("libc.so.6", false, None, None),
        ("", true, None, None),
    ] {
        let mut facts = Facts::default();
        runtime(file, is_main, &mut facts);
        let text = |key| facts.get(key).and_then(Value::as_str);
        assert_eq!(text("process.runtime.name"), name, "{file}");
        assert_eq!(text("process.runtime.version"), version, "{file}");
    }
}
