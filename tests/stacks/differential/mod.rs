//! Holds our unwinder against gdb's on identical states: a program is stopped at random instants, and
//! both are given the same registers and the same memory.
//!
//! gdb stops the program (`programs/stop.py`), so the instants are anywhere: in prologues and
//! epilogues, in the C library, in signal handlers. It sees all of the stack; ours gets what the
//! kernel would copy at most, and the chain that the kernel would find along frame pointers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use profpipe_receivers::perf::StoppedProcesses;
use serde::Deserialize;

/// How a program is compiled.
pub(crate) struct Build {
    pub(crate) name: &'static str,
    pub(crate) compiler: &'static str,
    pub(crate) flags: &'static [&'static str],
    /// In `tests/stacks/programs`, or beside it.
    pub(crate) source: &'static str,
    /// Arguments of the program.
    pub(crate) arguments: &'static [&'static str],
}

/// The programs that are compared.
pub(crate) const BUILDS: &[Build] = &[
    c("C -O0", &["-O0", "-g"]),
    c("C -O2", &["-O2", "-g"]),
    c("C -O3", &["-O3", "-march=native"]),
    c("C -O2, frame pointers", &["-O2", "-fno-omit-frame-pointer"]),
    c("C -O2, static", &["-O2", "-static"]),
    c("C -O2, static-pie, no build id", &["-O2", "-static-pie", "-Wl,--build-id=none"]),
    c("C -Os, .debug_frame only", &["-Os", "-g", "-fno-asynchronous-unwind-tables"]),
    cpp("C++ -O0", &["-O0"]),
    cpp("C++ -O2", &["-O2", "-g"]),
    cpp("C++ -O3, LTO", &["-O3", "-flto", "-march=native"]),
    Build {
        name: "Rust -O",
        compiler: "rustc",
        flags: &["-O", "--edition", "2024"],
        source: "../../truth/programs/split.rs",
        arguments: &["/dev/null", "1000000"],
    },
    Build {
        name: "Rust, debug",
        compiler: "rustc",
        flags: &["-g", "--edition", "2024"],
        source: "../../truth/programs/split.rs",
        arguments: &["/dev/null", "1000000"],
    },
    Build {
        name: "Go",
        compiler: "go",
        flags: &["build"],
        source: "../../truth/programs/split.go",
        arguments: &["/dev/null", "1000000"],
    },
];

