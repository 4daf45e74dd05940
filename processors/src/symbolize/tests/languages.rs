//! Compilers other than C's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::*;

const CPP_SOURCE: &str = r#"
#include <cstdio>
namespace shop {
template <typename T> struct Cart {
    T total = 0;
    __attribute__((noinline)) void add(T price) { total += price * scale(price); }
    static inline __attribute__((always_inline)) T scale(T price) { return price / 3 + 1; }
};
}
int main(int argc, char **) {
    shop::Cart<long> cart;
    for (long i = 0; i < argc * 10; i++) cart.add(i);
    std::printf("%ld\n", cart.total);
}
"#;

/// Scenario: a C++ program, whole and without debug information. Guarantees: demangled names with
/// the mangled ones beside them.
#[test]
fn cpp_names_are_demangled() {
    let files = Files::new();
    let source = files.write("program.cc", CPP_SOURCE);
    let program = files.path("program");
    let mut command = Command::new("c++");
    if command.args(["-O2", "-g", "-o"]).args([&program, &source]).output().is_err() {
        eprintln!("skipped: no C++ compiler");
        return;
    }
    let Some(functions) = functions(&program) else { return };
    let mangled = "_ZN4shop4CartIlE3addEl";
    let (start, size) = functions[mangled];
    let addresses: Vec<u64> = (start..start + size).collect();
    let names = Bench::new().names(&program, &addresses);
    for named in names.values() {
        assert_eq!(named.functions().last(), Some(&"shop::Cart<long>::add(long)"));
        assert_eq!(named.system_names.last().unwrap(), mangled);
    }
    let inlined = names.values().find(|named| named.frames.len() > 1).unwrap();
    assert_eq!(inlined.functions()[0], "shop::Cart<long>::scale(long)");

    let bare = files.path("bare");
    run(Command::new("strip").args(["-g", "-o"]).args([&bare, &program])).unwrap();
    let names = Bench::new().names(&bare, &[start]);
    assert_eq!(names[&start].functions(), ["shop::Cart<long>::add(long)"]);
}

const RUST_SOURCE: &str = r#"
mod shop {
    pub trait Price { fn price(&self) -> u64; }
    pub struct Fruit(pub u64);
    impl Price for Fruit {
        #[inline(never)]
        fn price(&self) -> u64 { triple(self.0) }
    }
    #[inline(always)]
    fn triple(x: u64) -> u64 { std::hint::black_box(x) * 3 }
}
use shop::Price;
fn main() {
    println!("{}", shop::Fruit(std::env::args().count() as u64).price());
}
"#;

/// Scenario: a Rust program with either way to mangle. Guarantees: demangled names without hash,
/// the frame type, and inlined frames as binutils has them.
#[test]
fn rust_names_are_demangled() {
    let files = Files::new();
    let source = files.write("program.rs", RUST_SOURCE);
    for scheme in ["legacy", "v0"] {
        let program = files.path(scheme);
        // The older scheme needs a compiler that believes to be unstable.
        let option = format!("-Csymbol-mangling-version={scheme}");
        let mut command = Command::new("rustc");
        command.env("RUSTC_BOOTSTRAP", "1").args(["-O", "-g", "-Zunstable-options", &option]);
        command.args(["--crate-name", "program", "-o"]).args([&program, &source]);
        if run(&mut command).is_none() {
            return;
        }
        let Some(functions) = functions(&program) else { return };
        let price = |name: &&String| name.contains("5price") && name.contains("Fruit");
        let (start, size) = functions[functions.keys().find(price).unwrap()];
        let addresses: Vec<u64> = (start..start + size).collect();
        let names = Bench::new().names(&program, &addresses);
        let expected = "<program::shop::Fruit as program::shop::Price>::price";
        let mut inlined = false;
        for named in names.values() {
            assert_eq!(named.functions().last(), Some(&expected));
            assert_eq!(named.attributes["profile.frame.type"], "rust");
            inlined |= named.functions().iter().any(|name| name.ends_with("::shop::triple"));
        }
        assert!(inlined);
        let Some(truth) = oracle(&program, &addresses) else { return };
        for (address, expected) in truth {
            assert_eq!(names[&address].raw(), expected, "at {address:#x}");
        }
    }
}

