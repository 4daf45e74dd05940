//! Tables on disk: who comes later needs neither the worker nor the binary.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use profpipe_engine::settings::ByteSize;
use profpipe_engine::telemetry::names;

use super::super::tables::format::BLOCK_HEADER;
use super::super::tables::try_table;
use super::replaced::publish;
use super::support::*;

/// The tables of a symbolizer.
fn tables(bench: &Bench) -> Vec<PathBuf> {
    let directory = bench.services.cache.as_ref().unwrap().join("tables");
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "names")).collect();
    // These say only what a file's content is.
    paths.retain(|path| !path.to_str().unwrap().contains("/stat-"));
    paths.sort();
    paths
}

/// Waits until a condition holds.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What addresses of a program are called, published as the sampler does it.
fn ask(bench: &mut Bench, program: &Path, addresses: &[u64]) -> BTreeMap<u64, Named> {
    let attributes = publish(bench, program);
    let attributes: Vec<_> = attributes.iter().map(|(key, id)| (*key, id.as_str())).collect();
    let path = program.to_str().unwrap();
    bench.symbolize(batch_by(path, &attributes, addresses)).remove(path).unwrap()
}

/// All addresses of two functions.
fn addresses(program: &Path) -> Option<Vec<u64>> {
    let functions = functions(program)?;
    let of = |name: &str| {
        let (start, size) = functions[name];
        start..start + size
    };
    Some(of("outer").chain(of("main")).collect())
}

/// Scenario: one address of a program is asked for, with a build id and without; then, in symbolizers
/// that come later and have no worker, that address, and once the table is whole all others of the
/// program.
/// Guarantees: the names that the worker gives, inlined frames, files, lines and names of the binary
/// included.
#[test]
fn later_processes_need_no_worker() {
    for flag in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let files = Files::new();
        let program = files.compile_c(&["-O2", "-g", flag]);
        let Some(all) = addresses(&program) else { return };
        let first = [all[0]];
        let mut bench = Bench::new();
        let truth = ask(&mut Bench::new(), &program, &all);
        let named = ask(&mut bench, &program, &first);
        assert_eq!(named[&all[0]], truth[&all[0]]);
        assert_eq!(ask(&mut bench.next(None), &program, &first), named, "{flag}");
        wait_for("the whole window", || ask(&mut bench.next(None), &program, &all) == truth);
        assert!(truth.values().any(|named| named.frames.len() > 1));
        // By the build id alone, as a gateway knows it.
        if flag.ends_with("sha1") {
            let id = publish(&bench, &program).pop().unwrap().1;
            let batch = batch_by("elsewhere", &[("process.executable.build_id.gnu", &id)], &all);
            let names = bench.next(None).symbolize(batch).remove("elsewhere").unwrap();
            let is_root = rustix::process::geteuid().is_root();
            assert_eq!(names == truth, is_root, "a user's files are for that user: {names:?}");
        }
    }
}

/// Scenario: a program is overwritten in place with another that has other functions at the same
/// addresses, once its table is whole; it is asked about with the build id that it had, and with the
/// new one.
/// Guarantees: the names of the program that had the build id, each time.
#[test]
fn a_build_id_stands_for_what_it_was_given_to() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=sha1"]);
    let Some(all) = addresses(&program) else { return };
    let mut bench = Bench::new();
    let truth = ask(&mut Bench::without_tables(), &program, &all);
    ask(&mut bench, &program, &all[..1]);
    wait_for("the whole window", || ask(&mut bench.next(None), &program, &all) == truth);
    let before = publish(&bench, &program);
    let before: Vec<_> = before.iter().map(|(key, id)| (*key, id.as_str())).collect();
    let source = files.write("other.c", C_SOURCE.replace("outer", "another"));
    let other = files.path("other");
    let flags = ["-O2", "-g", "-Wl,--build-id=sha1", "-o"];
    run(Command::new("cc").args(flags).arg(&other).arg(source)).unwrap();
    std::fs::write(&program, std::fs::read(&other).unwrap()).unwrap();
    let path = program.to_str().unwrap();
    let mut bench = bench.next(Some(worker_command("worker")));
    let named = bench.symbolize(batch_by(path, &before, &all)).remove(path).unwrap();
    assert_eq!(named, truth);
    let named = ask(&mut bench, &program, &all);
    assert!(named.values().any(|named| named.functions().contains(&"another")));
    assert!(!named.values().any(|named| named.functions().contains(&"outer")));
}