const fn c(name: &'static str, flags: &'static [&'static str]) -> Build {
    Build { name, compiler: "cc", flags, source: "mixed.c", arguments: &[] }
}

const fn cpp(name: &'static str, flags: &'static [&'static str]) -> Build {
    Build { name, compiler: "c++", flags, source: "mixed.cpp", arguments: &[] }
}

/// What came of the stops of a program.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Both have the same frames, and ours says complete.
    pub(crate) equal: u32,
    /// Both have the same frames, and ours says less.
    pub(crate) equal_unsaid: u32,
    /// Ours ends before, and says so; its frames are true.
    pub(crate) shorter: u32,
    /// gdb ends before.
    pub(crate) gdb_shorter: u32,
    /// Ours says complete, and the frames differ.
    pub(crate) different: u32,
    /// Ours does not say complete, and some of its frames are not gdb's.
    pub(crate) untrue: u32,
    /// The first that differ, for people.
    pub(crate) examples: Vec<String>,
}

impl Counts {
    /// All stops.
    pub(crate) fn all(&self) -> u32 {
        let right = self.equal + self.equal_unsaid + self.shorter + self.gdb_shorter;
        right + self.different + self.untrue
    }

    fn add(&mut self, stop: &Stop, ours: &[u64], state: &str) {
        let gdb = &stop.frames[..];
        let common = gdb.len().min(ours.len());
        let count = match (ours[..common] == gdb[..common], state) {
            (true, "complete") if ours.len() == gdb.len() => &mut self.equal,
            (true, _) if ours.len() == gdb.len() => &mut self.equal_unsaid,
            (true, _) if ours.len() > gdb.len() => &mut self.gdb_shorter,
            (true, "complete") | (false, "complete" | "guessed") => &mut self.different,
            (true, _) => &mut self.shorter,
            (false, _) => &mut self.untrue,
        };
        *count += 1;
        if (ours != gdb || state != "complete") && self.examples.len() < 6 {
            let hex = |frames: &[u64]| {
                frames.iter().map(|frame| format!("{frame:x}")).collect::<Vec<_>>().join(" ")
            };
            let why = &stop.why;
            self.examples.push(format!("ours ({state}) {}\ngdb ({why}) {}", hex(ours), hex(gdb)));
        }
    }
}

/// A program that was stopped.
#[derive(Debug, Deserialize)]
struct Stop {
    registers: Vec<u64>,
    frames: Vec<u64>,
    /// Why gdb went no further.
    why: String,
    stack: String,
    chain: Vec<u64>,
}

/// Stops a program that is compiled as `build` says, and compares; or why that cannot be done here.
pub(crate) fn compare(build: &Build, stops: u32, seed: u32) -> Result<Counts, String> {
    let directory = tempfile::Builder::new().prefix("profpipe-stops-").tempdir().unwrap();
    let program = compile(build, directory.path())?;
    let mut running = Ended(
        Command::new(&program)
            .args(build.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", build.name))?,
    );
    let pid = running.0.id();
    let mut gdb = Ended(
        Command::new("gdb")
            .args(["-nx", "-batch", "-p", &pid.to_string(), "-x"])
            .arg(programs().join("stop.py"))
            .env("STOPS", stops.to_string())
            .env("SEED", seed.to_string())
            // It must not ask servers for symbols.
            .env_remove("DEBUGINFOD_URLS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("gdb: {error}"))?,
    );
    let (mut ask, answers) = (gdb.0.stdin.take().unwrap(), gdb.0.stdout.take().unwrap());
    let mut unwinder = StoppedProcesses::new().unwrap();
    let mut counts = Counts::default();
    for line in BufReader::new(answers).lines() {
        let line = line.unwrap();
        let Some(json) = line.strip_prefix('@') else { continue };
        let mut stop: Stop = serde_json::from_str(json).unwrap();
        // It goes on past the start of Go's threads, into data.
        let code = executable(pid);
        let ends = |frame: &u64| !code.iter().any(|range| range.contains(&(frame - 1)));
        let end = stop.frames.iter().position(|frame| *frame == 0 || ends(frame));
        stop.frames.truncate(end.unwrap_or(usize::MAX));
        let stack: Vec<u8> = stop
            .stack
            .as_bytes()
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        if let Some(ours) = unwinder.unwind(pid, &stop.registers, &stack, &stop.chain) {
            counts.add(&stop, &ours.frames, ours.state);
        }
        // It may have ended.
        let _ = ask.write_all(b"\n");
    }
    let _ = running.0.try_wait();
    Ok(counts)
}

/// The executable memory of a process.
fn executable(pid: u32) -> Vec<std::ops::Range<u64>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let ranges = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.as_bytes().get(2).is_some_and(|it| *it == b'x').then_some(number(start)?..number(end)?)
    });
    ranges.collect()
}

/// A process that ends with this value.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks/programs")
}

/// Compiles a program into a directory; or why that cannot be done here.
pub(crate) fn compile(build: &Build, directory: &Path) -> Result<PathBuf, String> {
    let output = directory.join("program");
    let mut command = Command::new(build.compiler);
    command.args(build.flags).arg("-o").arg(&output).arg(programs().join(build.source));
    command.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", "")]);
    match command.output() {
        Ok(result) if result.status.success() => Ok(output),
        Ok(result) => Err(format!(
            "{}: {}",
            build.name,
            String::from_utf8_lossy(&result.stderr).lines().next().unwrap_or_default()
        )),
        Err(error) => Err(format!("{}: {error}", build.compiler)),
    }
}
