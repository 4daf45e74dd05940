//! Java, on every HotSpot of this machine: interpreted, compiled by either compiler, under several collectors
//! and in virtual threads. What is shown of an instant must be what `Numbers.java` wrote down of it.
//!
//! HotSpot says of compiled code only at some instructions which inlined function they are of. That suffices
//! for this program, whose functions are left by a call or by a check for a safepoint.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::recording::one_at_a_time;
use crate::truth::{Log, Shown, Verdicts};

/// The program, as it is before its functions are made for each number.
const PROGRAM: &str = include_str!("programs/Numbers.java");
/// A program whose threads wait.
const WAITS: &str = include_str!("programs/Waits.java");
/// How many numbers there are.
const NUMBERS: usize = 48;
/// The lines around what is there once for each number.
const BEGIN: &str = "    //[\n";
/// See there.
const END: &str = "    //]\n";
/// How long each thread runs, in seconds.
const SECONDS: &str = "2";

const JAVA: Shown = Shown { kind: "jvm", own, calls, is_named, number_of_line, may_be_cut: true };

/// A Java that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Java {
    version: u32,
    path: PathBuf,
}

/// Every HotSpot of a version that is supported, oldest first.
fn javas() -> Vec<Java> {
    let mut candidates: Vec<PathBuf> = vec!["java".into()];
    let under = |directory: &str| {
        let found = std::fs::read_dir(directory).into_iter().flatten().flatten();
        found.map(|it| it.path().join("bin/java")).collect::<Vec<_>>()
    };
    candidates.extend(under("/usr/lib/jvm"));
    candidates.extend(std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")));
    let mut found: Vec<Java> = candidates.into_iter().filter_map(supported).collect();
    found.sort_by_key(|java| java.version);
    found.dedup_by_key(|java| java.version);
    found
}

fn supported(path: PathBuf) -> Option<Java> {
    let output = Command::new(&path).arg("-version").output().ok()?;
    let text = String::from_utf8(output.stderr).ok()?;
    let version = text.split('"').nth(1)?.split('.').next()?.parse().ok()?;
    let is_supported = (17..=25).contains(&version) && text.contains("64-Bit Server VM");
    is_supported.then_some(Java { version, path })
}

/// The classes of a program, if there is a compiler.
fn compiled(name: &str, text: &str, directory: &Path, javas: &[Java]) -> Option<()> {
    let source = directory.join(name);
    std::fs::write(&source, text).expect("room for a program");
    let beside = javas.iter().map(|java| java.path.with_file_name("javac"));
    for compiler in std::iter::once("javac".into()).chain(beside) {
        let mut javac = Command::new(&compiler);
        javac.args(["--release", "17", "-d"]).arg(directory).arg(&source);
        match javac.output() {
            Ok(output) if output.status.success() => return Some(()),
            Ok(output) => panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => {}
        }
    }
    None
}

/// The program with its functions for each number.
fn program() -> String {
    let (before, rest) = PROGRAM.split_once(BEGIN).expect("a beginning");
    let (each, after) = rest.split_once(END).expect("an end");
    let all: String = (0..NUMBERS).map(|n| each.replace("@N@", &n.to_string())).collect();
    format!("{before}{all}{after}")
}

/// How it is run.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    /// What HotSpot is told.
    flags: &'a [&'a str],
    /// Threads beside the first, and of which kind.
    threads: usize,
    kind: &'a str,
    /// It runs already when it is recorded.
    attached: bool,
}

const PLAIN: Run<'_> = Run { flags: &[], threads: 0, kind: "platform", attached: false };

/// What is needed for a recording; skips the test where something lacks.
macro_rules! javas_or_skip {
    () => {{
        if let Err(why) = profpipe_testing::sampling_is_permitted() {
            profpipe_testing::skip!("sampling is not permitted: {why}");
        }
        let javas = javas();
        if javas.is_empty() {
            profpipe_testing::skip!("there is no HotSpot that is supported");
        }
        let directory = tempfile::Builder::new().prefix("profpipe-java-").tempdir().unwrap();
        let is_compiled = compiled("Numbers.java", &program(), directory.path(), &javas);
        if is_compiled
            .and_then(|()| compiled("Waits.java", WAITS, directory.path(), &javas))
            .is_none()
        {
            profpipe_testing::skip!("there is no compiler of Java");
        }
        (javas, directory)
    }};
}

/// Records the program and holds it against what it wrote down.
fn check(java: &Java, run: Run<'_>, directory: &Path) {
    let (log, profile) = (directory.join("log"), directory.join("profile.json"));
    let one_at_a_time = one_at_a_time();
    let mut program = Command::new(&java.path);
    program.arg("-cp").arg(directory).arg("-Xmx64m").args(run.flags).args(["Numbers", SECONDS]);
    program.arg(&log).args([&run.threads.to_string(), run.kind]);
    let mut record = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    record.args(["record", "-F", "499", "-o"]).arg(&profile);
    let output = if run.attached {
        let mut child = program.spawn().expect("the program starts");
        record.args(["-p", &child.id().to_string()]);
        let record = record.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.wait().expect("the program ends");
        record.wait_with_output().expect("profpipe ends")
    } else {
        record.arg("--").arg(program.get_program()).args(program.get_args());
        record.output().expect("profpipe runs")
    };
    drop(one_at_a_time);
    let name = format!("Java {} {run:?}", java.version);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {printed}");
    let logs = [Log::read(&log)];
    let verdicts = Verdicts::of(&logs, &profile, &JAVA);
    // Code that is compiled while a program is being found is known late.
    crate::assert_true(&name, &verdicts, 0.98, if run.attached { 0.95 } else { 0.98 });
    // Five times what chance does to a share of a half, and what the program's own clock adds.
    let chance = 5.0 * (0.25 / verdicts.samples() as f64).sqrt();
    let error = verdicts.share_error(&logs, 6);
    eprintln!("{name}: shares are off by {:.1} points at most", 100.0 * error);
    assert!(error <= 0.02 + chance, "{name}: {error}");
}