/// Scenario: a program without a build id is replaced by another of the same name.
/// Guarantees: the other's names, not those in the table of the first.
#[test]
fn another_program_has_another_table() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=none"]);
    let Some(all) = addresses(&program) else { return };
    let mut bench = Bench::new();
    ask(&mut bench, &program, &all);
    std::fs::remove_file(&program).unwrap();
    let source = files.write("other.c", C_SOURCE.replace("outer", "another"));
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-g", "-Wl,--build-id=none", "-o"]).arg(&program).arg(source);
    run(&mut compile).unwrap();
    let named = ask(&mut bench.next(Some(worker_command("worker"))), &program, &all[..1]);
    assert!(named[&all[0]].functions().contains(&"another"), "{named:?}");
    assert_eq!(tables(&bench).len(), 2);
}

/// Scenario: a stripped program is asked about, then its debug file appears, then that is gone again.
/// Guarantees: symbols first, then lines, also without the file.
#[test]
fn debug_files_that_come_later_are_used() {
    let files = Files::new();
    let whole = files.compile_c(&["-O2", "-g", "-Wl,--build-id=sha1"]);
    let Some(all) = addresses(&whole) else { return };
    let (program, debug) = (files.path("symbols"), files.path("debug"));
    let mut strip = Command::new("strip");
    if run(strip.arg("-g").arg("-o").args([&program, &whole])).is_none() {
        return;
    }
    let id = profpipe_host::elf::Identity::read(&File::open(&whole).unwrap()).unwrap().build_id;
    let id = id.unwrap();
    let directory = files.path("directory");
    let mut bench = Bench::with(|config| config.debug_directories = vec![directory.clone()]);
    let named = ask(&mut bench, &program, &all[..1]);
    assert_eq!(named[&all[0]].frames, [("outer".to_owned(), String::new(), 0)]);
    let again = ask(&mut bench.next(None), &program, &all[..1]);
    assert_eq!(again, named);
    let place = directory.join(".build-id").join(&id[..2]);
    std::fs::create_dir_all(&place).unwrap();
    let place = place.join(format!("{}.debug", &id[2..]));
    std::fs::copy(&whole, &place).unwrap();
    let mut bench = bench.next(Some(worker_command("worker")));
    let with_lines = ask(&mut bench, &program, &all[..1]);
    assert!(with_lines[&all[0]].frames[0].2 > 0, "{with_lines:?}");
    std::fs::rename(&place, &debug).unwrap();
    assert_eq!(ask(&mut bench.next(None), &program, &all[..1]), with_lines);
}

/// Scenario: compressed debug information takes more memory than the worker has, then there is more.
/// Guarantees: symbols, which later symbolizers with as little memory find again; with more memory the
/// lines, also in place of what was kept.
#[test]
fn debug_information_that_did_not_fit_is_read_later() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-gz=zlib", "-Wl,--build-id=sha1"]);
    let Some(all) = addresses(&program) else { return };
    let data = std::fs::read(&program).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let section = object::Object::section_by_name(&elf, ".debug_info").unwrap();
    let format = object::ObjectSection::compressed_data(&section).unwrap().format;
    if format == object::CompressionFormat::None {
        eprintln!("skipped: the linker does not compress");
        return;
    }
    let mut bench = Bench::with(|config| config.worker_memory = ByteSize(100));
    let named = ask(&mut bench, &program, &all[..1]);
    assert_eq!(named[&all[0]].frames, [("outer".to_owned(), String::new(), 0)]);
    assert_eq!(ask(&mut bench.next(None), &program, &all[..1]), named);
    let mut larger = bench.next_with(|config| config.worker_memory = ByteSize::mib(256));
    let with_lines = ask(&mut larger, &program, &all[..1]);
    assert!(with_lines[&all[0]].frames[0].2 > 0, "{with_lines:?}");
    assert_eq!(ask(&mut bench.next(None), &program, &all[..1]), with_lines);
}

