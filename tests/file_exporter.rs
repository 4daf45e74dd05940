//! The `file` exporter against what goes wrong around it: processes killed while they write, disks
//! that are full or read-only, directories of others.
//!
//! Not proved here: that files survive a power cut, for which the order of system calls is the
//! argument, not a test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use profpipe::batch::Batch;
use profpipe::pipeline::component::{Exporter, ExporterConfig, Failure, Setup};
use profpipe::profile::attribute_names::SERVICE_NAME;
use profpipe::profile::{
    Function, Line, LocationRef, Profile, Profiles, Resource, ResourceProfiles, SampleRef,
    ScopeProfiles, ValueType,
};
use profpipe::{Services, pprof};
use profpipe_exporters::file::{Config, Retention};

/// Tells the child of this test where to write.
const DIRECTORY: &str = "PROFPIPE_TEST_DIRECTORY";

/// A batch of two services, large enough that writing it takes a while.
fn batch(stacks: i64) -> Batch {
    let mut batch = Profiles::new();
    let tables = &mut batch.dictionary;
    let kind = tables.strings.intern("cpu");
    let unit = tables.strings.intern("nanoseconds");
    let mut profile = Profile {
        sample_type: ValueType { kind, unit },
        time_unix_nano: 1_764_000_000_000_000_000,
        ..Profile::default()
    };
    for at in 0..stacks {
        let name = tables.strings.intern(&format!("function_{at}_{}", at * 7919 % 10_007));
        let function = tables.functions.intern(Function { name, ..Function::default() });
        let lines = [Line { function, line: at, column: 0 }];
        let location = tables.locations.intern(LocationRef {
            address: at as u64,
            lines: &lines,
            ..LocationRef::default()
        });
        let stack = tables.stacks.intern(&[location]);
        profile.samples.push(SampleRef { stack, values: &[at + 1], ..SampleRef::default() });
    }
    for service in ["web", "db"] {
        let mut resource = Resource::default();
        resource.set(SERVICE_NAME, service);
        let profiles = vec![profile.clone()];
        let scopes = vec![ScopeProfiles { profiles, ..ScopeProfiles::default() }];
        batch.resources.push(ResourceProfiles { resource, scopes, ..ResourceProfiles::default() });
    }
    Batch::new(batch)
}

fn exporter(path: &Path) -> Result<Box<dyn Exporter>, String> {
    let config = Config { path: path.to_owned(), ..Config::default() };
    let setup = Setup::new("file", Services::default());
    config.build(&setup).map_err(|error| error.chain())
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(extension))
        .collect();
    files.sort();
    files
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Not a test: what the test below runs and kills.
#[test]
#[ignore = "the child of killed_while_writing"]
fn write_until_killed() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let mut exporter = exporter(Path::new(&path)).unwrap();
    let batch = batch(1000);
    // Should the parent die, this ends some time.
    for _ in 0..2000 {
        runtime().block_on(exporter.export(&batch)).unwrap();
    }
}

/// Scenario: a process that writes all the time is killed, again and again, at other moments.
/// Guarantees: every file is whole, whenever one looks; the next start removes what was left over.
#[test]
fn killed_while_writing() {
    let home = tempfile::tempdir().unwrap();
    let mut checked = HashSet::new();
    let mut leftovers = 0;
    for round in 0..25_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_until_killed", "--ignored"])
            .env(DIRECTORY, home.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let before = files(home.path(), ".pb.gz").len();
        let deadline = Instant::now() + Duration::from_secs(60);
        // Alternately while a file is being written, and some time after one has appeared.
        let due = |files_before: usize| match round % 2 {
            0 => !files(home.path(), ".tmp").is_empty(),
            _ => files(home.path(), ".pb.gz").len() > files_before + (round % 3) as usize,
        };
        while !due(before) {
            assert!(Instant::now() < deadline, "the child writes nothing");
        }
        let moment = Instant::now() + Duration::from_micros(u64::from(round) * 100);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        leftovers += files(home.path(), ".tmp").len();
        for file in files(home.path(), ".pb.gz") {
            if checked.insert(file.clone()) {
                let profiles = pprof::decode(&fs::read(&file).unwrap());
                assert_eq!(profiles.unwrap().sample_count(), 1000, "{}", file.display());
            }
        }
    }
    let checked = checked.len();
    assert!(checked > 10, "{checked} files");
    assert!(leftovers > 0, "no kill came while a file was being written");
    drop(exporter(home.path()).unwrap());
    assert_eq!(files(home.path(), ".tmp"), Vec::<PathBuf>::new());
}