const GO_SOURCE: &str = r#"package main

import (
	"fmt"
	"os"
)

type cart struct{ total int }

//go:noinline
func (c *cart) add(price int) {
	c.total += scale(price) + pick[int](price, c.total)
}

func scale(price int) int {
	return price*3 + len(os.Args)
}

//go:noinline
func pick[T any](a, b T) T {
	if len(os.Args) > 5 {
		return a
	}
	return b
}

func main() {
	c := &cart{}
	for i := 0; i < 10; i++ {
		c.add(i)
	}
	fmt.Println(c.total)
}
"#;

/// Has the system's linker link the program, and strips it.
const EXTERNAL: &str = "-ldflags=-linkmode=external -s -w";

pub(super) fn compile_go(files: &Files, name: &str, flags: &[&str]) -> Option<PathBuf> {
    files.write("go.mod", "module program\n\ngo 1.20\n");
    files.write("main.go", GO_SOURCE);
    let program = files.path(name);
    let mut command = Command::new("go");
    command.current_dir(files.path("")).env("CGO_ENABLED", "0");
    if flags.contains(&"-ldflags=-linkmode=external") || flags.contains(&EXTERNAL) {
        command.env("CGO_ENABLED", "1");
    }
    command.arg("build").args(flags);
    run(command.arg("-o").arg(&program).arg("."))?;
    Some(program)
}

/// Compares a Go program that is stripped with one that is not.
fn check_go(stripped: &Path, whole: &Path) {
    let Some(functions) = functions(whole) else { return };
    let mut addresses = Vec::new();
    for name in ["main.main", "main.(*cart).add", "fmt.Fprintln", "runtime.mallocgc"] {
        let (start, size) = functions[name];
        addresses.extend((start..start + size).step_by(3));
    }
    let names = Bench::new().names(stripped, &addresses);
    let mut inlined = 0;
    for (address, expected) in debug_information(whole, &addresses) {
        let named = &names[&address];
        assert_eq!(named.frames, expected, "at {address:#x}");
        assert_eq!(named.attributes["profile.frame.type"], "go");
        inlined += usize::from(expected.len() > 1);
    }
    assert!(inlined > 0);
    let pick = functions.iter().find(|(name, _)| name.starts_with("main.pick[")).unwrap().1.0;
    let names = Bench::new().names(stripped, &[pick]);
    assert_eq!(names[&pick].functions(), ["main.pick[go.shape.int]"]);
}

/// Scenario: a Go program without symbols and debug information. Guarantees: functions, inlined
/// ones too, files and lines as the debug information of the same program has them.
#[test]
fn stripped_go_programs_are_named() {
    let files = Files::new();
    let Some(whole) = compile_go(&files, "whole", &[]) else { return };
    let stripped = compile_go(&files, "stripped", &["-ldflags=-s -w"]).unwrap();
    check_go(&stripped, &whole);
    check_go(&whole, &whole);
}

/// Scenario: the same, linked to run at any address. Guarantees: the same.
#[test]
fn stripped_position_independent_go_programs_are_named() {
    let files = Files::new();
    let Some(whole) = compile_go(&files, "whole", &["-buildmode=pie"]) else { return };
    let stripped = compile_go(&files, "stripped", &["-buildmode=pie", "-ldflags=-s -w"]).unwrap();
    check_go(&stripped, &whole);
}

/// Scenario: a Go program that the system's linker put together, with C before the Go code.
/// Guarantees: the same.
#[test]
fn stripped_go_programs_with_c_are_named() {
    let files = Files::new();
    let Some(whole) = compile_go(&files, "whole", &["-ldflags=-linkmode=external"]) else { return };
    let stripped = compile_go(&files, "stripped", &[EXTERNAL]).unwrap();
    check_go(&stripped, &whole);
}