/// Scenario: bits of a table are changed, bytes are cut off its end and from within.
/// Guarantees: each address has the name that it had, or none; and with a worker the table is as good as
/// before in the end.
#[test]
fn damaged_tables_say_nothing_wrong() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=sha1"]);
    let Some(all) = addresses(&program) else { return };
    let truth = ask(&mut Bench::new(), &program, &all);
    let mut bench = Bench::new();
    ask(&mut bench, &program, &all[..1]);
    wait_for("the whole window", || ask(&mut bench.next(None), &program, &all) == truth);
    let table = tables(&bench).pop().unwrap();
    let good = std::fs::read(&table).unwrap();
    let file = || File::options().read(true).write(true).open(&table).unwrap();
    let mut kept = 0;
    for at in (0..good.len()).step_by(good.len() / 40) {
        for cut in [false, true] {
            file().set_len(0).unwrap();
            file().write_all_at(&good, 0).unwrap();
            if cut {
                file().set_len(at as u64).unwrap();
            } else {
                file().write_all_at(&[good[at] ^ 0x10], at as u64).unwrap();
            }
            for (address, named) in ask(&mut bench.next(None), &program, &all) {
                kept += usize::from(!named.frames.is_empty());
                assert!(named.frames.is_empty() || named == truth[&address], "{named:?}");
            }
            // It was deleted if nothing of it was good.
            if !table.exists() {
                std::fs::write(&table, &good).unwrap();
                std::fs::set_permissions(&table, PermissionsExt::from_mode(0o600)).unwrap();
            }
        }
    }
    assert!(kept > 0);
    file().write_all_at(&[0; BLOCK_HEADER], good.len() as u64 / 2).unwrap();
    let mut bench = bench.next(Some(worker_command("worker")));
    assert_eq!(ask(&mut bench, &program, &all), truth);
    wait_for("the table", || ask(&mut bench.next(None), &program, &all) == truth);
}

/// Scenario: the directory can be entered by others; a table can be read by others; a table is a link;
/// the directory is a link.
/// Guarantees: nothing of it is used, and names are found out as ever.
#[test]
fn what_others_could_have_written_is_not_used() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=sha1"]);
    let Some(all) = addresses(&program) else { return };
    let mut bench = Bench::new();
    let truth = ask(&mut bench, &program, &all);
    let has = |bench: &Bench| {
        let named = ask(&mut bench.next(None), &program, &all);
        named.values().any(|named| !named.frames.is_empty())
    };
    wait_for("the table", || has(&bench));
    let table = tables(&bench).pop().unwrap();
    let directory = table.parent().unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for mode in [0o770, 0o707, 0o755] {
        set(directory, mode);
        assert!(!has(&bench), "{mode:o}");
        let mut bench = bench.next(Some(worker_command("worker")));
        assert_eq!(ask(&mut bench, &program, &all), truth);
    }
    set(directory, 0o700);
    assert!(has(&bench));
    let elsewhere = files.path("elsewhere");
    std::fs::rename(directory, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory).unwrap();
    assert!(!has(&bench));
    std::fs::remove_file(directory).unwrap();
    std::fs::rename(&elsewhere, directory).unwrap();
    let copy = files.path("copy");
    std::fs::copy(&table, &copy).unwrap();
    set(&copy, 0o600);
    std::fs::remove_file(&table).unwrap();
    std::os::unix::fs::symlink(&copy, &table).unwrap();
    assert!(!has(&bench));
    std::fs::copy(&copy, &table).unwrap();
    set(&table, 0o644);
    assert!(!has(&bench));
    assert!(!table.exists());
}

/// Scenario: many programs, and room for a few tables; then a directory without room for any.
/// Guarantees: the directory stays within its bound, and names do not suffer.
#[test]
fn tables_unused_for_longest_make_room() {
    let files = Files::new();
    let mut programs = Vec::new();
    for number in 0..8 {
        let name = format!("outer{number}");
        let source = files.write("source.c", C_SOURCE.replace("outer", &name));
        let program = files.path(&format!("program{number}"));
        let mut compile = Command::new("cc");
        run(compile.args(["-O2", "-g", "-o"]).arg(&program).arg(source)).unwrap();
        let Some(functions) = functions(&program) else { return };
        programs.push((program, functions[&name].0, name));
    }
    const MAX_BYTES: u64 = 1000;
    let mut bench = Bench::with(|config| config.tables.max_bytes = ByteSize(MAX_BYTES));
    let size = |bench: &Bench| -> u64 {
        tables(bench).iter().map(|path| path.metadata().map_or(0, |facts| facts.len())).sum()
    };
    let mut most = 0;
    for (program, address, name) in &programs {
        let named = ask(&mut bench, program, &[*address]);
        assert!(named[address].functions().contains(&name.as_str()));
        most = most.max(tables(&bench).len());
        wait_for("room", || size(&bench) <= MAX_BYTES);
    }
    assert!((1..8).contains(&most), "{most}");
    let mut none = Bench::with(|config| config.tables.max_bytes = ByteSize(0));
    let (program, address, _) = &programs[0];
    assert!(!ask(&mut none, program, &[*address])[address].frames.is_empty());
    assert!(tables(&none).is_empty());
}

