//! Finds the compilers of this machine and compiles the programs with them, fresh in every run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Why a test cannot run on this machine.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

/// A command that runs one of the programs; the program's own arguments follow.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<OsString>,
    /// Where its source lies, to find marked lines.
    pub(crate) source: PathBuf,
}

/// The compilers, on a machine where sampling is permitted.
#[derive(Debug)]
pub(crate) struct Toolchain {
    directory: PathBuf,
}

/// Two tests must not write one compiled file at the same time.
static COMPILING: Mutex<()> = Mutex::new(());

impl Toolchain {
    /// The compilers, or why nothing can be sampled here: the kernel is asked by a small program
    /// that has nothing to do with profpipe.
    pub(crate) fn sampling() -> Result<Self, Skip> {
        let tools = Self { directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("truth") };
        std::fs::create_dir_all(&tools.directory).expect("a directory for the programs");
        let permitted = tools.c("permitted.c")?;
        let answer = Command::new(&permitted.command[0]).output().expect("permitted runs");
        if answer.status.success() {
            Ok(tools)
        } else {
            Err(Skip(String::from_utf8_lossy(&answer.stdout).trim().to_owned()))
        }
    }

    /// Whether a user without privileges may sample.
    pub(crate) fn unprivileged(&self) -> Result<(), Skip> {
        let permitted = self.c("permitted.c")?;
        let copy = std::env::temp_dir().join(format!("profpipe-permitted-{}", std::process::id()));
        std::fs::copy(&permitted.command[0], &copy).expect("the copy fits");
        let mut ask = Command::new("setpriv");
        ask.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        let answer = ask.arg(&copy).output();
        let _ = std::fs::remove_file(&copy);
        match answer {
            Ok(answer) if answer.status.success() => Ok(()),
            Ok(answer) => Err(Skip(String::from_utf8_lossy(&answer.stdout).trim().to_owned())),
            Err(error) => Err(Skip(format!("setpriv: {error}"))),
        }
    }

    /// Compiles a C program as a distribution would: optimized, no frame pointers.
    pub(crate) fn c(&self, source: &str) -> Result<Program, Skip> {
        let flags = ["-O2", "-fomit-frame-pointer", "-g", "-Wall", "-Werror"];
        self.compile("cc", &flags, source, &[])
    }

    /// Compiles a C++ program, likewise.
    pub(crate) fn cpp(&self, source: &str) -> Result<Program, Skip> {
        let flags = "-O2 -fomit-frame-pointer -g -Wall -Werror -std=c++17 -pthread";
        self.compile("c++", &flags.split(' ').collect::<Vec<_>>(), source, &[])
    }

    /// Compiles a Rust program as `cargo build --release` with line tables does.
    pub(crate) fn rust(&self, source: &str) -> Result<Program, Skip> {
        self.compile("rustc", &["-O", "-g", "--edition", "2024"], source, &[])
    }

    /// Compiles a Go program.
    pub(crate) fn go(&self, source: &str, more: &[&str]) -> Result<Program, Skip> {
        // No cgo and no module look-ups: the program is one file and uses the standard library only.
        let environment = [("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", "")];
        self.compile("go", &[&["build"][..], more].concat(), source, &environment)
    }

    /// A script with its interpreter (the real binary: a version manager's shim is a shell script).
    pub(crate) fn interpreted(&self, interpreter: &str, source: &str) -> Result<Program, Skip> {
        let (code, flags): (_, &[&str]) = match interpreter {
            "node" => {
                ("console.log(process.execPath)", &["--perf-basic-prof", "--no-turbo-inlining"])
            }
            _ => ("import sys; print(sys.executable)", &[]),
        };
        let ask = if interpreter == "node" { "-e" } else { "-c" };
        let answer = run(Command::new(interpreter).args([ask, code]), interpreter)?;
        let source = programs().join(source);
        let mut command = vec![OsString::from(answer.trim())];
        command.extend(flags.iter().map(OsString::from));
        command.push(source.clone().into());
        Ok(Program { command, source })
    }

    fn compile(
        &self,
        compiler: &str,
        flags: &[&str],
        source: &str,
        environment: &[(&str, &str)],
    ) -> Result<Program, Skip> {
        let _one_at_a_time = COMPILING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name =
            source.replace('.', "-") + if flags.contains(&"-s -w") { "-stripped" } else { "" };
        let output = self.directory.join(name);
        let source = programs().join(source);
        let mut command = Command::new(compiler);
        command.args(flags).arg("-o").arg(&output).arg(&source).envs(environment.iter().copied());
        run(&mut command, compiler)?;
        Ok(Program { command: vec![output.into()], source })
    }
}

/// Whether this is the superuser.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The directory of the programs' sources.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/programs")
}

/// Runs a tool: one that is not there is a reason to skip, one that fails is a failure.
fn run(command: &mut Command, tool: &str) -> Result<String, Skip> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Skip(format!("{tool} is not installed")));
        }
        Err(error) => panic!("{tool}: {error}"),
    };
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
