//! The places in and beside an ELF file where names are.

use std::process::Command;

use super::support::*;

/// Scenario: a C program with `-g -O2` and an inlined function. Guarantees: every code address
/// has the function, file, line and inlined frames that binutils states.
#[test]
fn debug_information_agrees_with_addr2line() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    check_with(&mut Bench::new(), &program, &program);
}

/// Scenario: the same without lines, and with DWARF 4. Guarantees: as above.
#[test]
fn older_debug_information_agrees_with_addr2line() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-gdwarf-4"]);
    check_with(&mut Bench::new(), &program, &program);
}

/// Scenario: debug sections compressed with zlib and with zstd. Guarantees: as if they were not.
#[test]
fn compressed_sections_are_read() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    for kind in ["zlib", "zlib-gnu", "zstd"] {
        let packed = files.path(kind);
        let option = format!("--compress-debug-sections={kind}");
        let mut command = Command::new("objcopy");
        if command
            .arg(option)
            .args([&program, &packed])
            .output()
            .is_ok_and(|it| it.status.success())
        {
            check_with(&mut Bench::new(), &packed, &program);
        } else {
            eprintln!("skipped: objcopy cannot compress with {kind}");
        }
    }
}

/// Scenario: a program without debug information. Guarantees: names from the symbol table, no
/// lines, and addresses outside of functions have no name but a reason.
#[test]
fn symbol_tables_are_read() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    let Some(functions) = functions(&program) else { return };
    let (start, size) = functions["outer"];
    let names = Bench::new().names(&program, &[start, start + size - 1, 1]);
    for address in [start, start + size - 1] {
        assert_eq!(names[&address].frames, [("outer".into(), String::new(), 0)]);
    }
    assert!(names[&1].frames.is_empty());
    assert_eq!(names[&1].attributes["profpipe.unsymbolized.reason"], "no symbol");
}

/// Scenario: a program calls a library through a stub. Guarantees: the stub is called after the
/// function.
#[test]
fn stubs_are_named() {
    let files = Files::new();
    let program = files.compile_c(&["-O0"]);
    let Some(text) = run(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(&program))
    else {
        return;
    };
    let stubs: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
            let address = u64::from_str_radix(address, 16).ok()?;
            name.ends_with("@plt").then(|| (address, name.to_owned()))
        })
        .collect();
    assert!(!stubs.is_empty(), "{text}");
    let addresses: Vec<u64> = stubs.iter().map(|(address, _)| *address + 4).collect();
    let names = Bench::new().names(&program, &addresses);
    for (address, name) in stubs {
        assert_eq!(names[&(address + 4)].functions(), [name]);
    }
}

/// Splits a program as distributions do: what runs, and its debug file.
fn split(files: &Files, program: &std::path::Path) -> Option<std::path::PathBuf> {
    let debug = files.path("program.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").args([program, debug.as_path()]))?;
    Some(debug)
}

/// Scenario: a stripped program names its debug file, which lies in `.debug` beside it.
/// Guarantees: names, files, lines and inlined frames as from the whole program.
#[test]
fn debug_links_are_followed() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=none"]);
    let Some(debug) = split(&files, &program) else { return };
    let stripped = files.path("stripped");
    let link = format!("--add-gnu-debuglink={}", debug.display());
    run(Command::new("objcopy").args(["-S", &link]).args([&program, &stripped])).unwrap();
    let beside = files.path(".debug/program.debug");
    std::fs::create_dir(files.path(".debug")).unwrap();
    std::fs::rename(debug, beside).unwrap();
    check_with(&mut Bench::new(), &stripped, &program);
}

/// Scenario: the file that a stripped program names as its debug file is another build.
/// Guarantees: it is not used.
#[test]
fn wrong_debug_files_are_refused() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let Some(debug) = split(&files, &program) else { return };
    let stripped = files.path("stripped");
    let link = format!("--add-gnu-debuglink={}", debug.display());
    run(Command::new("objcopy").args(["-S", &link]).args([&program, &stripped])).unwrap();
    let functions = functions(&program).unwrap();
    let address = functions["outer"].0;
    let other = files.compile_c(&["-O1", "-g"]);
    split(&files, &other).unwrap();
    let names = Bench::new().names(&stripped, &[address]);
    assert_eq!(names[&address].functions(), Vec::<&str>::new());
    assert_eq!(names[&address].attributes["profpipe.unsymbolized.reason"], "no symbol");
}