/// Scenario: code that nobody asked for kills the worker when the window around an address is read.
/// Guarantees: the addresses that are asked for have their names, again and again; the window is left
/// alone after the first death.
#[test]
fn what_is_read_ahead_costs_no_names() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=sha1"]);
    let Some(all) = addresses(&program) else { return };
    let truth = ask(&mut Bench::without_tables(), &program, &all);
    let mut bench = Bench::new().with_worker("sweepless");
    for (round, address) in all.iter().take(6).enumerate() {
        assert_eq!(ask(&mut bench, &program, &[*address])[address], truth[address], "{round}");
        wait_for("a death", || bench.services.metrics.total(names::WORKER_RESTARTS) > 0);
    }
    assert_eq!(bench.services.metrics.total(names::WORKER_RESTARTS), 1);
    assert_eq!(ask(&mut bench.next(None), &program, &all[..6]).len(), 6);
}

/// Scenario: root's agent profiles a program of another user, and one of root's with the same build id.
/// Guarantees: each has a table of its own.
#[test]
fn users_cannot_name_what_is_not_theirs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=0x0123456789abcdef0123"]);
    let Some(all) = addresses(&program) else { return };
    let forged = files.path("forged");
    let source = files.write("other.c", C_SOURCE.replace("outer", "forged"));
    let flags = ["-O2", "-g", "-Wl,--build-id=0x0123456789abcdef0123", "-o"];
    run(Command::new("cc").args(flags).arg(&forged).arg(source)).unwrap();
    std::os::unix::fs::chown(&forged, Some(12345), None).unwrap();
    let mut bench = Bench::new();
    let named = ask(&mut bench, &forged, &all[..1]);
    assert!(named[&all[0]].functions().contains(&"forged"), "{named:?}");
    wait_for("the user's table", || tables(&bench).len() == 1);
    let mut bench = bench.next(Some(worker_command("worker")));
    let named = ask(&mut bench, &program, &all[..1]);
    assert!(named[&all[0]].functions().contains(&"outer"), "{named:?}");
    wait_for("both tables", || tables(&bench).len() == 2);
    let mut names: Vec<_> =
        tables(&bench).into_iter().map(|path| path.file_stem().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["0123456789abcdef0123", "0123456789abcdef0123-u12345"]);
    // And it is so whoever comes first, in one worker, too.
    let mut one = Bench::new();
    ask(&mut one, &forged, &all[..1]);
    // Of the store the first with an id counts: another agent, the same tables.
    let mut one = one.next(Some(worker_command("worker")));
    assert!(ask(&mut one, &program, &all[..1])[&all[0]].functions().contains(&"outer"));
}

/// Scenario: a program without a build id that has not been changed for a while: this one.
/// Guarantees: later it is known by what the kernel says of the file, without reading it.
#[test]
fn contents_are_read_once() {
    let program = std::env::current_exe().unwrap();
    let Some(functions) = functions(&program) else { return };
    let (_, (address, _)) =
        functions.iter().find(|(name, _)| name.contains("worker_main")).unwrap();
    let changed = std::os::unix::fs::MetadataExt::ctime(&program.metadata().unwrap());
    wait_for("a settled file", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() as i64 - changed > 4
    });
    let mut bench = Bench::new();
    assert!(!bench.names(&program, &[*address])[address].frames.is_empty());
    let directory = bench.services.cache.clone().unwrap().join("tables");
    let entries = std::fs::read_dir(directory).unwrap();
    let kept = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with("stat-")).count(), 1);
    assert!(!bench.next(None).names(&program, &[*address])[address].frames.is_empty());
}

/// Scenario: the inputs of the fuzz target `symbol_table`: a table of a program and the content of a block.
/// Guarantees: they are tables of the version that is read now, or the target would see nothing of it.
/// With `PROFPIPE_WRITE_CORPUS` they are written anew.
#[test]
fn the_corpus_is_of_this_version() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/symbol_table");
    if std::env::var_os("PROFPIPE_WRITE_CORPUS").is_some() {
        let files = Files::new();
        let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=sha1"]);
        let Some(all) = addresses(&program) else { return };
        let truth = ask(&mut Bench::without_tables(), &program, &all);
        let mut bench = Bench::new();
        ask(&mut bench, &program, &all[..1]);
        wait_for("the whole window", || ask(&mut bench.next(None), &program, &all) == truth);
        let table = std::fs::read(tables(&bench).pop().unwrap()).unwrap();
        std::fs::create_dir_all(&corpus).unwrap();
        std::fs::write(corpus.join("table"), &table).unwrap();
        let payload = super::super::tables::format::last_payload(&table).unwrap();
        std::fs::write(corpus.join("block"), payload).unwrap();
    }
    for name in ["table", "block"] {
        let bytes = std::fs::read(corpus.join(name)).unwrap();
        assert!(try_table(&bytes).unwrap() > 1000, "{name}");
    }
}
