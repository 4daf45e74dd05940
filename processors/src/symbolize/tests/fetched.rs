//! Names from build ids alone: what a gateway knows about the modules of other hosts.

use std::path::{Path, PathBuf};
use std::process::Command;

use object::Object as _;
use profpipe_engine::batch::{Batch, Origin};
use profpipe_profile::Value;

use super::super::remote::config::Urls;
use super::server::Server;
use super::support::*;

/// The build id of a file, as senders state it.
pub(super) fn build_id(file: &Path) -> String {
    let data = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let id = elf.build_id().unwrap().unwrap();
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A batch from another host, of one file.
pub(super) fn foreign(build_id: &str, addresses: &[u64]) -> Batch {
    let attributes = [("process.executable.build_id.gnu", build_id)];
    let mut batch = batch_by("/app", &attributes, addresses);
    batch.context.origin = Origin::Elsewhere;
    batch
}

/// A batch from another host, of one address in each of these modules.
pub(super) fn foreign_modules(ids: &[String]) -> Batch {
    let names: Vec<_> = ids.iter().map(|id| format!("/{id}")).collect();
    let attribute = |id: &String| ("process.executable.build_id.gnu", Value::from(id.as_str()));
    let files: Vec<_> =
        names.iter().zip(ids).map(|(name, id)| (&**name, vec![attribute(id)])).collect();
    let files: Vec<_> = files.into_iter().map(|(name, rows)| (name, rows, &[0x1000][..])).collect();
    let mut batch = build(&files);
    batch.context.origin = Origin::Elsewhere;
    batch
}

/// A symbolizer as on a gateway, with nothing but a server and a cache.
pub(super) fn gateway(cache: &Path, server: &Server) -> Bench {
    Bench::with(|config| {
        config.debug_directories.clear();
        config.debuginfod.urls = Urls(vec![server.url()]);
        config.cache.directory = Some(cache.to_owned());
    })
}

/// A program as distributions make it: what runs, stripped, and its debug file.
pub(super) struct Parts {
    pub(super) whole: PathBuf,
    pub(super) stripped: PathBuf,
    pub(super) debug: PathBuf,
    pub(super) id: String,
}

pub(super) fn parts(files: &Files, flags: &[&str]) -> Option<Parts> {
    let whole = files.compile_c(flags);
    let (debug, stripped) = (files.path("debug"), files.path("stripped"));
    run(Command::new("objcopy").arg("--only-keep-debug").args([&whole, &debug]))?;
    run(Command::new("strip").arg("-o").args([&stripped, &whole]))?;
    let id = build_id(&whole);
    Some(Parts { whole, stripped, debug, id })
}

/// Scenario: a batch with nothing but a build id; a server has the stripped program and its debug
/// file.
/// Guarantees: names, files, lines and inlined frames of every address are those of the whole
/// program on its host. The next batch asks nobody.
#[test]
fn build_ids_are_enough() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let server = Server::of_files(&[
        (format!("{}/executable", parts.id), &parts.stripped),
        (format!("{}/debuginfo", parts.id), &parts.debug),
    ]);
    let addresses = code(&parts.whole);
    let host = Bench::new().names(&parts.whole, &addresses);
    let cache = files.path("cache");
    let mut bench = gateway(&cache, &server);
    let mut names = bench.symbolize(foreign(&parts.id, &addresses));
    assert_eq!(names.remove("/app").unwrap(), host);
    assert_eq!(server.seen().len(), 2, "{:?}", server.seen());
}

/// A module as its host has it and as a server has it.
struct Case<'a> {
    /// What runs on the host.
    host: &'a Path,
    /// What the host has in its debug directory, by path.
    debug: Vec<(String, &'a Path)>,
    /// What the server has.
    server: Vec<(String, &'a Path)>,
    addresses: Vec<u64>,
}

/// Names on the host and on the gateway are the same, for every address; how many have lines, and
/// how many are inlined.
fn compare(files: &Files, case: &Case<'_>) -> (usize, usize) {
    let directory = files.path("host-debug");
    for (path, file) in &case.debug {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(file, path).unwrap();
    }
    let mut host = Bench::with(|config| config.debug_directories = vec![directory]);
    let host = host.names(case.host, &case.addresses);
    let server = Server::of_files(&case.server);
    let cache = tempfile::tempdir_in(files.path("")).unwrap();
    let mut bench = gateway(cache.path(), &server);
    let names = bench.symbolize(foreign(&build_id(case.host), &case.addresses));
    let names = &names["/app"];
    for address in &case.addresses {
        assert_eq!(names[address], host[address], "at {address:#x}");
    }
    let lines = host.values().filter(|named| named.frames.iter().any(|frame| frame.2 > 0));
    (lines.count(), host.values().filter(|named| named.frames.len() > 1).count())
}

fn debug_path(id: &str) -> String {
    format!(".build-id/{}/{}.debug", &id[..2], &id[2..])
}

/// Scenario: a program split as distributions do, with a debug link; its debug sections plain, zlib
/// and zstd. Guarantees: the gateway names as the host does.
#[test]
fn split_programs_are_named_as_on_their_host() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let linked = files.path("linked");
    let link = format!("--add-gnu-debuglink={}", parts.debug.display());
    run(Command::new("objcopy").args(["-S", &link]).args([&parts.whole, &linked])).unwrap();
    for kind in ["none", "zlib", "zstd"] {
        let packed = files.path(&format!("packed-{kind}"));
        let option = format!("--compress-debug-sections={kind}");
        let mut command = Command::new("objcopy");
        let done = command.arg(option).args([&parts.debug, &packed]).output();
        if !done.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: objcopy cannot compress with {kind}");
            continue;
        }
        let case = Case {
            host: &linked,
            debug: vec![(debug_path(&parts.id), &packed)],
            server: vec![
                (format!("{}/executable", parts.id), &linked),
                (format!("{}/debuginfo", parts.id), &packed),
            ],
            addresses: code(&parts.whole),
        };
        let (lines, inlined) = compare(&files, &case);
        assert!(lines > 50 && inlined > 3, "{kind}: {lines} lines, {inlined} inlined");
    }
}