/// A small file system of its own, if this user may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(home: &Path) -> Option<Self> {
        let path = home.join("disk");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(&path)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        profpipe_testing::skip!("this user may not mount a file system")
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn retry_message(failure: Failure) -> String {
    match failure {
        Failure::Retry { cause, .. } => cause.chain(),
        other => panic!("not to be tried again: {}", other.cause().chain()),
    }
}

/// Scenario: the disk fills up; later there is room again.
/// Guarantees: the batch is to be tried again, the message names the directory, the space and what
/// to do; nothing half is left; when there is room the same exporter writes.
#[test]
fn full_disk() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path()) else { return };
    let path = disk.0.join("profiles");
    let mut exporter = exporter(&path).unwrap();
    let batch = batch(1000);
    let failure = (0..1000)
        .find_map(|_| runtime().block_on(exporter.export(&batch)).err())
        .expect("the disk never fills up");
    let message = retry_message(failure);
    for part in [path.to_str().unwrap(), "the disk is full", "free", "retention::max_bytes"] {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(files(&path, ".tmp"), Vec::<PathBuf>::new());
    let written = files(&path, ".pb.gz");
    assert!(!written.is_empty());
    for file in &written {
        assert_eq!(pprof::decode(&fs::read(file).unwrap()).unwrap().sample_count(), 1000);
        fs::remove_file(file).unwrap();
    }
    runtime().block_on(exporter.export(&batch)).unwrap();
    assert_eq!(files(&path, ".pb.gz").len(), 2);
}

/// Scenario: the file system becomes read-only while the exporter runs, then a new one starts.
/// Guarantees: the running one asks for another try and says why; the new one does not start.
#[test]
fn read_only_disk() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path()) else { return };
    let mut running = exporter(&disk.0).unwrap();
    disk.remount("ro");
    let failure = runtime().block_on(running.export(&batch(1))).unwrap_err();
    let message = retry_message(failure);
    assert!(message.contains("read-only") && message.contains("`path`"), "{message}");
    let Err(message) = exporter(&disk.0) else { panic!("started on a read-only disk") };
    assert!(message.contains("read-only"), "{message}");
    disk.remount("rw");
    runtime().block_on(running.export(&batch(1))).unwrap();
}

/// Scenario: `profpipe run` by a user who may not write to the directory.
/// Guarantees: it does not start; one line says what, where and what to do; the exit code is 1.
#[test]
fn directory_of_others() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.yaml");
    let path = home.path().join("profiles");
    fs::create_dir(&path).unwrap();
    let yaml = format!(
        "receivers: {{nop: {{}}}}\nexporters: {{file: {{path: {}}}}}\n\
         service: {{pipelines: {{profiles: {{receivers: [nop], exporters: [file]}}}}}}\n",
        path.display()
    );
    fs::write(&config, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    command.args(["run", "--config"]).arg(&config);
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere; nobody may not.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(65534).gid(65534);
    } else {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => profpipe_testing::skip!("another user cannot run the program: {error}"),
    };
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text.lines().last().unwrap_or_default();
    for part in [path.to_str().unwrap(), "permission denied", "`path`"] {
        assert!(line.contains(part), "no `{part}` in: {text}");
    }
}

/// Scenario: retention of bytes while an exporter writes for long.
/// Guarantees: the files together never take more than the limit after an export.
#[test]
fn retention_holds_while_writing() {
    let home = tempfile::tempdir().unwrap();
    let limit = 200 << 10;
    let retention =
        Retention { max_bytes: profpipe::settings::ByteSize(limit), ..Retention::default() };
    let config = Config { path: home.path().to_owned(), retention, ..Config::default() };
    let setup = Setup::new("file", Services::default());
    let mut exporter = config.build(&setup).unwrap();
    let batch = batch(1000);
    let mut most = 0;
    for _ in 0..60 {
        runtime().block_on(exporter.export(&batch)).unwrap();
        let bytes: u64 =
            files(home.path(), ".pb.gz").iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes <= limit, "{bytes}");
        most = most.max(bytes);
    }
    assert!(most > limit / 2, "the limit was never tried: {most}");
}
