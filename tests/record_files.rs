//! Recordings of programs whose files are not where they were: deleted, replaced, overwritten.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A program that computes for some time in a function with this name.
const SOURCE: &str = "#include <stdlib.h>\n#include <time.h>\n\
    __attribute__((noinline)) void NAME(double s) {\n\
      clock_t end = clock() + (clock_t)(s * CLOCKS_PER_SEC);\n\
      while (clock() < end) for (volatile int i = 0; i < 1000000; i++) {}\n\
    }\n\
    int main(int n, char **v) { NAME(n > 1 ? atof(v[1]) : 0.5); return 0; }\n";

/// A directory that everybody can use.
fn home() -> Option<TempDir> {
    if let Err(error) = profpipe_testing::sampling_is_permitted() {
        profpipe_testing::skip!("sampling is not permitted: {error}");
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    Some(home)
}

/// Compiles the program with a function of this name.
fn compile(home: &TempDir, name: &str, flags: &[&str]) {
    let source = home.path().join(format!("{name}.c"));
    fs::write(&source, SOURCE.replace("NAME", name)).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-o"]).arg(home.path().join(name)).args(flags).arg(source);
    assert!(compiler.status().unwrap().success(), "no C compiler");
}

fn shell(home: &TempDir, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PROFPIPE", env!("CARGO_BIN_EXE_profpipe"));
    command.current_dir(home.path()).stdin(Stdio::null());
    command
}

/// The share of samples whose innermost frame has each name; what has none by its reason.
fn leaves(path: &Path) -> HashMap<String, f64> {
    let profiles = profpipe::otlp::decode(&fs::read(path).unwrap()).unwrap();
    let dictionary = &profiles.dictionary;
    let mut counts: HashMap<String, f64> = HashMap::new();
    let mut total = 0.0;
    for (_, _, profile) in profiles.iter() {
        if dictionary.strings.get(profile.sample_type.kind) != "samples" {
            continue;
        }
        for sample in profile.samples.iter() {
            let Some(leaf) = dictionary.stacks.get(sample.stack).first() else { continue };
            let location = dictionary.locations.get(*leaf);
            let name = match location.lines.last() {
                Some(line) => {
                    let function = dictionary.functions.get(line.function);
                    dictionary.strings.get(function.name).to_owned()
                }
                None => {
                    let key = |at: &&_| dictionary.strings.get(dictionary.attributes.key(**at));
                    let reason = "profpipe.unsymbolized.reason";
                    let at = location.attributes.iter().find(|at| key(at) == reason).unwrap();
                    dictionary.attributes.value(*at).as_str().unwrap().to_owned()
                }
            };
            let weight = sample.weight() as f64;
            *counts.entry(name).or_default() += weight;
            total += weight;
        }
    }
    counts.into_iter().map(|(name, count)| (name, count / total)).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Scenario: a user without privileges records a process of theirs whose executable was deleted, or
/// replaced by another, before; with a build id and without.
/// Guarantees: the names are those of the program that runs.
#[test]
fn an_executable_that_is_gone() {
    let Some(home) = home() else { return };
    for flag in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        for change in ["rm spin", "cp other new; mv new spin"] {
            compile(&home, "spin", &[flag]);
            compile(&home, "other", &[flag]);
            let user = "setpriv --reuid 64511 --regid 64511 --clear-groups --inh-caps=-all";
            let user = if rustix::process::geteuid().is_root() { user } else { "" };
            let running = shell(&home, &format!("exec {user} ./spin 60")).spawn().unwrap();
            let running = Running(running);
            let pid = running.0.id();
            let exe = format!("/proc/{pid}/exe");
            let spin = home.path().join("spin").canonicalize().unwrap();
            while fs::read_link(&exe).ok().as_deref() != Some(&*spin) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert!(shell(&home, change).status().unwrap().success());
            let _ = fs::remove_file(home.path().join("out.otlp"));
            let line = format!("exec {user} $PROFPIPE record -F 499 -d 0.5 -o out.otlp -p {pid}");
            let output = shell(&home, &line).output().unwrap();
            if said(&output).contains("setpriv") {
                profpipe_testing::skip!("another user cannot run the program: {}", said(&output));
            }
            assert!(output.status.success(), "{}", said(&output));
            let leaves = leaves(&home.path().join("out.otlp"));
            assert!(leaves.get("spin").is_some_and(|share| *share > 0.8), "{change}: {leaves:?}");
            assert!(!leaves.contains_key("other"), "{change}: {leaves:?}");
        }
    }
}

/// Scenario: a program runs, is overwritten in place, and the new one runs, in one recording; with a
/// build id and without.
/// Guarantees: the new program has its names; the old one, whose code is gone, has none and a reason,
/// not the names of the new one.
#[test]
fn a_program_that_is_overwritten() {
    let Some(home) = home() else { return };
    for flag in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        compile(&home, "first", &[flag]);
        compile(&home, "second", &[flag]);
        let deploy = "cat first > app; chmod +x app; ./app 0.5; cat second > app; ./app 0.5";
        let line = format!("exec $PROFPIPE record -F 499 -o out.otlp -- sh -c '{deploy}'");
        let output = shell(&home, &line).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let leaves = leaves(&home.path().join("out.otlp"));
        let share = |name: &str| leaves.get(name).copied().unwrap_or_default();
        assert!((0.35..0.6).contains(&share("second")), "{flag}: {leaves:?}");
        assert!((0.35..0.6).contains(&share("wrong build id")), "{flag}: {leaves:?}");
    }
}

/// A program that computes in a function of a function, and needs no library.
const BARE: &str = "__attribute__((noinline)) int leaf(int n)\n\
    { volatile int i; for (i = 0; i < n; i++) {} return i; }\n\
    __attribute__((noinline)) int mid(int n)\n\
    { int r = leaf(n); __asm__ volatile(\"\" :: \"r\"(r)); return r + 1; }\n\
    void _start(void) { int r = 0; for (int k = 0; k < 100; k++) r += mid(10000000);\n\
      __asm__ volatile(\"int $0x80\" :: \"a\"(1), \"b\"(0)); for (;;) {} }\n";

/// Scenario: a 32-bit program runs, at a fixed address and at any.
/// Guarantees: its functions have their names.
#[test]
fn a_program_of_32_bits() {
    let Some(home) = home() else { return };
    fs::write(home.path().join("bare.c"), BARE).unwrap();
    for flags in ["-static -fno-pie", "-static-pie -fpie"] {
        let line = format!(
            "cc -m32 -O1 -g -nostdlib -fno-omit-frame-pointer {flags} -o bare bare.c && ./bare"
        );
        if !shell(&home, &line).output().unwrap().status.success() {
            profpipe_testing::skip!("the compiler or the kernel has no 32-bit programs");
        }
        let line = "exec $PROFPIPE record -F 499 -o out.otlp -- ./bare";
        let output = shell(&home, line).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let leaves = leaves(&home.path().join("out.otlp"));
        assert!(leaves.get("leaf").is_some_and(|share| *share > 0.8), "{leaves:?}");
    }
}