/// Scenario: the host has the whole program; of it the server has only what is stripped, only the
/// debug file, or a program without debug information and with the small symbol table in it.
/// Guarantees: a name is that of the host or none, and where both have the same the same.
#[test]
fn parts_of_programs_are_never_wrong() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let addresses = code(&parts.whole);
    let host = Bench::new().names(&parts.whole, &addresses);
    let (bare, mini) = (files.path("bare"), files.path("mini"));
    run(Command::new("strip").args(["-g", "-o"]).args([&bare, &parts.whole])).unwrap();
    let has_mini = mini_debug_info(&files, &parts, &mini);
    let served = [
        (FileAs::Executable, &parts.stripped, false),
        (FileAs::Debuginfo, &parts.debug, true),
        (FileAs::Executable, &bare, true),
        (FileAs::Executable, &mini, has_mini),
    ];
    for (number, (kind, file, has_names)) in served.into_iter().enumerate() {
        if !file.exists() {
            continue;
        }
        let kind = match kind {
            FileAs::Executable => "executable",
            FileAs::Debuginfo => "debuginfo",
        };
        let server = Server::of_files(&[(format!("{}/{kind}", parts.id), file)]);
        let mut bench = gateway(&files.path(&format!("cache{number}")), &server);
        let names = bench.symbolize(foreign(&parts.id, &addresses));
        let mut named = 0;
        for (address, got) in &names["/app"] {
            let Some((outermost, _, _)) = got.frames.last() else { continue };
            let (expected, _, _) = host[address].frames.last().unwrap_or_else(|| {
                panic!("{address:#x} is {outermost} here and nothing on the host")
            });
            assert_eq!(outermost, expected, "at {address:#x}");
            named += usize::from(["outer", "main"].contains(&outermost.as_str()));
        }
        assert_eq!(named > 0, has_names, "case {number}: {named}");
    }
}

/// How a server has a file.
#[derive(Clone, Copy)]
enum FileAs {
    Executable,
    Debuginfo,
}

/// Makes a stripped program with the small symbol table that Fedora leaves in it.
fn mini_debug_info(files: &Files, parts: &Parts, to: &Path) -> bool {
    let small = files.path("small");
    let mut command = Command::new("objcopy");
    command.args(["-S", "--keep-symbols=/dev/stdin"]).args([&parts.debug, &small]);
    run(Command::new("strip").args(["-g", "-o"]).args([&small, &parts.debug])).unwrap();
    if !Command::new("xz").arg("-kf").arg(&small).output().is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: no xz");
        return false;
    }
    let option = format!(".gnu_debugdata={}", files.path("small.xz").display());
    let mut command = Command::new("objcopy");
    command.args(["-S", "--add-section", &option]).args([&parts.whole, &to.to_owned()]);
    run(&mut command).is_some()
}

/// Scenario: a stripped program with a small symbol table, as Fedora has them. Guarantees: the
/// gateway names as the host does.
#[test]
fn small_symbol_tables_are_fetched() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let mini = files.path("mini");
    if !mini_debug_info(&files, &parts, &mini) {
        return;
    }
    let case = Case {
        host: &mini,
        debug: Vec::new(),
        server: vec![(format!("{}/executable", parts.id), &mini)],
        addresses: code(&parts.whole),
    };
    assert_eq!(compare(&files, &case), (0, 0));
    let outer = functions(&parts.whole).unwrap()["outer"].0;
    assert_eq!(Bench::new().names(&mini, &[outer])[&outer].functions(), ["outer"]);
}