/// Scenario: the debug file of a stripped program is in a build id directory; the program itself
/// is not known, only its build id. Guarantees: names as from the whole program in both cases.
#[test]
fn build_id_directories_are_searched() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g", "-Wl,--build-id=0x1234abcd"]);
    let Some(debug) = split(&files, &program) else { return };
    let stripped = files.path("stripped");
    run(Command::new("strip").arg("-o").args([&stripped, &program])).unwrap();
    let directory = files.path("debug");
    std::fs::create_dir_all(directory.join(".build-id/12")).unwrap();
    std::fs::rename(debug, directory.join(".build-id/12/34abcd.debug")).unwrap();
    let mut bench = Bench::with(|config| config.debug_directories = vec![directory.clone()]);
    check_with(&mut bench, &stripped, &program);

    let Some(functions) = functions(&program) else { return };
    let (start, _) = functions["outer"];
    let mut bench = Bench::with(|config| config.debug_directories = vec![directory]);
    let expected =
        [("1234abcd", None), ("1234abce", Some("not found")), ("zz", Some("no build id"))];
    for (build_id, expected) in expected {
        let batch = batch_by("/app", &[("process.executable.build_id.gnu", build_id)], &[start]);
        let names = bench.symbolize(batch);
        let named = &names["/app"][&start];
        let name = expected.is_none().then_some("outer");
        assert_eq!(named.functions().last().copied(), name);
        let reason = named.attributes.get("profpipe.unsymbolized.reason");
        assert_eq!(reason.map(String::as_str), expected);
    }
}

/// Scenario: a stripped program with the small symbol table that Fedora leaves, and with a
/// broken one. Guarantees: names of functions that no other table has; none from the broken one.
#[test]
fn small_symbol_tables_are_read() {
    let files = Files::new();
    let program = files.compile_c(&["-O2"]);
    let Some(functions) = functions(&program) else { return };
    let small = files.path("small");
    let Some(_) = run(Command::new("objcopy").args(["--only-keep-debug"]).args([&program, &small]))
    else {
        return;
    };
    if Command::new("xz").arg("-k").arg(&small).output().is_err() {
        eprintln!("skipped: no xz");
        return;
    }
    let address = functions["outer"].0;
    let packed = std::fs::read(files.path("small.xz")).unwrap();
    let cut = packed[..packed.len() / 2].to_vec();
    for (at, (content, expected)) in [(packed, vec!["outer"]), (cut, vec![])].iter().enumerate() {
        let section = files.write("section", content);
        let option = format!(".gnu_debugdata={}", section.display());
        let stripped = files.path(&format!("stripped{at}"));
        let mut command = Command::new("objcopy");
        command.args(["-S", "--add-section", &option]).args([&program, &stripped]);
        run(&mut command).unwrap();
        let names = Bench::new().names(&stripped, &[address]);
        assert_eq!(names[&address].functions(), *expected);
    }
}

/// Scenario: debug information shared between files by `dwz`. Guarantees: names as before.
#[test]
fn shared_debug_information_is_read() {
    let files = Files::new();
    let program = files.compile_c(&["-O2", "-g"]);
    let copy = files.path("copy");
    std::fs::copy(&program, &copy).unwrap();
    let packed = files.path("packed");
    std::fs::copy(&program, &packed).unwrap();
    let shared = files.path("shared.debug");
    let mut command = Command::new("dwz");
    command.args(["-L", "none", "-m"]).arg(&shared).args([&packed, &copy]);
    if command.output().is_err() {
        eprintln!("skipped: no dwz");
        return;
    }
    check_with(&mut Bench::new(), &packed, &program);
}