/// Scenario: every Java of this machine runs functions that change all the time, in code that is compiled
/// while it runs, with lambdas, method handles, reflection and calls from the library; no flag says so.
/// Guarantees: what is shown is what ran at that instant, in full and in order, with its line; nearly all is.
#[test]
fn every_java() {
    let (javas, directory) = javas_or_skip!();
    for java in &javas {
        check(java, PLAIN, directory.path());
    }
}

/// Scenario: the interpreter alone, either compiler alone, the first one under another collector, and
/// reflection through native code.
/// Guarantees: the same.
#[test]
fn interpreter_and_compilers() {
    let (javas, directory) = javas_or_skip!();
    let java = javas.last().unwrap();
    let older = javas.first().unwrap();
    check(java, Run { flags: &["-Xint"], ..PLAIN }, directory.path());
    check(
        older,
        Run { flags: &["-XX:TieredStopAtLevel=1", "-XX:+UseZGC"], ..PLAIN },
        directory.path(),
    );
    check(java, Run { flags: &["-XX:-TieredCompilation"], ..PLAIN }, directory.path());
    let native = match older.version {
        17 => "-Dsun.reflect.inflationThreshold=1000000",
        _ => "-Djdk.reflect.useNativeAccessorOnly=true",
    };
    check(older, Run { flags: &[native], ..PLAIN }, directory.path());
}

/// Scenario: a Java that already runs; three threads; virtual threads where there are any.
/// Guarantees: the same.
#[test]
fn processes_and_threads() {
    let (javas, directory) = javas_or_skip!();
    let java = javas.last().unwrap();
    check(java, Run { attached: true, ..PLAIN }, directory.path());
    check(java, Run { threads: 2, ..PLAIN }, directory.path());
    if java.version >= 21 {
        check(java, Run { threads: 1, kind: "virtual", ..PLAIN }, directory.path());
    }
}

/// Scenario: threads of a Java wait: they sleep, wait to be notified, are parked, and read from a pipe.
/// Guarantees: each is shown with the functions that it waits in, down to where the thread began.
#[test]
fn waiting_threads() {
    let (javas, directory) = javas_or_skip!();
    let one_at_a_time = one_at_a_time();
    for java in [javas.first().unwrap(), javas.last().unwrap()] {
        for flags in ["-Xmixed", "-Xint"] {
            let folded = waits(java, flags, directory.path());
            for thread in ["sleeper", "waiter", "parker", "reader"] {
                let mark = format!("Waits.{thread};");
                let is_shown =
                    |line: &&str| line.contains(&mark) && line.contains("java/lang/Thread.run;");
                let shown = folded.lines().find(is_shown);
                assert!(shown.is_some(), "{java:?} {flags} {thread}: {folded}");
            }
        }
    }
    drop(one_at_a_time);
}

fn waits(java: &Java, flags: &str, directory: &Path) -> String {
    let profile = directory.join("waits.folded");
    let mut record = Command::new(env!("CARGO_BIN_EXE_profpipe"));
    record.args(["record", "-e", "off_cpu", "-o"]).arg(&profile).arg("--");
    record.arg(&java.path).arg(flags).arg("-cp").arg(directory).args(["Waits", "2"]);
    let Output { status, stderr, .. } = record.output().expect("profpipe runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    std::fs::read_to_string(&profile).expect("a profile")
}

/// The program's own functions, without what HotSpot and the way to them put in between.
fn own(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("Numbers")?;
    let name = rest.rsplit('.').next()?;
    let is_between = rest.contains("$$Lambda") || name.starts_with("lambda$call$");
    (!is_between).then_some(name)
}

/// The calls below `serve` that run a number, as `Numbers.java` makes them.
fn calls(number: u32) -> Vec<String> {
    let named = |name: &str| format!("{name}_{number}");
    let lambda = |name: &str| format!("lambda${name}_{number}$");
    let (mut calls, depth) = match number % 6 {
        1 => (vec![named("lambda"), lambda("lambda"), named("key")], number % 2),
        2 => (vec!["run".into()], number % 3),
        3 => (vec![named("order"), lambda("order"), named("key")], number % 2),
        4 => (vec![named("key")], number % 2),
        _ => (vec![named("direct")], number % 5),
    };
    calls.extend((0..=depth).map(|_| named("inner")));
    calls.push(named("work"));
    calls
}

/// The compiler of Java numbers the functions of lambdas.
fn is_named(is: &str, wanted: &str) -> bool {
    is == wanted || wanted.ends_with('$') && is.starts_with(wanted)
}

/// The number whose functions are on a line.
fn number_of_line(line: u32) -> Option<u32> {
    let (before, rest) = PROGRAM.split_once(BEGIN)?;
    let (each, _) = rest.split_once(END)?;
    let first = before.lines().count() as u32 + 1;
    let number = line.checked_sub(first)? / each.lines().count() as u32;
    ((number as usize) < NUMBERS).then_some(number)
}