/// Scenario: two programs share debug information by `dwz`; the server has what they share by its
/// own build id. Guarantees: the gateway names as the host does.
#[test]
fn shared_debug_information_is_fetched() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let (packed, copy, shared) = (files.path("packed"), files.path("copy"), files.path("shared"));
    std::fs::copy(&parts.whole, &copy).unwrap();
    std::fs::copy(&parts.whole, &packed).unwrap();
    let mut command = Command::new("dwz");
    command.args(["-L", "none", "-m"]).arg(&shared).args([&packed, &copy]);
    if command.output().is_err() {
        eprintln!("skipped: no dwz");
        return;
    }
    let case = Case {
        host: &packed,
        debug: vec![(debug_path(&build_id(&shared)), &shared)],
        server: vec![
            (format!("{}/executable", parts.id), &packed),
            (format!("{}/debuginfo", build_id(&shared)), &shared),
        ],
        addresses: code(&parts.whole),
    };
    let (lines, inlined) = compare(&files, &case);
    assert!(lines > 50 && inlined > 3, "{lines} lines, {inlined} inlined");
}

/// Scenario: a Go program without symbols and debug information, whose executable a server has.
/// Guarantees: functions, inlined ones too, files and lines as on the host.
#[test]
fn stripped_go_programs_are_named_as_on_their_host() {
    let files = Files::new();
    let flags = ["-ldflags=-s -w -B=gobuildid"];
    let Some(program) = super::languages::compile_go(&files, "go", &flags) else { return };
    let id = build_id(&program);
    let case = Case {
        host: &program,
        debug: Vec::new(),
        server: vec![(format!("{id}/executable"), &program)],
        addresses: code(&program).into_iter().step_by(37).collect(),
    };
    let (lines, inlined) = compare(&files, &case);
    assert!(lines > 10_000 && inlined > 1000, "{lines} lines, {inlined} inlined");
}

/// Scenario: files lie in the gateway's own debug directory: the debug file, and the executable as
/// Fedora links it. Guarantees: names as on the host, and no server is asked.
#[test]
fn debug_directories_come_first() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let addresses = code(&parts.whole);
    let host = Bench::new().names(&parts.whole, &addresses);
    let directory = files.path("debug-directory");
    let debug = directory.join(debug_path(&parts.id));
    std::fs::create_dir_all(debug.parent().unwrap()).unwrap();
    std::fs::copy(&parts.debug, &debug).unwrap();
    std::os::unix::fs::symlink(&parts.stripped, debug.with_extension("")).unwrap();
    let server = Server::of_files(&[]);
    let mut bench = Bench::with(|config| {
        config.debug_directories = vec![directory];
        config.debuginfod.urls = Urls(vec![server.url()]);
        config.cache.directory = Some(files.path("cache"));
    });
    let names = bench.symbolize(foreign(&parts.id, &addresses));
    assert_eq!(names["/app"], host);
    assert_eq!(server.seen(), Vec::<String>::new());
}

/// Scenario: the gateway starts anew, with its cache, and the server is gone. Guarantees: names as
/// before.
#[test]
fn the_cache_survives_a_restart() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let server = Server::of_files(&[
        (format!("{}/executable", parts.id), &parts.stripped),
        (format!("{}/debuginfo", parts.id), &parts.debug),
    ]);
    let (cache, addresses) = (files.path("cache"), code(&parts.whole));
    let before = gateway(&cache, &server).symbolize(foreign(&parts.id, &addresses));
    let gone = Server::of_files(&[]);
    let after = gateway(&cache, &gone).symbolize(foreign(&parts.id, &addresses));
    assert_eq!(before, after);
    assert_eq!((server.seen().len(), gone.seen().len()), (2, 0));
}

/// Scenario: a sender states the hash of one file and the build id of another. Guarantees: what is
/// found by the build id is not told to those who only state the hash.
#[test]
fn identities_are_not_mixed_up() {
    let files = Files::new();
    let Some(parts) = parts(&files, &["-O2", "-g"]) else { return };
    let server = Server::of_files(&[(format!("{}/executable", parts.id), &parts.whole)]);
    let mut bench = gateway(&files.path("cache"), &server);
    let outer = functions(&parts.whole).unwrap()["outer"].0;
    let (gnu, hash) = ("process.executable.build_id.gnu", "process.executable.build_id.htlhash");
    let mut ask = |attributes: &[(&str, &str)]| {
        let mut batch = batch_by("/app", attributes, &[outer]);
        batch.context.origin = Origin::Elsewhere;
        let mut names = bench.symbolize(batch);
        names.remove("/app").unwrap().remove(&outer).unwrap()
    };
    let victim = "0123456789abcdef0123456789abcdef";
    assert_eq!(ask(&[(hash, victim), (gnu, &parts.id)]).functions(), ["outer"]);
    let named = ask(&[(hash, victim)]);
    assert!(named.frames.is_empty());
    assert_eq!(named.attributes["profpipe.unsymbolized.reason"], "not found");
}

/// Every address of the code of a file.
pub(super) fn code(file: &Path) -> Vec<u64> {
    use object::{ObjectSection as _, SectionKind};
    let data = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let sections = elf.sections().filter(|section| section.kind() == SectionKind::Text);
    sections.flat_map(|section| section.address()..section.address() + section.size()).collect()
}
