//! What binaries say of their own making.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;

use super::super::describer::Describer;
use super::super::worker::describe::{go_version, libc, notes};
use super::support::*;

/// Scenario: a program of a C compiler, this very program, this host's C library, something that is
/// no binary, and questions after a rest.
/// Guarantees: compilers are named; the library's version is what `ldd` says; the worker comes again.
#[test]
fn binaries_say_how_they_were_made() {
    let files = Files::new();
    let mut describer = Describer::new(worker_command("worker"), Arc::default());
    let mut ask = |path: &std::path::Path| describer.describe(File::open(path).unwrap().as_fd());
    let program = ask(&files.compile_c(&["-O1"])).unwrap();
    assert!(program.compilers.iter().any(|note| note.contains("GCC") || note.contains("clang")));
    assert_eq!(program.go, None);
    let own = ask(&std::env::current_exe().unwrap()).unwrap();
    assert!(own.compilers.iter().any(|note| note.starts_with("rustc version")), "{own:?}");
    assert!(ask("/etc/passwd".as_ref()).is_none());

    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    if let Some(library) = library.into_iter().find(|path| path.ends_with("/libc.so.6")) {
        describer.rest();
        let build = describer.describe(File::open(library).unwrap().as_fd()).unwrap();
        let (name, version) = build.libc.unwrap();
        assert_eq!(name, "glibc");
        let said = Command::new("ldd").arg("--version").output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        assert!(said.lines().next().unwrap().ends_with(&version), "{version} {said}");
    }
}

/// Scenario: notes that repeat, are long, or hold control characters; notes of Go of both kinds and
/// cut ones; constants with the introductions of C libraries.
/// Guarantees: what is there is read, in bounds; nothing panics.
#[test]
fn notes_are_read_in_bounds() {
    let long = [b'x'; 1000];
    let all = [&b"GCC: 12\0GCC: 12\0\0\x1b[2Jrustc\0"[..], &long].concat();
    let found = notes(&all);
    assert_eq!(found[..2], ["GCC: 12", "[2Jrustc"]);
    assert_eq!((found.len(), found[2].len()), (3, 160));
    let many: Vec<u8> = (0..100).flat_map(|at| format!("c{at}\0").into_bytes()).collect();
    assert_eq!(notes(&many).len(), 8);

    let mut note = b"\xff Go buildinf:\x08\x02".to_vec();
    note.resize(32, 0);
    note.extend(b"\x08go1.22.1\x00");
    assert_eq!(go_version(&note).as_deref(), Some("go1.22.1"));
    for length in 0..note.len() - 1 {
        assert_eq!(go_version(&note[..length]), None, "{length}");
    }
    note[15] = 0;
    assert_eq!(go_version(&note), None);

    let debian = b"x\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopy\0";
    assert_eq!(libc(debian), Some(("glibc".into(), "2.36".into())));
    assert_eq!(libc(b"musl libc (x86_64)\nVersion %s\n"), Some(("musl".into(), String::new())));
    for none in [&b""[..], b"GNU C Library", b"GNU C Library \0version 1", b"musl"] {
        assert_eq!(libc(none), None);
    }
}
