//! Debug information that the compiler left in files of its own.

use std::path::PathBuf;
use std::process::Command;

use super::support::*;

/// Compiles the program with these flags in the directory, where the compiler leaves its files.
fn compile(files: &Files, name: &str, flags: &[&str]) -> PathBuf {
    let source = files.write("program.c", C_SOURCE);
    let (object, program) = (files.path(&format!("{name}.o")), files.path(name));
    run(Command::new("cc").args(flags).args(["-O2", "-c", "-o"]).args([&object, &source])).unwrap();
    run(Command::new("cc").arg("-o").args([&program, &object])).unwrap();
    program
}

/// Scenario: a program with split debug information of DWARF 4 and 5: in `.dwo` files where the
/// compiler left them, beside the program after both were moved, in a `.dwp` package, and nowhere.
/// Guarantees: functions, files, lines and inlined frames are those of the same program with all of it
/// inside; without the files there is the name of the symbol alone, never a line of inlined code.
#[test]
fn functions_in_other_files_are_found() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let files = Files::new();
        let whole = compile(&files, "whole", &["-g", version]);
        let split = compile(&files, "split", &["-g", version, "-gsplit-dwarf"]);
        check_with(&mut Bench::new(), &split, &whole);

        let elsewhere = Files::new();
        let (moved, left) = (elsewhere.path("moved"), elsewhere.path("split.dwo"));
        std::fs::copy(&split, &moved).unwrap();
        std::fs::rename(files.path("split.dwo"), &left).unwrap();
        check_with(&mut Bench::new(), &moved, &whole);

        // The tool of binutils does not know DWARF 5.
        let mut pack = Command::new("dwp");
        pack.arg("-o").arg(elsewhere.path("moved.dwp")).arg(&left);
        let is_packed = version == "-gdwarf-4" && run(&mut pack).is_some();
        std::fs::remove_file(&left).unwrap();
        if is_packed {
            check_with(&mut Bench::new(), &moved, &whole);
            std::fs::remove_file(elsewhere.path("moved.dwp")).unwrap();
        }

        let Some(functions) = functions(&whole) else { return };
        let (start, size) = functions["outer"];
        let addresses: Vec<u64> = (start..start + size).collect();
        let names = Bench::new().names(&moved, &addresses);
        for address in addresses {
            let frames = &names[&address].frames;
            assert_eq!(*frames, [("outer".to_owned(), String::new(), 0)], "{version}");
        }
    }
}

/// Scenario: a split program, whose `.dwo` file is that of another program, or broken.
/// Guarantees: nothing of it is used.
#[test]
fn files_of_others_are_not_used() {
    let files = Files::new();
    let split = compile(&files, "split", &["-g", "-gsplit-dwarf"]);
    let source = files.write("other.c", "int other(int a) { return a; }\n");
    let other = files.path("other.o");
    run(Command::new("cc").args(["-g", "-gsplit-dwarf", "-c", "-o"]).args([&other, &source]))
        .unwrap();
    let Some(functions) = functions(&split) else { return };
    let outer = functions["outer"].0;
    let is = std::fs::read(files.path("other.dwo")).unwrap();
    let own = std::fs::read(files.path("split.dwo")).unwrap();
    for content in [&is[..], &own[..own.len() / 2], &[0; 64]] {
        std::fs::write(files.path("split.dwo"), content).unwrap();
        let names = Bench::new().names(&split, &[outer]);
        assert_eq!(names[&outer].frames, [("outer".to_owned(), String::new(), 0)]);
    }
}
